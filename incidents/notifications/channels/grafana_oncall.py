"""Grafana IRM and OnCall through a formatted webhook (pure).

Source: https://grafana.com/docs/oncall/latest/configure/integrations/references/webhook/
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
    Target,
    field_problems,
    hidden,
    outcome,
    post_json,
    value,
)
from lib.texts import Text

KIND = "grafana_oncall"
NAME = Text("Grafana IRM / OnCall")
TITLE_LENGTH_MAX = 200
MESSAGE_LENGTH_MAX = 10_000
URL = Field(
    name="url",
    label=Text("Integration address"),
    kind="url",
    is_secret=True,
    help=Text("Of an integration Formatted webhook: https://.../integrations/v1/formatted_webhook/..."),
)
FIELDS: tuple[Field, ...] = (URL,)
CAN = frozenset({Capability.UPDATE, Capability.DEDUP, Capability.KEEPS_ALERTS})
_STATES: Mapping[Event, tuple[str, ...]] = {
    Event.OPENED: ("alerting",),
    Event.ESCALATED: ("alerting",),
    Event.DIGEST: ("alerting",),
    Event.CLOCK: ("alerting",),
    Event.RESOLVED: ("ok",),
    Event.STORM_OVER: ("ok",),
    Event.TEST: ("alerting", "ok"),
}
"""The webhook knows no acknowledgement, and Grafana reminds and escalates itself."""


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return what opens or ends the alert group that is known by the group. A test is ended at once."""
    del ref, now
    if alert.event is Event.DIGEST and wording.state(alert) is wording.State.OVER:
        return ()
    return tuple(_call(state, alert, target, is_plain=is_plain) for state in _STATES.get(alert.event, ()))


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: by its status alone."""
    return outcome(request, answer)


def _call(state: str, alert: Alert, target: Target, *, is_plain: bool) -> Request:
    content: dict[str, Any] = {
        "alert_uid": str(alert.group),
        "title": wording.title(alert, TITLE_LENGTH_MAX),
        "state": state,
        "message": wording.plain_text(alert, 1_000 if is_plain else MESSAGE_LENGTH_MAX, with_title=False),
    }
    if links := wording.links(alert):
        content["link_to_upstream_details"] = links[-1][1]
    return post_json(value(target, URL), content, secrets=hidden(FIELDS, target), is_follow_up=state == "ok")
