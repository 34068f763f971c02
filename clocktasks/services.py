"""The clock's work: the ledger of ticks, and applying them to shards (shell).

`look_around` says which minutes may be applied: those whose check-ins are stored (P2).
`advance_ledger` writes these minutes and says which shards have something to do. `process_clock_task`
does one kind of work in one shard: passes over the ticks with something due, in order, each a transaction that marks
what is due and moves the shard's clock (P4). A clock in time has a pass for each tick; one that catches up does many
ticks in a pass, which gives the same rows. Where both stand is in rows, so messages between them may be lost, late,
doubled or out of order without harm (P3).
"""

import contextlib
import dataclasses
import gc
import heapq
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from msgspec.structs import replace

from checkins.counting import defer, ending, settle
from checkins.messages import CheckInStatus, Source
from checkins.nodes import Settled, drop_silent_nodes, settled_until
from checkins.transitions import CheckInState, Verdict
from checkins.writing import deadline_after, insert_checkins, load_overdue, overdue_environments, update_checkins
from clocktasks.clock import (
    MINUTE,
    ClockTask,
    ShardState,
    TaskKind,
    TickWindow,
    last_in_turn,
    next_task,
    quiet_until,
    tick_window,
    whole_minute,
)
from clocktasks.exceptions import UnreadableClockTaskError
from clocktasks.ledger import deaf_spans, decided_until, finish_ticks, rows_of, stretch, write_ticks
from clocktasks.models import HeldTick, ShardClock, Tick
from clocktasks.volume import VolumeDecision
from incidents.services import FailedCheckIn, mark_failed
from incidents.thresholds import FailureKind
from monitors.bulk import fetch_rows, insert_rows
from monitors.coverage import DeafMinutes
from monitors.environments import LockedEnvironment, lock_environments, save_environments
from monitors.expectation import DueSlot, first_tick_at_or_after
from monitors.ids import derive_from
from monitors.models import MonitorEnvironment
from monitors.sharding import SHARDS_MAX
from monitors.spans import decide_due, expect_no_more, held_until
from monitors.state import MonitorRules

logger = logging.getLogger(__name__)

_miss_id = derive_from(uuid.UUID("5a3a7f5e-0a53-4f0c-8f0e-0a2f6f0f8c11"))
CHUNK_ROWS_MAX = 10_000
"""Rows that are held in memory at once. A tick of one shard is one transaction, whatever it marks."""
PASS_ROWS_MAX = 2_000
"""How much more than one tick a pass does: so many environments, and as many slots or runs, until it ends."""
DEAF_ROWS_MAX = 20_000
"""The same of a time without a listener, in rows (about): nobody is judged there."""
PASS_MINUTES = 1440
"""Rows of the ledger that a pass goes over at most."""


# --- the ledger -----------------------------------------------------------------------------------------------------


def advance_ledger(until: datetime, *, now: datetime) -> list[ClockTask]:
    """Write a tick for every minute after the last one up to `until`, and return the clock tasks worth sending.

    Any number of beats may do this at once, late, or again: the ledger is the same. The first tick ever is `until`.
    Shards with nothing due are moved in one statement. What the ledger holds beyond `until` stays allowed.
    The ledger is written in transactions of its own, so that no gap is too long for one.
    """
    write_ticks(until, now=now)
    return _plan_work(now=now)


@transaction.atomic
def _plan_work(*, now: datetime) -> list[ClockTask]:
    decided = decided_until()
    if decided is None:
        return []
    _plan_for_few_of_many()
    clocks = _lock_clocks_behind(decided)
    states = _shard_states()
    _move_quiet_clocks(clocks, states, until=decided)
    finish_ticks(now=now)
    works = _next_works(states, until=decided)
    return [ClockTask(kind, shard, decided) for shard, (_, kind) in works.items()]


def _plan_for_few_of_many() -> None:
    """Have PostgreSQL look rows up one by one, by index, until the end of the transaction.

    It does not know how few rows a statement of the clock is about. For a chunk of 10,000 among half a million it
    would read the whole table into a hash, for each chunk anew; and a plan that is kept for a day without check-ins
    would read that day from end to end when it has a million (P7).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT set_config(name, value, true)
              FROM (VALUES ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_seqscan', 'off'),
                           ('plan_cache_mode', 'force_generic_plan')) AS setting (name, value)
            """
        )


