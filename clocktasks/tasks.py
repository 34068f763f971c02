"""Celery's doors to the clock. Each parses its arguments, calls a service and returns a count.

Messages are wake-ups: all of them may be lost, late, doubled or out of order.
"""

import logging
from datetime import datetime
from functools import partial
from typing import Any

from celery import shared_task
from django.conf import settings
from structlog.contextvars import bound_contextvars

from clocktasks import dispatch, housekeeping, messages, metrics, shards, telling
from clocktasks.clock import ClockTask, waits_visibly
from clocktasks.exceptions import UnreadableClockTaskError
from clocktasks.ledger import finish_ticks
from clocktasks.setback import take_back_future
from incidents.notifications.addressees import recipients
from lib.wallclock import utcnow
from monitors import pruning

logger = logging.getLogger(__name__)

LOOK_SOON_SECONDS = 0.25
"""Nodes at rest say right after the minute that they have passed it, busy ones with their next batch."""
LOOK_AGAIN_SECONDS = 1.0
"""As often for a wait that has a cause, and may last."""
LOOK_AGAIN_EXPIRES_SECONDS = 60.0
"""By then beat has sent the next tick, which looks as well."""


@shared_task(name="clocktasks.tasks.tick")
def tick(waiting_for: str | None = None) -> int:
    """Apply every minute that has become due since the last tick; returns how many shards have work.

    If a minute has to wait for an ingest node, the message sends itself again. After a few seconds only one of all such
    messages goes on: that which recorded the wait, and which from then on says so in `waiting_for`.
    """
    now = utcnow()
    with metrics.timed("dispatch"):
        return _tick(waiting_for, now)


def _tick(waiting_for: str | None, now: datetime) -> int:
    take_back_future(now)
    window, settled = dispatch.look_around(now)
    tasks = dispatch.advance_ledger(window.newest, now=now)
    for task in tasks:
        send(task)
    if window.held is None:
        return len(tasks)
    minute = window.held.isoformat()
    if not waits_visibly(window):
        look_again(None)
    elif waiting_for == minute or dispatch.record_wait(window.held, settled, now=now):
        look_again(minute)
    return len(tasks)


def look_again(waiting_for: str | None) -> None:
    """Send the tick once more, in a moment."""
    speed = settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1.0
    seconds = LOOK_SOON_SECONDS if waiting_for is None else LOOK_AGAIN_SECONDS
    tick.apply_async(kwargs={"waiting_for": waiting_for}, countdown=seconds / speed, expires=LOOK_AGAIN_EXPIRES_SECONDS)


@shared_task(name="clocktasks.tasks.process_clock_task")
def process_clock_task(message: dict[str, Any]) -> int:
    """Do one kind of work in one shard; returns how many check-ins were marked. An unreadable message is dropped."""
    try:
        task = messages.decode_clock_task(message)
    except UnreadableClockTaskError as error:
        metrics.dropped.inc()
        logger.warning("clock task dropped: %s", error)
        return 0
    with bound_contextvars(kind=task.kind.value, shard=task.shard, tick=task.tick.isoformat()):
        return _process(task)


def _process(task: ClockTask) -> int:
    with metrics.timed(task.kind.value):
        result = shards.process_clock_task(task)
    if result.marked_count:
        metrics.marked.labels(task.kind.value).inc(result.marked_count)
    if result.wake is not None and result.wake.kind is not task.kind:
        send(result.wake)
    finish_ticks(now=utcnow())
    return result.marked_count


def send(task: ClockTask) -> None:
    """Wake a worker for this task."""
    process_clock_task.delay(messages.encode_clock_task(task))


@shared_task(name="clocktasks.tasks.tell_clock_incidents")
def tell_clock_incidents() -> int:
    """Tell people of clock incidents that they should know of; returns of how many they were told."""
    return telling.tell(recipients=recipients(), now=utcnow())


@shared_task(name="clocktasks.tasks.keep_house")
def keep_house() -> int:
    """Remove what is past keeping of the clock's own records; returns the rows removed."""
    now = pruning.time_to_prune(utcnow())
    return pruning.keep_house(
        [
            partial(prune, now=now)
            for prune in (
                housekeeping.prune_applied_ticks,
                housekeeping.prune_ticks,
                housekeeping.prune_held_ticks,
                housekeeping.prune_clock_incidents,
            )
        ]
    )
