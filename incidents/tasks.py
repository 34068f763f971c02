"""Celery tasks of the outbox, and of incidents that nobody has acknowledged."""

import faulthandler
import sys

from celery import shared_task

from incidents.notifications import delivery, fallback, keep_alive, long_broken, pursuing, wake
from lib.wallclock import utcnow

STUCK_SECONDS = 180
"""Far longer than a run and its last mail may take."""


@shared_task(name="incidents.tasks.deliver")
def deliver() -> int:
    """Send the waiting mails of the outbox; returns how many were sent. Runs in the queue `delivery` only.

    A worker of one process cannot be ended by Celery's time limit. So a run that hangs ends its own process, with a
    traceback in the log, and whoever started the process starts it again.
    """
    faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        run = delivery.deliver(utcnow=utcnow)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if run.is_cut_short:
        wake.wake()
    elif run.next_at is not None:
        wake.wake_at(run.next_at, now=utcnow())
    return run.sent_count


@shared_task(name="incidents.tasks.keep_channels_alive")
def keep_channels_alive() -> int:
    """Send again what is open where it is forgotten otherwise; returns to how many channels. Waits for no answer."""
    return keep_alive.keep_alive(now=utcnow())


@shared_task(name="incidents.tasks.tell_failures")
def tell_failures() -> int:
    """Notify people over another channel that one fails; returns how many messages were written."""
    return fallback.report_failures(now=utcnow())


@shared_task(name="incidents.tasks.deliver_notifications")
def deliver_notifications() -> int:
    """Wake delivery for a beat of an older version: its message may be in a queue that the clock's worker reads."""
    wake.wake()
    return 0


@shared_task(name="incidents.tasks.look_after_long_broken")
def look_after_long_broken() -> int:
    """Report environments that have been failing for weeks, and mute them later; returns how many."""
    now, total = utcnow(), 0
    while count := long_broken.look_after(now=now):
        total += count
        if count < long_broken.LOOKED_AT_MAX:
            break
    return total


@shared_task(name="incidents.tasks.pursue")
def pursue() -> int:
    """Send the reminders and the steps of escalations that are due; returns how many were examined."""
    now, total = utcnow(), 0
    while count := pursuing.pursue(now=now):
        total += count
        if count < pursuing.DUE_MAX:
            break
    return total