def _next_works(states: Mapping[int, ShardState], *, until: datetime) -> dict[int, tuple[datetime, TaskKind]]:
    """Return the next tick and kind of work of each of the shards that has any."""
    works = {shard: work for shard, state in states.items() if (work := next_task(state, until=until)) is not None}
    rows = rows_of({tick for tick, _ in works.values()})
    return {
        shard: (rows[tick][0], TaskKind.UNKNOWN if rows[tick][1] else kind)
        for shard, (tick, kind) in works.items()
        if tick in rows and rows[tick][0] <= until
    }


SHARD_STATES_SQL = """
    SELECT clock.shard, clock.kind, clock.position,
           CASE clock.kind
           WHEN 'missed' THEN (SELECT min(next_checkin_latest) FROM monitors_monitorenvironment
                                WHERE shard = clock.shard AND next_checkin_latest IS NOT NULL)
           WHEN 'timeout' THEN (SELECT min(timeout_at) FROM checkins_checkin
                                 WHERE shard = clock.shard AND status = 'in_progress')
           END
      FROM clocktasks_shardclock AS clock
     WHERE %(shard)s::integer IS NULL OR clock.shard = %(shard)s
"""


def _shard_states(shard: int | None = None) -> dict[int, ShardState]:
    """Return where each shard (or the given one) stands. Two index look-ups for each: monenv_due, checkin_deadline.

    (The second one in each day of check-ins. Planning that anew took ten times as long as doing it.)
    """
    states: dict[int, ShardState] = {}
    for row_shard, kind, position, first_due in fetch_rows(SHARD_STATES_SQL, {"shard": shard}, is_prepared=True):
        state = states.setdefault(row_shard, ShardState({}, {}))
        state.positions[TaskKind(kind)] = position
        state.first_due[TaskKind(kind)] = first_due
    return states


def _lock_clocks_behind(until: datetime) -> list[ShardClock]:
    """Lock the clocks that are not at `until` yet, skipping those that somebody holds.

    To be called before the work of their shards is looked for: a change of the number of shards waits for these locks,
    or had its own, so that what is found is about the shards that these clocks belong to.
    """
    behind = ShardClock.objects.select_for_update(skip_locked=True).filter(position__lt=until)
    return list(behind.order_by("id"))


