"""Celery tasks of the clock. Each parses its arguments, calls a service and returns a count.

Messages are wake-ups: any of them may be lost, late, duplicated or out of order.
"""

import logging
from datetime import datetime
from functools import partial
from typing import Any

from celery import shared_task
from django.conf import settings
from structlog.contextvars import bound_contextvars

from clocktasks import clock_incidents, dispatch, housekeeping, messages, metrics, shards
from clocktasks.clock import ClockTask, waits_visibly
from clocktasks.exceptions import UnreadableClockTaskError
from clocktasks.ledger import finish_ticks
from clocktasks.setback import take_back_future
from incidents.notifications.addressees import clock_recipients
from lib.wallclock import utcnow
from monitors import pruning

logger = logging.getLogger(__name__)

POLL_SOON_SECONDS = 0.25
"""Idle nodes report right after the minute that they have passed it, busy ones with their next batch."""
POLL_SECONDS = 1.0
"""For a wait that has a cause and may last."""
POLL_EXPIRES_SECONDS = 60.0
"""By then beat has sent the next tick, which polls too."""


@shared_task(name="clocktasks.tasks.tick")
def tick(waiting_for: str | None = None) -> int:
    """Apply every minute that has become due since the last tick; returns how many shards have work.

    If a minute has to wait for an ingest node, the message sends itself again. After a few seconds only the message
    that recorded the wait does so; its `waiting_for` names the minute.
    """
    now = utcnow()
    with metrics.timed("dispatch"):
        return _tick(waiting_for, now)


def _tick(waiting_for: str | None, now: datetime) -> int:
    take_back_future(now)
    window, settled = dispatch.poll_nodes(now)
    tasks = dispatch.advance_ledger(window.newest, now=now)
    for task in tasks:
        send(task)
    if window.held is None:
        return len(tasks)
    minute = window.held.isoformat()
    if not waits_visibly(window):
        poll_again(None)
    elif waiting_for == minute or dispatch.record_wait(window.held, settled, now=now):
        poll_again(minute)
    return len(tasks)


def poll_again(waiting_for: str | None) -> None:
    """Send the tick once more, in a moment."""
    speed = settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1.0
    seconds = POLL_SOON_SECONDS if waiting_for is None else POLL_SECONDS
    tick.apply_async(kwargs={"waiting_for": waiting_for}, countdown=seconds / speed, expires=POLL_EXPIRES_SECONDS)


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
        result = shards.process_clock_task(task, now=utcnow())
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
    """Notify people about clock incidents; returns about how many."""
    return clock_incidents.notify(recipients=clock_recipients(), now=utcnow())


@shared_task(name="clocktasks.tasks.keep_house")
def keep_house() -> int:
    """Remove the clock's own records that are past their retention; returns how many rows."""
    now = pruning.time_to_prune(utcnow())
    return pruning.run_steps(
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
