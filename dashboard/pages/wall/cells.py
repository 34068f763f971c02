"""The strip of a row: one cell for each length of time, as one SVG path for each status (pure).

Ten thousand rows with an element for each cell would be half a million elements; so the cells of one status are one
path. A status is a colour and a shape: errors are full, ok is lower, misses are hollow, timeouts have a cut corner,
what is unknown is half as high, maintenance is two lines, and what runs is a line at the bottom.

What is in each cell stands in one attribute, so that a script can say it: cells.js.
"""

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from html import escape

from dashboard.pages.wall.ranges import Range
from monitors.maintenance import Window, occurrences

CELL, GAP, HEIGHT = 8, 1, 16
"""Width of a cell and of the gap after it, and the height, in pixels."""
ORDER = ("error", "missed", "timeout", "late", "unknown", "maintenance", "running", "ok")
"""What a cell shows: the first of these that happened in it."""
MAINTENANCE = "maintenance"
NOTHING = "nothing happened"
SHAPES: Mapping[str, str] = {
    "ok": "4h8v12h-8z",
    "error": "0h8v16h-8z",
    # Cut at the lower right.
    "late": "4h8v7l-5 5h-3z",
    # Hollow: an inner rectangle the other way round.
    "missed": "0h8v16h-8zm2 2v12h4v-12z",
    "timeout": "0h3l5 5v11h-8z",
    "unknown": "4h8v8h-8z",
    "maintenance": "3h8v3h-8zm0 7h8v3h-8z",
    "running": "12h8v4h-8z",
}
"""From the upper left corner of a cell on, whose distance from the top is the first number."""


Cells = MutableMapping[int, dict[str, int]]
"""How often what happened, by the number of the cell. Maintenance in which nothing was expected happened 0 times."""


def worst(counts: Mapping[str, int]) -> str:
    """Return what a cell shows; "" if nothing happened in it."""
    return next((status for status in ORDER if counts.get(status)), MAINTENANCE if MAINTENANCE in counts else "")


def covered(window: Window, shown: Range, *, now: datetime) -> frozenset[int]:
    """Return the cells in which a maintenance window was, up to now. At most a step for each cell."""
    start, found = shown.start(now), set[int]()
    at = start
    while (span := next(occurrences(window, at), None)) is not None and span[0] < now:
        first, last = (max(span[0], start) - start) // shown.cell, -(-(min(span[1], now) - start) // shown.cell)
        found.update(range(first, last))
        # What else begins in the last of these cells says nothing new.
        at = max(start + last * shown.cell, span[1])
    return frozenset(found)


def move_unknown(cells: Cells, maintained: Collection[int]) -> None:
    """Count what is unknown in maintenance as that: hours of runs do not say why something is unknown."""
    for number in maintained:
        if count := cells.get(number, {}).pop("unknown", 0):
            cells[number][MAINTENANCE] = count


def complete(cells: Cells, maintained: Collection[int], *, late: int | None, running: int | None) -> None:
    """Add what no run that has ended says: cells in maintenance, that of a slot that is late, that of a run."""
    for number in maintained:
        cells.setdefault(number, {}).setdefault(MAINTENANCE, 0)
    for status, at in (("late", late), ("running", running)):
        if at is not None and at >= 0:
            cells.setdefault(at, {})[status] = 1


def strip(cells: Cells, number: int, label: str, *, since: tuple[datetime, timedelta], is_large: bool = False) -> str:
    """Return a number of cells as SVG. `label` says the same in words; `since`: the first one's start, and a length.

    The large one, alone on its page, can be reached by the keyboard; the others are, with their rows.
    """
    statuses = [worst(cells.get(cell, {})) for cell in range(number)]
    start, length = (int(since[0].timestamp()), since[1] // timedelta(seconds=1))
    counts = ",".join(
        "".join(f"{_letter(status)}{cells[cell][status]}" for status in ORDER if status in cells.get(cell, {}))
        for cell in range(number)
    )
    kind, focus = ("strip strip-large", ' tabindex="0"') if is_large else ("strip", "")
    return bare_strip(statuses, label, kind, f' data-cells="{start} {length} {counts}"{focus}')


def _letter(status: str) -> str:
    """Return by which letter a script knows a status: its place in the legend."""
    return chr(ord("a") + ORDER.index(status))


def bare_strip(statuses: Sequence[str], label: str, kind: str = "strip", more: str = "") -> str:
    """Return cells as SVG, of which a script knows nothing."""
    paths: dict[str, list[str]] = {}
    for number, status in enumerate(statuses):
        if status:
            paths.setdefault(status, []).append(f"M{number * (CELL + GAP)} {SHAPES[status]}")
    drawn = "".join(f'<path class="c-{status}" d="{"".join(parts)}"/>' for status, parts in paths.items())
    return (
        f'<svg class="{kind}" viewBox="0 0 {len(statuses) * (CELL + GAP)} {HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}"{more}>{drawn}</svg>'
    )


def in_words(totals: Mapping[str, int], word: Callable[[str], str]) -> str:
    """Return counts in words, the worst first: "2 missed, 22 ok". `word` translates the name of a status."""
    counts = ", ".join(
        f"{totals[status]} {word(status)}" if totals[status] else word(status) for status in ORDER if status in totals
    )
    return counts or word(NOTHING)
