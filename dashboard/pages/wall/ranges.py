"""The ranges of the wall: how far back it shows, and how wide a cell is (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

HOUR = timedelta(hours=1)
NARROW_CELLS = 24


@dataclass(frozen=True, slots=True)
class Range:
    """A length of time that is shown in equal cells. `from_runs`: read from runs; otherwise from the hours of runs."""

    name: str
    words: str
    cell: timedelta
    cells: int
    from_runs: bool = False

    def start(self, now: datetime) -> datetime:
        """Return the beginning of the first cell; the last one contains `now`. Cells are aligned to UTC."""
        seconds = self.cell // timedelta(seconds=1)
        newest = int(now.timestamp()) // seconds * seconds
        return datetime.fromtimestamp(newest, UTC) - (self.cells - 1) * self.cell

    def narrow(self) -> "Range":
        """Return the same length of time in so few cells that each can be made out on a phone."""
        if self.cells <= NARROW_CELLS:
            return self
        return replace(self, cell=self.cells * self.cell / NARROW_CELLS, cells=NARROW_CELLS)


DEFAULT = "24h"
RANGES: Mapping[str, Range] = MappingProxyType(
    {
        one.name: one
        for one in (
            Range("1h", "1 hour", timedelta(minutes=1), 60, from_runs=True),
            Range("6h", "6 hours", timedelta(minutes=6), 60, from_runs=True),
            Range("24h", "24 hours", HOUR, 24),
            Range("7d", "7 days", 3 * HOUR, 56),
            Range("30d", "30 days", 12 * HOUR, 60),
            Range("90d", "90 days", 24 * HOUR, 90),
        )
    }
)
