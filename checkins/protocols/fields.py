"""One decoded check-in item -> one typed message (pure).

The rule is D18: a bad part is dropped, not the signal. A check-in is refused as a whole only when its monitor,
environment, status or id cannot be understood; a bad duration, trace id, owner or configuration becomes a `Problem`
beside a check-in that counts. A part whose meaning is plain is taken even where stricter servers refuse it.
"""

import difflib
import re
import reprlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar

import msgspec

from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
    MonitorConfig,
    Problem,
    ProblemKind,
    RefusedCheckIn,
    Source,
)
from checkins.protocols.decoding import PLAIN_NESTING_MAX
from monitors.schedule import (
    CRONTAB_CHARACTERS_MAX,
    Schedule,
    ScheduleError,
    parse_timezone,
    refuse_without_time,
    split_timezone,
    whole_number,
)
from monitors.slugs import slugify

ENVIRONMENT_CHARACTERS_MAX = 64
OWNER_CHARACTERS_MAX = 200
DURATION_MS_MAX = 2_147_483_647  # about 24.8 days, a signed 32-bit number
MARGIN_MINUTES_MAX = 40_320  # 28 days
RUNTIME_MINUTES_MAX = 10_080  # 7 days
THRESHOLD_MAX = 720
PAYLOAD_DEPTH_MAX = PLAIN_NESTING_MAX  # a check-in needs 4 levels
KNOWN_CONFIG_BYTES_MAX = 1_000
"""A configuration of up to this size is remembered: 4,096 of them take some megabytes. Clients send some hundred."""

DEFAULT_ENVIRONMENT = "production"

T = TypeVar("T")

_JOB_STATUSES = {status.value: status for status in (CheckInStatus.IN_PROGRESS, CheckInStatus.OK, CheckInStatus.ERROR)}
_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_OWNER = re.compile(r"(?:user|team):[^\s\ufffd]+")
_NOT_IN_ENVIRONMENTS = re.compile(r"[\n\r\f/\ufffd]")
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_checkin(
    payload: object,
    *,
    project_id: int,
    received_at: datetime,
    source: Source,
    slug: str | None = None,
    is_storable: bool = False,
) -> CheckInMessage | RefusedCheckIn:
    """Turn the JSON value of a check-in item into a message, or into a refusal with all its reasons. Never raises.

    `slug` is the monitor named by the address; if given, the payload's `monitor_slug` is not looked at. `received_at`
    is aware UTC. Keys that are not known are ignored. `is_storable`: who read the payload knows that `storable` would
    leave it as it is (`decoding.decode_checked`).
    """
    fields = payload if is_storable else storable(payload)
    if not isinstance(fields, dict):
        return unreadable_checkin(
            fields, "it takes a JSON object", project_id=project_id, received_at=received_at, source=source, slug=slug
        )
    raw_slug = fields.get("monitor_slug") if slug is None else storable(slug)
    monitor_slug = _parse_slug(raw_slug)
    environment = parse_environment(fields.get("environment"))
    status = _parse_status(fields.get("status"))
    check_in_id = parse_check_in_id(fields.get("check_in_id"))
    if (
        isinstance(monitor_slug, Problem)
        or isinstance(environment, Problem)
        or isinstance(status, Problem)
        or isinstance(check_in_id, Problem)
    ):
        parts = (monitor_slug, environment, status, check_in_id)
        return RefusedCheckIn(
            project_id=project_id,
            slug="" if isinstance(monitor_slug, Problem) else monitor_slug,
            environment=(
                str(fields.get("environment"))[:ENVIRONMENT_CHARACTERS_MAX]
                if isinstance(environment, Problem)
                else environment
            ),
            received_at=received_at,
            source=source,
            problems=tuple(part for part in parts if isinstance(part, Problem)),
            payload=fields,
        )

    problems: list[Problem] = []
    duration_ms = _unless_problem(parse_duration_ms(fields.get("duration")), problems)
    trace_id = _unless_problem(_parse_trace_id(fields.get("contexts")), problems)
    config = _parse_config(fields.get("monitor_config"), problems, received_at=received_at)
    return CheckInMessage(
        project_id=project_id,
        slug=monitor_slug,
        raw_slug=str(raw_slug),
        environment=environment,
        status=status,
        check_in_id=check_in_id,
        duration_ms=duration_ms,
        trace_id=trace_id,
        sent_at=parse_instant(fields.get("timestamp")),
        received_at=received_at,
        source=source,
        config=None if isinstance(config, Problem) else config,
        config_problem=config if isinstance(config, Problem) else None,
        problems=tuple(problems),
        payload=fields,
    )


