"""Which minutes were covered by listeners, and the verdict on slots that were expected in them (pure, D2).

Minutes count as wholes: a minute is covered if ingest nodes listened all through it except for a few seconds, for which
clients try again, and no received message was lost (D43); otherwise it was deaf. A window that was wholly deaf does not
allow a verdict. A window that was partly deaf is judged as soon as a whole margin of minutes has been covered.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
UNCOVERED_MAX = timedelta(seconds=10)
"""How much of a minute may have no listener: a restart, during which connections wait or are tried again."""


SUMMARISED_AFTER = timedelta(days=7)
"""After this time without a listener slots no longer get a row each: the whole time is one clock incident, and
ten years of a job that runs each minute would be five million equal rows."""


@dataclass(frozen=True, slots=True)
class DeafSpan:
    """Consecutive minutes without a listener, from the beginning of the first to the end of the last.

    `is_summarised`: there was no listener for so long that slots due here get no row (`SUMMARISED_AFTER`).
    """

    since: datetime
    until: datetime
    is_summarised: bool = False


class DeafMinutes:
    """The deaf minutes of a period. Outside of it no minute counts as deaf."""

    __slots__ = ("_begins", "_counts", "_spans")

    def __init__(self, spans: Iterable[DeafSpan] = ()) -> None:
        """Accept spans in order, without overlaps; adjacent spans become one."""
        self._spans: list[DeafSpan] = []
        for span in spans:
            last = self._spans[-1] if self._spans else None
            if last is not None and last.until == span.since and last.is_summarised == span.is_summarised:
                self._spans[-1] = DeafSpan(last.since, span.until, last.is_summarised)
            else:
                self._spans.append(span)
        self._begins = [span.since for span in self._spans]
        self._counts = [0]
        for span in self._spans:
            self._counts.append(self._counts[-1] + (span.until - span.since) // MINUTE)

    def __bool__(self) -> bool:
        """Return whether any minute was deaf."""
        return bool(self._spans)

    @classmethod
    def of(cls, minutes: Iterable[datetime]) -> "DeafMinutes":
        """Return these minutes, given by their beginnings, in order."""
        return cls(DeafSpan(minute, minute + MINUTE) for minute in minutes)

    def count(self, since: datetime, until: datetime) -> int:
        """Return how many of the minutes that begin from `since` to before `until` were deaf."""
        return self._count_before(until) - self._count_before(since)

    def summarised_until(self, deadline: datetime) -> datetime | None:
        """Return the end of the summarised span in which a slot with this deadline falls due; None outside of them."""
        number = bisect_left(self._begins, deadline) - 1
        if number < 0 or not self._spans[number].is_summarised or deadline > self._spans[number].until:
            return None
        return self._spans[number].until

    def _count_before(self, at: datetime) -> int:
        number = bisect_right(self._begins, at) - 1
        if number < 0:
            return 0
        span = self._spans[number]
        # A minute that began before `at` counts, even if it ends later.
        return self._counts[number] + -((span.since - min(at, span.until)) // MINUTE)


@dataclass(frozen=True, slots=True)
class SlotVerdict:
    """The verdict on a slot that nothing served: missed, unknown, or undecided before the tick `wait_until`."""

    is_unknown: bool = False
    wait_until: datetime | None = None


MISSED = SlotVerdict()
UNKNOWN = SlotVerdict(is_unknown=True)


def judge_slot(slot: datetime, *, margin_minutes: int, tick: datetime, deaf: DeafMinutes) -> SlotVerdict:
    """Return the verdict on a slot at the tick at which it is due, or to which it was postponed (D2).

    The window of a slot is its first `margin_minutes` minutes. `deaf` must include the time from the slot to the tick.
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
    return SlotVerdict(wait_until=tick + (margin_minutes - listened) * MINUTE)


def deaf_minutes(
    spans: Iterable[tuple[datetime, datetime]],
    *,
    first: datetime,
    last: datetime,
    lost: Iterable[tuple[datetime, datetime]] = (),
) -> list[datetime]:
    """Return which of the minutes from `first` to `last` (their beginnings, both included) were deaf.

    `spans` are the times in which nodes listened, as pairs of beginning and end, in any order. `lost` are times in
    which messages were received and then lost, both ends included: any minute with such a time is deaf.
    """
    end = last + MINUTE
    covered: dict[datetime, timedelta] = {}
    covered_until = first
    for since, until in sorted(spans):
        at = max(since, covered_until)
        until = min(until, end)
        while at < until:
            minute = at.replace(second=0, microsecond=0)
            part_end = min(minute + MINUTE, until)
            covered[minute] = covered.get(minute, timedelta()) + (part_end - at)
            at = part_end
        covered_until = max(covered_until, until)
    minutes = ((first + number * MINUTE) for number in range((last - first) // MINUTE + 1))
    gone = {minute for since, until in lost for minute in _minutes_of(max(since, first), min(until, last))}
    return [minute for minute in minutes if minute in gone or MINUTE - covered.get(minute, timedelta()) > UNCOVERED_MAX]


def _minutes_of(since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the minutes of a period, from the one of its beginning to the one of its end."""
    minute = since.replace(second=0, microsecond=0)
    while minute <= until:
        yield minute
        minute += MINUTE
