"""Badges: one word on the state of a monitor, a tag or a project, as SVG and for shields.io (pure)."""

from dataclasses import dataclass
from html import escape
from typing import Any

LABEL_CHARACTERS_MAX = 60
_WIDE, _NARROW = "mwMW@%—", "fijlrtI.,:;'|!()[] -"
GREY, GREEN, RED, BLUE = "#5a6270", "#17714f", "#c01a1a", "#2460c4"
"""White text on each of these has a contrast of at least 4.5."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How many monitors there are, and how many of these fail, are maintained, or have never reported."""

    all: int
    failing: int = 0
    maintained: int = 0
    silent: int = 0


def message(standing: Standing) -> tuple[str, str]:
    """Return what a badge says, and its colour. What fails comes first; a green badge means that somebody reported.

    >>> message(Standing(all=14, failing=2))
    ('2 of 14 failing', '#c01a1a')
    >>> message(Standing(all=1, failing=1)), message(Standing(all=1)), message(Standing(all=0))
    (('failing', '#c01a1a'), ('ok', '#17714f'), ('no data', '#5a6270'))
    """
    if standing.failing:
        return ("failing" if standing.all == 1 else f"{standing.failing} of {standing.all} failing"), RED
    if standing.silent == standing.all:
        return "no data", GREY
    if standing.maintained:
        every = standing.maintained == standing.all
        return ("maintenance" if every else f"{standing.maintained} of {standing.all} in maintenance"), BLUE
    return "ok", GREEN


def shields(label: str, standing: Standing) -> dict[str, Any]:
    """Return the badge as shields.io reads it from an endpoint."""
    text, colour = message(standing)
    return {
        "schemaVersion": 1,
        "label": _short(label),
        "message": text,
        "color": colour.removeprefix("#"),
        "isError": bool(standing.failing),
        "cacheSeconds": 60,
    }


def svg(label: str, standing: Standing) -> str:
    """Return the badge as SVG. The label is a person's text: it is escaped, and no part of it becomes markup."""
    text, colour = message(standing)
    label = _short(label)
    left, right = _width(label), _width(text)
    width, words = left + right, escape(f"{label}: {text}")

    def words_at(begin: int, room: int, shown: str) -> str:
        return f'<text x="{begin + room / 2:g}" y="14" textLength="{room - 12}">{escape(shown)}</text>'

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{words}">'
        f"<title>{words}</title>"
        f'<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3b424d"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f"{words_at(0, left, label)}{words_at(left, right, text)}</g></svg>"
    )


def _short(label: str) -> str:
    """Return a label in one line, without characters that XML has not."""
    line = " ".join("".join(character if character.isprintable() else " " for character in label).split())
    return line if len(line) <= LABEL_CHARACTERS_MAX else f"{line[: LABEL_CHARACTERS_MAX - 1]}…"


def _width(text: str) -> int:
    """Return the room of a text in pixels, roughly; `textLength` fits it in."""
    return 12 + round(
        sum(10.5 if one in _WIDE or ord(one) > 0x2E80 else 4.5 if one in _NARROW else 6.9 for one in text)
    )
