"""Lengths of time in words (pure)."""

from datetime import timedelta


def duration(length: timedelta | None) -> str:
    """Return a length of time in its two largest units.

    >>> duration(timedelta(milliseconds=850)), duration(timedelta(seconds=1.5)), duration(timedelta(hours=26))
    ('850 ms', '1.5 s', '1 d 2 h')
    """
    if length is None:
        return "-"
    seconds = length.total_seconds()
    if 0 < seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    rest, parts = int(seconds), []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if rest >= size:
            parts.append(f"{rest // size} {unit}")
            rest %= size
    return " ".join(parts[:2])
