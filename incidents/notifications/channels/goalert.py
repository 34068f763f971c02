"""GoAlert through its generic API (pure).

Source: https://github.com/target/goalert/blob/master/genericapi/handler.go
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels import wording
from incidents.notifications.channels.base import (
    JSON,
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
    read_json,
    value,
)
from lib.texts import Text

KIND = "goalert"
NAME = Text("GoAlert")
SUMMARY_LENGTH_MAX = 1_024
DETAILS_LENGTH_MAX = 6_144
URL = Field(
    name="url",
    label=Text("Address of the integration key"),
    kind="url",
    is_secret=True,
    help=Text("Of a generic API key: https://goalert.example.com/api/v2/generic/incoming?token=..."),
)
FIELDS: tuple[Field, ...] = (URL,)
CAN = frozenset({Capability.UPDATE, Capability.DEDUP, Capability.KEEPS_ALERTS})
_ACTIONS: Mapping[Event, tuple[str, ...]] = {
    Event.OPENED: ("open",),
    Event.ESCALATED: ("open",),
    Event.DIGEST: ("open",),
    Event.CLOCK: ("open",),
    Event.RESOLVED: ("close",),
    Event.STORM_OVER: ("close",),
    Event.TEST: ("open", "close"),
}
"""The API knows no acknowledgement, and GoAlert reminds and escalates itself."""


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return what opens or closes the alert that is known by the group. A test is closed at once."""
    del ref, now
    if alert.event is Event.DIGEST and wording.state(alert) is wording.State.OVER:
        return ()
    return tuple(_call(action, alert, target, is_plain=is_plain) for action in _ACTIONS.get(alert.event, ()))


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: 200 with the id of the alert, or 204."""
    number = read_json(answer).get("AlertID", "")
    return outcome(request, answer, ref=str(number))


def _call(action: str, alert: Alert, target: Target, *, is_plain: bool) -> Request:
    content: dict[str, Any] = {
        "summary": wording.summary(alert, SUMMARY_LENGTH_MAX),
        "details": wording.plain_text(alert, 1_000 if is_plain else DETAILS_LENGTH_MAX, with_title=False),
        "dedup": str(alert.group),
    }
    if action == "close":
        content["action"] = "close"
    return post_json(
        value(target, URL),
        content,
        secrets=hidden(FIELDS, target),
        headers={"accept": JSON},
        is_follow_up=action == "close",
    )
