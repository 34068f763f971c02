"""What Sentry's clients put on the wire: envelopes and plain requests, and the many places of the public key (pure).

An envelope is a header line, then items: a header line each and a payload. Check-ins and the client's own loss reports
(D19) are taken from it; the rest is skipped unread, and its sender is asked to keep it to itself. A plain request is
one check-in. See docs/reference/ingest.md.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from checkins.decoding import check_value_count, decode_body, decode_checked, decode_json, decode_start
from checkins.exceptions import (
    AuthError,
    BodyTooLargeError,
    EnvelopeError,
    IngestError,
    JsonError,
    UnknownKeyError,
)
from checkins.messages import LossReport, Message, RefusedCheckIn, Source
from checkins.parsing import parse_checkin, parse_instant, storable, unreadable_checkin
from checkins.protocols.pings import parse_query
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol, Sender

CHECK_IN = "check_in"
CLIENT_REPORT = "client_report"
PROTOCOL_VERSION_MAX = 7
PROJECT_ID_MAX = 2**53 - 1  # what clients written in JavaScript can hold
ENVELOPE_HEADER_BYTES_MAX = 64 * 1024  # looked at before anybody is known to have a right to be here
ITEM_HEADER_BYTES_MAX = 4 * 1024
LOSS_REPORTS_MAX = 100  # an envelope; SDKs count per reason and category, so that they have a handful
LOSS_REASON_CHARACTERS_MAX = 100
LOSS_QUANTITY_MAX = 2**31 - 1

_PUBLIC_KEY = re.compile(r"[0-9a-f]{32}")
_KEY_ALLOWED = (
    "sentry_key: it takes one active key of the project in the address, 32 lower-case hex digits, in one place"
)

_NO_KEY = "missing authorization information: the request names no key"

_DEFAULT_LIMITS = Limits()

_JSON_HEADERS = ((b"content-type", b"application/json"),)

# All categories but `monitor` (check-ins) and `internal` (client reports) that SDKs have or had: relay's DataCategory,
# "Rate Limiting" in Sentry's SDK documentation, and the data categories in the SDKs for Python, JavaScript and Ruby.
# SDKs ignore those that they do not know. An empty category would mean all of them, check-ins too.
_OF_NO_USE = (
    "error;transaction;session;log_item;log_byte;log;span;profile;profile_chunk;profile_chunk_ui;attachment;replay;"
    "feedback;security;default;trace_metric;trace_metric_byte;metric_bucket"
)
_RATE_LIMITS = (b"x-sentry-rate-limits", f"3600:{_OF_NO_USE}:organization".encode())

# To these SDKs a check-in is of category `default` (Python: 1.17, no more in 1.39) or `error` (Ruby until early 2024:
# all that is no transaction). Asked to hold back those, they would hold back check-ins.
_CONFUSES_CATEGORIES = re.compile(r"sentry\.python[a-z.]*/1\.[0-3]?[0-9]\.|sentry[.-]ruby[a-z.]*/5\.1?[0-9]\.")


class EnvelopeItem(NamedTuple):
    """One item. The payload is not looked into; only some types are of use to us."""

    type: str
    payload: bytes


class Envelope(NamedTuple):
    """A parsed envelope. Every field of the header is optional; `event_id` and `dsn` are the ones we read."""

    header: Mapping[str, object]
    items: tuple[EnvelopeItem, ...]


def parse_envelope(body: bytes, limits: Limits = _DEFAULT_LIMITS) -> Envelope:
    """Split an envelope into its items.

    With `length` in its header a payload is exactly that many bytes, which may hold line feeds, and a line feed or the
    end follows. Without it the payload ends at the next line feed or at the end. Raises EnvelopeError, or
    BodyTooLargeError for more than `envelope_items_max` items.
    """
    if not body or body.isspace():
        raise EnvelopeError("the envelope is empty")
    header_line, at = _line(body, 0)
    header = _parse_header(header_line, "envelope header", limits)
    items: list[EnvelopeItem] = []
    while at < len(body):
        item_header_line, at = _line(body, at)
        if not item_header_line.strip():
            if not body[at:].strip():  # some senders end with more than one line feed
                break
            raise EnvelopeError(f"item {len(items) + 1}: its header is an empty line")
        if len(items) == limits.envelope_items_max:
            raise BodyTooLargeError(f"the envelope has more than {limits.envelope_items_max} items")
        item, at = _parse_item(body, item_header_line, at, f"item {len(items) + 1}", limits)
        items.append(item)
    return Envelope(header, tuple(items))


def parse_auth(
    *,
    x_sentry_auth: str | None = None,
    authorization: str | None = None,
    query: Mapping[str, str] | None = None,
    path_key: str | None = None,
) -> str | None:
    """Find the public key in a request, or None if the request holds none at all (the envelope's `dsn` may).

    It may stand in `X-Sentry-Auth: Sentry sentry_key=...`, in `Authorization` of the same form or as the user name of
    HTTP Basic, in the query as `sentry_key`, or in the path. Raises AuthError: 401 for two of them at once or a Sentry
    header without key; 400 for a key that is not 32 lower-case hex digits, or an unknown protocol version.
    """
    query = query or {}
    headers = (x_sentry_auth, authorization)
    found: list[Mapping[str, str]] = [
        named for header in headers if (named := _sentry_header_fields(header)) is not None
    ]
    if (user := _basic_user(authorization)) is not None:
        found.append({"sentry_key": user})
    if "sentry_key" in query:
        found.append(query)
    if path_key is not None:
        found.append({"sentry_key": path_key})

    if not found:
        return None
    if len(found) > 1:
        raise AuthError("multiple authorization payloads: send the key in one place only", status=401)
    [fields] = found
    if "sentry_key" not in fields:
        raise AuthError("the authorization header names no sentry_key", status=401)
    _check_version(fields.get("sentry_version"))
    return _checked_key(fields["sentry_key"])


def parse_dsn_key(dsn: object) -> str:
    """The public key of an envelope header's `dsn`, the only one that tunnelled envelopes carry. Raises AuthError."""
    if dsn is None:
        raise AuthError(_NO_KEY, status=401)
    try:
        user = urlsplit(dsn).username if isinstance(dsn, str) else None
    except ValueError:
        user = None
    if user is None:
        raise AuthError("the dsn in the envelope header cannot be read", status=401)
    return _checked_key(unquote(user))


# Who speaks


def _identify_envelope(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:
    key = _key_in_request(request)
    if key is None:
        key = _key_in_envelope(request, limits)
    return _sender(address["project_id"], key)


def _identify_cron(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:  # noqa: ARG001
    key = _key_in_request(request, path_key=address.get("key"))
    if key is None:
        raise AuthError(_NO_KEY, status=401)
    return _sender(address["project_id"], key)


def _key_in_request(request: IngestRequest, path_key: str | None = None) -> str | None:
    return parse_auth(
        x_sentry_auth=request.headers.get("x-sentry-auth"),
        authorization=request.headers.get("authorization"),
        query=dict(parse_query(request.query)) if request.query else None,
        path_key=path_key,
    )


def _key_in_envelope(request: IngestRequest, limits: Limits) -> str:
    """The key of a tunnelled envelope. Of a body that nobody has vouched for only the first line is looked at."""
    try:
        start = decode_start(request.body, request.headers.get("content-encoding", ""), ENVELOPE_HEADER_BYTES_MAX)
        header_line, _ = _line(start, 0)
        header = _parse_header(header_line, "envelope header", limits)
    except IngestError as error:
        raise AuthError(f"missing authorization information, and {error}", status=401) from error
    return parse_dsn_key(header.get("dsn"))


def _sender(project_id_text: str, key: str) -> Sender:
    project_id = int(project_id_text)
    if project_id > PROJECT_ID_MAX:
        raise UnknownKeyError("the key is not an active key of this project")
    return Sender(project_id=project_id, public_key=key)


def _refuse(error: IngestError) -> Answer:
    return _error(error.status, str(error), [_KEY_ALLOWED] if isinstance(error, (AuthError, UnknownKeyError)) else [])


def _error(status: int, detail: str, causes: Sequence[str] = ()) -> Answer:
    return Answer(status, json.dumps({"detail": detail, "causes": list(causes)}).encode(), _JSON_HEADERS)


# Envelopes


def _decode_envelope(
    request: IngestRequest,
    address: Mapping[str, str],  # noqa: ARG001
    sender: KnownSender,
    limits: Limits,
) -> Decoded:
    """Turn an envelope into check-ins and loss reports, in the order of the wire.

    200 with the envelope's `event_id`, also when a check-in in it is refused: that is what its client expects. 413 for
    a check-in that is too large, while the others of its envelope count.
    """
    body = b""
    try:
        body = _plain_body(request, limits, limits.body_bytes_max)
        envelope = parse_envelope(body, limits)
        check_value_count([item.payload for item in envelope.items if item.type in (CHECK_IN, CLIENT_REPORT)])
    except IngestError as error:
        return _unreadable(body, error, request, sender, Source.SENTRY_ENVELOPE)
    messages: list[Message] = []
    losses_left = LOSS_REPORTS_MAX
    has_other_items = False
    too_large = False
    for item in envelope.items:
        if item.type == CHECK_IN:
            messages.append(_parse_check_in_item(item.payload, request, sender, limits))
            too_large = too_large or len(item.payload) > limits.checkin_bytes_max
        elif item.type == CLIENT_REPORT:
            losses = _parse_losses(item.payload, request, sender, limits)[:losses_left]
            losses_left -= len(losses)
            messages += losses
        else:
            has_other_items = True

    if too_large:
        answer = _error(413, f"a check_in item has more than {limits.checkin_bytes_max} bytes")
    else:
        event_id = envelope.header.get("event_id")
        answer = Answer(200, _echo(event_id) if isinstance(event_id, str) else b"{}", _JSON_HEADERS)
    if has_other_items and not _confuses_categories(request):
        answer = Answer(answer.status, answer.body, (*answer.headers, _RATE_LIMITS))
    return Decoded(messages, lambda _: answer)


def _echo(event_id: str) -> bytes:
    """As `json.dumps` writes it, which takes ten times as long, and alone takes half a character."""
    text = msgspec.json.encode(event_id) if event_id.isascii() else json.dumps(event_id).encode()
    return b'{"id": ' + text + b"}"


def _parse_check_in_item(payload: bytes, request: IngestRequest, sender: KnownSender, limits: Limits) -> Message:
    source = Source.SENTRY_ENVELOPE
    try:
        if len(payload) > limits.checkin_bytes_max:
            raise BodyTooLargeError(f"a check_in item has at most {limits.checkin_bytes_max} bytes")
        value, is_storable = decode_checked(payload, limits.nesting_max)
    except IngestError as error:
        return _refused(payload, error, request, sender, source)
    return parse_checkin(
        value,
        project_id=sender.project_id,
        received_at=request.received_at,
        source=source,
        is_storable=is_storable,
    )


def _parse_losses(payload: bytes, request: IngestRequest, sender: KnownSender, limits: Limits) -> list[LossReport]:
    """What a client report says of lost check-ins. A report that cannot be read is no reason to refuse anything."""
    if len(payload) > limits.checkin_bytes_max:
        return []
    try:
        report = decode_json(payload, limits.nesting_max)
    except JsonError:
        return []
    discarded = report.get("discarded_events") if isinstance(report, dict) else None
    if not isinstance(report, dict) or not isinstance(discarded, list):
        return []
    reported_at = parse_instant(report.get("timestamp"))
    losses: list[LossReport] = []
    for entry in discarded:
        if not isinstance(entry, dict) or entry.get("category") != "monitor":
            continue
        quantity, reason = entry.get("quantity"), entry.get("reason")
        if isinstance(quantity, int) and not isinstance(quantity, bool) and quantity > 0:
            losses.append(
                LossReport(
                    project_id=sender.project_id,
                    reason=str(storable(reason))[:LOSS_REASON_CHARACTERS_MAX] if isinstance(reason, str) else "unknown",
                    quantity=min(quantity, LOSS_QUANTITY_MAX),
                    reported_at=reported_at,
                    received_at=request.received_at,
                    source=Source.SENTRY_ENVELOPE,
                )
            )
    return losses


def _confuses_categories(request: IngestRequest) -> bool:
    agent = request.headers.get("x-sentry-auth", "") + request.headers.get("user-agent", "")
    return _CONFUSES_CATEGORIES.search(agent) is not None


# Plain requests


def _decode_cron(request: IngestRequest, address: Mapping[str, str], sender: KnownSender, limits: Limits) -> Decoded:
    """Take one check-in from the query, or from the body if that is declared as JSON (the query is not read then).

    202 without a body, also for a monitor that does not exist and for values that only processing understands. 400 for
    what cannot be read at all: broken JSON, no status, an id that is not a UUID.
    """
    source = Source.SENTRY_HTTP
    slug = address["slug"]
    payload: object
    if request.method == "POST" and request.headers.get("content-type", "").lower().startswith("application/json"):
        body = b""
        try:
            body = _plain_body(request, limits, limits.checkin_bytes_max)
            payload = decode_json(body, limits.nesting_max)
        except IngestError as error:
            return _unreadable(body, error, request, sender, source, slug)
    else:
        query = dict(parse_query(request.query))
        payload = {name: query[name] for name in _QUERY_FIELDS if name in query}
    message = parse_checkin(
        payload, project_id=sender.project_id, received_at=request.received_at, source=source, slug=slug
    )
    answer = _ACCEPTED
    if isinstance(message, RefusedCheckIn) and (causes := _causes_that_clients_hear(message)):
        answer = _error(400, "the check-in cannot be read", causes)
    return Decoded((message,), lambda _: answer)


_QUERY_FIELDS = ("status", "check_in_id", "environment", "duration")
_ACCEPTED = Answer(202)


def _causes_that_clients_hear(refused: RefusedCheckIn) -> list[str]:
    """Why a refused check-in is also told to its client; empty for what Sentry's edge lets pass and finds out later."""
    status = refused.payload.get("status")
    readable_status = isinstance(status, str) and status != ""
    return [
        problem.message
        for problem in refused.problems
        if problem.field in ("", "check_in_id") or (problem.field == "status" and not readable_status)
    ]


# Bodies


def _plain_body(request: IngestRequest, limits: Limits, bytes_max: int) -> bytes:
    if request.body_bytes > limits.body_bytes_max:  # then `body` is not all of it
        raise BodyTooLargeError(f"the body has {request.body_bytes} bytes, at most {limits.body_bytes_max} are read")
    return decode_body(request.body, request.headers.get("content-encoding", ""), bytes_max)


def _unreadable(
    body: bytes,
    error: IngestError,
    request: IngestRequest,
    sender: KnownSender,
    source: Source,
    slug: str | None = None,
) -> Decoded:
    return Decoded((_refused(body, error, request, sender, source, slug),), lambda _: _refuse(error))


def _refused(
    body: bytes,
    error: IngestError,
    request: IngestRequest,
    sender: KnownSender,
    source: Source,
    slug: str | None = None,
) -> RefusedCheckIn:
    return unreadable_checkin(
        body, str(error), project_id=sender.project_id, received_at=request.received_at, source=source, slug=slug
    )


# The grammar


def _line(body: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins at `start`, and where the next one does."""
    end = body.find(b"\n", start)
    return (body[start:], len(body)) if end < 0 else (body[start:end], end + 1)


def _parse_item(body: bytes, header_line: bytes, start: int, where: str, limits: Limits) -> tuple[EnvelopeItem, int]:
    """The item whose payload begins at `start`, and where the next item's header does."""
    if len(header_line) > ITEM_HEADER_BYTES_MAX:
        raise EnvelopeError(f"{where}: its header has more than {ITEM_HEADER_BYTES_MAX} bytes")
    headers = _parse_header(header_line, f"{where}: header", limits)
    item_type = headers.get("type")
    if not isinstance(item_type, str):
        raise EnvelopeError(f"{where}: its header names no type")
    length = headers.get("length")
    if length is None:
        payload, end = _line(body, start)
        return EnvelopeItem(item_type, payload), end
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise EnvelopeError(f"{where}: its length is not a number of bytes")
    end = start + length
    if end > len(body):
        raise EnvelopeError(f"{where}: its length is {length} bytes, but only {len(body) - start} follow")
    if end < len(body) and body[end : end + 1] != b"\n":
        raise EnvelopeError(f"{where}: no line feed after its {length} bytes")
    return EnvelopeItem(item_type, body[start:end]), end + 1


def _parse_header(line: bytes, where: str, limits: Limits) -> dict[str, object]:
    try:
        header = decode_json(line, limits.nesting_max)
    except JsonError as error:
        raise EnvelopeError(f"{where}: {error}") from error
    if not isinstance(header, dict):
        raise EnvelopeError(f"{where}: not a JSON object")
    return header


def _sentry_header_fields(header: str | None) -> dict[str, str] | None:
    """The fields of `Sentry name=value, name=value`; None for any other scheme, which is somebody else's header."""
    scheme, _, rest = (header or "").strip().partition(" ")
    if scheme.lower() != "sentry":
        return None
    pairs = (field.partition("=") for field in rest.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _basic_user(header: str | None) -> str | None:
    scheme, _, rest = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, _ = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return user if colon else None


def _check_version(version: str | None) -> None:
    if version is None:
        return
    if not re.fullmatch(r"[0-9]{1,5}", version) or int(version) > PROTOCOL_VERSION_MAX:
        raise AuthError(
            f"unsupported protocol version {version[:20]!r}: at most {PROTOCOL_VERSION_MAX} is known", status=400
        )


def _checked_key(key: str) -> str:
    if not _PUBLIC_KEY.fullmatch(key):
        raise AuthError(f"malformed public key {key[:40]!r}: a key is 32 lower-case hex digits", status=400)
    return key


_ENVELOPE = Protocol(
    methods=frozenset({"POST"}),
    keeps_tail=False,
    identify=_identify_envelope,
    decode=_decode_envelope,
    refuse=_refuse,
)
_CRON = Protocol(
    methods=frozenset({"GET", "POST"}),
    keeps_tail=False,
    identify=_identify_cron,
    decode=_decode_cron,
    refuse=_refuse,
)
# A DSN may have a path before the project's id, which SDKs keep. A slug may hold slashes (written %2F), so the key of a
# plain request is the last of several segments.
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (re.compile(r"(?:/.*)?/api/(?P<project_id>[0-9]{1,20})/envelope/?", re.DOTALL), _ENVELOPE),
    (re.compile(r"/api/(?P<project_id>[0-9]{1,20})/cron/(?P<slug>.+?)(?:/(?P<key>[^/]+))?/?", re.DOTALL), _CRON),
)
