"""Whether a job flaps: it changes between ok and failing so often that its incidents are noise (pure).

The formula is that of Nagios (`base/flapping.c`), over the last 21 finished runs: newer changes weigh more. Many
incidents within a day are flapping too, however many runs lie between them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

RUNS = 21
"""Runs that are examined, with at most 20 changes."""
_OLDEST, _NEWEST = 0.75, 1.25
"""Weights of the oldest and the newest change."""
START_PERCENT, STOP_PERCENT = 30.0, 20.0
"""Nagios' compiled defaults. With its sample file's 20 and 5 a daily job would stay silent for three weeks."""
OPENINGS_MAX = 5
DAY = timedelta(days=1)
"""More incidents than this within a day are flapping."""
STEADY_PERIODS = 5


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The last finished runs of an environment, oldest first: whether each failed, and when it began.

    `openings` counts its incidents of the last 24 hours.
    """

    failed: Sequence[bool] = ()
    began: Sequence[datetime] = ()
    openings: int = 0

    @property
    def changes(self) -> int:
        """How often it changed between ok and failing."""
        return sum(before != after for before, after in pairwise(self.failed))


def percent(failed: Sequence[bool]) -> float:
    """Return how much it flaps, from 0 to 100. With fewer than 21 runs, nothing changed before them.

    >>> round(percent([False, True] * 11), 1)
    100.0
    >>> round(percent([False] * 15 + [True, False, True, False, True, False]), 1)
    35.5
    """
    changed = [before != after for before, after in pairwise(failed[-RUNS:])]
    number_of_first = RUNS - 1 - len(changed)
    step = (_NEWEST - _OLDEST) / (RUNS - 2)
    weights = (_OLDEST + number * step for number, is_change in enumerate(changed, number_of_first) if is_change)
    return sum(weights) * 100 / (RUNS - 1)


def starts(history: History) -> bool:
    """Return whether a job that was steady flaps now."""
    return percent(history.failed) >= START_PERCENT or history.openings > OPENINGS_MAX


def has_settled(history: History, *, now: datetime) -> bool:
    """Return whether a job that flapped is steady again.

    It is if it changes little, and has few incidents or fails: one that fails for good is not kept silent. Or if
    nothing has changed for a day, and for five of its periods: a daily job would take weeks to change so little.
    """
    if not history.failed:
        return True
    if percent(history.failed) < STOP_PERCENT and (history.failed[-1] or history.openings <= OPENINGS_MAX):
        return True
    return now - _unchanged_since(history) >= max(DAY, STEADY_PERIODS * _period(history))


def _unchanged_since(history: History) -> datetime:
    for number in range(len(history.failed) - 1, 0, -1):
        if history.failed[number] != history.failed[number - 1]:
            return history.began[number]
    return history.began[0]


def _period(history: History) -> timedelta:
    """Return the mean time between the runs."""
    return (history.began[-1] - history.began[0]) / max(len(history.began) - 1, 1)
