"""Celery's doors to the outbox."""

from celery import shared_task

from incidents.notifications import delivery, wake
from lib.wallclock import utcnow


@shared_task(name="incidents.tasks.deliver")
def deliver() -> int:
    """Send what waits in the outbox; returns how many mails were sent. Belongs to the queue `delivery` alone."""
    run = delivery.deliver(utcnow=utcnow)
    if run.is_cut_short:
        wake.wake()
    return run.sent_count


@shared_task(name="incidents.tasks.deliver_notifications")
def deliver_notifications() -> int:
    """Pass on what a beat of an older version sends: it may stand in a queue that the clock's worker reads."""
    wake.wake()
    return 0