def unreadable_checkin(
    raw: object, reason: str, *, project_id: int, received_at: datetime, source: Source, slug: str | None = None
) -> RefusedCheckIn:
    """The refusal of a message that is not even a JSON object, with what can be shown of it."""
    monitor_slug = "" if slug is None else slugify(slug)
    shown = raw[:1000].decode(errors="replace") if isinstance(raw, bytes) else raw
    return RefusedCheckIn(
        project_id=project_id,
        slug=monitor_slug,
        environment=DEFAULT_ENVIRONMENT,
        received_at=received_at,
        source=source,
        problems=(refused_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "", shown, reason),),
        payload={"raw": storable(shown)},
    )


def storable(value: object, depth: int = PAYLOAD_DEPTH_MAX) -> object:
    """Return a JSON value that PostgreSQL can keep as text or jsonb, whatever a client put into it.

    NUL and lone surrogates become U+FFFD, numbers that are not finite or need more than 64 bits become text, and what
    is nested too deeply is cut off. A value that needs none of this is returned as it is, since nearly all do not.
    """
    return value if _is_storable(value, depth) else _storable_copy(value, depth)


def _is_storable(value: object, depth: int) -> bool:
    # Every payload goes through here: loops instead of generators, and the commonest type first.
    if isinstance(value, str):
        return _is_storable_text(value)
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return value.bit_length() < 64
    if isinstance(value, float):
        return value - value == 0
    if depth == 0:
        return False
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str) or ("\x00" in key if key.isascii() else _NOT_STORABLE.search(key)):
                return False
            if type(member) is str:
                if "\x00" in member if member.isascii() else _NOT_STORABLE.search(member):
                    return False
            elif member is not None and not _is_storable(member, depth - 1):
                return False
        return True
    if isinstance(value, list):
        for member in value:  # noqa: SIM110 - as above
            if not _is_storable(member, depth - 1):
                return False
        return True
    return False


def _is_storable_text(text: str) -> bool:
    return "\x00" not in text if text.isascii() else _NOT_STORABLE.search(text) is None


def _storable_copy(value: object, depth: int) -> object:
    if isinstance(value, str):
        return _NOT_STORABLE.sub("\ufffd", value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else f"integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if depth == 0:
        return "\u2026"
    if isinstance(value, Mapping):
        return {str(_storable_copy(key, 0)): _storable_copy(member, depth - 1) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable_copy(member, depth - 1) for member in value]
    return reprlib.repr(value)


# Without one of these four there is no check-in.


def _parse_slug(raw: object) -> str | Problem:
    slug = slugify(raw) if isinstance(raw, str) else ""
    if slug:
        return slug
    allowed = "it takes a text with at least one letter of the Latin alphabet or digit; other letters are left out"
    return refused_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "monitor_slug", raw, allowed)


def parse_environment(raw: object, field: str = "environment") -> str | Problem:
    """Return the environment's name, "production" for none or an empty one, or why it cannot be used."""
    if raw is None or raw == "":
        return DEFAULT_ENVIRONMENT
    if isinstance(raw, str) and len(raw) <= ENVIRONMENT_CHARACTERS_MAX and not _NOT_IN_ENVIRONMENTS.search(raw):
        return raw
    allowed = (
        f"it takes a text of at most {ENVIRONMENT_CHARACTERS_MAX} characters"
        " without line breaks, slashes and characters that are not valid text"
    )
    return refused_part(ProblemKind.MONITOR_INVALID_ENVIRONMENT, field, raw, allowed)


