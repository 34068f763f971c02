"""Which minutes the clock applies, and in which order the work of a shard is done (pure).

A tick is a whole minute in UTC. Work of tick T is due at or before T (D20). Within a shard work is done in one order,
whatever order messages arrive in: tick by tick, and at one tick misses before timeouts. At a tick at which nothing
could be received, or far too little was, all that is due becomes unknown instead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitors.expectation import first_tick_at_or_after

MINUTE = timedelta(minutes=1)
WAIT_UNRECORDED_MAX = timedelta(seconds=5)
"""An idle node reports its position about every second; a longer wait has a cause that people may want to know."""


class TaskKind(StrEnum):
    """Kinds of clock tasks, in the order in which they are applied at one tick.

    At a tick whose minute was deaf, or whose volume of check-ins was an incident, due work becomes unknown instead of
    missed or timed out (D2, D4): one kind does the work of the other two.
    """

    MISSED = "missed"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


DEADLINES = (TaskKind.MISSED, TaskKind.TIMEOUT)
"""The kinds that have deadlines of their own, in the order in which they are applied at one tick."""


@dataclass(frozen=True, slots=True)
class ClockTask:
    """One wake-up: "do this kind of work in this shard, up to this tick". It may be lost, late or repeated."""

    kind: TaskKind
    shard: int
    tick: datetime


@dataclass(frozen=True, slots=True)
class ShardState:
    """Where a shard stands: the last applied tick by kind, and the earliest waiting deadline (None: nothing).

    Deadlines are those of slots (by `missed`) and of runs (by `timeout`); `unknown` has none of its own.
    """

    positions: dict[TaskKind, datetime]
    first_due: dict[TaskKind, datetime | None]


def whole_minute(at: datetime) -> datetime:
    """Return `at` cut to its minute."""
    return at.replace(second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class TickWindow:
    """Up to which minute the clock may go (`newest`), and the newer minute that time alone would allow (`held`).

    `held` is None if nothing is held back. `late` is how long `held` could have been applied already.
    """

    newest: datetime
    held: datetime | None
    late: timedelta


def tick_window(now: datetime, *, grace: timedelta, stored_until: datetime) -> TickWindow:
    """Return which minutes may be applied: those whose check-ins are all stored (P2).

    A check-in received before `stored_until` is stored. Of the minutes up to there, those wait that are not over for
    `grace`, by which the clocks of hosts may differ.
    """
    by_time = whole_minute(now - grace)
    newest = min(by_time, whole_minute(stored_until))
    return TickWindow(newest, None if newest == by_time else by_time, now - grace - by_time)


def waits_visibly(window: TickWindow) -> bool:
    """Return whether the wait for a held minute is longer than idle nodes cause, and worth a record."""
    return window.held is not None and window.late >= WAIT_UNRECORDED_MAX


def next_due_tick(state: ShardState, kind: TaskKind, *, until: datetime) -> datetime | None:
    """Return the next tick up to `until` at which a deadline of this kind (missed or timeout) is due, or None.

    Work that became due before the position (its message was processed late) is done at the first tick after it.
    """
    first_due = state.first_due[kind]
    if first_due is None:
        return None
    tick = max(first_tick_at_or_after(first_due), state.positions[kind] + MINUTE)
    return tick if tick <= until else None


def next_task(state: ShardState, *, until: datetime) -> tuple[datetime, TaskKind] | None:
    """Return the next work of the shard, or None if nothing is due up to `until`: earliest tick, misses first.

    If we were deaf at that tick, it is the kind unknown that does the work.
    """
    due = [(tick, kind) for kind in DEADLINES if (tick := next_due_tick(state, kind, until=until)) is not None]
    return min(due, key=lambda work: (work[0], DEADLINES.index(work[1])), default=None)


def last_in_turn(state: ShardState, kind: TaskKind, *, until: datetime) -> datetime:
    """Return the last tick up to `until` before which no other kind with deadlines has work."""
    for other in DEADLINES:
        tick = None if other is kind else next_due_tick(state, other, until=until)
        if tick is not None:
            until = tick if DEADLINES.index(kind) < DEADLINES.index(other) else tick - MINUTE
    return until


def quiet_until(state: ShardState, kind: TaskKind, *, until: datetime) -> datetime:
    """Return how far this kind's position may move without doing anything: up to just before its next work.

    `unknown`, which may have to do the work of either of the others, moves as far as both.
    """
    if kind is TaskKind.UNKNOWN:
        return min(quiet_until(state, deadlines, until=until) for deadlines in DEADLINES)
    tick = next_due_tick(state, kind, until=until)
    return max(state.positions[kind], until if tick is None else tick - MINUTE)
