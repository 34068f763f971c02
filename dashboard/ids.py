"""Ids of rows as addresses and forms bring them: any text that somebody may send (pure)."""

from collections.abc import Iterable

NO_ROW = 0
"""No row has this id."""
DIGITS_MAX = 18
"""Larger numbers are no ids: the database would refuse them, and Python the largest."""


def row_id(text: str) -> int:
    """Return the id that a text is, or `NO_ROW`.

    >>> row_id("17"), row_id(""), row_id("-1"), row_id("9" * 5_000)
    (17, 0, 0, 0)
    """
    return int(text) if text.isdecimal() and len(text) <= DIGITS_MAX else NO_ROW


def row_ids(texts: Iterable[str]) -> list[int]:
    """Return the ids among texts, in their order."""
    return [id_ for text in texts if (id_ := row_id(text)) != NO_ROW]
