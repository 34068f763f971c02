"""What must come of what jobs said, by the plainest arithmetic there is: minutes, margins and deadlines (pure).

Shares nothing with the code that it judges. Slots of a monitor are the minutes of an hour that its `every` divides.

- A slot is served by a message that begins a run and was received from five seconds before it until a margin after it.
  What is not served is missed at the tick that ends the margin.
- A run that has not ended at its beginning plus the longest runtime is a timeout at the first tick from then on.
- Where nobody listened through the whole margin, or in the minute of the deadline, it is unknown instead. Where
  somebody listened in between, the margin is counted in minutes that were listened to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from drills.jobs import MINUTE, Plan, slot_after

EARLY = timedelta(seconds=5)


class Message(NamedTuple):
    """What began a run: received at `at`, and perhaps once more up to `again`, if its client had to ask again."""

    at: datetime
    again: datetime


class Run(NamedTuple):
    """A run that said that it began. `ended_at` is empty if it never said that it ended."""

    guid: str
    began: Message
    ended_at: datetime | None
    ended_as: str | None


@dataclass(frozen=True)
class Ledger:
    """Up to which tick everything was judged, and the ticks whose minute nobody listened to."""

    until: datetime
    deaf: frozenset[datetime] = frozenset()


class Due(NamedTuple):
    """Something that the clock had to judge: a slot, or the run that has the id `guid`.

    It comes out as one of `outcomes`, found at one of `ticks`; None is for "it was in time".
    """

    kind: str
    at: datetime
    guid: str | None
    ticks: frozenset[datetime]
    outcomes: frozenset[str | None]


def due_slots(plan: Plan, first_at: datetime, messages: Sequence[Message], ledger: Ledger) -> Iterator[Due]:
    """Yield what had to come of each slot after the first message, up to what was judged, where it is no success.

    Slots are judged in order: one that has to wait keeps later ones back, and who serves it serves them, too.
    """
    slot = slot_after(first_at + EARLY, plan.every)
    turn = first_at
    while slot + plan.margin * MINUTE <= ledger.until:
        end, outcome = _end_of_margin(slot, plan.margin, ledger)
        promised = slot + plan.margin * MINUTE
        outcomes: set[str | None] = {outcome}
        is_served = any(slot - EARLY <= message.at < promised for message in messages)
        if not is_served:
            turn = max(turn, end)
        for message in messages:
            if message.at < max(turn, end) and message.again >= slot - EARLY:
                # Asked again, or in a margin that was prolonged: perhaps the clock was late to say so.
                outcomes.add(None)
        if turn <= ledger.until and not is_served:
            yield Due("missed", slot, None, frozenset({end, turn}), frozenset(outcomes))
        slot += plan.every * MINUTE


def _end_of_margin(slot: datetime, margin: int, ledger: Ledger) -> tuple[datetime, str]:
    """Return the tick that judges a slot nobody served, and as what."""
    window = [slot + number * MINUTE for number in range(1, margin + 1)]
    if all(tick in ledger.deaf for tick in window):
        return window[-1], "unknown"
    tick, heard = slot, 0
    while heard < margin:
        tick += MINUTE
        heard += tick not in ledger.deaf
    return tick, "missed"


def due_runs(plan: Plan, runs: Iterable[Run], ledger: Ledger) -> Iterator[Due]:
    """Yield what had to come of each run whose deadline was judged, where it is no success."""
    for run in runs:
        first, last = (at + plan.runtime * MINUTE for at in (run.began.at, run.began.again))
        first_tick, last_tick = (_tick_at_or_after(deadline) for deadline in (first, last))
        ticks = frozenset(first_tick + number * MINUTE for number in range((last_tick - first_tick) // MINUTE + 1))
        outcomes: set[str | None] = set()
        for tick in ticks:
            earliest, latest = max(first, tick - MINUTE), min(last, tick)
            if tick > ledger.until or (run.ended_at is not None and run.ended_at < latest):
                outcomes.add(None)
            if tick > ledger.until or (run.ended_at is not None and run.ended_at < earliest):
                continue
            if tick in ledger.deaf:
                outcomes |= {"unknown"} if run.ended_at is None else {"unknown", run.ended_as}
            else:
                outcomes.add("timeout")
        if outcomes != {None}:
            yield Due("timeout", run.began.at, run.guid, ticks, frozenset(outcomes))


def _tick_at_or_after(at: datetime) -> datetime:
    return at if at == at.replace(second=0, microsecond=0) else at.replace(second=0, microsecond=0) + MINUTE


class Event(NamedTuple):
    """A failure that was counted or an ok, in the order of time. At a tick misses come before timeouts (`order`)."""

    at: datetime
    order: int
    kind: str
    checkin: int
    started_at: datetime


class Story(NamedTuple):
    """An incident as it must be: its failures in order, and what ended it (None: it is open)."""

    failures: tuple[Event, ...]
    opened_by: Event
    resolved_by: Event | None


def incidents(plan: Plan, events: Iterable[Event]) -> list[Story]:
    """Return the incidents that these failures and oks make: so many failures in a row open, so many oks resolve."""
    stories: list[Story] = []
    streak: list[Event] = []
    oks = 0
    is_open = False
    for event in sorted(events, key=lambda event: (event.at, event.order, event.started_at)):
        if event.kind == "ok":
            oks += 1
            if is_open and oks >= plan.recovery_threshold:
                stories[-1] = stories[-1]._replace(resolved_by=event)
                is_open = False
            streak = []
            continue
        oks = 0
        streak.append(event)
        if is_open:
            stories[-1] = stories[-1]._replace(failures=(*stories[-1].failures, event))
        elif len(streak) >= plan.failure_threshold:
            # Only those that lead to the opening are its run: failures in a row are no more than these here.
            stories.append(Story(tuple(streak[-plan.failure_threshold :]), event, None))
            is_open = True
    return stories
