"""The protocol of Healthchecks' clients: `/ping/<uuid>` and `/ping/<ping key>/<slug>` (pure).

The first is every monitor's own address, for anything that can request a URL, and the address of most check-ins. The
answers are those of a Healthchecks server to the letter: its clients compare them. Some of Cronitor's clients use
addresses of the same form; `checkins.protocols.cronitor` distinguishes them. See docs/reference/ingest.md.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256

from checkins.exceptions import IngestError, UnknownAddressError, UnknownKeyError
from checkins.messages import CheckInMessage, CheckInStatus, LogMessage, Outcome, Problem, ProblemKind, RunLog, Source
from checkins.protocols import cronitor
from checkins.protocols.fields import (
    DEFAULT_ENVIRONMENT,
    EXIT_STATUS_ALLOWED,
    parse_check_in_id,
    parse_exit_status,
    storable,
)
from checkins.protocols.pings import (
    GUID,
    RefusedPartError,
    body_log,
    derived_id,
    environment_in,
    first_config,
    identify,
    lacks_monitor,
    parse_query,
    refuse_part,
    refused,
    shown,
    text_answer,
)
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol
from monitors.slugs import slugify

NAME_CHARACTERS_MAX = 200  # in an address; `slugify` shortens it

_STATUSES = {"start": CheckInStatus.IN_PROGRESS, "fail": CheckInStatus.ERROR}
_NOTHING: Mapping[str, str] = {}

_ANSWER_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"max-age=0, no-cache, no-store, must-revalidate, private"),
)
_NOT_FOUND = Answer(404, b"not found", _ANSWER_HEADERS)
_INVALID_URL = Answer(400, b"invalid url format", _ANSWER_HEADERS)
_INVALID_UUID = Answer(400, b"invalid uuid format", _ANSWER_HEADERS)
_NO_ADDRESS = (
    "not found: an address is /ping/<uuid> or /ping/<ping key>/<slug>, then nothing, /start, /fail, /log or an exit "
    "status; a uuid is written in lower case with dashes"
)


def decode(request: IngestRequest, address: Mapping[str, str], sender: KnownSender, limits: Limits) -> Decoded:
    """Turn a ping into a check-in, a log, or a refusal. Never raises."""
    query = dict(parse_query(request.query)) if request.query else _NOTHING
    if cronitor.is_telemetry(address.get("action"), query):
        return cronitor.decode(request, address, sender, limits)
    try:
        message = _parse_ping(request, address, query, sender, limits)
    except RefusedPartError as error:
        answer = error.answer or text_answer(400, str(error))
        return refused(error, request, address, sender, Source.HEALTHCHECKS, answer)
    return Decoded((message,), _answer_with(limits.log_bytes_max))


def _parse_ping(
    request: IngestRequest,
    address: Mapping[str, str],
    query: Mapping[str, str],
    sender: KnownSender,
    limits: Limits,
) -> CheckInMessage | LogMessage:
    action = address.get("action")
    status, exit_status = _parse_action(action)
    slug, raw_slug = sender.slug, sender.raw_slug
    if slug is None:
        slug, raw_slug = _parse_slug(address["monitor"]), str(storable(address["monitor"]))
    check_in_id, environment, config_if_new = None, DEFAULT_ENVIRONMENT, None
    if query:
        check_in_id = _parse_run_id(query.get("rid"))
        environment = environment_in(query, "environment")
        if query.get("create") == "1" and sender.slug is None:
            config_if_new = first_config()
    log = body_log(request, limits)
    if status is None:
        return LogMessage(
            project_id=sender.project_id,
            slug=slug,
            raw_slug=raw_slug or slug,
            environment=environment,
            check_in_id=check_in_id,
            received_at=request.received_at,
            source=Source.HEALTHCHECKS,
            log=log or RunLog(b"", 0),
            config_if_new=config_if_new,
            payload=shown(request, action),
        )
    repeat_key = None
    if log is not None and check_in_id is None and status is not CheckInStatus.IN_PROGRESS:
        # Without a body, a message sent again cannot be distinguished from that of the next run.
        body, user_agent = sha256(request.body).hexdigest(), request.headers.get("user-agent")
        repeat_key = derived_id("ping", sender.project_id, slug, environment, action, body, user_agent)
    return CheckInMessage(
        project_id=sender.project_id,
        slug=slug,
        raw_slug=raw_slug or slug,
        environment=environment,
        status=status,
        check_in_id=check_in_id,
        received_at=request.received_at,
        source=Source.HEALTHCHECKS,
        config_if_new=config_if_new,
        repeat_key=repeat_key,
        exit_status=exit_status,
        log=log,
        payload=shown(request, action),
    )


def _parse_action(action: str | None) -> tuple[CheckInStatus | None, int | None]:
    """Return the status, None for a log, and the exit status if the address names one."""
    if action is None:
        return CheckInStatus.OK, None
    if action == "log":
        return None, None
    if action in _STATUSES:
        return _STATUSES[action], None
    exit_status = parse_exit_status(action, "exit status")
    if isinstance(exit_status, int):
        return (CheckInStatus.ERROR if exit_status else CheckInStatus.OK), exit_status
    if action.removeprefix("-").isdecimal():
        raise refuse_part("exit status", action, EXIT_STATUS_ALLOWED, _INVALID_URL)
    allowed = "it takes nothing, start, fail, log or an exit status"
    raise refuse_part("action", action, allowed, text_answer(404, _NO_ADDRESS))


def _parse_slug(raw: str) -> str:
    slug = slugify(raw) if len(raw) <= NAME_CHARACTERS_MAX and "/" not in raw else ""
    if not slug:
        allowed = (
            f"it takes 1 to {NAME_CHARACTERS_MAX} characters without a slash, "
            "at least one of them a letter of the Latin alphabet or digit"
        )
        raise refuse_part("slug", raw, allowed, _INVALID_URL)
    return slug


def _parse_run_id(raw: str | None) -> uuid.UUID | None:
    """Return the id that pairs a start with its end. Unlike elsewhere, an empty one is an error: a variable not set."""
    if raw == "":
        raise refuse_part("rid", raw, "it takes a UUID", _INVALID_UUID, kind=ProblemKind.CHECKIN_INVALID_GUID)
    run_id = parse_check_in_id(storable(raw), "rid")
    if isinstance(run_id, Problem):
        raise RefusedPartError(run_id, _INVALID_UUID)
    return run_id


@cache
def _answer_with(log_bytes_max: int) -> Callable[[Sequence[Outcome]], Answer]:
    """Return the function that answers a ping. Clients cut their output to the limit that a success names."""
    headers = (*_ANSWER_HEADERS, (b"ping-body-limit", str(log_bytes_max).encode()))
    ok, created = Answer(200, b"OK", headers), Answer(201, b"Created", headers)

    def answer(outcomes: Sequence[Outcome]) -> Answer:
        if lacks_monitor(outcomes):
            return _NOT_FOUND
        return created if outcomes[0].created else ok

    return answer


def _refuse(error: IngestError) -> Answer:
    if isinstance(error, UnknownKeyError):
        return _NOT_FOUND
    return text_answer(error.status, _NO_ADDRESS if isinstance(error, UnknownAddressError) else str(error))


# Other addresses that begin with /ping are answered here too: clients cannot use a page about them, or a redirect.
_PROTOCOL = Protocol(methods=None, keeps_tail=True, identify=identify, decode=decode, refuse=_refuse)
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (re.compile(rf"/ping/(?P<guid>{GUID})(?:/(?P<action>[^/]+))?/?"), _PROTOCOL),
    (re.compile(r"/ping/(?P<key>[^/]+)/(?P<monitor>.+?)(?:/(?P<action>[^/]+))?/?", re.DOTALL), _PROTOCOL),
    (re.compile(r"/ping(?:/.*)?", re.DOTALL), _PROTOCOL),
)