def _move_quiet_clocks(clocks: Sequence[ShardClock], states: Mapping[int, ShardState], *, until: datetime) -> None:
    """Move locked clocks to just before the next work of their shards."""
    moves: dict[datetime, list[int]] = {}
    for clock in clocks:
        position = quiet_until(states[clock.shard], TaskKind(clock.kind), until=until)
        if position > clock.position:
            moves.setdefault(position, []).append(clock.id)
    # Nearly all move to the same minute: those with work ahead are few, and what is theirs is at one of few minutes.
    for position, ids in moves.items():
        ShardClock.objects.filter(id__any_of=ids).update(position=position)


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

    There need not be such a shard: the message may be older than the number of shards. Then nothing comes of it.
    Raises UnreadableClockTaskError, naming the field, its value and what is allowed.
    """
    if not isinstance(message, Mapping):
        raise UnreadableClockTaskError(f"kind, shard and tick are not in {message!r}")
    try:
        kind = TaskKind(message.get("kind", ""))
    except ValueError:
        raise UnreadableClockTaskError(f"kind {message.get('kind')!r} is not one of {', '.join(TaskKind)}") from None
    shard = message.get("shard")
    if type(shard) is not int or not 0 <= shard < SHARDS_MAX:
        raise UnreadableClockTaskError(f"shard {shard!r} is not a number from 0 to {SHARDS_MAX - 1}")
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
    """A check-in that `tick` marked, named as people know it. `at` is the slot, or the start of the run."""

    kind: TaskKind
    monitor: str
    environment: str
    at: datetime
    tick: datetime


class Pass(NamedTuple):
    """What was done in one go: all work of its kind up to the tick `until`, and what each tick with any marked.

    Of a time without a listener, the last tick stands for all.
    """

    until: datetime
    marked: Mapping[datetime, Sequence[Marked]]


@dataclass(frozen=True, slots=True)
class TickEffect:
    """What one tick did in one shard, or the last one of a time without a listener for all of it."""

    kind: TaskKind
    shard: int
    tick: datetime
    marked: Sequence[Marked]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a shard's clock: what each tick did that was applied, and whose turn it is now (None: nobody's)."""

    effects: Sequence[TickEffect] = ()
    wake: ClockTask | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a clock task did, and the task that has to go on where it stopped."""

    marked_count: int
    tick_count: int
    wake: ClockTask | None


def process_clock_task(task: ClockTask) -> TaskResult:
    """Do this kind of work in this shard up to the newest tick of the ledger, one transaction for each pass.

    Stops where another kind's work comes first in the shard's order, and says so in `wake`. Does nothing if another
    worker holds the shard's clock: that worker does it. Calls the handler of the task's kind.
    """
    marked_count = tick_count = 0
    while True:
        step = apply_next(task.kind, task.shard)
        marked_count += sum(len(effect.marked) for effect in step.effects)
        tick_count += len(step.effects)
        if step.wake is None or step.wake.kind is not task.kind:
            return TaskResult(marked_count, tick_count, step.wake)


def apply_ticks(shard: int, *, until: datetime) -> Iterator[TickEffect]:
    """Apply all kinds of work of a shard up to `until`, in order, yielding what each tick did. For commands.

    Waits for a worker that holds the shard's clock.
    """
    kind: TaskKind | None = next(iter(TaskKind))
    while kind is not None:
        step = apply_next(kind, shard, until=until, skip_locked=False)
        yield from step.effects
        kind = None if step.wake is None else step.wake.kind


@transaction.atomic
def apply_next(kind: TaskKind, shard: int, *, until: datetime | None = None, skip_locked: bool = True) -> Step:
    """Apply the next ticks of this kind in this shard, if its turn has come: effects and positions in one transaction.

    `until` bounds the window below the newest decided tick. Locks the shard's first clock row, which keeps other
    workers out of the whole shard: kinds take turns in it anyway. Then locks environments in id order.
    """
    gate = ShardClock.objects.select_for_update(skip_locked=skip_locked).filter(shard=shard, kind=TaskKind.MISSED.value)
    decided = decided_until()
    if not gate or decided is None:
        return Step()
    until = decided if until is None else min(until, decided)
    _plan_for_few_of_many()
    state = _shard_states(shard)[shard]
    work = _next_works({shard: state}, until=until).get(shard)
    effects: list[TickEffect] = []
    if work is not None and work[1] is kind:
        first = work[0]
        with _no_garbage_collection():
            done = HANDLERS[kind](shard, first, _last_at_once(kind, shard, first, state, until=until))
        effects = [TickEffect(kind, shard, tick, marked) for tick, marked in done.marked.items()]
        _record_applied(shard, Counter((one.kind, one.tick) for effect in effects for one in effect.marked))
        # What is unknown is neither missed nor timed out at the same tick.
        passed = TaskKind if kind is TaskKind.UNKNOWN else (kind,)
        state = ShardState(
            {**state.positions, **dict.fromkeys(passed, done.until)}, _shard_states(shard)[shard].first_due
        )
        work = _next_works({shard: state}, until=until).get(shard)
    _move_clocks(shard, {each: quiet_until(state, each, until=until) for each in TaskKind})
    return Step(effects, None if work is None else ClockTask(work[1], shard, until))


def _last_at_once(kind: TaskKind, shard: int, first: datetime, state: ShardState, *, until: datetime) -> datetime:
    """Return up to which tick work of this kind may be done in one pass that begins at `first`.

    No tick between needs another kind of work before. Nothing is asked for a clock that is in time.
    """
    rows_max = PASS_MINUTES
    if kind is TaskKind.UNKNOWN:
        rows_max = min(max(DEAF_ROWS_MAX // max(_due_soon(shard, first), 1), 1), PASS_MINUTES)
    else:
        until = last_in_turn(state, kind, until=until)
    return first if until <= first else stretch(first, until=until, rows_max=rows_max)


def _record_applied(shard: int, counts: Mapping[tuple[TaskKind, datetime], int]) -> None:
    """Record what ticks marked. What is unknown may come of both the slots and the runs of one tick."""
    for is_unknown in (False, True):
        insert_rows(
            "clocktasks_appliedtick",
            {"shard": "smallint", "kind": "text", "tick": "timestamptz", "marked_count": "integer"},
            [
                (shard, kind.value, tick, count)
                for (kind, tick), count in counts.items()
                if (kind is TaskKind.UNKNOWN) == is_unknown
            ],
            tail=ADD_TO_APPLIED if is_unknown else "",
        )


ADD_TO_APPLIED = """
    ON CONFLICT (tick, shard, kind) DO UPDATE
       SET marked_count = clocktasks_appliedtick.marked_count + excluded.marked_count
