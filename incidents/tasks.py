"""Celery's door to the outbox."""

from celery import shared_task
from django.conf import settings

from incidents.notifications import deliver_unsent
from monitors.wallclock import utcnow


@shared_task(name="incidents.tasks.deliver_notifications")
def deliver_notifications() -> int:
    """Send what waits in the outbox; returns how many notifications were sent."""
    return deliver_unsent(recipients=settings.ALERT_EMAIL_TO, now=utcnow())
