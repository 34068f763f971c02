"""Celery's doors to the clock. Each parses its arguments, calls a service and returns a count.

Messages are wake-ups: all of them may be lost, late, doubled or out of order.
"""

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from clocktasks import services
from clocktasks.clock import ClockTask, newest_tick
from clocktasks.exceptions import UnreadableClockTaskError
from monitors.wallclock import utcnow

logger = logging.getLogger(__name__)


@shared_task(name="clocktasks.tasks.tick")
def tick() -> int:
    """Apply every minute that has become due since the last tick; returns how many shards have work."""
    now = utcnow()
    tasks = services.advance_ledger(newest_tick(now, grace=timedelta(seconds=settings.CLOCK_GRACE_SECONDS)), now=now)
    for task in tasks:
        send(task)
    return len(tasks)


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
