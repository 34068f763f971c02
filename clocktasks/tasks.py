"""Celery's doors to the clock. Each parses its arguments, calls a service and returns a count.

Messages are wake-ups: all of them may be lost, late, doubled or out of order.
"""

import logging
from typing import Any

from celery import shared_task
from django.conf import settings

from clocktasks import services
from clocktasks.clock import ClockTask, waits_visibly
from clocktasks.exceptions import UnreadableClockTaskError
from monitors.wallclock import utcnow

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0
LOOK_AGAIN_EXPIRES_SECONDS = 60.0
"""By then beat has sent the next tick, which looks as well."""


@shared_task(name="clocktasks.tasks.tick")
def tick(waiting_for: str | None = None) -> int:
    """Apply every minute that has become due since the last tick; returns how many shards have work.

    If a minute has to wait for an ingest node, the message sends itself again. After a few seconds only one of all such
    messages goes on: that which recorded the wait, and which from then on says so in `waiting_for`.
    """
    now = utcnow()
    window, settled = services.look_around(now)
    tasks = services.advance_ledger(window.newest, now=now)
    for task in tasks:
        send(task)
    if window.held is None:
        return len(tasks)
    minute = window.held.isoformat()
    if not waits_visibly(window):
        look_again(None)
    elif waiting_for == minute or services.record_wait(window.held, settled, now=now):
        look_again(minute)
    return len(tasks)


def look_again(waiting_for: str | None) -> None:
    """Send the tick once more, in a second."""
    speed = settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1.0
    tick.apply_async(
        kwargs={"waiting_for": waiting_for}, countdown=LOOK_AGAIN_SECONDS / speed, expires=LOOK_AGAIN_EXPIRES_SECONDS
    )


@shared_task(name="clocktasks.tasks.process_clock_task")
def process_clock_task(message: dict[str, Any]) -> int:
    """Do one kind of work in one shard; returns how many check-ins were marked. An unreadable message is dropped."""
    try:
        task = services.decode_clock_task(message)
    except UnreadableClockTaskError as error:
        logger.warning("clock task dropped: %s", error)
        return 0
    result = services.process_clock_task(task)
    if result.wake is not None and result.wake.kind is not task.kind:
        send(result.wake)
    services.finish_ticks(now=utcnow())
    return result.marked_count


def send(task: ClockTask) -> None:
    """Wake a worker for this task."""
    process_clock_task.delay(services.encode_clock_task(task))
