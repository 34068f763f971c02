"""The protocol of Sentry's clients: envelopes and plain requests, and the many places of the public key (pure).

An envelope is a header line, then items: a header line each and a payload. Check-ins and the client's own loss reports
(D19) are read; the rest is skipped, and its sender is asked by rate limits not to send it. A plain request is one
check-in. See docs/reference/ingest.md.
"""

import json
import re
from collections.abc import Mapping, Sequence

import msgspec

from checkins.exceptions import (
    AuthError,
    BodyTooLargeError,
    IngestError,
    JsonError,
    UnknownKeyError,
)
from checkins.messages import LossReport, Message, RefusedCheckIn, Source
from checkins.protocols.decoding import check_value_count, decode_body, decode_checked, decode_json, decode_start
from checkins.protocols.fields import parse_checkin, parse_instant, storable, unreadable_checkin
from checkins.protocols.pings import parse_query
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol, Sender
from checkins.protocols.sentry_envelope import ENVELOPE_HEADER_BYTES_MAX, parse_envelope, parse_header, read_line
from checkins.protocols.sentry_key import KEY_ALLOWED, NO_KEY, PROJECT_ID_MAX, parse_auth, parse_dsn_key

CHECK_IN = "check_in"
CLIENT_REPORT = "client_report"
LOSS_REPORTS_MAX = 100  # per envelope; SDKs count per reason and category, so they send a handful
LOSS_REASON_CHARACTERS_MAX = 100
LOSS_QUANTITY_MAX = 2**31 - 1


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
# all that is no transaction). A rate limit on those would stop check-ins.
_CONFUSES_CATEGORIES = re.compile(r"sentry\.python[a-z.]*/1\.[0-3]?[0-9]\.|sentry[.-]ruby[a-z.]*/5\.1?[0-9]\.")


# Senders


def _identify_envelope(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:
    key = _key_in_request(request)
    if key is None:
        key = _key_in_envelope(request, limits)
    return _sender(address["project_id"], key)


def _identify_cron(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:  # noqa: ARG001
    key = _key_in_request(request, path_key=address.get("key"))
    if key is None:
        raise AuthError(NO_KEY, status=401)
    return _sender(address["project_id"], key)


def _key_in_request(request: IngestRequest, path_key: str | None = None) -> str | None:
    return parse_auth(
        x_sentry_auth=request.headers.get("x-sentry-auth"),
        authorization=request.headers.get("authorization"),
        query=dict(parse_query(request.query)) if request.query else None,
        path_key=path_key,
    )


def _key_in_envelope(request: IngestRequest, limits: Limits) -> str:
    """Return the key of a tunnelled envelope. Of a body from an unverified sender only the first line is read."""
    try:
        start = decode_start(request.body, request.headers.get("content-encoding", ""), ENVELOPE_HEADER_BYTES_MAX)
        header_line, _ = read_line(start, 0)
        header = parse_header(header_line, "envelope header", limits)
    except IngestError as error:
        raise AuthError(f"missing authorization information, and {error}", status=401) from error
    return parse_dsn_key(header.get("dsn"))


def _sender(project_id_text: str, key: str) -> Sender:
    project_id = int(project_id_text)
    if project_id > PROJECT_ID_MAX:
        raise UnknownKeyError("the key is not an active key of this project")
    return Sender(project_id=project_id, public_key=key)


def _refuse(error: IngestError) -> Answer:
    return _error(error.status, str(error), [KEY_ALLOWED] if isinstance(error, (AuthError, UnknownKeyError)) else [])


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

    200 with the envelope's `event_id`, also if a check-in in it is refused, as its client expects. 413 for a check-in
    that is too large, while the others of its envelope count.
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
    """As `json.dumps` writes it, which takes ten times as long but also accepts a lone surrogate."""
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
    """Return the lost check-ins in a client report. An invalid report is no reason to refuse anything."""
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
    """Decode one check-in from the query, or from the body if that is declared as JSON (the query is not read then).

    202 without a body, also for a monitor that does not exist and for values that only processing validates. 400 for
    input that cannot be read at all: broken JSON, no status, an id that is not a UUID.
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
    if isinstance(message, RefusedCheckIn) and (causes := _causes_for_client(message)):
        answer = _error(400, "the check-in cannot be read", causes)
    return Decoded((message,), lambda _: answer)


_QUERY_FIELDS = ("status", "check_in_id", "environment", "duration")
_ACCEPTED = Answer(202)


def _causes_for_client(refused: RefusedCheckIn) -> list[str]:
    """Return the causes to report to the client of a refused check-in; empty if Sentry accepts it at first."""
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
# A DSN may have a path before the project's id, which SDKs preserve. A slug may hold slashes (written %2F), so the key
# of a plain request is the last of several segments.
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (re.compile(r"(?:/.*)?/api/(?P<project_id>[0-9]{1,20})/envelope/?", re.DOTALL), _ENVELOPE),
    (re.compile(r"/api/(?P<project_id>[0-9]{1,20})/cron/(?P<slug>.+?)(?:/(?P<key>[^/]+))?/?", re.DOTALL), _CRON),
)