def _parse_status(raw: object) -> CheckInStatus | Problem:
    status = _JOB_STATUSES.get(raw) if isinstance(raw, str) else None
    return status or refused_part(
        ProblemKind.CHECKIN_VALIDATION_FAILED, "status", raw, "it takes one of " + ", ".join(_JOB_STATUSES)
    )


def parse_check_in_id(raw: object, field: str = "check_in_id") -> uuid.UUID | Problem | None:
    """Return a run's id; None for an absent, empty or all-zero id: the newest run in progress, else a new one."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and _UUID.fullmatch(raw):
        return msgspec.convert(raw, uuid.UUID) if raw.strip("0-") else None
    allowed = "it takes a UUID: 32 hex digits, with or without dashes"
    return refused_part(ProblemKind.CHECKIN_INVALID_GUID, field, raw, allowed)


# Without one of these there still is one.


def _unless_problem(part: T | Problem, problems: list[Problem]) -> T | None:
    if isinstance(part, Problem):
        problems.append(part)
        return None
    return part


EXIT_STATUS_ALLOWED = "it takes a whole number: 0 is ok, every other one an error"
_EXIT_STATUS_BITS = 63


def parse_exit_status(raw: object, field: str = "exit_status") -> int | Problem | None:
    """Return how a process ended: any whole number of 64 bits, also a negative one, and as a text (D28)."""
    if raw is None or raw == "":
        return None
    is_negative = isinstance(raw, str) and raw.startswith("-")
    number = whole_number(raw[1:] if isinstance(raw, str) and is_negative else raw)
    if number is not None and number.bit_length() <= _EXIT_STATUS_BITS:
        return -number if is_negative else number
    return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, field, storable(raw), EXIT_STATUS_ALLOWED)


def parse_duration_ms(raw: object, field: str = "duration", *, milliseconds: bool = False) -> int | Problem | None:
    """Turn seconds (or milliseconds), possibly as text, into whole milliseconds; a fraction of one is cut off."""
    if raw is None or raw == "":
        return None
    number: float = -1
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        number = raw
    elif isinstance(raw, str) and _NUMBER.fullmatch(raw):
        number = float(raw)
    duration_ms = number if milliseconds else number * 1000
    if 0 <= duration_ms <= DURATION_MS_MAX:
        return int(duration_ms)
    most = (
        f"milliseconds from 0 to {DURATION_MS_MAX}" if milliseconds else f"seconds from 0 to {DURATION_MS_MAX / 1000}"
    )
    return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, field, raw, f"it takes {most}")


def _parse_trace_id(contexts: object) -> uuid.UUID | Problem | None:
    trace = contexts.get("trace") if isinstance(contexts, dict) else None
    raw = trace.get("trace_id") if isinstance(trace, dict) else None
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and _UUID.fullmatch(raw):
        return msgspec.convert(raw, uuid.UUID) if raw.strip("0-") else None
    allowed = "it takes 32 hex digits, with or without dashes"
    return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "contexts.trace.trace_id", raw, allowed)


def parse_instant(raw: object) -> datetime | None:
    """Read a client's timestamp (ISO 8601 text or epoch seconds). It only sorts messages: a bad one is just None."""
    try:
        if isinstance(raw, str):
            instant = datetime.fromisoformat(raw)
            return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            return datetime.fromtimestamp(raw, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _parse_config(raw: object, problems: list[Problem], *, received_at: datetime) -> MonitorConfig | Problem | None:
    """The configuration; None if none was sent; the Problem if none of it can be used.

    Without a usable schedule nothing of it is used. Any other bad part is left out and added to `problems`.
    """
    if raw is None or raw == {}:
        return None
    if not isinstance(raw, dict):
        return dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config", raw, "it takes a JSON object")
    text = msgspec.json.encode(raw)
    if len(text) > KNOWN_CONFIG_BYTES_MAX:
        return _read_config(raw, problems, received_at=received_at)
    # Whether a crontab has a time in the next ten years is asked as of the day.
    config, found = _known_config(text, received_at.replace(hour=0, minute=0, second=0, microsecond=0))
    problems += found
    return config


@lru_cache(maxsize=4096)
def _known_config(text: bytes, day: datetime) -> tuple[MonitorConfig | Problem, tuple[Problem, ...]]:
    """Read a configuration once: jobs send theirs with every check-in, and to read it takes as long as all the rest."""
    problems: list[Problem] = []
    return _read_config(msgspec.json.decode(text), problems, received_at=day), tuple(problems)


def _read_config(raw: dict[str, object], problems: list[Problem], *, received_at: datetime) -> MonitorConfig | Problem:
    ignored = _ignored_keys(raw, _CONFIG_KEYS, "monitor_config")
    timezone = _unless_problem(_parse_timezone(raw.get("timezone"), "timezone"), problems)
    inside = raw.get("schedule")
    value = inside
    if isinstance(inside, dict):
        ignored += _ignored_keys(inside, _SCHEDULE_KEYS, "monitor_config.schedule")
        value = inside.get("value")
        inner = _unless_problem(_parse_timezone(inside.get("timezone"), "schedule.timezone"), problems)
        timezone = _innermost(inner, timezone, ignored)
    schedule = _parse_schedule(raw, timezone, received_at=received_at)
    if isinstance(schedule, Problem):
        return schedule
    if schedule.crontab is not None and split_timezone(value)[1] is not None:
        timezone = _innermost(schedule.timezone, timezone, ignored)
    margin = _parse_whole_number(raw, "checkin_margin", problems, most=MARGIN_MINUTES_MAX, clamp=True, zero_means=1)
    runtime = _parse_whole_number(raw, "max_runtime", problems, most=RUNTIME_MINUTES_MAX, clamp=True)
    failures = _parse_whole_number(raw, "failure_issue_threshold", problems, most=THRESHOLD_MAX)
    recoveries = _parse_whole_number(raw, "recovery_threshold", problems, most=THRESHOLD_MAX)
    owner = _unless_problem(_parse_owner(raw.get("owner")), problems)
    optional = {
        "timezone": timezone,
        "checkin_margin_minutes": margin,
        "max_runtime_minutes": runtime,
        "failure_threshold": failures,
        "recovery_threshold": recoveries,
        "owner": owner,
    }
    return MonitorConfig(
        schedule=schedule,
        named=frozenset(name for name, value in optional.items() if value is not None),
        checkin_margin_minutes=margin,
        max_runtime_minutes=runtime,
        failure_threshold=failures,
        recovery_threshold=recoveries,
        owner=owner,
        ignored=tuple(ignored),
    )


_CONFIG_KEYS = (
    "schedule",
    "schedule_type",
    "timezone",
    "checkin_margin",
    "max_runtime",
    "failure_issue_threshold",
    "recovery_threshold",
    "owner",
)
_SCHEDULE_KEYS = ("type", "value", "unit", "timezone")
_IGNORED_TOLD_MAX = 5


def _ignored_keys(config: Mapping[str, object], known: Sequence[str], field: str) -> list[Problem]:
    """Say of each key that nobody knows that it is ignored, and which one is probably meant (D28)."""
    unknown = [key for key in config if key not in known][:_IGNORED_TOLD_MAX]
    told = []
    for key in unknown:
        meant = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.75)
        allowed = f"it is not known, {meant[0]} is" if meant else "it is not known, these are: " + ", ".join(known)
        kind = ProblemKind.MONITOR_INVALID_CONFIG
        told.append(dropped_part(kind, f"{field}.{key[:100]}", config[key], allowed))
    return told


