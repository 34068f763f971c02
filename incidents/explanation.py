"""The texts and data of an occurrence: title, failure reason and the explanation that a person can check (pure)."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from incidents.thresholds import FailureKind, Reason
from lib.encoding import to_builtins
from monitors.describing import describe
from monitors.limits import Broken
from monitors.schedule import zone_to_show
from monitors.state import EnvironmentState, MonitorRules

TITLE_LENGTH_MAX = 200
_SINGLE = {
    FailureKind.ERROR: "The job reported an error",
    FailureKind.MISSED: "No check-in came in time",
    FailureKind.TIMEOUT: "The job did not finish in time",
    FailureKind.SLOW: "The job took too long",
    FailureKind.FAST: "The job was done too soon",
    FailureKind.OVERLAP: "The job ran beside itself",
}
_COUNTED = {
    FailureKind.ERROR: ("error", "errors"),
    FailureKind.MISSED: ("missed check-in", "missed check-ins"),
    FailureKind.TIMEOUT: ("timeout", "timeouts"),
    FailureKind.SLOW: ("slow run", "slow runs"),
    FailureKind.FAST: ("fast run", "fast runs"),
    FailureKind.OVERLAP: ("overlapping run", "overlapping runs"),
}


def title(monitor_name: str) -> str:
    """Return the headline of the issue and its occurrences."""
    return f"Job failing: {monitor_name}"[:TITLE_LENGTH_MAX]


def subtitle(reason_text: str) -> str:
    """Return the one-sentence summary below the title."""
    return f"{reason_text}."


def failure_reason(kinds: Sequence[FailureKind]) -> str:
    """Return what failed, by kind in the order of first appearance. Source: docs/reference/behaviour.md, section 9.

    >>> failure_reason([FailureKind.MISSED])
    'No check-in came in time'
    >>> failure_reason([FailureKind.ERROR, FailureKind.MISSED, FailureKind.ERROR])
    '2 errors and 1 missed check-in in a row'
    """
    if len(kinds) == 1:
        return _SINGLE[kinds[0]]
    parts = [f"{count} {_COUNTED[kind][count > 1]}" for kind, count in Counter(kinds).items()]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{listed} in a row"


def explain(
    *,
    kind: FailureKind,
    reason: Reason,
    rules: MonitorRules,
    state: EnvironmentState,
    started_at: datetime,
    expected_time: datetime | None,
    deadline: datetime | None,
    tick: datetime | None,
    received_at: datetime | None,
    exit_status: int | None = None,
    log_tail: str | None = None,
    last_ok_duration_ms: int | None = None,
    duration_ms: int | None = None,
    broken: Broken | None = None,
    window: str | None = None,
) -> dict[str, Any]:
    """Return everything that led to an occurrence, as plain data (P8). Instants are ISO 8601 in UTC, unless `_local`.

    `state` is the state after the decision; `deadline` is what the clock compared with the tick (slot + margin for a
    miss, start + maximum runtime for a timeout); `received_at` is when an error was received.
    `exit_status`, `log_tail` and `last_ok_duration_ms` are for the mail, and given only where they are known.
    `duration_ms` and `broken` are of a run that ended ok and broke a limit (D44): how long it took, and the limit, with
    the median that it is a multiple of. `window` is the name of the maintenance window with whose end the time of a run
    ended.
    """
    explanation = {
        "kind": kind.value,
        "reason": reason.value,
        "schedule": describe(rules.schedule),
        "crontab": rules.schedule.crontab,
        "interval": rules.schedule.interval,
        "interval_unit": rules.schedule.interval_unit,
        "timezone": rules.schedule.timezone,
        "expected_at": expected_time,
        "expected_at_local": _iso_local(expected_time, rules.schedule.timezone),
        "margin_minutes": rules.margin_minutes,
        "max_runtime_minutes": rules.max_runtime_minutes,
        "deadline_at": deadline,
        "tick": tick,
        "clock_decision": None if tick is None else _clock_decision(kind, expected_time, deadline, rules, window),
        "started_at": started_at,
        "received_at": received_at,
        "failure_threshold": rules.failure_threshold,
        "recovery_threshold": rules.recovery_threshold,
        "failure_streak": state.failure_streak,
        "failure_streak_started_at": state.failure_streak_started_at,
        "last_ok_at": state.last_ok_at,
    }
    if last_ok_duration_ms is not None:
        explanation["last_ok_duration_ms"] = last_ok_duration_ms
    if not kind.is_by_clock and kind is not FailureKind.ERROR:
        explanation["duration_ms"] = duration_ms
        if broken is not None:
            explanation |= {"limit": broken.bound, "limit_ms": broken.bound_ms, "median_ms": broken.median_ms}
    if exit_status is not None:
        explanation["exit_status"] = exit_status
    if log_tail is not None:
        explanation["log_tail"] = log_tail
    # All instants are in UTC, so msgspec converts everything at once, in C.
    plain: dict[str, Any] = to_builtins(explanation)
    return plain


def _clock_decision(
    kind: FailureKind,
    expected_time: datetime | None,
    deadline: datetime | None,
    rules: MonitorRules,
    window: str | None,
) -> str:
    """Return why the clock judged then: a slot is postponed if there was no listener in a part of its margin (D2).

    A run has time until the end of the maintenance window that its deadline is in.
    """
    if window is not None:
        return f"at the end of the maintenance window: {window}"
    if kind is not FailureKind.MISSED or expected_time is None or deadline is None:
        return "normal"
    late = deadline - expected_time - timedelta(minutes=rules.margin_minutes)
    minutes = late // timedelta(minutes=1)
    return f"postponed by {minutes} min: no listener during part of the margin" if late else "normal"


# The occurrences of a tick share a few instants.
@lru_cache(maxsize=1024)
def _iso_local(at: datetime | None, timezone: str) -> str | None:
    return None if at is None else at.astimezone(zone_to_show(timezone)).isoformat()
