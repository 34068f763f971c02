"""The ingest endpoints: decode, authorise, call `checkins.services.receive`, answer in the protocol's own words.

Clients do not retry, they lose: so no redirect, no 429 and no 5xx for anything that a client may send. What is wrong
with a check-in becomes a stored processing error of its project, beside the status code that its client expects.
"""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from http import HTTPStatus

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from checkins.decoding import decode_body, decode_json
from checkins.exceptions import AuthError, BodyError, BodyTooLargeError, IngestError, UnknownKeyError
from checkins.messages import CheckInMessage, RefusedCheckIn, Source
from checkins.parsing import parse_checkin, unreadable_checkin
from checkins.protocols.sentry import CHECK_IN, EnvelopeItem, parse_auth, parse_dsn_key, parse_envelope
from checkins.services import receive
from monitors.models import IngestKey
from monitors.wallclock import utcnow

BODY_BYTES_MAX = 20 * 1024 * 1024  # compressed or not; check-ins are a few KiB, but an SDK's attachments come here too
CHECK_IN_BYTES_MAX = 100 * 1024
PROJECT_ID_MAX = 2**53 - 1  # what clients written in JavaScript can hold

CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Encoding, Content-Type, X-Sentry-Auth",
    "Access-Control-Max-Age": "86400",
}

View = Callable[..., HttpResponse]


def ingest_endpoint(*methods: str) -> Callable[[View], View]:
    """Let any origin in, answer preflights, refuse other methods, and give every refusal the one JSON shape."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def answer(request: HttpRequest, project_id: str, **arguments: str | None) -> HttpResponse:
            if request.method == "OPTIONS":
                response = HttpResponse(status=HTTPStatus.NO_CONTENT)
            elif request.method not in methods:
                response = _error(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(methods)}")
                response["Allow"] = ", ".join((*methods, "OPTIONS"))
            else:
                try:
                    response = view(request, int(project_id), **arguments)
                except IngestError as error:
                    response = _error(error.status, str(error))
                except SuspiciousOperation as error:  # Django's own limits, as on the number of query parameters
                    response = _error(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {error}")
            for header, value in CORS_HEADERS.items():
                response[header] = value
            return response

        return answer

    return decorate


@ingest_endpoint("POST")
def envelope(request: HttpRequest, project_id: int) -> HttpResponse:
    """Take a Sentry envelope: its check-ins are processed, its other items accepted and ignored.

    200 with the envelope's `event_id`, also when a check-in in it is refused: that is what its client expects.
    """
    received_at = utcnow()
    key = _key_in_request(request)
    if key is not None:
        # Before the body is looked at: what comes without a right to be here is not worth decompressing.
        _authorise(project_id, key)
    body = b""
    try:
        body = _read_body(request)
        parsed = parse_envelope(body)
    except IngestError as error:
        if key is None:
            raise AuthError(f"missing authorization information, and {error}", status=401) from error
        receive([_unreadable(body, error, project_id, received_at, Source.SENTRY_ENVELOPE)], now=received_at)
        raise
    if key is None:
        _authorise(project_id, parse_dsn_key(parsed.header.get("dsn")))
    check_ins = [item for item in parsed.items if item.type == CHECK_IN]
    if check_ins:  # most envelopes of an SDK that also reports errors hold none
        receive([_message(item, project_id, received_at) for item in check_ins], now=received_at)
    if any(len(item.payload) > CHECK_IN_BYTES_MAX for item in check_ins):
        raise BodyTooLargeError(f"a check_in item has more than {CHECK_IN_BYTES_MAX} bytes")
    event_id = parsed.header.get("event_id")
    return JsonResponse({"id": event_id} if isinstance(event_id, str) else {})


@ingest_endpoint("GET", "POST")
def cron(request: HttpRequest, project_id: int, slug: str, key: str | None = None) -> HttpResponse:
    """Take one check-in from the query, or from the body if that is declared as JSON (the query is not read then).

    202 without a body, also for a monitor that does not exist and for values that only processing understands. 400 for
    what cannot be read at all: broken JSON, no status, an id that is not a UUID.
    """
    received_at = utcnow()
    _authorise(project_id, _key_in_request(request, path_key=key))
    source = Source.SENTRY_HTTP
    payload: object
    if request.method == "POST" and request.headers.get("Content-Type", "").lower().startswith("application/json"):
        body = b""
        try:
            body = _read_body(request)
            if len(body) > CHECK_IN_BYTES_MAX:
                raise BodyTooLargeError(f"a check-in has at most {CHECK_IN_BYTES_MAX} bytes")
            payload = decode_json(body)
        except IngestError as error:
            receive([_unreadable(body, error, project_id, received_at, source, slug)], now=received_at)
            raise
    else:
        payload = {name: request.GET[name] for name in _QUERY_FIELDS if name in request.GET}
    message = parse_checkin(payload, project_id=project_id, received_at=received_at, source=source, slug=slug)
    receive([message], now=received_at)
    if isinstance(message, RefusedCheckIn) and (causes := _causes_that_clients_hear(message)):
        return _error(HTTPStatus.BAD_REQUEST, "the check-in cannot be read", causes)
    return HttpResponse(status=HTTPStatus.ACCEPTED)


_QUERY_FIELDS = ("status", "check_in_id", "environment", "duration")


def _causes_that_clients_hear(refused: RefusedCheckIn) -> list[str]:
    """Why a refused check-in is also told to its client; empty for what Sentry's edge lets pass and finds out later."""
    status = refused.payload.get("status")
    readable_status = isinstance(status, str) and status != ""
    return [
        problem.message
        for problem in refused.problems
        if problem.field in ("", "check_in_id") or (problem.field == "status" and not readable_status)
    ]


