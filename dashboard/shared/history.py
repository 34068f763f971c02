"""The last 90 days of a monitor on a status page: on which days it failed, and for how much of the time (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAYS = 90
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class History:
    """A cell for each day, oldest first, and the share of the time without an incident; None if it is too new."""

    cells: tuple[str, ...]
    failed_days: int
    share: float | None

    @property
    def percent(self) -> str:
        """The share in per cent, rounded down: what failed for a second never had 100 %."""
        return "" if self.share is None else f"{int(self.share * 10_000) / 100:.2f} %"


def first_day(now: datetime) -> datetime:
    """Return the beginning of the first day; the last one contains `now`. Days are those of UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - (DAYS - 1) * DAY


def history(seconds: Mapping[int, float], *, begins_at: datetime | None, now: datetime) -> History:
    """Return the days of a monitor that is watched since `begins_at` (None: it never reported).

    `seconds` says for how long it failed on each day, by the number of the day from `first_day` on.
    """
    start = first_day(now)
    if begins_at is None or begins_at >= now:
        return History(("",) * DAYS, 0, None)
    watched = max(begins_at, start)
    first = (watched - start) // DAY
    failed = {day for day, length in seconds.items() if length > 0}
    cells = tuple("error" if day in failed else "ok" if day >= first else "" for day in range(DAYS))
    # An incident may have begun with a run from before the monitor's first day here.
    share = 1 - min(sum(seconds.values()) / (now - watched).total_seconds(), 1)
    return History(cells, len(failed), share)
