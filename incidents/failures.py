"""What is counted for or against a monitor environment, as values.

This app stands below the check-ins: it knows what was stored of them by these values, and asks for older ones through
`PastRuns`, which its callers bring.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from incidents.thresholds import Decision, FailureKind, Reason
from monitors.hot_rows import LockedEnvironment
from monitors.state import MonitorRules


class FailedCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that counts as a failure of its environment.

    `rules` are those that held then. `started_at` is its date_added. `failed_at` is when it was found to have failed:
    the reception of an error, or the tick. `deadline` is what the clock compared with `tick`; both are empty for an
    error, `received_at` for the others. `exit_status` and `log_tail` are what its last word brought (see
    `incidents.notifications.letters.log_tail`).
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


class OkCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that ended ok. `started_at` is its date_added, `received_at` when the ok was received.

    `rules` are those that held then.
    """

    environment: LockedEnvironment
    id: int
    rules: MonitorRules
    started_at: datetime
    received_at: datetime


class EarlierFailure(NamedTuple):
    """A failure as its check-in's row holds it. `status` "ok": its run was reported ok later, and failed all the same.

    The fields as in `FailedCheckIn`.
    """

    environment_id: int
    id: int
    guid: uuid.UUID
    status: str
    started_at: datetime
    failed_at: datetime
    expected_time: datetime | None
    trace_id: uuid.UUID | None
    exit_status: int | None


class PastRuns(NamedTuple):
    """What check-ins that are stored already say of environments. Two statements, whatever is asked.

    `failures`: the newest ones of environments, newest first; asked by environment id, how many, and from which start
    on. `last_ok_durations`: how long the ok run took that began at that time, in milliseconds, by environment id.
    """

    failures: Callable[[Sequence[tuple[int, int, datetime]]], Sequence[EarlierFailure]]
    last_ok_durations: Callable[[Mapping[int, datetime]], Mapping[int, int]]


class Failing(NamedTuple):
    """A failure that belongs to an incident, with the failing run that it is shown with (oldest first)."""

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
