"""The strip of a row: one cell for each length of time, as one SVG path for each status (pure).

Ten thousand rows with an element for each cell would be half a million elements; so the cells of one status are one
path. A status is a colour and a shape: errors are full, ok is lower, misses are hollow, timeouts have a cut corner,
what is unknown is half as high, and what runs is a line at the bottom.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape

CELL, GAP, HEIGHT = 8, 1, 16
"""Width of a cell and of the gap after it, and the height, in pixels."""
ORDER = ("error", "missed", "timeout", "late", "unknown", "running", "ok")
"""What a cell shows: the first of these that happened in it."""
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
    "running": "12h8v4h-8z",
}
"""From the upper left corner of a cell on, whose distance from the top is the first number."""


def worst(counts: Mapping[str, int]) -> str:
    """Return what a cell shows; "" if nothing happened in it."""
    return next((status for status in ORDER if counts.get(status)), "")


def strip(statuses: Sequence[str], label: str) -> str:
    """Return the cells as SVG. `label` says the same in words, for people who do not see it."""
    paths: dict[str, list[str]] = {}
    for number, status in enumerate(statuses):
        if status:
            paths.setdefault(status, []).append(_cell(number, status))
    drawn = "".join(f'<path class="c-{status}" d="{"".join(parts)}"/>' for status, parts in paths.items())
    return _svg("strip", len(statuses), label, drawn)


def large_strip(cells: Sequence[tuple[str, str]], label: str) -> str:
    """Return cells, each a status and words for its tooltip, as SVG. For one strip on a page: each is an element."""
    drawn = "".join(
        f'<path class="c-{status}" d="{_cell(number, status)}"><title>{escape(words)}</title></path>'
        for number, (status, words) in enumerate(cells)
        if status
    )
    return _svg("strip strip-large", len(cells), label, drawn)


def _cell(number: int, status: str) -> str:
    return f"M{number * (CELL + GAP)} {SHAPES[status]}"


def _svg(kind: str, cells: int, label: str, drawn: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {cells * (CELL + GAP)} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{drawn}</svg>'
    )


def in_words(totals: Mapping[str, int], word: Callable[[str], str]) -> str:
    """Return counts in words, the worst first: "2 missed, 22 ok". `word` translates the name of a status."""
    counts = ", ".join(f"{totals[status]} {word(status)}" for status in ORDER if totals.get(status))
    return counts or word(NOTHING)
