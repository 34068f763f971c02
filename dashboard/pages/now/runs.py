"""When a run in progress takes long (pure)."""

from collections.abc import Sequence
from datetime import timedelta

from monitors.limits import percentile

RUNS_MIN = 20
"""So many runs must be known before they say what is usual."""
TIMES_USUAL = 2
SECONDS_MIN = 60
SHARE_OF_LIMIT = 0.8


def is_long(so_far: timedelta, *, limit: timedelta, durations_ms: Sequence[int]) -> bool:
    """Return whether a run takes long: twice as long as its median, or most of the time after which it is a timeout.

    `durations_ms` are those of the newest runs that ended ok. Under a minute nothing is long, unless the limit is near.
    """
    if so_far >= limit * SHARE_OF_LIMIT:
        return True
    median = percentile(durations_ms, 50)
    if median is None or len(durations_ms) < RUNS_MIN or so_far.total_seconds() < SECONDS_MIN:
        return False
    return so_far / timedelta(milliseconds=1) > TIMES_USUAL * median