def _innermost(inner: str | None, outer: str | None, ignored: list[Problem]) -> str | None:
    """The zone that stands nearer to the times; of another one further out it is told that it is ignored (D28)."""
    if inner is not None and outer is not None and inner != outer:
        allowed = f"the schedule names {inner}"
        ignored.append(dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config.timezone", outer, allowed))
    return inner or outer


def _parse_timezone(raw: object, field: str) -> str | Problem | None:
    """The zone, or None where none was sent: then a monitor keeps the one that it has, and a new one gets UTC."""
    if raw is None or raw == "":
        return None
    try:
        return parse_timezone(raw)
    except ScheduleError as error:
        return dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, f"monitor_config.{field}", error.value, error.allowed)


def _parse_schedule(config: Mapping[str, object], timezone: str | None, *, received_at: datetime) -> Schedule | Problem:
    """Read `schedule` as an object with its own type, or as text or [count, unit] beside a `schedule_type`."""
    raw = config.get("schedule")
    schedule_type, value, unit = config.get("schedule_type"), raw, None
    if isinstance(raw, dict):
        schedule_type, value, unit = raw.get("type") or schedule_type, raw.get("value"), raw.get("unit")
    elif schedule_type == "interval" and isinstance(raw, list) and len(raw) == 2:
        value, unit = raw
    field = "monitor_config.schedule"
    try:
        if schedule_type == "crontab":
            if isinstance(value, str) and len(value) <= CRONTAB_CHARACTERS_MAX:
                schedule = _crontab_schedule(value, timezone)
                refuse_without_time(schedule, now=received_at)
                return schedule
            return Schedule.from_crontab(value, timezone)
        if schedule_type == "interval":
            return Schedule.from_interval(value, unit, timezone)
    except ScheduleError as error:
        return dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, field, error.value, error.allowed)
    return dropped_part(
        ProblemKind.MONITOR_INVALID_CONFIG,
        field,
        raw,
        "it takes the type crontab or interval, with a value (and a unit)",
    )


