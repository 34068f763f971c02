"""Watchclock's own JSON protocol: `POST /api/v1/checkins` with one check-in or many (pure).

For programs written for Watchclock, and for many check-ins at once. Each check-in has its own result; a problem with
one never stops the others. See docs/reference/ingest.md.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from checkins.exceptions import AuthError, BodyTooLargeError, IngestError, JsonError, UnknownKeyError
from checkins.messages import CheckInMessage, Outcome, Problem, ProblemKind, RefusedCheckIn, RunLog, Source
from checkins.protocols.decoding import decode_body, decode_json, is_deeper_than
from checkins.protocols.fields import dropped_part, parse_checkin, parse_exit_status, storable, unreadable_checkin
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol, Sender

_KEY = re.compile(r"[0-9a-f]{32}")
_KEY_ALLOWED = "Authorization: it takes Bearer and an active key of the project, 32 lower-case hex digits"
_BODY_ALLOWED = 'body: it takes a check-in as a JSON object, an array of check-ins, or {"checkins": [...]}'
_BODY_NESTING_MAX = 500  # for one check-in it is less, but one that is too deep is no reason to refuse all

# The fields of a check-in are Sentry's, under shorter names.
_SENTRY_NAMES = {
    "monitor": "monitor_slug",
    "status": "status",
    "id": "check_in_id",
    "environment": "environment",
    "duration": "duration",
    "timestamp": "timestamp",
}
_OWN_NAMES = {"monitor_slug": "monitor", "check_in_id": "id", "contexts.trace.trace_id": "trace_id"}

_JSON_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))

Item = CheckInMessage | RefusedCheckIn


def _identify(request: IngestRequest, address: Mapping[str, str], limits: Limits) -> Sender:  # noqa: ARG001
    scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise AuthError("missing authorization information: the request has no bearer token", status=401)
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise AuthError(f"malformed key {key[:40]!r}: a key is 32 lower-case hex digits", status=401)
    return Sender(public_key=key)


def _decode(
    request: IngestRequest,
    address: Mapping[str, str],  # noqa: ARG001
    sender: KnownSender,
    limits: Limits,
) -> Decoded:
    """Turn a request into its check-ins, each of which is accepted or refused by itself.

    202 with a result for each: they are durable, but while they are spooled their final result is not known yet. 400 or
    413, with one refusal for the people of the project, if the request cannot be read at all.
    """
    body = b""
    try:
        body = _plain_body(request, limits)
        values = _values_in(decode_json(body, _BODY_NESTING_MAX), limits)
    except IngestError as error:
        refused = unreadable_checkin(
            body, str(error), project_id=sender.project_id, received_at=request.received_at, source=Source.REST
        )
        answer = _refuse(error)
        return Decoded((refused,), lambda _: answer)
    items = [_parse_item(value, request, sender, limits) for value in values]
    return Decoded(items, lambda outcomes: _answer(items, outcomes))


def _plain_body(request: IngestRequest, limits: Limits) -> bytes:
    if request.body_bytes > limits.body_bytes_max:  # then `body` is not all of it
        raise BodyTooLargeError(f"the body has {request.body_bytes} bytes, at most {limits.body_bytes_max} are read")
    return decode_body(request.body, request.headers.get("content-encoding", ""), limits.body_bytes_max)


def _values_in(body: object, limits: Limits) -> list[object]:
    values = body.get("checkins", [body]) if isinstance(body, dict) else body
    if not isinstance(values, list):
        raise JsonError("the JSON value is neither a check-in nor an array of check-ins")
    if len(values) > limits.rest_items_max:
        raise BodyTooLargeError(f"the body has {len(values)} check-ins, at most {limits.rest_items_max} are read")
    return values


def _parse_item(value: object, request: IngestRequest, sender: KnownSender, limits: Limits) -> Item:
    # A log has a limit of its own and is separated first.
    payload = storable(
        {name: part for name, part in value.items() if name != "log"} if isinstance(value, dict) else value
    )
    reason = _why_unreadable(value, payload, limits)
    if not isinstance(value, dict) or not isinstance(payload, dict) or reason:
        return unreadable_checkin(
            payload, reason, project_id=sender.project_id, received_at=request.received_at, source=Source.REST
        )
    config_name = "config" if "config" in value else "monitor_config"
    fields = {sentry_name: value.get(name) for name, sentry_name in _SENTRY_NAMES.items()}
    fields |= {"monitor_config": value.get(config_name), "contexts": {"trace": {"trace_id": value.get("trace_id")}}}
    message = parse_checkin(fields, project_id=sender.project_id, received_at=request.received_at, source=Source.REST)
    problems = [_in_own_words(problem, config_name) for problem in message.problems]
    if isinstance(message, RefusedCheckIn):
        return msgspec.structs.replace(message, problems=tuple(problems), payload=payload)
    exit_status = parse_exit_status(value.get("exit_status"))
    if isinstance(exit_status, Problem):
        problems.append(exit_status)
        exit_status = None
    log = _parse_log(value.get("log"), limits)
    if isinstance(log, Problem):
        problems.append(log)
        log = None
    config_problem = message.config_problem
    return msgspec.structs.replace(
        message,
        exit_status=exit_status,
        log=log,
        config_problem=config_problem and _in_own_words(config_problem, config_name),
        problems=tuple(problems),
        payload=payload,
    )


def _why_unreadable(value: object, payload: object, limits: Limits) -> str:
    """Return why an item cannot be used at all; "" if it can."""
    if not isinstance(value, dict):
        return "it takes a JSON object"
    if is_deeper_than(limits.nesting_max, value):
        return f"it takes at most {limits.nesting_max} levels of arrays and objects"
    if len(msgspec.json.encode(payload)) > limits.checkin_bytes_max:
        return f"it takes at most {limits.checkin_bytes_max} bytes beside its log"
    return ""


def _parse_log(raw: object, limits: Limits) -> RunLog | Problem | None:
    """Return the end of the text as bytes."""
    if raw is None or raw == "":
        return None
    if not isinstance(raw, str):
        return dropped_part(ProblemKind.CHECKIN_VALIDATION_FAILED, "log", storable(raw), "it takes a text")
    body = raw.encode(errors="replace")
    return RunLog(body[max(0, len(body) - limits.log_bytes_max) :], len(body))


def _in_own_words(problem: Problem, config_name: str) -> Problem:
    """Return the problem with this protocol's name of the field, in its field and at the start of its sentence."""
    head, dot, rest = problem.field.partition(".")
    field = config_name + dot + rest if head == "monitor_config" else _OWN_NAMES.get(problem.field, problem.field)
    if field == problem.field:
        return problem
    return replace(problem, field=field, message=problem.message.replace(problem.field, field, 1))


