"""Where the clock is, in one sentence, and what holds it up (pure).

The findings are those of `health.problems`, of the banner and of `/readyz`; besides, those are shown that explain a
clock at rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from clocktasks.clock import MINUTE
from health.clock.reasons import normal_max, when
from health.facts import Facts, Finding
from health.problems import find_all
from lib.durations import duration

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """Where the clock is (None: nowhere yet), how far behind now, whether that is normal, and why in words.

    `reasons`: what holds it up, what blocks first first. `besides`: what else is wrong.
    """

    at: datetime | None
    behind: timedelta | None
    is_normal: bool
    headline: str
    reasons: Sequence[Finding]
    besides: Sequence[Finding]


def explain(facts: Facts) -> ClockStatus:
    """Return why the clock is where it is. Times of day in words are UTC."""
    reasons, besides = find_all(facts)
    if facts.rows is None:
        return ClockStatus(None, None, False, f"Where the clock is is not known: {_clause(reasons)}", reasons, besides)
    at = facts.rows.applied_until
    if at is None:
        return ClockStatus(None, None, False, f"The clock has no minute yet: {_clause(reasons)}", reasons, besides)
    behind = facts.now - at
    is_normal = -MINUTE <= behind <= normal_max(facts.rows.rules)
    whole = MINUTE if abs(behind) >= MINUTE else SECOND
    clock = f"{when(at, facts.now)}, {duration(abs(behind) // whole * whole)}"
    if is_normal:
        side = "behind" if behind >= timedelta() else "ahead of"
        headline = f"The clock is at {clock} {side} now, which is normal."
    elif behind < timedelta():
        headline = f"The clock is at {clock} ahead of now: this host's time went back."
    else:
        headline = f"The clock waits at {clock} behind: {_clause(reasons)}"
    return ClockStatus(at, behind, is_normal, headline, reasons, besides)


def _clause(reasons: Sequence[Finding]) -> str:
    """Return the first reason as the second half of a sentence."""
    if not reasons:
        return "its work is under way."
    what = reasons[0].what
    return what if what.startswith(("PostgreSQL", "Valkey")) else what[:1].lower() + what[1:]
