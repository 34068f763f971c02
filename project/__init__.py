"""Watchclock's Django project: settings, the Celery application, the embedded engines and their supervisor."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
