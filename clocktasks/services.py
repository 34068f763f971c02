"""The clock's work: the ledger of ticks, and applying them to shards (shell).

`look_around` says which minutes may be applied: those whose check-ins are stored (P2).
`advance_ledger` writes these minutes and says which shards have something to do. `process_clock_task`
does one kind of work in one shard: for each tick with something due, in order, one transaction that marks what is due
and moves the shard's clock (P4). Where both stand is in rows, so messages between them may be lost, late, doubled or
out of order without harm (P3).
"""

import contextlib
import gc
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from msgspec.structs import replace

from checkins.messages import CheckInStatus, Source
from checkins.models import CheckIn
from checkins.nodes import Settled, drop_silent_nodes, settled_until
from checkins.transitions import CheckInState
from checkins.writing import insert_checkins, load_overdue, update_checkins
from clocktasks.clock import (
    ClockTask,
    ShardState,
    TaskKind,
    TickWindow,
    next_task,
    quiet_until,
    tick_window,
    whole_minute,
)
from clocktasks.exceptions import UnreadableClockTaskError
from clocktasks.models import AppliedTick, HeldTick, ShardClock, Tick
from incidents.services import FailedCheckIn, mark_failed
from incidents.thresholds import FailureKind, is_overtaken, is_superseded
from monitors.environments import LockedEnvironment, lock_environments, save_environments
from monitors.expectation import decide_due_slots
from monitors.models import MonitorEnvironment
from monitors.sharding import SHARD_COUNT

logger = logging.getLogger(__name__)

MISS_NAMESPACE = uuid.UUID("5a3a7f5e-0a53-4f0c-8f0e-0a2f6f0f8c11")
CHUNK_ROWS_MAX = 10_000
"""Rows that are held in memory at once. A tick of one shard is one transaction, whatever it marks."""


# --- the ledger -----------------------------------------------------------------------------------------------------


@transaction.atomic
def advance_ledger(until: datetime, *, now: datetime) -> list[ClockTask]:
    """Write a tick for every minute after the last one up to `until`, and return the clock tasks worth sending.

    Any number of beats may do this at once, late, or again: the ledger is the same. The first tick ever is `until`.
    Shards with nothing due are moved in one statement. What the ledger holds beyond `until` stays allowed.
    """
    write_ticks(until, now=now)
    until = Tick.objects.latest("at").at
    tasks = _shards_with_work(until)
    _move_quiet_shards(until)
    finish_ticks(now=now)
    return tasks


@transaction.atomic
def write_ticks(until: datetime, *, now: datetime) -> None:
    """Write a tick for every minute after the last one up to `until`, and the clocks of shards that have none."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO clocktasks_tick (at, dispatched_at, missed_count, timeout_count)
            SELECT minute, %(now)s, 0, 0
              FROM generate_series(
                       coalesce((SELECT max(at) + interval '1 minute' FROM clocktasks_tick), %(until)s),
                       %(until)s::timestamptz, interval '1 minute') AS minute
                ON CONFLICT DO NOTHING
            """,
            {"until": until, "now": now},
        )
        cursor.execute(
            """
            INSERT INTO clocktasks_shardclock (shard, kind, position)
            SELECT shard, kind, (SELECT min(at) - interval '1 minute' FROM clocktasks_tick)
              FROM generate_series(0, %s) AS shard, unnest(%s::text[]) AS kind
                ON CONFLICT DO NOTHING
            """,
            [SHARD_COUNT - 1, [kind.value for kind in TaskKind]],
        )


def _shards_with_work(until: datetime) -> list[ClockTask]:
    """Return one task for each shard with something due: its first kind of work, which wakes the other kind."""
    tasks = []
    for shard, state in _shard_states().items():
        work = next_task(state, until=until)
        if work is not None:
            tasks.append(ClockTask(work[1], shard, until))
    return tasks


SHARD_STATES_SQL = """
    SELECT clock.shard, clock.kind, clock.position,
           CASE clock.kind
           WHEN 'missed' THEN (SELECT min(next_checkin_latest) FROM monitors_monitorenvironment
                                WHERE shard = clock.shard AND next_checkin_latest IS NOT NULL)
           ELSE (SELECT min(timeout_at) FROM checkins_checkin
                  WHERE shard = clock.shard AND status = 'in_progress')
           END
      FROM clocktasks_shardclock AS clock
     WHERE %(shard)s::integer IS NULL OR clock.shard = %(shard)s
"""


