"""The protocol of Cronitor's clients: telemetry, a state and some figures in the query of an address (pure).

`/p/<API key>/<monitor key>`, with the state in the query or at the end of the path. Some clients use `/ping` instead,
which is Healthchecks' address: `checkins.protocols.healthchecks` calls `is_telemetry` to distinguish them. The same
states are accepted at a monitor's own address. See docs/reference/ingest.md.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from checkins.exceptions import IngestError, UnknownAddressError, UnknownKeyError
from checkins.messages import CheckInMessage, CheckInStatus, Outcome, Problem, ProblemKind, Source
from checkins.protocols.fields import parse_duration_ms, parse_exit_status, parse_instant, storable
from checkins.protocols.pings import (
    KEY_ALLOWED,
    RefusedPartError,
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
    text_log,
)
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Protocol
from monitors.slugs import slugify

_ADDRESS = "/p/<API key>/<monitor key>, then nothing, /run, /complete, /fail or /ok"
_TELEMETRY_FIELDS = frozenset({"state", "stamp", "metric", "series"})
_STATES_OF_ITS_OWN = frozenset({"run", "complete", "ok"})  # /fail is Healthchecks' too, and means the same
_STATUSES = {
    "run": CheckInStatus.IN_PROGRESS,
    "complete": CheckInStatus.OK,
    "fail": CheckInStatus.ERROR,
    "ok": CheckInStatus.OK,
    "tick": CheckInStatus.OK,
}
_OK = text_answer(200, "OK")


def is_telemetry(action: str | None, fields: Collection[str]) -> bool:
    """Return whether a request is telemetry and no Healthchecks ping, by the end of its path and its query's names.

    A Healthchecks ping carries `rid` and `create` at most, telemetry always carries one of these. A query beside
    another action of Healthchecks does not matter to a Healthchecks server.
    """
    if action in _STATES_OF_ITS_OWN:
        return True
    return bool(fields) and action in (None, "fail") and not _TELEMETRY_FIELDS.isdisjoint(fields)


def decode(request: IngestRequest, address: Mapping[str, str], sender: KnownSender, limits: Limits) -> Decoded:
    """Turn telemetry into a check-in, or a refusal. Never raises."""
    try:
        message = _parse_telemetry(request, address, sender, limits)
    except RefusedPartError as error:
        return refused(error, request, address, sender, Source.CRONITOR, text_answer(400, str(error)))
    return Decoded((message,), _answer)


def _parse_telemetry(
    request: IngestRequest, address: Mapping[str, str], sender: KnownSender, limits: Limits
) -> CheckInMessage:
    fields = parse_query(request.query)
    query = dict(fields)
    state = query.get("state") or address.get("action") or "tick"
    status = _STATUSES.get(state)
    if status is None:
        raise refuse_part("state", state, f"it takes one of {', '.join(_STATUSES)}, or nothing")
    slug, raw_slug = sender.slug, sender.raw_slug
    if slug is None:
        slug, raw_slug = slugify(address["monitor"]), str(storable(address["monitor"]))
        if not slug:
            raise refuse_part("monitor key", address["monitor"], "it takes a text with at least one letter or digit")
    environment = environment_in(query, "env", "environment")

    problems: list[Problem] = []
    duration_ms = parse_duration_ms(_raw_duration(fields))
    if isinstance(duration_ms, Problem):
        problems.append(duration_ms)
        duration_ms = None
    exit_status = parse_exit_status(query.get("status_code"), "status_code")
    if isinstance(exit_status, Problem):
        problems.append(exit_status)
        exit_status = None

    series, stamp = query.get("series"), query.get("stamp")
    run = sender.project_id, slug, environment
    return CheckInMessage(
        project_id=sender.project_id,
        slug=slug,
        raw_slug=raw_slug or slug,
        environment=environment,
        status=status,
        check_in_id=derived_id("series", *run, series) if series else None,
        received_at=request.received_at,
        source=Source.CRONITOR,
        duration_ms=duration_ms,
        sent_at=_parse_stamp(stamp),
        config_if_new=first_config() if sender.slug is None else None,
        # Retries repeat the stamp; with a series, the run's id identifies them.
        repeat_key=derived_id("stamp", *run, state, stamp) if stamp and not series else None,
        exit_status=exit_status,
        log=text_log(query.get("message") or query.get("msg") or "", limits),
        problems=tuple(problems),
        payload=shown(request, address.get("action")),
    )


def _raw_duration(fields: Sequence[tuple[str, str]]) -> object:
    """Return the seconds of `metric=duration:<seconds>`, else of `duration=<seconds>`, as sent."""
    metrics = (value.partition(":") for name, value in fields if name == "metric")
    durations = [value for name, _, value in metrics if name == "duration"]
    return storable(durations[-1] if durations else dict(fields).get("duration"))


def _parse_stamp(raw: str | None) -> datetime | None:
    """Parse the client's clock, epoch seconds. It only sorts messages: a bad one is None."""
    try:
        return parse_instant(float(raw)) if raw else None
    except ValueError:
        return None


def _answer(outcomes: Sequence[Outcome]) -> Answer:
    problem = lacks_monitor(outcomes)
    if problem is None:
        return _OK
    return text_answer(404 if problem.kind is ProblemKind.MONITOR_NOT_FOUND else 403, problem.message)


def _refuse(error: IngestError) -> Answer:
    if isinstance(error, UnknownAddressError):
        return text_answer(error.status, f"{error}: it takes {_ADDRESS}")
    if isinstance(error, UnknownKeyError):
        return text_answer(error.status, f"the API key of the address is not known: {KEY_ALLOWED} ({_ADDRESS})")
    return text_answer(error.status, str(error))


_PROTOCOL = Protocol(
    methods=frozenset({"GET", "HEAD", "POST"}), keeps_tail=True, identify=identify, decode=decode, refuse=_refuse
)
ROUTES: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (
        re.compile(r"/p/(?P<key>[^/]+)/(?P<monitor>.+?)(?:/(?P<action>run|complete|fail|ok))?/?", re.DOTALL),
        _PROTOCOL,
    ),
    (re.compile(r"/p(?:/.*)?", re.DOTALL), _PROTOCOL),
)
