"""Lengths of time in words (pure)."""

from datetime import timedelta

import humanize


def duration(length: timedelta | None) -> str:
    """Return a length of time in its two largest units, up to days, and below a minute in one.

    >>> duration(timedelta(milliseconds=850)), duration(timedelta(seconds=1.5)), duration(timedelta(hours=26))
    ('850 milliseconds', '1.5 seconds', '1 day and 2 hours')
    """
    if length is None:
        return "-"
    smaller = ((1, "milliseconds"), (3_600, "seconds"), (86_400, "minutes"))
    seconds = abs(length.total_seconds())
    words = humanize.precisedelta(
        length,
        minimum_unit=next((unit for limit, unit in smaller if 0 < seconds < limit), "hours" if seconds else "seconds"),
        suppress=("years", "months"),
        format="%.3g" if seconds < 60 else "%d",
    )
    return words if length >= timedelta() else f"-{words}"