"""


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


def _move_clocks(shard: int, positions: Mapping[TaskKind, datetime]) -> None:
    """Move clocks of a shard on, never back."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE clocktasks_shardclock AS clock SET position = new.position
              FROM unnest(%s::text[], %s::timestamptz[]) AS new (kind, position)
             WHERE clock.shard = %s AND clock.kind = new.kind AND clock.position < new.position
            """,
            [[kind.value for kind in positions], list(positions.values()), shard],
        )


KINDS = {CheckInStatus(kind.value): kind for kind in TaskKind}


def _marked(environment: LockedEnvironment, checkin: CheckInState) -> Marked:
    kind = KINDS[checkin.status]
    tick = checkin.date_updated if kind is TaskKind.UNKNOWN else checkin.failed_at
    assert tick is not None, "a failure knows its tick"
    return Marked(kind, environment.monitor_slug, environment.name, checkin.date_added, tick)


# --- misses ---------------------------------------------------------------------------------------------------------


def mark_missed(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Record a missed check-in for every slot of the shard that is due at `first` and nothing served (D1).

    With `last`, the ticks up to there follow, in order, as far as they make one pass (`PASS_ROWS_MAX`): each sees what
    is due at it. A slot whose window was deaf is unknown even if it is found only now; one whose window was so in part
    may have to wait (D2). Statements: two to find, and the same number for each `CHUNK_ROWS_MAX` environments whatever
    they hold.
    """
    ids, last = _due_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in _chunks(ids):
        environments = lock_environments(chunk, due_at=last, since=first)
        judged = _judge_slots(environments, first, last)
        last = judged.until
        # An id that is there already means that the slot was judged before: it is not judged twice.
        stored = insert_checkins(
            ((environment, checkin) for environment, checkin, _ in judged.slots),
            tail="ON CONFLICT DO NOTHING",
        )
        new = [
            (environment, checkin, due)
            for environment, checkin, due in judged.slots
            if (environment.id, checkin.guid) in stored
        ]
        failures = [
            FailedCheckIn(
                environment=environment,
                id=stored[environment.id, checkin.guid],
                guid=checkin.guid,
                kind=FailureKind.MISSED,
                rules=_rules_of_miss(environment, due, checkin.failed_at),
                started_at=checkin.date_added,
                failed_at=checkin.failed_at,
                expected_time=checkin.expected_time,
                deadline=due.deadline,
                tick=checkin.failed_at,
            )
            for environment, checkin, due in new
            if checkin.failed_at is not None
        ]
        mark_failed(failures)
        settle(judged.environments.values())
        save_environments(judged.environments.values())
        for tick in judged.ticks:
            marked.setdefault(tick, [])
        for environment, checkin, _ in new:
            one = _marked(environment, checkin)
            marked[one.tick].append(one)
    return Pass(last, marked)


class _Judged(NamedTuple):
    """What ticks up to `until` found: at which ticks, in which environments, and the check-ins that they leave."""

    until: datetime
    ticks: Collection[datetime]
    environments: Mapping[int, LockedEnvironment]
    slots: Sequence[tuple[LockedEnvironment, CheckInState, DueSlot]]


