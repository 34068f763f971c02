"""One decoded check-in item -> one typed message (pure).

The rule is D18: a bad part is dropped, not the signal. A check-in is refused as a whole only if its monitor,
environment, status or id is not valid; a bad duration, trace id, owner or configuration becomes a `Problem` beside a
check-in that counts. A part with a clear meaning is accepted even if stricter servers refuse it.
"""

import re
import reprlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec

from checkins.messages import CheckInMessage, CheckInStatus, Problem, ProblemKind, RefusedCheckIn, Source
from checkins.protocols.decoding import PLAIN_NESTING_MAX
from monitors.configuration import Configuration, Fault
from monitors.configuration import parse as parse_configuration
from monitors.schedule import whole_number
from monitors.slugs import slugify

ENVIRONMENT_CHARACTERS_MAX = 64
DURATION_MS_MAX = 2_147_483_647  # about 24.8 days, a signed 32-bit number
PAYLOAD_DEPTH_MAX = PLAIN_NESTING_MAX  # a check-in needs 4 levels
KNOWN_CONFIG_BYTES_MAX = 1_000
"""A configuration of up to this size is cached: 4,096 of them take some megabytes. Clients send some hundred bytes."""

DEFAULT_ENVIRONMENT = "production"

T = TypeVar("T")

_JOB_STATUSES = {status.value: status for status in (CheckInStatus.IN_PROGRESS, CheckInStatus.OK, CheckInStatus.ERROR)}
_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
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

    `slug` is the monitor named by the address; if given, the payload's `monitor_slug` is ignored. `received_at` is
    aware UTC. Unknown keys are ignored. `is_storable`: the caller knows that `storable` would not change the payload
    (`decoding.decode_checked`).
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
    config = _parse_config(fields.get("monitor_config"), received_at=received_at)
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
        config=config.usable,
        config_ignored=config.ignored,
        config_problem=config.problem,
        problems=(*problems, *config.dropped),
        payload=fields,
    )


def unreadable_checkin(
    raw: object, reason: str, *, project_id: int, received_at: datetime, source: Source, slug: str | None = None
) -> RefusedCheckIn:
    """Return the refusal of a message that is not even a JSON object, with its printable content."""
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
    """Return a JSON value that PostgreSQL can store as text or jsonb, whatever its content.

    NUL and lone surrogates become U+FFFD, numbers that are not finite or need more than 64 bits become text, and levels
    nested too deeply are cut off. A value that needs none of this, as nearly all, is returned unchanged.
    """
    return value if _is_storable(value, depth) else _storable_copy(value, depth)


def _is_storable(value: object, depth: int) -> bool:
    # Every payload is checked here: loops instead of generators, and the commonest type first.
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


# Without a valid one of these four there is no check-in.


def _parse_slug(raw: object) -> str | Problem:
    slug = slugify(raw) if isinstance(raw, str) else ""
    if slug:
        return slug
    allowed = "it takes a text with at least one letter of the Latin alphabet or digit; other letters are left out"
    return refused_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "monitor_slug", raw, allowed)


def parse_environment(raw: object, field: str = "environment") -> str | Problem:
    """Return the environment's name, "production" for none or an empty one, or the problem with it."""
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


# Without these there still is a check-in.


def _unless_problem(part: T | Problem, problems: list[Problem]) -> T | None:
    if isinstance(part, Problem):
        problems.append(part)
        return None
    return part


EXIT_STATUS_ALLOWED = "it takes a whole number: 0 is ok, every other one an error"
_EXIT_STATUS_BITS = 63


def parse_exit_status(raw: object, field: str = "exit_status") -> int | Problem | None:
    """Return an exit status: any whole number of 64 bits, also negative, also as text (D28)."""
    if raw is None or raw == "":
        return None
    is_negative = isinstance(raw, str) and raw.startswith("-")
    number = whole_number(raw[1:] if isinstance(raw, str) and is_negative else raw)
    if number is not None and number.bit_length() <= _EXIT_STATUS_BITS:
        return -number if is_negative else number
    return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, field, storable(raw), EXIT_STATUS_ALLOWED)


def parse_duration_ms(raw: object, field: str = "duration", *, milliseconds: bool = False) -> int | Problem | None:
    """Convert seconds (or milliseconds), possibly as text, to whole milliseconds; fractions are cut off."""
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
    """Parse a client's timestamp (ISO 8601 text or epoch seconds). It only sorts messages: a bad one is None."""
    try:
        if isinstance(raw, str):
            instant = datetime.fromisoformat(raw)
            return (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant).astimezone(UTC)
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            return datetime.fromtimestamp(raw, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


class _Config(NamedTuple):
    """The configuration in a message, or why none of it can be used; as in `CheckInMessage`."""

    usable: Configuration | None = None
    problem: Problem | None = None
    ignored: tuple[Problem, ...] = ()
    dropped: tuple[Problem, ...] = ()


_NO_CONFIG = _Config()


def _parse_config(raw: object, *, received_at: datetime) -> _Config:
    """Parse a configuration. Without a usable schedule nothing of it is used; any other bad part is dropped."""
    if raw is None or raw == {}:
        return _NO_CONFIG
    if not isinstance(raw, dict):
        allowed = "it takes a JSON object"
        return _Config(problem=dropped_part(ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config", raw, allowed))
    text = msgspec.json.encode(raw)
    if len(text) > KNOWN_CONFIG_BYTES_MAX:
        return _read_config(raw, received_at=received_at)
    # Whether a crontab has a time in the next ten years is checked as of the day.
    return _known_config(text, received_at.replace(hour=0, minute=0, second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _known_config(text: bytes, day: datetime) -> _Config:
    """Parse a configuration once: jobs send it with every check-in, and parsing it takes as long as all the rest."""
    return _read_config(msgspec.json.decode(text), received_at=day)


def _read_config(raw: dict[str, object], *, received_at: datetime) -> _Config:
    reading = parse_configuration(raw, now=received_at)
    found = reading.configuration
    dropped, ignored = (tuple(map(_config_problem, faults)) for faults in (reading.dropped, reading.ignored))
    if isinstance(found, Fault):
        return _Config(problem=_config_problem(found), dropped=dropped)
    return _Config(found, ignored=ignored, dropped=dropped)


def _config_problem(fault: Fault) -> Problem:
    is_owner = fault.field == "owner"
    kind = ProblemKind.CHECKIN_VALIDATION_FAILED if is_owner else ProblemKind.MONITOR_INVALID_CONFIG
    return dropped_part(kind, f"monitor_config.{fault.field}", fault.value, fault.allowed)


def refused_part(kind: ProblemKind, field: str, raw: object, allowed: str) -> Problem:
    """Return the problem of a message refused for one of its parts, with what is allowed ("it takes ...")."""
    return _problem(kind, field, raw, "was refused", allowed)


def dropped_part(kind: ProblemKind, field: str, raw: object, allowed: str) -> Problem:
    """Return the problem of a part left out of a message that counts, with what is allowed ("it takes ...")."""
    return _problem(kind, field, raw, "was left out", allowed)


def _problem(kind: ProblemKind, field: str, raw: object, effect: str, allowed: str) -> Problem:
    shown = "" if raw is None else _SHORT.repr(raw)
    sentence = f"{field or 'check-in'} {shown or '(not sent)'} {effect}: {allowed}."
    return Problem(kind=kind, field=field, value=shown, message=sentence)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
