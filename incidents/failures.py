"""Failures and oks that are counted for a monitor environment, as values.

This app is a layer below the check-ins: it receives stored check-ins as these values, and queries older ones through
`PastRuns`, which its callers pass in.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from incidents.thresholds import Decision, FailureKind, Reason
from monitors.hot_rows import LockedEnvironment
from monitors.limits import Broken
from monitors.state import MonitorRules


class FailedCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that counts as a failure of its environment.

    `rules` are the rules at that time. `started_at` is its date_added. `failed_at` is when the failure was found: the
    reception of an error, or the tick. The clock compared `deadline` with `tick`; both are empty for an error, and
    `received_at` is empty for the others. `exit_status` and `log_tail` come from its last message (see
    `incidents.notifications.letters.log_tail`). Of a run that ended ok, `duration_ms` is how long it took, and `broken`
    the limit that it broke (D44), which is not known of earlier ones.
    """

    environment: LockedEnvironment
    id: int
    guid: uuid.UUID
    kind: FailureKind
    rules: MonitorRules
    started_at: datetime
    failed_at: datetime
    expected_time: datetime | None = None
    deadline: datetime | None = None
    tick: datetime | None = None
    received_at: datetime | None = None
    trace_id: uuid.UUID | None = None
    exit_status: int | None = None
    log_tail: str | None = None
    duration_ms: int | None = None
    broken: Broken | None = None


class OkCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that ended ok. `started_at` is its date_added, `received_at` when the ok was received.

    `rules` are the rules at that time.
    """

    environment: LockedEnvironment
    id: int
    rules: MonitorRules
    started_at: datetime
    received_at: datetime


class EarlierFailure(NamedTuple):
    """A failure as stored in its check-in's row. The fields are as in `FailedCheckIn`.

    An error still counts as one if its run was reported ok later (D16).
    """

    environment_id: int
    id: int
    guid: uuid.UUID
    kind: str
    started_at: datetime
    failed_at: datetime
    expected_time: datetime | None
    trace_id: uuid.UUID | None
    exit_status: int | None
    duration_ms: int | None


class PastRuns(NamedTuple):
    """Queries of check-ins that are stored already. Each is one statement, however many environments are given.

    `failures`: the newest failures, newest first, for triples of environment id, number and earliest start.
    `last_ok_durations`: the duration in milliseconds of the ok run that began at the given time, by environment id.
    """

    failures: Callable[[Sequence[tuple[int, int, datetime]]], Sequence[EarlierFailure]]
    last_ok_durations: Callable[[Mapping[int, datetime]], Mapping[int, int]]


class Failing(NamedTuple):
    """A failure that belongs to an incident, with the failures of its streak to record (oldest first)."""

    failure: FailedCheckIn
    decision: Decision
    run: list[FailedCheckIn]

    @property
    def opens(self) -> bool:
        """Whether it opens the incident."""
        return self.decision.reason is Reason.THRESHOLD_REACHED


def fingerprint(environment_id: int) -> str:
    """Return the constant fingerprint of an environment's issue. Source: docs/reference/behaviour.md, section 2.2."""
    return f"crons:{environment_id}"