def _judge_slots(environments: Mapping[int, LockedEnvironment], first: datetime, last: datetime) -> _Judged:
    """Judge what is due in locked environments tick after tick, at each in order of id, and move their pointers.

    Ends before `last` if it comes to much, or to an environment with ends of runs that are to be counted after that
    tick and before the next one (D29).
    """
    deaf = _deaf_minutes(environments.values(), last)
    queue = [(_next_tick(environment, first), id_) for id_, environment in environments.items()]
    heapq.heapify(queue)
    judged: dict[int, LockedEnvironment] = {}
    ticks: dict[datetime, None] = {}
    found: list[tuple[LockedEnvironment, CheckInState, DueSlot]] = []
    while queue and queue[0][0] <= last:
        tick, id_ = heapq.heappop(queue)
        ticks[tick] = None
        environment = judged[id_] = environments[id_]
        slots, environment.state = decide_due(
            environment.state, environment.rules, environment.former, tick=tick, deaf=deaf
        )
        for due, why in _unjudged_slots(environment, slots):
            checkin = (
                _unknown(environment, due, tick=tick, because=why)
                if due.is_unknown or why is not None
                else _missed(environment, due, tick=tick)
            )
            found.append((environment, checkin, due))
        if environment.state.has_deferred or len(found) >= PASS_ROWS_MAX:
            last = tick
        if environment.state.next_checkin_latest is not None:
            heapq.heappush(queue, (_next_tick(environment, tick + MINUTE), id_))
    return _Judged(last, ticks, judged, found)


def _next_tick(environment: LockedEnvironment, first: datetime) -> datetime:
    """Return the tick, `first` or later, that finds the oldest slot of an environment which has one."""
    assert environment.state.next_checkin_latest is not None, "it was looked for by its deadline"
    return max(first, first_tick_at_or_after(environment.state.next_checkin_latest))


def _rules_of_miss(environment: LockedEnvironment, due: DueSlot, tick: datetime) -> MonitorRules:
    """Return the rules of a slot, with the thresholds that held at the tick that found it (D32)."""
    counting = environment.rules_until(tick)
    if due.former is None:
        return counting
    return dataclasses.replace(
        due.former.rules,
        failure_threshold=counting.failure_threshold,
        recovery_threshold=counting.recovery_threshold,
    )


def _config_of(environment: LockedEnvironment, due: DueSlot, tick: datetime) -> int | None:
    """Return the snapshot of the rules that a slot was judged by, if these are not the present ones (D32)."""
    if not environment.former:
        return None
    held = held_until(environment.former, tick if due.former is None else min(tick, due.former.until))
    return None if held is None else held.config_id


def _unjudged_slots(environment: LockedEnvironment, slots: Sequence[DueSlot]) -> Iterator[tuple[DueSlot, str | None]]:
    """Yield the slots that came while the monitor was active, and why they are not judged, if so (D23).

    Of a disabled one nothing more is expected.
    """
    for due in slots:
        if environment.expects(due.slot):
            yield due, due.because or environment.slot_unjudged_because(due.slot, due.deadline)
    off_since = environment.off_since
    if off_since is not None:
        environment.state = expect_no_more(environment.state, environment.rules, environment.former, now=off_since)


