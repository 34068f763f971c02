"""Celery tasks of the outbox."""

from celery import shared_task

from incidents.notifications import delivery, wake
from lib.wallclock import utcnow


@shared_task(name="incidents.tasks.deliver")
def deliver() -> int:
    """Send the waiting mails of the outbox; returns how many were sent. Runs in the queue `delivery` only."""
    run = delivery.deliver(utcnow=utcnow)
    if run.is_cut_short:
        wake.wake()
    return run.sent_count


@shared_task(name="incidents.tasks.deliver_notifications")
def deliver_notifications() -> int:
    """Wake delivery for a beat of an older version: its message may be in a queue that the clock's worker reads."""
    wake.wake()
    return 0