def _shard_states(shard: int | None = None) -> dict[int, ShardState]:
    """Return where each shard (or the given one) stands. Two index look-ups for each: monenv_due, checkin_deadline."""
    states: dict[int, ShardState] = {}
    with connection.cursor() as cursor:
        cursor.execute(SHARD_STATES_SQL, {"shard": shard})
        for row_shard, kind, position, first_due in cursor.fetchall():
            state = states.setdefault(row_shard, ShardState({}, {}))
            state.positions[TaskKind(kind)] = position
            state.first_due[TaskKind(kind)] = first_due
    return states


def _move_quiet_shards(until: datetime) -> None:
    """Move the clocks of all shards in which nothing is due up to `until`, skipping those that a worker holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_shardclock SET position = %(until)s
             WHERE id IN (
                   SELECT id FROM clocktasks_shardclock AS clock
                    WHERE position < %(until)s
                      AND CASE clock.kind
                          WHEN 'missed' THEN NOT EXISTS (
                               SELECT FROM monitors_monitorenvironment
                                WHERE shard = clock.shard AND next_checkin_latest <= %(until)s)
                          ELSE NOT EXISTS (
                               SELECT FROM checkins_checkin
                                WHERE shard = clock.shard AND status = 'in_progress' AND timeout_at <= %(until)s)
                          END
                    ORDER BY id FOR UPDATE SKIP LOCKED)
            """,
            {"until": until},
        )


def finish_ticks(*, now: datetime) -> int:
    """Mark the ticks that every shard has applied as finished, with what they marked. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_tick AS tick
               SET finished_at = %(now)s,
                   missed_count = (SELECT coalesce(sum(marked_count), 0) FROM clocktasks_appliedtick
                                    WHERE tick = tick.at AND kind = 'missed'),
                   timeout_count = (SELECT coalesce(sum(marked_count), 0) FROM clocktasks_appliedtick
                                     WHERE tick = tick.at AND kind = 'timeout')
             WHERE finished_at IS NULL AND at <= (SELECT min(position) FROM clocktasks_shardclock)
            """,
            {"now": now},
        )
        return int(cursor.rowcount)


# --- waiting for check-ins to be stored -----------------------------------------------------------------------------


def look_around(now: datetime) -> tuple[TickWindow, Settled]:
    """Return which minutes may be applied now, and the nodes that this depends on. Drops nodes that were silent."""
    drop_silent_nodes(now, silent_max=timedelta(seconds=settings.INGEST_NODE_SILENT_SECONDS))
    return may_apply(now)


def may_apply(now: datetime) -> tuple[TickWindow, Settled]:
    """Return which minutes may be applied now, and the nodes that this depends on. Changes nothing."""
    settled = settled_until(now)
    grace = timedelta(seconds=settings.CLOCK_GRACE_SECONDS)
    return tick_window(now, grace=grace, settled_until=settled.until), settled


def record_wait(minute: datetime, settled: Settled, *, now: datetime) -> bool:
    """Record and log that this minute waits, and for whom. Returns whether this was the first to do so."""
    reason = "; ".join(
        f"ingest node {node} has stored its check-ins up to {node.watermark:%H:%M:%S}, has {node.spooled_count} in its "
        f"spool and was last heard of at {node.seen_at:%H:%M:%S}"
        for node in settled.live
        if node.watermark < minute
    )
    held, is_first = HeldTick.objects.get_or_create(at=minute, defaults={"noticed_at": now, "reason": reason})
    if is_first:
        logger.warning("the clock waits with %s (UTC): %s", held, reason)
    return is_first


# --- a clock task ---------------------------------------------------------------------------------------------------


def decode_clock_task(message: object) -> ClockTask:
    """Return the task in a message with `kind`, `shard` and `tick` (ISO 8601, UTC, whole minute).

    Raises UnreadableClockTaskError, naming the field, its value and what is allowed.
    """
    if not isinstance(message, Mapping):
        raise UnreadableClockTaskError(f"kind, shard and tick are not in {message!r}")
    try:
        kind = TaskKind(message.get("kind", ""))
    except ValueError:
        raise UnreadableClockTaskError(f"kind {message.get('kind')!r} is not one of {', '.join(TaskKind)}") from None
    shard = message.get("shard")
    if type(shard) is not int or not 0 <= shard < SHARD_COUNT:
        raise UnreadableClockTaskError(f"shard {shard!r} is not a number from 0 to {SHARD_COUNT - 1}")
    try:
        tick = datetime.fromisoformat(message.get("tick", ""))
    except (TypeError, ValueError):
        raise UnreadableClockTaskError(f"tick {message.get('tick')!r} is not an ISO 8601 instant") from None
    if tick.tzinfo is None or whole_minute(tick.astimezone(UTC)) != tick:
        raise UnreadableClockTaskError(f"tick {message.get('tick')!r} is not a whole minute with a time zone")
    return ClockTask(kind, shard, tick.astimezone(UTC))


