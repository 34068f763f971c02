"""Splunk On-Call, formerly VictorOps, through its REST endpoint (pure).

Source: https://help.victorops.com/knowledge-base/rest-endpoint-integration-guide/
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from incidents.notifications.alert import Alert, Event, Severity
from incidents.notifications.channels import wording
from incidents.notifications.channels.base import (
    Answer,
    Capability,
    Field,
    Request,
    SendResult,
    SendResultKind,
    Target,
    field_problems,
    hidden,
    outcome,
    post_json,
    read_json,
    value,
)
from lib.texts import Text

KIND = "splunk_oncall"
NAME = Text("Splunk On-Call")
MESSAGE_LENGTH_MAX = 20_000
PLACE = "$routing_key"
URL = Field(
    name="url",
    label=Text("REST endpoint"),
    kind="url",
    is_secret=True,
    help=Text("The URL to notify, as Splunk On-Call shows it, with or without %(place)s at its end.", place=PLACE),
)
ROUTING_KEY = Field(name="routing_key", label=Text("Routing key"), help=Text("Which team is notified."))
FIELDS: tuple[Field, ...] = (URL, ROUTING_KEY)
CAN = frozenset(
    {
        Capability.UPDATE,
        Capability.DEDUP,
        Capability.ACKNOWLEDGE,
        Capability.PRIORITY,
        Capability.KEEPS_ALERTS,
    }
)
_LOUDNESS = {
    Severity.CRITICAL: "CRITICAL",
    Severity.ERROR: "CRITICAL",
    Severity.WARNING: "WARNING",
    Severity.INFO: "INFO",
}
_TYPES = {
    Event.ACKNOWLEDGED: "ACKNOWLEDGEMENT",
    Event.RESOLVED: "RECOVERY",
    Event.STORM_OVER: "RECOVERY",
    Event.TEST: "INFO",
}
_OPENS = frozenset({Event.OPENED, Event.ESCALATED, Event.DIGEST, Event.CLOCK})


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one event of the incident that is known by the group. A test is an INFO, which pages nobody."""
    del ref, now
    kind = _TYPES.get(alert.event, "")
    if alert.event in _OPENS and wording.state(alert) is not wording.State.OVER:
        kind = _LOUDNESS[wording.severity(alert)]
    if not kind:
        return ()
    incident = wording.only(alert)
    content: dict[str, Any] = {
        "message_type": kind,
        "entity_id": str(alert.group),
        "entity_display_name": wording.name(incident) if incident else wording.title(alert, 200),
        "state_message": wording.plain_text(alert, 1_000 if is_plain else MESSAGE_LENGTH_MAX),
        "state_start_time": int((incident.opened_at if incident else alert.at).timestamp()),
        "monitoring_tool": "Watchclock",
    }
    if incident is not None and (by := wording.one_line(incident.acknowledged_by)):
        content["ack_author"] = by
    return (post_json(_url(target), content, secrets=hidden(FIELDS, target)),)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means. The reference is the id of the incident."""
    content = read_json(answer)
    if answer.status == 200 and content.get("result") == "failure":
        return outcome(request, answer, SendResultKind.MESSAGE_REFUSED)
    return outcome(request, answer, ref=str(content.get("entity_id", "")))


def _url(target: Target) -> str:
    base = value(target, URL).removesuffix(PLACE).rstrip("/")
    return f"{base}/{quote(value(target, ROUTING_KEY), safe='')}"
