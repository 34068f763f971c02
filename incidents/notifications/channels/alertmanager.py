"""Prometheus's Alertmanager through its API v2 (pure).

Alertmanager knows an alert by its labels, so they stay the same while it is open; what changes is in annotations. It
resolves an alert whose `endsAt` has passed: an open one is sent again every minute (`REPEAT_EVERY`), beside the outbox.
Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
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

KIND = "alertmanager"
NAME = Text("Alertmanager")
REPEAT_EVERY = timedelta(minutes=1)
HOLD = 5 * REPEAT_EVERY
"""How long an alert stays open after it was last sent."""
LABEL_LENGTH_MAX = 200
TEXT_LENGTH_MAX = 10_000
ALERTS_PER_REQUEST = 100
URL = Field(
    name="url", label=Text("Address"), kind="url", help=Text("Without a path of the API, as http://alertmanager:9093.")
)
TOKEN = Field(
    name="token",
    label=Text("Bearer token"),
    is_secret=True,
    is_required=False,
    help=Text("If a proxy in front asks for one."),
)
FIELDS: tuple[Field, ...] = (URL, TOKEN)
CAN = frozenset({Capability.UPDATE, Capability.DEDUP, Capability.KEEP_ALIVE, Capability.KEEPS_ALERTS})
_OPENS = frozenset({Event.OPENED, Event.REMINDER, Event.ESCALATED, Event.ACKNOWLEDGED, Event.DIGEST, Event.CLOCK})
_STORMS = frozenset({Event.DIGEST, Event.STORM_OVER})
_ENDS = frozenset({Event.RESOLVED, Event.STORM_OVER})


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one alert, open until `HOLD` after `now` or ended. A test ends a minute after `now`."""
    del ref
    content = _content(alert, now, is_plain=is_plain)
    return () if content is None else (_post([content], target),)


def keep_alive(alerts: Iterable[Alert], target: Target, *, now: datetime) -> tuple[Request, ...]:
    """Return requests that send these alerts again, as they are at `now`, many in one request."""
    contents = [content for alert in alerts if (content := _content(alert, now)) is not None]
    parts = range(0, len(contents), ALERTS_PER_REQUEST)
    return tuple(_post(contents[first : first + ALERTS_PER_REQUEST], target) for first in parts)


def is_end(alert: Alert) -> bool:
    """Return whether an alert says that something is over."""
    return alert.event in _ENDS


def _content(alert: Alert, now: datetime, *, is_plain: bool = False) -> dict[str, Any] | None:
    """Return an alert as the API accepts it; None if there is nothing to send."""
    if alert.event in _ENDS:
        ends_at = max((one.resolved_at or alert.at for one in alert.incidents), default=alert.at)
    elif alert.event is Event.TEST:
        ends_at = now + REPEAT_EVERY
    elif alert.event in _OPENS and wording.state(alert) is not wording.State.OVER:
        ends_at = now + HOLD
    else:
        return None
    starts_at = min((one.opened_at for one in alert.incidents), default=alert.at)
    content: dict[str, Any] = {
        "labels": _labels(alert),
        "annotations": _annotations(alert, is_plain=is_plain),
        "startsAt": wording.iso(min(starts_at, ends_at)),
        "endsAt": wording.iso(ends_at),
    }
    if links := wording.links(alert):
        content["generatorURL"] = links[-1][1]
    return content


def _post(contents: list[dict[str, Any]], target: Target) -> Request:
    token = value(target, TOKEN)
    return post_json(
        f"{value(target, URL).rstrip('/')}/api/v2/alerts",
        contents,
        secrets=hidden(FIELDS, target),
        headers={"authorization": f"Bearer {token}"} if token else {},
    )


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: by its status alone."""
    return outcome(request, answer)


def _labels(alert: Alert) -> dict[str, str]:
    incident = wording.only(alert)
    group = str(alert.group)
    # A storm keeps its labels also when one incident is left of it.
    if incident is None or alert.event in wording.NEWS | _STORMS:
        names = {Event.CLOCK: "WatchclockClock", Event.TEST: "WatchclockTest"}
        return {"alertname": names.get(alert.event, "WatchclockStorm"), "group": group}
    labels = {
        "alertname": "WatchclockIncident",
        "project": wording.one_line(incident.project, LABEL_LENGTH_MAX),
        "monitor": wording.one_line(incident.slug, LABEL_LENGTH_MAX),
        "environment": wording.one_line(incident.environment, LABEL_LENGTH_MAX),
        "incident": group,
    }
    return {label: text for label, text in labels.items() if text}


def _annotations(alert: Alert, *, is_plain: bool) -> dict[str, str]:
    incident = wording.only(alert)
    annotations = {"severity": wording.severity(alert).value, "summary": wording.summary(alert, 1_000)}
    if not is_plain:
        annotations |= {
            "description": wording.plain_text(alert, TEXT_LENGTH_MAX, with_title=False),
            "acknowledged_by": wording.one_line(incident.acknowledged_by) if incident else "",
            "tags": wording.one_line(", ".join(incident.tags), LABEL_LENGTH_MAX) if incident else "",
        }
    return {name: text for name, text in annotations.items() if text}
