"""What a pass over ticks has marked, and how much it does at once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from checkins.messages import CheckInStatus
from checkins.processing.transitions import CheckInState
from clocktasks.clock import TaskKind
from monitors.expectation import first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment


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


KINDS = {CheckInStatus(kind.value): kind for kind in TaskKind}


def marked_row(environment: LockedEnvironment, checkin: CheckInState) -> Marked:
    """Return what a row that was marked is called by people."""
    kind = KINDS[checkin.status]
    tick = checkin.date_updated if kind is TaskKind.UNKNOWN else checkin.failed_at
    assert tick is not None, "a failure knows its tick"
    return Marked(kind, environment.monitor_slug, environment.name, checkin.date_added, tick)


def tick_of(due_at: datetime | None, first: datetime, last: datetime) -> datetime:
    """Return which of the ticks from `first` to `last` finds what is due then."""
    assert due_at is not None, "what is due has a deadline"
    return min(last, max(first, first_tick_at_or_after(due_at)))
