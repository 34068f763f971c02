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
from lib.texts import Text

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
        headline = Text("Where the clock is is not known: %(why)s", why=_clause(reasons))
        return ClockStatus(None, None, False, headline, reasons, besides)
    at = facts.rows.applied_until
    if at is None:
        headline = Text("The clock has no minute yet: %(why)s", why=_clause(reasons))
        return ClockStatus(None, None, False, headline, reasons, besides)
    behind = facts.now - at
    is_normal = -MINUTE <= behind <= normal_max(facts.rows.rules)
    whole = MINUTE if abs(behind) >= MINUTE else SECOND
    where = {"at": when(at, facts.now), "length": abs(behind) // whole * whole}
    if is_normal and behind >= timedelta():
        headline = Text("The clock is at %(at)s, %(length)s behind now, which is normal.", **where)
    elif is_normal:
        headline = Text("The clock is at %(at)s, %(length)s ahead of now, which is normal.", **where)
    elif behind < timedelta():
        headline = Text("The clock is at %(at)s, %(length)s ahead of now: this host's time went back.", **where)
    else:
        headline = Text("The clock waits at %(at)s, %(length)s behind: %(why)s", **where, why=_clause(reasons))
    return ClockStatus(at, behind, is_normal, headline, reasons, besides)


def _clause(reasons: Sequence[Finding]) -> str:
    """Return the first reason as the second half of a sentence."""
    if not reasons:
        return Text("its work is under way.")
    what = reasons[0].what
    return what if what.startswith(("PostgreSQL", "Valkey")) or not isinstance(what, Text) else what.lowered()