def _key_in_request(request: HttpRequest, path_key: str | None = None) -> str | None:
    return parse_auth(
        x_sentry_auth=request.headers.get("X-Sentry-Auth"),
        authorization=request.headers.get("Authorization"),
        query=request.GET.dict(),
        path_key=path_key,
    )


def _authorise(project_id: int, key: str | None) -> None:
    """Raise unless `key` is an active key of the project."""
    if key is None:
        raise AuthError("missing authorization information: the request names no key", status=HTTPStatus.UNAUTHORIZED)
    known = project_id <= PROJECT_ID_MAX and (
        IngestKey.objects.filter(project_id=project_id, public_key=key, is_active=True).exists()
    )
    if not known:
        raise UnknownKeyError("the key is not an active key of this project")


def _read_body(request: HttpRequest) -> bytes:
    try:
        # Not request.body, which stops at DATA_UPLOAD_MAX_MEMORY_SIZE: a limit that is meant for forms.
        body = request.read(BODY_BYTES_MAX + 1)
    except UnreadablePostError as error:
        raise BodyError("the connection ended before the body did") from error
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLargeError(f"the body has more than {BODY_BYTES_MAX} bytes")
    return decode_body(body, request.headers.get("Content-Encoding", ""), BODY_BYTES_MAX)


def _message(item: EnvelopeItem, project_id: int, received_at: datetime) -> CheckInMessage | RefusedCheckIn:
    source = Source.SENTRY_ENVELOPE
    try:
        if len(item.payload) > CHECK_IN_BYTES_MAX:
            raise BodyTooLargeError(f"a check_in item has at most {CHECK_IN_BYTES_MAX} bytes")
        payload = decode_json(item.payload)
    except IngestError as error:
        return _unreadable(item.payload, error, project_id, received_at, source)
    return parse_checkin(payload, project_id=project_id, received_at=received_at, source=source)


def _unreadable(
    body: bytes, error: IngestError, project_id: int, received_at: datetime, source: Source, slug: str | None = None
) -> RefusedCheckIn:
    return unreadable_checkin(
        body, str(error), project_id=project_id, received_at=received_at, source=source, slug=slug
    )


def _error(status: int, detail: str, causes: list[str] | None = None) -> HttpResponse:
    return JsonResponse({"detail": detail, "causes": causes or []}, status=status)
