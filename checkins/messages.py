"""Messages from clients, as typed values: the border between the protocols and everything behind them (pure).

Decoders (`checkins.protocols`) turn bytes into these values; `checkins.processing` accepts nothing else. Behind this
border no text is validated a second time: a slug is a slug, an environment has a name, an instant is aware UTC.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from monitors.configuration import Configuration


class CheckInStatus(StrEnum):
    """The status of a run. Jobs send the first three; only the clock sets the others."""

    IN_PROGRESS = "in_progress"
    OK = "ok"
    ERROR = "error"
    MISSED = "missed"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """The protocol by which a check-in was received."""

    SENTRY_ENVELOPE = "sentry_envelope"
    SENTRY_HTTP = "sentry_http"
    HEALTHCHECKS = "healthchecks"
    CRONITOR = "cronitor"
    UPTIME_KUMA = "uptime_kuma"
    REST = "rest"
    CLOCK = "clock"
    SIMULATION = "simulation"


class ProblemKind(StrEnum):
    """Why something that was sent could not be used. `PROBLEM_MEANINGS` explains each in a sentence."""

    CHECKIN_ENVIRONMENT_MISMATCH = "CHECKIN_ENVIRONMENT_MISMATCH"
    CHECKIN_FINISHED = "CHECKIN_FINISHED"
    CHECKIN_INVALID_GUID = "CHECKIN_INVALID_GUID"
    CHECKIN_VALIDATION_FAILED = "CHECKIN_VALIDATION_FAILED"
    MONITOR_DISABLED = "MONITOR_DISABLED"
    MONITOR_INVALID_CONFIG = "MONITOR_INVALID_CONFIG"
    MONITOR_INVALID_ENVIRONMENT = "MONITOR_INVALID_ENVIRONMENT"
    MONITOR_LIMIT_EXCEEDED = "MONITOR_LIMIT_EXCEEDED"
    MONITOR_NOT_FOUND = "MONITOR_NOT_FOUND"
    MONITOR_ENVIRONMENT_LIMIT_EXCEEDED = "MONITOR_ENVIRONMENT_LIMIT_EXCEEDED"
    MONITOR_ENVIRONMENT_RATELIMITED = "MONITOR_ENVIRONMENT_RATELIMITED"
    KEY_BUDGET_EXCEEDED = "KEY_BUDGET_EXCEEDED"
    MONITOR_CONFIG_LOCKED = "MONITOR_CONFIG_LOCKED"


PROBLEM_MEANINGS: dict[ProblemKind, str] = {
    ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH: (
        "The check-in id already belongs to a run of another environment or monitor of the project."
    ),
    ProblemKind.CHECKIN_FINISHED: "The run already ended, timed out, or began more than 7 days before.",
    ProblemKind.CHECKIN_INVALID_GUID: "The check-in id is not a UUID.",
    ProblemKind.CHECKIN_VALIDATION_FAILED: (
        "A field of the check-in is not valid. A check-in without a valid slug or status is refused; "
        "of any other field only its value is dropped."
    ),
    ProblemKind.MONITOR_DISABLED: "The monitor is disabled and accepts no check-ins.",
    ProblemKind.MONITOR_INVALID_CONFIG: "The monitor configuration, or a part of it, cannot be used.",
    ProblemKind.MONITOR_INVALID_ENVIRONMENT: (
        "The environment's name is too long or holds characters that are not allowed."
    ),
    ProblemKind.MONITOR_LIMIT_EXCEEDED: "The project has reached its limit of monitors.",
    ProblemKind.MONITOR_NOT_FOUND: (
        "No monitor has this slug, and the check-in brought no usable configuration to create it."
    ),
    ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED: "The monitor has reached its limit of environments.",
    ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED: (
        "The monitor environment sent more check-ins in a minute than allowed."
    ),
    ProblemKind.KEY_BUDGET_EXCEEDED: (
        "The key has used up what it may create or store in an hour or a day; existing monitors continue as before."
    ),
    ProblemKind.MONITOR_CONFIG_LOCKED: (
        "The monitor accepts no configuration from check-ins: the change that this one asked for was not made."
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a client sent that could not be used, shown to the people of the project.

    `field` names the part ("" for the whole message), `value` is the value sent, shortened, and `message` is one
    sentence with both and with what is allowed.
    """

    kind: ProblemKind
    field: str
    value: str
    message: str


