"""When failures open an incident and when oks resolve it (pure).

    active --ok--> ok                  (whatever the recovery threshold: no incident was open)
    active/ok --Nth failure--> error   (N consecutive failures since the last ok: an incident opens)
    error --failure--> error           (one more occurrence)
    error --Mth ok--> ok               (M consecutive oks since the last failure: the incident is resolved)

Two streak counters in the environment's state do the counting, so the cost of a decision does not depend on history.
Running and unknown check-ins neither count nor break a streak (D5, D6). Source: docs/reference/behaviour.md, section 8.
"""

from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from monitors.state import EnvironmentState, EnvironmentStatus


class FailureKind(StrEnum):
    """The kind of a failed check-in: its status, or the limit that it broke although it ended ok (D44)."""

    ERROR = "error"
    MISSED = "missed"
    TIMEOUT = "timeout"
    SLOW = "slow"
    FAST = "fast"
    OVERLAP = "overlap"

    @property
    def is_by_clock(self) -> bool:
        """Whether a tick finds it, and no message reports it."""
        return self in (FailureKind.MISSED, FailureKind.TIMEOUT)


class Reason(StrEnum):
    """The reason for the effect of a failure or an ok. Stored in the explanation of every occurrence (P8)."""

    THRESHOLD_REACHED = "threshold_reached"
    INCIDENT_CONTINUES = "incident_continues"
    BELOW_FAILURE_THRESHOLD = "below_failure_threshold"
    FIRST_OK = "first_ok"
    STILL_OK = "still_ok"
    RECOVERED = "recovered"
    BELOW_RECOVERY_THRESHOLD = "below_recovery_threshold"
    OVERTAKEN_BY_OK = "overtaken_by_ok"
    BEING_DELETED = "being_deleted"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The environment's new state, the reason, and how many failures in a row the incident or occurrence covers."""

    state: EnvironmentState
    reason: Reason
    run_length: int = 0

    @property
    def counts(self) -> bool:
        """Whether the failure or ok was counted, and not only recorded."""
        return self.reason not in (Reason.OVERTAKEN_BY_OK, Reason.BEING_DELETED)


def is_overtaken(state: EnvironmentState, started_at: datetime) -> bool:
    """Return whether a newer run has ended ok, so that an error of the run that began at `started_at` does not count.

    A newer failure overtakes nothing, and misses and timeouts always count at their tick (D26, D29).
    """
    return state.last_ok_at is not None and state.last_ok_at > started_at


def decide_failure(
    state: EnvironmentState, *, failed_at: datetime, threshold: int, error_of: datetime | None = None
) -> Decision:
    """Count one failure found at `failed_at`; the `threshold`-th in a row opens an incident (D5).

    `error_of` is the start of the run if a message reported the failure: a newer ok may have overtaken it (D26).
    """
    if state.status is EnvironmentStatus.PENDING_DELETION:
        return Decision(state, Reason.BEING_DELETED)
    if error_of is not None and is_overtaken(state, error_of):
        return Decision(state, Reason.OVERTAKEN_BY_OK)
    streak = state.failure_streak + 1
    if state.status is EnvironmentStatus.ERROR:
        reason, run_length = Reason.INCIDENT_CONTINUES, 1
    elif streak < threshold:
        reason, run_length = Reason.BELOW_FAILURE_THRESHOLD, 0
    else:
        reason, run_length = Reason.THRESHOLD_REACHED, threshold
    counted = replace(
        state,
        status=EnvironmentStatus.ERROR if run_length else state.status,
        failure_streak=streak,
        failure_streak_started_at=state.failure_streak_started_at or failed_at,
        ok_streak=0,
    )
    return Decision(counted, reason, run_length)


def decide_ok(state: EnvironmentState, *, started_at: datetime, received_at: datetime, threshold: int) -> Decision:
    """Count one ok, received at `received_at`, of a run that began at `started_at`.

    The `threshold`-th in a row resolves the open incident (D6).
    """
    if state.status is EnvironmentStatus.PENDING_DELETION:
        return Decision(state, Reason.BEING_DELETED)
    streak = state.ok_streak + 1
    counted = replace(
        state,
        last_ok_at=started_at if state.last_ok_at is None else max(state.last_ok_at, started_at),
        last_ok_received_at=(
            received_at if state.last_ok_received_at is None else max(state.last_ok_received_at, received_at)
        ),
        failure_streak=0,
        failure_streak_started_at=None,
        ok_streak=streak,
    )
    if state.status is EnvironmentStatus.OK:
        return Decision(counted, Reason.STILL_OK)
    if state.status is EnvironmentStatus.ACTIVE:
        return Decision(replace(counted, status=EnvironmentStatus.OK), Reason.FIRST_OK)
    if streak < threshold:
        return Decision(counted, Reason.BELOW_RECOVERY_THRESHOLD)
    return Decision(replace(counted, status=EnvironmentStatus.OK), Reason.RECOVERED)
