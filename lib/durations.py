"""Lengths of time in words (pure)."""

import re
from datetime import timedelta
from functools import lru_cache

import humanize


@lru_cache(1_024)
def duration(length: timedelta | None, *, language: str = "en") -> str:
    """Return a length of time in its two largest units, up to days, and below a minute in one. `language`: en or de.

    Remembered: a page has the same lengths in many rows, and each takes as long as ten other values.

    >>> duration(timedelta(milliseconds=850)), duration(timedelta(seconds=1.5)), duration(timedelta(hours=26))
    ('850 milliseconds', '1.5 seconds', '1 day and 2 hours')
    >>> duration(timedelta(hours=26), language="de")
    '1 Tag und 2 Stunden'
    """
    if length is None:
        return "-"
    smaller = ((1, "milliseconds"), (3_600, "seconds"), (86_400, "minutes"))
    seconds = abs(length.total_seconds())
    unit = next((unit for limit, unit in smaller if 0 < seconds < limit), "hours" if seconds else "seconds")
    number = "%.3g" if seconds < 60 else "%d"
    if language != "en":  # That of the thread, so it is put back.
        humanize.activate(language)
    try:
        words = humanize.precisedelta(length, minimum_unit=unit, suppress=("years", "months"), format=number)
    finally:
        if language != "en":
            humanize.deactivate()
    return words if length >= timedelta() else f"-{words}"


def after_preposition(words: str) -> str:
    """Return a length as it stands after "for", "in" and the like: German has another form of days there.

    >>> after_preposition("3 Tage und 2 Stunden"), after_preposition("3 days")
    ('3 Tagen und 2 Stunden', '3 days')
    """
    return re.sub(r"\bTage\b", "Tagen", words)