def _due_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with a slot that is due, in order, and at which tick: `last`, or an earlier one.

    So early that there are no more than `PASS_ROWS_MAX` of them; but all that are due at `first`, if that is the one.
    """
    if first < last:
        due = MonitorEnvironment.objects.in_shard(shard).due_at(last).order_by("next_checkin_latest")
        for beyond in due.values_list("next_checkin_latest", flat=True)[PASS_ROWS_MAX : PASS_ROWS_MAX + 1]:
            assert beyond is not None, "it is due"
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return _ids_due_at(shard, last), last


def _ids_due_at(shard: int, tick: datetime) -> list[int]:
    due = MonitorEnvironment.objects.in_shard(shard).due_at(tick).order_by("id")
    return list(due.values_list("id", flat=True))


def _deaf_minutes(environments: Collection[LockedEnvironment], tick: datetime) -> DeafMinutes:
    """Return which minutes between the oldest slot that waits in these environments and the tick were deaf."""
    slots = [slot for environment in environments if (slot := environment.state.pending_slot) is not None]
    if not slots:
        return DeafMinutes()
    return DeafMinutes(deaf_spans(min(slots), tick))


def _missed(environment: LockedEnvironment, due: DueSlot, *, tick: datetime) -> CheckInState:
    slot = due.slot
    return CheckInState(
        id=None,
        guid=_miss_id(f"{environment.id}:{slot.isoformat()}"),
        environment_id=environment.id,
        status=CheckInStatus.MISSED,
        date_added=slot,
        date_updated=slot,
        received_at=tick,
        source=Source.CLOCK,
        expected_time=slot,
        failed_at=tick,
        config_id=_config_of(environment, due, tick),
    )


def _unknown(environment: LockedEnvironment, due: DueSlot, *, tick: datetime, because: str | None) -> CheckInState:
    return replace(
        _missed(environment, due, tick=tick),
        status=CheckInStatus.UNKNOWN,
        date_updated=tick,
        failed_at=None,
        unknown_because=because,
    )


# --- timeouts -------------------------------------------------------------------------------------------------------


def mark_timeouts(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Give up the runs of the shard whose deadline is at or before `first`, if they are still in progress (D7).

    It is a failure at this tick, also if a newer run has ended meanwhile (D29). With `last`, the ticks up to there
    follow, in order, as far as they make one pass (`PASS_ROWS_MAX`).
    """
    ids, last = _overdue_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in _chunks(ids):
        environments = lock_environments(chunk, since=first)
        due = [(_tick_of(run.timeout_at, first, last), run) for run in load_overdue(chunk, last)]
        # Ends of runs are counted after the tick for which they wait, and before the next one (D29).
        last = min((tick for tick, run in due if environments[run.environment_id].state.has_deferred), default=last)
        due = sorted((one for one in due if one[0] <= last), key=lambda one: one[0])
        for tick, _ in due:
            marked.setdefault(tick, [])
        overdue, unknown = _without_unjudged([run for _, run in due], environments, first, last)
        failures: list[FailedCheckIn] = []
        timeouts: list[CheckInState] = []
        for checkin in overdue:
            environment = environments[checkin.environment_id]
            tick = _tick_of(checkin.timeout_at, first, last)
            timeouts.append(replace(checkin, status=CheckInStatus.TIMEOUT, timeout_at=None, failed_at=tick))
            assert checkin.id is not None, "a stored check-in has an id"
            failures.append(
                FailedCheckIn(
                    environment=environment,
                    id=checkin.id,
                    guid=checkin.guid,
                    kind=FailureKind.TIMEOUT,
                    rules=environment.rules_until(tick),
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
        judged = [environments[id_] for id_ in sorted({run.environment_id for _, run in due})]
        settle(judged)
        save_environments(judged)
        for one in (*unknown, *(_marked(environments[run.environment_id], run) for run in timeouts)):
            marked[one.tick].append(one)
    return Pass(last, marked)


def _overdue_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with an overdue run, and at which tick: see `_due_environments`."""
    if first < last:
        beyond = deadline_after(shard, last, PASS_ROWS_MAX)
        if beyond is not None:
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return overdue_environments(shard, last), last


def _without_unjudged(
    overdue: Sequence[CheckInState],
    environments: Mapping[int, LockedEnvironment],
    first: datetime,
    last: datetime,
) -> tuple[list[CheckInState], list[Marked]]:
    """End the runs that fell due while their monitor was disabled (D23); return the others, and what became unknown.

    One whose end was received after its deadline was unknown until then, and has ended uncounted.
    """
    judged: list[CheckInState] = []
    ended: list[CheckInState] = []
    for run in overdue:
        assert run.timeout_at is not None, "only runs with a deadline are overdue"
        why = environments[run.environment_id].unjudged_because(run.timeout_at)
        if why is None:
            judged.append(run)
        elif run.finished_status is None:
            ended.append(
                replace(
                    run,
                    status=CheckInStatus.UNKNOWN,
                    timeout_at=None,
                    date_updated=_tick_of(run.timeout_at, first, last),
                    unknown_because=why,
                )
            )
        else:
            ended.append(
                replace(
                    run,
                    status=run.finished_status,
                    timeout_at=None,
                    finished_status=None,
                    finished_at=None,
                    date_updated=run.finished_at or last,
                )
            )
    update_checkins(ended)
    unknown = [run for run in ended if run.status is CheckInStatus.UNKNOWN]
    return judged, [_marked(environments[run.environment_id], run) for run in unknown]


# --- unknown --------------------------------------------------------------------------------------------------------


def _due_soon(shard: int, tick: datetime) -> int:
    """Return how many environments of the shard have a slot that is due in the minutes of a pass, at most."""
    ((due,),) = fetch_rows(
        """
        SELECT count(*) FROM (
               SELECT FROM monitors_monitorenvironment
                WHERE shard = %s AND next_checkin_latest <= %s LIMIT %s) AS due
        """,
        [shard, tick + PASS_MINUTES * MINUTE, DEAF_ROWS_MAX],
    )
    return int(due)


def mark_unknown(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Make unknown what is due in the shard at a tick at which we were deaf, or heard far too little (D2, D4).

    `last` is the last tick of a time without a listener that begins with `first`, if it is done at once: each row says
    the tick of its own.
    Slots get an unknown check-in, and runs in progress whose deadline has come become unknown: no failure, and no
    streak ends. At a deaf tick, a slot whose window was not wholly deaf waits instead. Source: reference section 12.3.
    """
    last = last or first
    is_incident = Tick.objects.filter(at=last, decision=VolumeDecision.INCIDENT.value).exists()
    marked: list[Marked] = []
    for ids in _chunks(_ids_due_at(shard, last)):
        environments = lock_environments(ids, due_at=last, since=first)
        deaf = _deaf_minutes(environments.values(), last)
        unknown: list[tuple[LockedEnvironment, CheckInState]] = []
        for environment in environments.values():
            slots, environment.state = decide_due(
                environment.state,
                environment.rules,
                environment.former,
                tick=last,
                deaf=deaf,
                all_unknown=is_incident,
            )
            unknown += [
                (environment, _unknown(environment, due, tick=_tick_of(due.deadline, first, last), because=why))
                for due, why in _unjudged_slots(environment, slots)
            ]
        stored = insert_checkins(unknown, tail="ON CONFLICT DO NOTHING")
        settle(environments.values())
        save_environments(environments.values())
        marked += [
            _marked(environment, checkin)
            for environment, checkin in unknown
            if (environment.id, checkin.guid) in stored
        ]
    for ids in _chunks(overdue_environments(shard, last)):
        # An end may have been received in the minute before.
        environments = lock_environments(ids, since=first - MINUTE)
        overdue, unjudged = _without_unjudged(load_overdue(ids, last), environments, first, last)
        marked += unjudged
        unfinished = [
            replace(
                run,
                status=CheckInStatus.UNKNOWN,
                timeout_at=None,
                date_updated=_tick_of(run.timeout_at, first, last),
            )
            for run in overdue
            if run.finished_status is None
        ]
        update_checkins(unfinished)
        _end_unknown(environments, [run for run in overdue if run.finished_status is not None])
        settle(environments.values())
        save_environments(environments.values())
        marked += [_marked(environments[run.environment_id], run) for run in unfinished]
    return Pass(last, {last: marked})


def _tick_of(due_at: datetime | None, first: datetime, last: datetime) -> datetime:
    """Return which of the ticks from `first` to `last` finds what is due then."""
    assert due_at is not None, "what is due has a deadline"
    return min(last, max(first, first_tick_at_or_after(due_at)))


def _end_unknown(environments: Mapping[int, LockedEnvironment], runs: Sequence[CheckInState]) -> None:
    """End runs whose end was received after their deadline, and before the clock came to say that they are unknown.

    In the order of time they were unknown first, and an unknown run ends with all that an end means (D2, P6): it is
    counted among what else was received meanwhile.
    """
    endings = []
    ended = []
    for run in runs:
        assert run.id is not None, "a stored check-in has an id"
        assert run.finished_status is not None, "only runs that ended are given"
        assert run.finished_at is not None, "who ended did so at some time"
        verdict = Verdict.OK if run.finished_status is CheckInStatus.OK else Verdict.FAILED
        endings.append(ending(environments[run.environment_id], verdict, run, run.id, run.finished_at))
        ended.append(
            replace(
                run,
                status=run.finished_status,
                timeout_at=None,
                finished_status=None,
                finished_at=None,
                date_updated=run.finished_at,
            )
        )
    update_checkins(ended)
    defer(endings)


HANDLERS: dict[TaskKind, Callable[..., Pass]] = {
    TaskKind.MISSED: mark_missed,
    TaskKind.TIMEOUT: mark_timeouts,
    TaskKind.UNKNOWN: mark_unknown,
}


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK_ROWS_MAX):
        yield ids[start : start + CHUNK_ROWS_MAX]
