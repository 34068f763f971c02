"""Which minutes were listened to, and what that means for what was expected in them (pure, D2).

Minutes count as wholes: a minute was listened to if ingest nodes listened through it but for a few seconds, since
clients try again for as long as that; otherwise it was deaf. A window that was wholly deaf says nothing about its job.
One that was partly deaf is judged as soon as a whole margin of minutes has been listened to.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
UNHEARD_MAX = timedelta(seconds=10)
"""How much of a minute may pass with nobody listening: a restart, in which connections wait or are tried again."""


@dataclass(frozen=True, slots=True)
class DeafMinutes:
    """The deaf minutes of some time, by their beginnings, in order. Outside that time nothing was deaf."""

    minutes: Sequence[datetime] = ()

    def count(self, since: datetime, until: datetime) -> int:
        """Return how many of the minutes that begin from `since` to before `until` were deaf."""
        return bisect_left(self.minutes, until) - bisect_left(self.minutes, since)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a slot that nothing served: a miss, unknown, or neither before the tick `wait_until`."""

    is_unknown: bool = False
    wait_until: datetime | None = None


MISSED = Verdict()
UNKNOWN = Verdict(is_unknown=True)


def judge_slot(slot: datetime, *, margin_minutes: int, tick: datetime, deaf: DeafMinutes) -> Verdict:
    """Return what the tick at which a slot is due, or was put off to, makes of it (D2).

    The window of a slot are the `margin_minutes` minutes from it on. `deaf` covers the time from the slot to the tick.
    """
    first = slot.replace(second=0, microsecond=0)
    deaf_in_window = deaf.count(first, first + margin_minutes * MINUTE)
    if deaf_in_window == 0:
        return MISSED
    if deaf_in_window == margin_minutes:
        return UNKNOWN
    listened = (tick - first) // MINUTE - deaf.count(first, tick)
    if listened >= margin_minutes:
        return MISSED
    return Verdict(wait_until=tick + (margin_minutes - listened) * MINUTE)


def deaf_minutes(spans: Iterable[tuple[datetime, datetime]], *, first: datetime, last: datetime) -> list[datetime]:
    """Return which of the minutes from `first` to `last` (their beginnings, both included) were deaf.

    `spans` are the times in which nodes listened, as pairs of begin and end, in any order.
    """
    end = last + MINUTE
    heard: dict[datetime, timedelta] = {}
    covered_until = first
    for since, until in sorted(spans):
        at = max(since, covered_until)
        until = min(until, end)
        while at < until:
            minute = at.replace(second=0, microsecond=0)
            part_end = min(minute + MINUTE, until)
            heard[minute] = heard.get(minute, timedelta()) + (part_end - at)
            at = part_end
        covered_until = max(covered_until, until)
    minutes = ((first + number * MINUTE) for number in range((last - first) // MINUTE + 1))
    return [minute for minute in minutes if MINUTE - heard.get(minute, timedelta()) > UNHEARD_MAX]
