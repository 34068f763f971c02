"""Shared parts of the protocols of plain requests: a ping is a request for an address (pure).

Keys and ids are in the path, other fields in the query, and a body is never a reason to refuse.
"""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from string import punctuation
from urllib.parse import parse_qsl, quote

import msgspec

from checkins.exceptions import CheckInsError, IngestError, UnknownAddressError, UnknownKeyError
from checkins.messages import Outcome, Problem, ProblemKind, RefusedCheckIn, RunLog, Source
from checkins.protocols.decoding import decode_body
from checkins.protocols.fields import DEFAULT_ENVIRONMENT, parse_environment, refused_part, storable
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Sender
from monitors.configuration import Configuration
from monitors.schedule import Schedule
from monitors.slugs import slugify

GUID = "-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12))
"""A monitor's id as its own address shows it. Another spelling is another address: nothing is there."""

KEY_ALLOWED = "it takes an active key of a project, 32 lower-case hex digits"

LOG_UNPACKED_BYTES_MAX = 4 << 20
"""Of a compressed log. One that unpacks to more is stored as sent."""
_HEX_DIGITS = frozenset("0123456789abcdef")
_DERIVED = uuid.UUID("d687d8ff-2072-4bd4-b4a3-17292e79b94b")  # a random one; it can never change
_TEXT_HEADERS = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


def identify(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:  # noqa: ARG001
    """Return the sender that the address names: the monitor `guid`, or the project of a `key`.

    Raises UnknownAddressError if it names neither, and UnknownKeyError for a malformed key.
    """
    guid = address.get("guid")
    if guid is not None:
        return Sender(monitor_guid=msgspec.convert(guid, uuid.UUID))  # a third of the time
    key = address.get("key")
    if key is None:
        raise UnknownAddressError("nothing is at this address")
    if len(key) != 32 or not _HEX_DIGITS.issuperset(key):
        raise UnknownKeyError(f"key {key[:40]!r} is not known: {KEY_ALLOWED}")
    return Sender(public_key=key)


class RefusedPartError(CheckInsError):
    """A required part of a check-in is not valid. `answer` is set if its clients expect a certain text."""

    def __init__(self, problem: Problem, answer: Answer | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.answer = answer


def refuse_part(
    field: str,
    raw: str,
    allowed: str,
    answer: Answer | None = None,
    *,
    kind: ProblemKind = ProblemKind.CHECKIN_VALIDATION_FAILED,
) -> RefusedPartError:
    """Return the error for a bad part of an address or a query, with what is allowed ("it takes ...")."""
    return RefusedPartError(refused_part(kind, field, storable(raw), allowed), answer)


def refused(
    error: RefusedPartError,
    request: IngestRequest,
    address: Mapping[str, str],
    sender: KnownSender,
    source: Source,
    answer: Answer,
) -> Decoded:
    """Return the refusal of a whole ping, to be stored for the people of the project."""
    message = RefusedCheckIn(
        project_id=sender.project_id,
        slug=slugify(address["monitor"]) if sender.slug is None else sender.slug,
        environment=DEFAULT_ENVIRONMENT,
        received_at=request.received_at,
        source=source,
        problems=(error.problem,),
        payload=shown(request, address.get("action")),
    )
    return Decoded((message,), lambda _: answer)


def environment_in(query: Mapping[str, str], *fields: str) -> str:
    """Return the environment that the first of these fields names, "production" for none. Raises RefusedPartError."""
    for field in fields:
        if raw := query.get(field):
            environment = parse_environment(storable(raw), field)
            if isinstance(environment, Problem):
                raise RefusedPartError(environment)
            return environment
    return DEFAULT_ENVIRONMENT


def lacks_monitor(outcomes: Sequence[Outcome]) -> Problem | None:
    """Return why a ping has no monitor, to be reported to its client; None if it was accepted or dropped.

    A ping that is dropped because of a limit or a disabled monitor is a success for the client, which could do nothing
    about it: the people of the project see a processing error.
    """
    for outcome in outcomes:
        if not outcome.accepted:
            for problem in outcome.problems:
                if problem.kind in (ProblemKind.MONITOR_NOT_FOUND, ProblemKind.MONITOR_LIMIT_EXCEEDED):
                    return problem
    return None


def parse_query(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a query in order, also the empty ones. Never raises.

    Bytes that are not UTF-8 become lone surrogates, which `text_log` turns back into bytes; everything stored as text
    goes through `storable`.
    """
    if not query.isascii():  # some clients leave letters unquoted
        query = quote(query, safe=punctuation, errors="replace")
    return parse_qsl(query, keep_blank_values=True, errors="surrogateescape")


def body_log(request: IngestRequest, limits: Limits) -> RunLog | None:
    """Return the body as the run's log: its last part, decompressed if it can be. None for an empty one."""
    if not request.body_bytes:
        return None
    body, size_bytes = request.body, request.body_bytes
    encoding = request.headers.get("content-encoding")
    if encoding and len(body) == size_bytes:
        # A body that cannot be decompressed is stored as sent: a log is never a reason to lose the ping.
        with suppress(IngestError):
            body = decode_body(body, encoding, min(limits.body_bytes_max, LOG_UNPACKED_BYTES_MAX))
            size_bytes = len(body)
    return _last_part(body, size_bytes, limits)


def text_log(text: str, limits: Limits) -> RunLog | None:
    """Return a value of a query as the run's log: its last part. None for an empty one."""
    body = text.encode(errors="surrogateescape")
    return _last_part(body, len(body), limits)


def _last_part(body: bytes, size_bytes: int, limits: Limits) -> RunLog | None:
    return RunLog(body[max(0, len(body) - limits.log_bytes_max) :], size_bytes) if size_bytes else None


def derived_id(*parts: str | int | None) -> uuid.UUID:
    """Return a UUIDv5 that is equal for equal parts. Ids of runs are found again by it, so it can never change."""
    return uuid.uuid5(_DERIVED, ascii(parts))


@cache
def first_config() -> Configuration:
    """Return the configuration of a monitor that a ping creates, until a person changes it: one check-in a day.

    A day, and an hour of margin, are Healthchecks' values for a check that a ping creates.
    """
    return Configuration(schedule=Schedule.from_interval(1, "day"), checkin_margin_minutes=60)


def shown(request: IngestRequest, action: str | None) -> Mapping[str, object]:
    """Return the content of a request, to be shown beside a problem: all but its key and its body."""
    if action is None and not request.query:  # by far the most
        return {"method": request.method}
    payload = storable({"method": request.method, "action": action or "", "query": request.query})
    assert isinstance(payload, dict), payload
    return payload


def text_answer(status: int, sentence: str) -> Answer:
    """Return a sentence as an answer. It may quote the request, so a browser must not render it as HTML."""
    return Answer(status, sentence.encode(errors="replace"), _TEXT_HEADERS)
