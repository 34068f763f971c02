"""Watchclock's Django project: settings, the Celery application, the embedded engines and their supervisor."""
