"""What a client said, as typed values: the border between the protocols and everything behind them (pure).

Decoders (`checkins.parsing`, `checkins.protocols`) turn bytes into these values; `checkins.services` takes nothing
else. Below this border no text is looked at a second time: a slug is a slug, an environment has a name, an instant is
aware UTC.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitors.schedule import Schedule


class CheckInStatus(StrEnum):
    """Where a run stands. Jobs send the first three; the clock alone sets the others."""

    IN_PROGRESS = "in_progress"
    OK = "ok"
    ERROR = "error"
    MISSED = "missed"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """By which door a check-in came in."""

    SENTRY_ENVELOPE = "sentry_envelope"
    SENTRY_HTTP = "sentry_http"
    CLOCK = "clock"
    SIMULATION = "simulation"


class ProblemKind(StrEnum):
    """Why something that was sent could not be used. `PROBLEM_MEANINGS` says each in a sentence."""

    CHECKIN_ENVIRONMENT_MISMATCH = "CHECKIN_ENVIRONMENT_MISMATCH"
    CHECKIN_FINISHED = "CHECKIN_FINISHED"
    CHECKIN_GUID_PROJECT_MISMATCH = "CHECKIN_GUID_PROJECT_MISMATCH"
    CHECKIN_INVALID_DURATION = "CHECKIN_INVALID_DURATION"
    CHECKIN_INVALID_GUID = "CHECKIN_INVALID_GUID"
    CHECKIN_VALIDATION_FAILED = "CHECKIN_VALIDATION_FAILED"
    MONITOR_DISABLED = "MONITOR_DISABLED"
    MONITOR_DISABLED_NO_QUOTA = "MONITOR_DISABLED_NO_QUOTA"
    MONITOR_INVALID_CONFIG = "MONITOR_INVALID_CONFIG"
    MONITOR_INVALID_ENVIRONMENT = "MONITOR_INVALID_ENVIRONMENT"
    MONITOR_LIMIT_EXCEEDED = "MONITOR_LIMIT_EXCEEDED"
    MONITOR_NOT_FOUND = "MONITOR_NOT_FOUND"
    MONITOR_OVER_QUOTA = "MONITOR_OVER_QUOTA"
    MONITOR_ENVIRONMENT_LIMIT_EXCEEDED = "MONITOR_ENVIRONMENT_LIMIT_EXCEEDED"
    MONITOR_ENVIRONMENT_RATELIMITED = "MONITOR_ENVIRONMENT_RATELIMITED"
    ORGANIZATION_KILLSWITCH_ENABLED = "ORGANIZATION_KILLSWITCH_ENABLED"
    MONITOR_INVALID_OWNER = "MONITOR_INVALID_OWNER"


PROBLEM_MEANINGS: dict[ProblemKind, str] = {
    ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH: (
        "The check-in id already belongs to a run of another environment or monitor of the project."
    ),
    ProblemKind.CHECKIN_FINISHED: "The run already ended, timed out, or began more than 7 days before.",
    ProblemKind.CHECKIN_GUID_PROJECT_MISMATCH: "The check-in id belongs to another project.",
    ProblemKind.CHECKIN_INVALID_DURATION: "The duration between the run's messages is out of range.",
    ProblemKind.CHECKIN_INVALID_GUID: "The check-in id is not a UUID.",
    ProblemKind.CHECKIN_VALIDATION_FAILED: (
        "A field of the check-in cannot be understood: without slug or status the check-in is refused, "
        "of anything else only the field is dropped."
    ),
    ProblemKind.MONITOR_DISABLED: "The monitor is disabled and takes no check-ins.",
    ProblemKind.MONITOR_DISABLED_NO_QUOTA: "The monitor was created disabled, since the project has no room for it.",
    ProblemKind.MONITOR_INVALID_CONFIG: "The monitor configuration, or a part of it, cannot be used.",
    ProblemKind.MONITOR_INVALID_ENVIRONMENT: (
        "The environment's name is too long or holds characters that are not allowed."
    ),
    ProblemKind.MONITOR_LIMIT_EXCEEDED: "The project has as many monitors as it may have.",
    ProblemKind.MONITOR_NOT_FOUND: (
        "No monitor has this slug, and the check-in brought no usable configuration to create it."
    ),
    ProblemKind.MONITOR_OVER_QUOTA: "The quota for check-ins is used up.",
    ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED: "The monitor has as many environments as it may have.",
    ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED: (
        "The monitor environment sent more check-ins in a minute than allowed."
    ),
    ProblemKind.ORGANIZATION_KILLSWITCH_ENABLED: "Taking check-ins is switched off.",
    ProblemKind.MONITOR_INVALID_OWNER: "The owner named for the monitor does not exist.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a client sent that could not be used, told to the project's people.

    `field` names the part ("" for the whole message), `value` is what was sent, shortened, and `message` is one
    sentence that names both and says what is allowed.
    """

    kind: ProblemKind
    field: str
    value: str
    message: str


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """A monitor configuration sent with a check-in, for creating or updating its monitor.

    The schedule is always taken. Of the rest only what is in `named` is: those keys were sent, not null, and usable;
    all others keep what the monitor has. `named` holds attribute names of this class, and "timezone" if the zone in
    `schedule` was sent rather than assumed to be UTC.
    """

    schedule: Schedule
    named: frozenset[str] = frozenset()
    checkin_margin_minutes: int | None = None
    max_runtime_minutes: int | None = None
    failure_threshold: int | None = None
    recovery_threshold: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class CheckInMessage:
    """One usable check-in message.

    `check_in_id` is None for "the newest run in progress of this monitor and environment, else a new one" (clients say
    so with the all-zero id or none). `sent_at` is the client's clock, the only causal order between processes; all
    arithmetic on schedules uses `received_at`. Both are aware UTC.
    `problems` are parts that were dropped while the check-in still counts (D18). If a configuration was sent but none
    of it can be used, `config` is None and `config_problem` says why; it is not repeated in `problems`.
    `payload` is what was sent, kept to be shown beside a stored problem; it never holds a NUL or a lone surrogate,
    which PostgreSQL cannot store.
    """

    project_id: int
    slug: str
    raw_slug: str
    environment: str
    status: CheckInStatus
    check_in_id: uuid.UUID | None
    duration_ms: int | None
    trace_id: uuid.UUID | None
    sent_at: datetime | None
    received_at: datetime
    source: Source
    config: MonitorConfig | None
    config_problem: Problem | None
    problems: tuple[Problem, ...]
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RefusedCheckIn:
    """A message of which monitor, environment, status or id cannot be understood: not a check-in, but stored and shown.

    `slug` is "" and `environment` "production" where they are not known either. `problems` is never empty.
    """

    project_id: int
    slug: str
    environment: str
    received_at: datetime
    source: Source
    problems: tuple[Problem, ...]
    payload: Mapping[str, object]
