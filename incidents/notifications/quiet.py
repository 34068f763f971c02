"""Quiet hours: an interval by the wall clocks of a zone, in which people are notified only of what is critical (pure).

An instant is judged by the local time that it has: no arithmetic with local times, hence no special case when clocks
change. Both passes of a doubled hour are quiet, and an end within a skipped hour is its end.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

MINUTE = timedelta(minutes=1)
MINUTES_MAX = 26 * 60
"""No quiet hours are longer: a day, and the hour that clocks may be put back."""


class QuietHours(msgspec.Struct, frozen=True):
    """From `begin` to `end`, over midnight if `end` is earlier. Whole minutes; the two differ."""

    begin: time
    end: time
    timezone: str

    def cover(self, at: datetime) -> bool:
        """Return whether an instant is quiet."""
        local = at.astimezone(self._zone()).time()
        if self.begin < self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end

    def end_after(self, now: datetime) -> datetime | None:
        """Return when the quiet of `now` ends; None if it is not quiet now."""
        if not self.cover(now):
            return None
        minute = now.astimezone(UTC).replace(second=0, microsecond=0)
        minutes = (minute + count * MINUTE for count in range(1, MINUTES_MAX))
        return next((at for at in minutes if not self.cover(at)), None)

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (ValueError, OSError, KeyError):  # not in this tzdata
            return ZoneInfo("UTC")