def _answer(items: Sequence[Item], outcomes: Sequence[Outcome]) -> Answer:
    results = [_result(index, item, outcome) for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True))]
    accepted = sum(result["accepted"] is True for result in results)
    return _json_answer(202, {"accepted": accepted, "refused": len(results) - accepted, "results": results})


def _result(index: int, item: Item, outcome: Outcome) -> dict[str, object]:
    """Return the result of one check-in. While it is spooled, this is only the result of decoding."""
    problems = list(item.problems)
    check_in_id = outcome.guid
    config_name = "config" if "config" in item.payload else "monitor_config"
    if isinstance(item, CheckInMessage):
        check_in_id = check_in_id or item.check_in_id
        if item.config_problem:
            problems.append(item.config_problem)
    problems += [_in_own_words(problem, config_name) for problem in outcome.problems]
    return {
        "index": index,
        "accepted": isinstance(item, CheckInMessage) and (outcome.accepted or outcome.parked),
        "id": str(check_in_id) if check_in_id else None,
        "problems": [
            {"kind": problem.kind, "field": problem.field, "value": problem.value, "message": problem.message}
            for problem in dict.fromkeys(problems)
        ],
    }


def _refuse(error: IngestError) -> Answer:
    about_key = isinstance(error, (AuthError, UnknownKeyError))
    answer = _json_answer(
        error.status, {"detail": str(error), "causes": [_KEY_ALLOWED if about_key else _BODY_ALLOWED]}
    )
    if error.status == 401:  # RFC 9110, 15.5.2: it names an accepted scheme
        return Answer(answer.status, answer.body, (*answer.headers, (b"www-authenticate", b"Bearer")))
    return answer


def _json_answer(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode(), _JSON_HEADERS)


_PROTOCOL = Protocol(methods=frozenset({"POST"}), keeps_tail=False, identify=_identify, decode=_decode, refuse=_refuse)
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = ((re.compile(r"/api/v1/checkins/?"), _PROTOCOL),)