@lru_cache(maxsize=8192)
def _crontab_schedule(crontab: str, timezone: str | None) -> Schedule:
    # SDKs send the configuration with every message, and reading a crontab takes longer than all the rest of it.
    return Schedule.from_crontab(crontab, timezone)


def _parse_whole_number(
    config: Mapping[str, object],
    key: str,
    problems: list[Problem],
    *,
    most: int,
    clamp: bool = False,
    zero_means: int | None = None,
) -> int | None:
    """An optional whole number from 1 to `most`, above which it is clamped or dropped. None: not sent, or dropped."""
    raw = config.get(key)
    if raw is None:
        return None
    number = whole_number(raw)
    if number is not None:
        if number == 0 and zero_means is not None:
            return zero_means
        if number > most and clamp:
            return most
        if 1 <= number <= most:
            return number
    allowed = f"it takes a whole number from 1 to {most}"
    problems.append(dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, f"monitor_config.{key}", raw, allowed))
    return None


def _parse_owner(raw: object) -> str | Problem | None:
    """The owner as sent. Whether that user or team exists is not for the border to know."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and len(raw) <= OWNER_CHARACTERS_MAX and _OWNER.fullmatch(raw):
        return raw
    allowed = "it takes user:<id or mail> or team:<id or slug>"
    return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "monitor_config.owner", raw, allowed)


def refused_part(kind: ProblemKind, field: str, raw: object, allowed: str) -> Problem:
    """Say that a message was refused for one of its parts, and what that takes ("it takes ...")."""
    return _problem(kind, field, raw, "was refused", allowed)


def dropped_part(kind: ProblemKind, field: str, raw: object, allowed: str) -> Problem:
    """Say that a part was left out of a message that counts, and what that part takes ("it takes ...")."""
    return _problem(kind, field, raw, "was left out", allowed)


def _problem(kind: ProblemKind, field: str, raw: object, effect: str, allowed: str) -> Problem:
    shown = "" if raw is None else _SHORT.repr(raw)
    sentence = f"{field or 'check-in'} {shown or '(not sent)'} {effect}: {allowed}."
    return Problem(kind=kind, field=field, value=shown, message=sentence)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
