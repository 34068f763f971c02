"""Jira Service Management operations, Compass and Opsgenie: one API at three addresses (pure).

Sources: https://developer.atlassian.com/cloud/jira/service-desk-ops/rest/v2/api-group-integration-events/ and
https://docs.opsgenie.com/docs/alert-api. Opsgenie's own address ends on 5 April 2027.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from incidents.notifications.alert import Alert, Event, Severity
from incidents.notifications.channels import wording
from incidents.notifications.channels.base import (
    Answer,
    Capability,
    Field,
    Request,
    SendResult,
    Target,
    field_problems,
    hidden,
    outcome,
    post_json,
    value,
)
from lib.texts import Text

KIND = "opsgenie"
NAME = Text("Jira Service Management (Opsgenie)")
MESSAGE_LENGTH_MAX = 130
DESCRIPTION_LENGTH_MAX = 15_000
NOTE_LENGTH_MAX = 20_000
ENTITY_LENGTH_MAX = 512
CALLBACK_TOKEN_LENGTH_MIN = 20
TAGS_MAX, TAG_LENGTH_MAX = 20, 50
API_KEY = Field(name="api_key", label=Text("API key"), is_secret=True, help=Text("Of an integration of the type API."))
URL = Field(
    name="url",
    label=Text("Address of the API"),
    kind="url",
    is_required=False,
    default="https://api.atlassian.com/jsm/ops/integration/v2/alerts",
    help=Text(
        "For Opsgenie until it ends on 5 April 2027: https://api.opsgenie.com/v2/alerts or "
        "https://api.eu.opsgenie.com/v2/alerts."
    ),
)
TEAM = Field(name="team", label=Text("Team"), is_required=False, help=Text("The name of the team that gets the alert."))
CALLBACK_TOKEN = Field(
    name="callback_token",
    label=Text("Token of the outgoing webhook"),
    is_secret=True,
    is_sent=False,
    is_required=False,
    help=Text(
        "At least 20 letters and digits of your choice, the end of the address that this page shows: "
        "acknowledgements come back with it."
    ),
)
FIELDS: tuple[Field, ...] = (API_KEY, URL, TEAM, CALLBACK_TOKEN)
CAN = frozenset(
    {
        Capability.UPDATE,
        Capability.DEDUP,
        Capability.ACKNOWLEDGE,
        Capability.CALLBACK,
        Capability.PRIORITY,
        Capability.KEEPS_ALERTS,
    }
)
_PRIORITIES = {Severity.CRITICAL: "P1", Severity.ERROR: "P2", Severity.WARNING: "P3", Severity.INFO: "P5"}
_CREATES = frozenset({Event.OPENED, Event.ESCALATED, Event.DIGEST, Event.CLOCK, Event.TEST})
_CLOSES = frozenset({Event.RESOLVED, Event.STORM_OVER, Event.TEST})
_SOURCE = "Watchclock"


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    token = values.get(CALLBACK_TOKEN.name, "").strip()
    if token and not (len(token) >= CALLBACK_TOKEN_LENGTH_MIN and token.isalnum() and token.isascii()):
        found[CALLBACK_TOKEN.name] = Text(
            "A token has at least %(least)s letters and digits.", least=CALLBACK_TOKEN_LENGTH_MIN
        )
    return found


def is_ending(values: Mapping[str, str]) -> bool:
    """Return whether the address is one of Opsgenie's own, which end on 5 April 2027."""
    host = urlsplit(values.get(URL.name, "")).hostname or ""
    return host == "opsgenie.com" or host.endswith(".opsgenie.com")


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return what creates, changes or closes the alert that is known by the group. A test is closed at once."""
    del ref, now
    if alert.event is Event.DIGEST and wording.state(alert) is wording.State.OVER:
        return ()
    note = {"source": _SOURCE, "note": wording.summary(alert, 500 if is_plain else NOTE_LENGTH_MAX)}
    incident = wording.only(alert)
    user = wording.one_line(incident.acknowledged_by) if incident else ""
    found = []
    if alert.event in _CREATES:
        found.append(_call("", _create(alert, target, is_plain=is_plain), alert, target))
    if alert.event is Event.REMINDER:
        found.append(_call("notes", note, alert, target))
    if alert.event is Event.ACKNOWLEDGED:
        found.append(_call("acknowledge", note | ({"user": user} if user else {}), alert, target))
    if alert.event in _CLOSES:
        found.append(_call("close", note, alert, target))
    return tuple(found)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: 202 means that the request will be processed. The reference is the alias."""
    return outcome(request, answer)


def _call(action: str, content: dict[str, Any], alert: Alert, target: Target) -> Request:
    base = value(target, URL).rstrip("/")
    return post_json(
        f"{base}/{alert.group}/{action}?identifierType=alias" if action else base,
        content,
        secrets=hidden(FIELDS, target),
        headers={"authorization": f"GenieKey {value(target, API_KEY)}"},
        is_follow_up=bool(action),
    )


def _create(alert: Alert, target: Target, *, is_plain: bool) -> dict[str, Any]:
    incident = wording.only(alert)
    content: dict[str, Any] = {
        "message": wording.summary(alert, MESSAGE_LENGTH_MAX),
        "alias": str(alert.group),
        "description": wording.plain_text(alert, 1_000 if is_plain else DESCRIPTION_LENGTH_MAX, with_title=False),
        "priority": _PRIORITIES[wording.severity(alert)],
        "source": _SOURCE,
    }
    if team := value(target, TEAM):
        content["responders"] = [{"type": "team", "name": team}]
    if incident is not None and not is_plain:
        tags = (wording.one_line(tag, TAG_LENGTH_MAX) for tag in (incident.environment, incident.kind, *incident.tags))
        content |= {
            "entity": wording.one_line(f"{incident.project}/{incident.slug}", ENTITY_LENGTH_MAX),
            "tags": list(dict.fromkeys(filter(None, tags)))[:TAGS_MAX],
            "details": {label: url for label, url in wording.links(alert) if len(url) <= 1_000},
        }
    return content
