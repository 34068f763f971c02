"""Errors of this app."""


class IncidentsError(Exception):
    """Root of the errors of this app."""


class DeliveryError(IncidentsError):
    """A message could not be delivered."""
