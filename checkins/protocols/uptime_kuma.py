"""The protocol of Uptime Kuma's push monitors: `/api/push/<token>?status=up&msg=OK&ping=` (pure).

Every backup tool supports it. It cannot report the start of a run. The token is the monitor's id. See
docs/reference/ingest.md.
"""

import json
import re
from collections.abc import Mapping, Sequence

from checkins.exceptions import IngestError, UnknownAddressError, UnknownKeyError
from checkins.messages import CheckInMessage, CheckInStatus, Outcome, Problem, Source
from checkins.protocols.fields import parse_duration_ms, storable
from checkins.protocols.pings import (
    GUID,
    RefusedPartError,
    environment_in,
    identify,
    lacks_monitor,
    parse_query,
    refused,
    shown,
    text_log,
)
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol

_HEADERS = ((b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"no-store"))
_OK = Answer(200, b'{"ok":true}', _HEADERS)


def decode(request: IngestRequest, address: Mapping[str, str], sender: KnownSender, limits: Limits) -> Decoded:
    """Turn a push into a check-in, or a refusal. Never raises."""
    query = dict(parse_query(request.query))
    try:
        environment = environment_in(query, "environment")
    except RefusedPartError as error:
        return refused(error, request, address, sender, Source.UPTIME_KUMA, _failure(400, str(error)))
    assert sender.slug is not None, "a push names its monitor's id"
    duration = parse_duration_ms(storable(query.get("ping")), "ping", milliseconds=True)
    # Any word but "up" is "down", as in Uptime Kuma: senders use different words for failures.
    up = query.get("status", "") in ("", "up")
    message = CheckInMessage(
        project_id=sender.project_id,
        slug=sender.slug,
        raw_slug=sender.raw_slug or sender.slug,
        environment=environment,
        status=CheckInStatus.OK if up else CheckInStatus.ERROR,
        check_in_id=None,
        received_at=request.received_at,
        source=Source.UPTIME_KUMA,
        duration_ms=None if isinstance(duration, Problem) else duration,
        log=text_log(query.get("msg", ""), limits),
        problems=(duration,) if isinstance(duration, Problem) else (),
        payload=shown(request, None),
    )
    return Decoded((message,), _answer)


def _answer(outcomes: Sequence[Outcome]) -> Answer:
    return _NOT_FOUND if lacks_monitor(outcomes) else _OK


def _failure(status: int, sentence: str) -> Answer:
    return Answer(status, json.dumps({"ok": False, "msg": sentence}, separators=(",", ":")).encode(), _HEADERS)


_NOT_FOUND = _failure(404, "Monitor not found or not active.")


def _refuse(error: IngestError) -> Answer:
    if isinstance(error, (UnknownAddressError, UnknownKeyError)):
        return _NOT_FOUND
    return _failure(error.status, str(error))


_PROTOCOL = Protocol(methods=None, keeps_tail=True, identify=identify, decode=decode, refuse=_refuse)
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (re.compile(rf"/api/push/(?P<guid>(?i:{GUID}|[0-9a-f]{{32}}))/?"), _PROTOCOL),
    (re.compile(r"/api/push(?:/.*)?", re.DOTALL), _PROTOCOL),
)
