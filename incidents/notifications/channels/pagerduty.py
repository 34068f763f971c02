"""PagerDuty through its Events API v2 (pure).

Source: https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from incidents.notifications.alert import Alert, Event
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

KIND = "pagerduty"
NAME = Text("PagerDuty")
SUMMARY_LENGTH_MAX = 1_024
LOG_LENGTH_MAX = 4_000
LIST_LENGTH_MAX = 20_000
ROUTING_KEY = Field(
    name="routing_key",
    label=Text("Integration key"),
    is_secret=True,
    help=Text("32 characters, of an integration Events API v2."),
)
URL = Field(
    name="url",
    label=Text("Address of the Events API"),
    kind="url",
    is_required=False,
    default="https://events.pagerduty.com/v2/enqueue",
    help=Text("For an account in the EU: https://events.eu.pagerduty.com/v2/enqueue."),
)
SIGNING_SECRET = Field(
    name="signing_secret",
    label=Text("Signing secret of the webhook"),
    is_secret=True,
    is_sent=False,
    is_required=False,
    help=Text("Of a generic webhook (v3) to the address that this page shows: acknowledgements come back with it."),
)
FIELDS: tuple[Field, ...] = (ROUTING_KEY, URL, SIGNING_SECRET)
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
_ACTIONS: Mapping[Event, tuple[str, ...]] = {
    Event.OPENED: ("trigger",),
    Event.ESCALATED: ("trigger",),
    Event.DIGEST: ("trigger",),
    Event.CLOCK: ("trigger",),
    Event.ACKNOWLEDGED: ("acknowledge",),
    Event.RESOLVED: ("resolve",),
    Event.STORM_OVER: ("resolve",),
    Event.TEST: ("trigger", "resolve"),
}
"""Nothing for a reminder, since PagerDuty reminds and escalates itself, nor for what is over already."""


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    key = values.get(ROUTING_KEY.name, "").strip()
    if key and not (len(key) == 32 and key.isalnum() and key.isascii()):
        found[ROUTING_KEY.name] = Text(
            "An integration key has 32 letters and digits; this one has %(length)s characters.", length=len(key)
        )
    return found


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return the event for PagerDuty. A test is resolved at once."""
    del ref, now
    if alert.event is Event.DIGEST and wording.state(alert) is wording.State.OVER:
        return ()
    return tuple(_event(action, alert, target, is_plain=is_plain) for action in _ACTIONS.get(alert.event, ()))


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: 202 means accepted. The reference is the key of the alert."""
    content = read_json(answer)
    if answer.status == 400 and "routing" in str(content.get("errors", "")).lower():
        return outcome(request, answer, SendResultKind.CHANNEL_REFUSED)
    return outcome(request, answer, ref=str(content.get("dedup_key", "")))


def _event(action: str, alert: Alert, target: Target, *, is_plain: bool) -> Request:
    content: dict[str, Any] = {
        "routing_key": value(target, ROUTING_KEY),
        "event_action": action,
        "dedup_key": str(alert.group),
    }
    if action == "trigger":
        content |= _trigger(alert, is_plain=is_plain)
    secrets = hidden(FIELDS, target)
    return post_json(value(target, URL), content, secrets=secrets, is_follow_up=action != "trigger")


def _trigger(alert: Alert, *, is_plain: bool) -> dict[str, Any]:
    incident = wording.only(alert)
    payload: dict[str, Any] = {
        "summary": wording.summary(alert, SUMMARY_LENGTH_MAX),
        "source": "watchclock",
        "severity": wording.severity(alert).value,
        "timestamp": wording.iso(incident.opened_at if incident else alert.at),
    }
    if incident is not None:
        payload["source"] = f"watchclock:{wording.one_line(incident.project)}"
        names = {"component": incident.slug, "group": incident.environment, "class": incident.kind}
        payload |= {name: line for name, text in names.items() if (line := wording.one_line(text))}
    if is_plain:
        return {"payload": payload}
    links = wording.links(alert)
    content: dict[str, Any] = {"payload": payload | {"custom_details": _details(alert)}, "client": "Watchclock"}
    if links:
        content |= {"client_url": links[-1][1], "links": [{"href": url, "text": label} for label, url in links]}
    return content


def _details(alert: Alert) -> dict[str, str]:
    incident = wording.only(alert)
    details = {
        "reason": wording.reason(alert),
        "incidents": wording.listing(alert, LIST_LENGTH_MAX),
        "tags": wording.one_line(", ".join(incident.tags), 300) if incident else "",
        "log": wording.log(alert, LOG_LENGTH_MAX),
    }
    return {name: text for name, text in details.items() if text}
