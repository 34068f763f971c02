"""Which of the rules that a monitor had, or has, are in force at an instant (pure; D32).

`former` are the rules that a monitor had before its present ones, oldest first.
"""

from collections.abc import Sequence
from datetime import datetime

from monitors.state import FormerRules, MonitorRules


def held_at(former: Sequence[FormerRules], at: datetime) -> FormerRules | None:
    """Return the rules in force for a message received at `at`; None if they are the present ones.

    A message is judged by the configuration that it sends.
    """
    return next((one for one in former if one.until > at), None)


def held_until(former: Sequence[FormerRules], until: datetime) -> FormerRules | None:
    """Return the rules in force until `until`, or at a tick then: a tick ignores an edit at its own instant (D20)."""
    return next((one for one in former if one.until >= until), None)


def rules_since(
    rules: MonitorRules, former: Sequence[FormerRules], since: datetime
) -> list[tuple[datetime, MonitorRules]]:
    """Return the edits after `since`, in order: when, and the rules from then on."""
    edits = [one for one in former if one.until > since]
    if not edits:
        return []
    following = [*(one.rules for one in edits[1:]), rules]
    return [(one.until, then) for one, then in zip(edits, following, strict=True)]


def counts_alike(one: MonitorRules, other: MonitorRules) -> bool:
    """Return whether an edit from one to the other does not change expectations (D10)."""
    return (one.schedule, one.margin_minutes, one.max_runtime_minutes) == (
        other.schedule,
        other.margin_minutes,
        other.max_runtime_minutes,
    )
