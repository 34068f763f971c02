"""When the clocks of a zone change (pure)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAYS_SEARCHED = 800
"""Zones with daylight saving time change twice a year; the longest pause of one that goes on is about a year."""


class ClockChange(NamedTuple):
    """A change of the clocks: its instant, and by how much they are set forward (negative: back)."""

    at: datetime
    by: timedelta

    @property
    def minutes(self) -> int:
        """By how many minutes."""
        return round(abs(self.by) / timedelta(minutes=1))

    @property
    def is_forward(self) -> bool:
        """Whether an hour or so of the wall clock is left out, and not repeated."""
        return self.by > timedelta()


def clock_changes(zone: ZoneInfo, *, now: datetime) -> Iterator[ClockChange]:
    """Yield the changes of a zone's clocks after `now`, up to `DAYS_SEARCHED` ahead, each to the minute."""
    begin = now.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(DAYS_SEARCHED):
        end = begin + timedelta(days=1)
        before, after = _offset(begin, zone), _offset(end, zone)
        if before != after:
            low, high = begin, end
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) // 2
                middle = middle.replace(second=0, microsecond=0)
                if middle in (low, high):
                    break
                low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
            yield ClockChange(high, after - before)
        begin = end


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