class RunLog(msgspec.Struct, frozen=True):
    """The output of a run: its last part, any bytes, and the number of bytes in all."""

    body: bytes
    size_bytes: int


class CheckInMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One usable check-in message.

    `check_in_id` is None for "the newest run in progress of this monitor and environment, else a new one" (clients
    send the all-zero id or none). `sent_at` is the client's clock, the only causal order between processes; all
    arithmetic on schedules uses `received_at`. Both are aware UTC.
    `config` creates or updates the monitor; `config_if_new` only creates it, if it does not exist yet. Unknown parts of
    it are `config_ignored`, reported once, when the configuration creates or changes a monitor (D28).
    `problems` are parts that were dropped while the check-in still counts (D18). If a configuration was sent but none
    of it can be used, `config` is None and `config_problem` explains why; it is not repeated in `problems`.
    `repeat_key` is equal for messages that a client sends again because it missed the answer, and for no others; it
    is needed only for messages without an id. `exit_status` and `log` are stored with the run.
    `payload` is the content as sent, to be shown beside a stored problem; it never holds a NUL or a lone surrogate,
    which PostgreSQL cannot store. `key_id` is the ingest key that sent it, whose budgets pay for it; 0 for the address
    of a monitor, None for nobody (D38).
    """

    project_id: int
    slug: str
    raw_slug: str
    environment: str
    status: CheckInStatus
    check_in_id: uuid.UUID | None
    received_at: datetime
    source: Source
    duration_ms: int | None = None
    trace_id: uuid.UUID | None = None
    sent_at: datetime | None = None
    config: Configuration | None = None
    config_if_new: Configuration | None = None
    config_ignored: tuple[Problem, ...] = ()
    config_problem: Problem | None = None
    repeat_key: uuid.UUID | None = None
    exit_status: int | None = None
    log: RunLog | None = None
    problems: tuple[Problem, ...] = ()
    payload: Mapping[str, object]
    key_id: int | None = None


class LogMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Output without a status: stored with its run (by id, or the newest one in progress), or as a note.

    It is no sign of life: no expected time moves. The fields are those of `CheckInMessage`.
    """

    project_id: int
    slug: str
    raw_slug: str
    environment: str
    check_in_id: uuid.UUID | None
    received_at: datetime
    source: Source
    log: RunLog
    config_if_new: Configuration | None = None
    payload: Mapping[str, object]
    key_id: int | None = None


class RefusedCheckIn(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose monitor, environment, status or id is not valid: not a check-in, but stored and shown.

    `slug` is "" and `environment` "production" where they are unknown as well. `problems` is never empty.
    """

    project_id: int
    slug: str
    environment: str
    received_at: datetime
    source: Source
    problems: tuple[Problem, ...]
    payload: Mapping[str, object]
    key_id: int | None = None


class LossReport(msgspec.Struct, frozen=True, kw_only=True):
    """A client's own report that it failed to deliver check-ins, without their monitors or times (D19).

    `reason` is the client's word (`network_error`, `queue_overflow`, ...), `reported_at` its clock, if it was readable.
    """

    project_id: int
    reason: str
    quantity: int
    reported_at: datetime | None
    received_at: datetime
    source: Source
    key_id: int | None = None


Message = CheckInMessage | LogMessage | RefusedCheckIn | LossReport


class Outcome(msgspec.Struct):
    """The result of one message.

    `accepted`: it was stored. `parked`: its monitor is not known yet, and it waits for it (D17).
    `created`: it created its monitor. `guid` is the id of its run, where there is one.
    """

    accepted: bool = False
    parked: bool = False
    created: bool = False
    guid: uuid.UUID | None = None
    problems: list[Problem] = msgspec.field(default_factory=list)
