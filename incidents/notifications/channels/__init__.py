"""Channels by which people are notified, one module each."""