def encode_clock_task(task: ClockTask) -> dict[str, Any]:
    """Return the message for a task: what `decode_clock_task` reads."""
    return {"kind": task.kind.value, "shard": task.shard, "tick": task.tick.isoformat()}


class Marked(NamedTuple):
    """A check-in that a tick marked, named as people know it. `at` is the slot of a miss or the start of a timeout."""

    monitor: str
    environment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TickEffect:
    """What one tick did in one shard."""

    kind: TaskKind
    shard: int
    tick: datetime
    marked: Sequence[Marked]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a shard's clock: a tick was applied, or else `wake` says whose turn it is (None: nothing is due)."""

    effect: TickEffect | None = None
    wake: ClockTask | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a clock task did, and the task that has to go on where it stopped."""

    marked_count: int
    tick_count: int
    wake: ClockTask | None


def process_clock_task(task: ClockTask) -> TaskResult:
    """Do this kind of work in this shard up to the newest tick of the ledger, one transaction for each tick.

    Stops where the other kind's work comes first in the shard's order, and says so in `wake`. Does nothing if another
    worker holds the shard's clock: that worker does it. Calls the handler of the task's kind.
    """
    marked_count = tick_count = 0
    while (step := apply_next(task.kind, task.shard)).effect is not None:
        marked_count += len(step.effect.marked)
        tick_count += 1
    return TaskResult(marked_count, tick_count, step.wake)


def apply_ticks(shard: int, *, until: datetime) -> Iterator[TickEffect]:
    """Apply all kinds of work of a shard up to `until`, in order, yielding what each tick did. For commands.

    Waits for a worker that holds the shard's clock.
    """
    kind = next(iter(TaskKind))
    while True:
        step = apply_next(kind, shard, until=until, skip_locked=False)
        if step.effect is not None:
            yield step.effect
        elif step.wake is not None and step.wake.kind is not kind:
            kind = step.wake.kind
        else:
            break
    for kind in TaskKind:  # Nothing is due any more: both clocks stand at the end of the window.
        apply_next(kind, shard, until=until, skip_locked=False)


@transaction.atomic
def apply_next(kind: TaskKind, shard: int, *, until: datetime | None = None, skip_locked: bool = True) -> Step:
    """Apply the next tick of this kind in this shard, if its turn has come: effects and position in one transaction.

    `until` bounds the window below the ledger's newest tick. Locks the clock row of (shard, kind), then environments
    in id order.
    """
    locked = ShardClock.objects.select_for_update(skip_locked=skip_locked).filter(shard=shard, kind=kind.value)
    clock = locked.first()
    newest = Tick.objects.order_by("-at").values_list("at", flat=True).first()
    if clock is None or newest is None:
        return Step()
    until = newest if until is None else min(until, newest)
    state = _shard_states(shard)[shard]
    work = next_task(state, until=until)
    if work is None or work[1] is not kind:
        _move_clock(clock, quiet_until(state, kind, until=until))
        return Step(wake=None if work is None else ClockTask(work[1], shard, until))
    tick = work[0]
    with _no_garbage_collection():
        marked = HANDLERS[kind](shard, tick)
    if marked:
        AppliedTick.objects.create(shard=shard, kind=kind.value, tick=tick, marked_count=len(marked))
    _move_clock(clock, tick)
    return Step(effect=TickEffect(kind, shard, tick, marked))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Put off the search for reference cycles: rows on their way form none, and it took a fifth of a worker's time.

    What is not in a cycle is freed at once as ever, so a chunk takes no more memory than before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _move_clock(clock: ShardClock, position: datetime) -> None:
    if position > clock.position:
        ShardClock.objects.filter(id=clock.id).update(position=position)


# --- misses ---------------------------------------------------------------------------------------------------------


def mark_missed(shard: int, tick: datetime) -> list[Marked]:
    """Record a missed check-in for every slot of the shard that is due at `tick` and nothing served (D1).

    Statements: one to find, and the same number for each `CHUNK_ROWS_MAX` environments whatever they hold.
    """
    due = MonitorEnvironment.objects.in_shard(shard).due_at(tick).order_by("id").values_list("id", flat=True)
    marked: list[Marked] = []
    for ids in _chunks(list(due)):
        environments = lock_environments(ids, due_at=tick)
        misses: list[tuple[LockedEnvironment, CheckInState, datetime]] = []
        for environment in environments.values():
            slots, environment.state = decide_due_slots(environment.state, environment.rules, tick=tick)
            counts = not is_overtaken(environment.state, tick)
            misses += [
                (environment, _missed(environment, due.slot, tick=tick, counts=counts), due.deadline) for due in slots
            ]
        # An id that is there already means that the slot was judged before: it is not judged twice.
        stored = insert_checkins(
            ((environment, checkin) for environment, checkin, _ in misses),
            tail="ON CONFLICT (project_id, guid) DO NOTHING",
        )
        new = [
            (environment, checkin, deadline)
            for environment, checkin, deadline in misses
            if (environment.id, checkin.guid) in stored
        ]
        failures = [
            FailedCheckIn(
                environment=environment,
                id=stored[environment.id, checkin.guid],
                guid=checkin.guid,
                kind=FailureKind.MISSED,
                started_at=checkin.date_added,
                failed_at=tick,
                expected_time=checkin.expected_time,
                deadline=deadline,
                tick=tick,
            )
            for environment, checkin, deadline in new
            if checkin.failed_at is not None
        ]
        mark_failed(failures)
        save_environments(environments.values())
        marked += [Marked(environment.monitor_slug, environment.name, miss.date_added) for environment, miss, _ in new]
    return marked


def _missed(environment: LockedEnvironment, slot: datetime, *, tick: datetime, counts: bool) -> CheckInState:
    return CheckInState(
        id=None,
        guid=uuid.uuid5(MISS_NAMESPACE, f"{environment.id}:{slot.isoformat()}"),
        environment_id=environment.id,
        status=CheckInStatus.MISSED,
        date_added=slot,
        date_updated=slot,
        received_at=tick,
        source=Source.CLOCK,
        expected_time=slot,
        failed_at=tick if counts else None,
    )


# --- timeouts -------------------------------------------------------------------------------------------------------


def mark_timeouts(shard: int, tick: datetime) -> list[Marked]:
    """Give up the runs of the shard whose deadline is at or before `tick`, if they are still in progress (D7).

    A run that a newer result has overtaken becomes a timeout but not a failure. Source: reference section 12.2.
    """
    overdue = CheckIn.objects.filter(shard=shard).overdue_at(tick).order_by("monitor_environment_id")
    marked: list[Marked] = []
    for ids in _chunks(list(overdue.values_list("monitor_environment_id", flat=True).distinct())):
        environments = lock_environments(ids)
        failures: list[FailedCheckIn] = []
        timeouts: list[CheckInState] = []
        for checkin in load_overdue(ids, tick):
            environment = environments[checkin.environment_id]
            counts = not (is_superseded(environment.state, checkin.date_added) or is_overtaken(environment.state, tick))
            timeouts.append(
                replace(checkin, status=CheckInStatus.TIMEOUT, timeout_at=None, failed_at=tick if counts else None)
            )
            marked.append(Marked(environment.monitor_slug, environment.name, checkin.date_added))
            if counts:
                assert checkin.id is not None, "a stored check-in has an id"
                failures.append(
                    FailedCheckIn(
                        environment=environment,
                        id=checkin.id,
                        guid=checkin.guid,
                        kind=FailureKind.TIMEOUT,
                        started_at=checkin.date_added,
                        failed_at=tick,
                        expected_time=checkin.expected_time,
                        deadline=checkin.timeout_at,
                        tick=tick,
                        trace_id=checkin.trace_id,
                    )
                )
        update_checkins(timeouts)
        mark_failed(failures)
        save_environments(environments.values())
    return marked


HANDLERS: dict[TaskKind, Callable[[int, datetime], list[Marked]]] = {
    TaskKind.MISSED: mark_missed,
    TaskKind.TIMEOUT: mark_timeouts,
}


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK_ROWS_MAX):
        yield ids[start : start + CHUNK_ROWS_MAX]
