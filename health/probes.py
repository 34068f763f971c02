"""What machines request of the web: `/healthz`, `/readyz`, `/readyz/all` and `/metrics` (shell).

    /healthz      200: the process is alive. Touches nothing
    /readyz       200 while this process accepts check-ins, else 503: for load balancers, which must not take a web out
                  of service that stores check-ins in its spool while PostgreSQL is away
    /readyz/all   200 while nothing bad is found anywhere, else 503: for people, and for another monitoring system

Both list what is wrong, in plain words. They are outside Django: a probe arrives under any host name, without a
session, and has to be answered when Django cannot.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST

from checkins.ingest.edge import Scope, Send
from health.facts import Facts
from health.metrics import render
from health.poller import Poller
from health.problems import find_problems
from lib.encoding import to_json
from lib.wallclock import utcnow

PATHS = frozenset({"/healthz", "/readyz", "/readyz/all", "/metrics"})
JSON = "application/json"


async def answer_probe(poller: Poller | None, scope: Scope, send: Send) -> None:
    """Answer a request for one of `PATHS`."""
    status, kind, body = await _answer(poller, scope)
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _answer(poller: Poller | None, scope: Scope) -> tuple[HTTPStatus, str, bytes]:
    path = scope["path"]
    if scope["method"] not in {"GET", "HEAD"}:
        return HTTPStatus.METHOD_NOT_ALLOWED, JSON, b'{"detail": "use GET, HEAD"}'
    if path == "/healthz":
        return HTTPStatus.OK, JSON, b'{"status": "alive"}'
    if path == "/metrics" and not _may_see_metrics(scope):
        return HTTPStatus.FORBIDDEN, JSON, b'{"detail": "send METRICS_TOKEN as a bearer token"}'
    facts = None if poller is None else poller.facts()
    if poller is None or facts is None:
        return HTTPStatus.SERVICE_UNAVAILABLE, JSON, b'{"status": "starting"}'
    if path == "/metrics":
        now = utcnow()
        figures = await poller.figures(now) if facts.postgres is None else None
        sums = await poller.sums() if facts.valkey is None else None
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, render(facts, figures, sums, now=now)
    payload = readiness(facts)
    is_ready = payload["takes_check_ins"] if path == "/readyz" else payload["status"] == "ok"
    return (
        HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
        JSON,
        msgspec.json.format(to_json(payload), indent=2),
    )


def readiness(facts: Facts) -> dict[str, Any]:
    """Return the JSON of `/readyz`: `status` is failing if check-ins are refused, degraded if something else is bad."""
    findings = find_problems(facts)
    takes_check_ins = facts.intake is not None and facts.intake.can_take
    is_bad = any(finding.is_bad for finding in findings)
    return {
        "status": ("degraded" if is_bad else "ok") if takes_check_ins else "failing",
        "takes_check_ins": takes_check_ins,
        "as_of": _text(facts.now),
        "findings": [
            {
                "part": finding.part.value,
                "severity": finding.severity.value,
                "what": str(finding.what),
                "since": None if finding.since is None else _text(finding.since),
                "todo": str(finding.todo),
            }
            for finding in findings
        ],
    }


def _may_see_metrics(scope: Mapping[str, Any]) -> bool:
    """Return whether a request carries METRICS_TOKEN, or everybody may see the metrics."""
    if settings.METRICS_OPEN:
        return True
    given = dict(scope["headers"]).get(b"authorization", b"")
    wanted = b"Bearer " + settings.METRICS_TOKEN.encode()
    return bool(settings.METRICS_TOKEN) and hmac.compare_digest(given, wanted)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
