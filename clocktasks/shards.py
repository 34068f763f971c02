"""The shards of the clock: where each stands, and applying the next ticks in one (shell).

`process_clock_task` does one kind of work in one shard: passes over the ticks with something due, in order, each a
transaction that marks what is due and moves the shard's clock (P4). A clock in time has a pass for each tick; one that
catches up does many ticks in a pass, which gives the same rows. Where a shard stands is in rows, so messages may be
lost, late, doubled or out of order without harm (P3).
"""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from clocktasks.clock import (
    MINUTE,
    ClockTask,
    ShardState,
    TaskKind,
    last_in_turn,
    next_task,
    quiet_until,
)
from clocktasks.kinds import HANDLERS
from clocktasks.kinds.marked import Marked
from clocktasks.ledger import decided_until, rows_of, stretch
from clocktasks.models import ShardClock
from lib.sql import fetch_rows, insert_rows, plan_for_few_of_many

DEAF_ROWS_MAX = 20_000
"""How much of a time without a listener is done in one pass, in rows (about): nothing is judged there."""


HOLD = timedelta(seconds=5)
"""How long the openings of a tick wait for those of other shards, so that people get one message about all."""
PASS_MINUTES = 1440
"""Rows of the ledger that a pass goes over at most."""


def next_works(states: Mapping[int, ShardState], *, until: datetime) -> dict[int, tuple[datetime, TaskKind]]:
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
           WHEN 'timeout' THEN (SELECT min(timeout_at) FROM checkins_runningcheckin
                                 WHERE shard = clock.shard)
           END
      FROM clocktasks_shardclock AS clock
     WHERE %(shard)s::integer IS NULL OR clock.shard = %(shard)s
"""


def shard_states(shard: int | None = None) -> dict[int, ShardState]:
    """Return where each shard (or the given one) stands. Two index look-ups for each: monenv_due, checkin_deadline.

    (The second one in each day of check-ins. Planning that anew took ten times as long as doing it.)
    """
    states: dict[int, ShardState] = {}
    for row_shard, kind, position, first_due in fetch_rows(SHARD_STATES_SQL, {"shard": shard}, is_prepared=True):
        state = states.setdefault(row_shard, ShardState({}, {}))
        state.positions[TaskKind(kind)] = position
        state.first_due[TaskKind(kind)] = first_due
    return states


@dataclass(frozen=True, slots=True)
class TickEffect:
    """What one tick did in one shard, or the last one of a time without a listener for all of it."""

    kind: TaskKind
    shard: int
    tick: datetime
    marked: Sequence[Marked]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a shard's clock: what each applied tick did, and the next task of the shard (None: none)."""

    effects: Sequence[TickEffect] = ()
    wake: ClockTask | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a clock task did, and the task that has to go on where it stopped."""

    marked_count: int
    tick_count: int
    wake: ClockTask | None


def process_clock_task(task: ClockTask, *, now: datetime | None = None) -> TaskResult:
    """Do this kind of work in this shard up to the newest tick of the ledger, one transaction for each pass.

    Stops where another kind's work comes first in the shard's order, and returns it in `wake`. Does nothing if another
    worker holds the shard's clock: that worker does it. Calls the handler of the task's kind. What opens is sent when
    its tick is finished, `HOLD` after `now` at the latest; at once if `now` is not given.
    """
    marked_count = tick_count = 0
    while True:
        step = apply_next(task.kind, task.shard, now=now)
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
def apply_next(
    kind: TaskKind,
    shard: int,
    *,
    until: datetime | None = None,
    skip_locked: bool = True,
    now: datetime | None = None,
) -> Step:
    """Apply the next ticks of this kind in this shard, if its turn has come: effects and positions in one transaction.

    `until` bounds the window below the newest decided tick.

    1. Lock the shard's first clock row, which keeps other workers out of the whole shard: kinds take turns anyway.
       Whoever does not get it leaves the shard to the one that has it.
    2. Find the oldest work of the shard. If it is of another kind, that kind's turn comes first: go to step 5.
    3. Let the handler of the kind do its pass: it locks environments in id order, marks what is due and writes it.
    4. Record what each tick marked.
    5. Move all clocks of the shard to just before the work that is left, and return what that is.
    """
    gate = ShardClock.objects.select_for_update(skip_locked=skip_locked).filter(shard=shard, kind=TaskKind.MISSED.value)
    decided = decided_until()
    if not gate or decided is None:
        return Step()
    until = decided if until is None else min(until, decided)
    plan_for_few_of_many()
    state = shard_states(shard)[shard]
    work = next_works({shard: state}, until=until).get(shard)
    effects: list[TickEffect] = []
    if work is not None and work[1] is kind:
        first = work[0]
        with _no_garbage_collection():
            last = _last_at_once(kind, shard, first, state, until=until)
            # What becomes unknown opens nothing.
            hold = {} if now is None or kind is TaskKind.UNKNOWN else {"held_until": now + HOLD}
            done = HANDLERS[kind](shard, first, last, **hold)
        effects = [TickEffect(kind, shard, tick, marked) for tick, marked in done.marked.items()]
        _record_applied(shard, Counter((one.kind, one.tick) for effect in effects for one in effect.marked))
        # What is unknown is neither missed nor timed out at the same tick.
        passed = TaskKind if kind is TaskKind.UNKNOWN else (kind,)
        state = ShardState(
            {**state.positions, **dict.fromkeys(passed, done.until)}, shard_states(shard)[shard].first_due
        )
        work = next_works({shard: state}, until=until).get(shard)
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
            on_conflict=ADD_TO_APPLIED if is_unknown else "",
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
