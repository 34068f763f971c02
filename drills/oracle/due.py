"""What must come of jobs whose messages were received at times that are known only roughly."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from drills.oracle.rules import MINUTE, Rules, end_of_margin, tick_at_or_after


class Message(NamedTuple):
    """What began a run: received at `at`, and perhaps once more up to `again`, if its client had to ask again."""

    at: datetime
    again: datetime


class KnownRun(NamedTuple):
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


def due_slots(rules: Rules, first_at: datetime, messages: Sequence[Message], ledger: Ledger) -> Iterator[Due]:
    """Yield what had to come of each slot after the first message, up to what was judged, where it is no success.

    Slots are judged in order: one that has to wait keeps later ones back, and who serves it serves them, too.
    """
    slot = rules.slots.after(rules.slots.early(first_at, None, None) or first_at, None)
    turn = first_at
    while slot is not None and (promised := slot + rules.margin * MINUTE) <= ledger.until:
        end, is_deaf = end_of_margin(slot, rules.margin, ledger.deaf)
        outcomes: set[str | None] = {"unknown" if is_deaf else "missed"}

        def is_early(at: datetime, slot: datetime = slot) -> bool:
            return at >= slot or rules.slots.early(at, None, None) == slot

        is_served = any(is_early(message.at) and message.at < promised for message in messages)
        if not is_served:
            turn = max(turn, end)
        for message in messages:
            if message.at < max(turn, end) and is_early(message.again):
                # Asked again, or in a margin that was prolonged: perhaps the clock was late to say so.
                outcomes.add(None)
        if turn <= ledger.until and not is_served:
            yield Due("missed", slot, None, frozenset({end, turn}), frozenset(outcomes))
        slot = rules.slots.after(slot, None)


def due_runs(rules: Rules, runs: Iterable[KnownRun], ledger: Ledger) -> Iterator[Due]:
    """Yield what had to come of each run whose deadline was judged, where it is no success."""
    for run in runs:
        first, last = (at + rules.runtime * MINUTE for at in (run.began.at, run.began.again))
        first_tick, last_tick = tick_at_or_after(first), tick_at_or_after(last)
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
