"""Ntfy: messages to phones, on ntfy.sh or a server of one's own (pure).

Source: https://docs.ntfy.sh/publish/#publish-as-json
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

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

KIND = "ntfy"
NAME = Text("ntfy")
MESSAGE_BYTES_MAX = 4_000
"""ntfy makes an attachment of a message that is longer than 4,096 bytes."""
TITLE_BYTES_MAX = 250
TOPIC = Field(name="topic", label=Text("Topic"), is_secret=True, help=Text("Whoever knows the topic can read it."))
TOKEN = Field(
    name="token", label=Text("Access token"), is_secret=True, is_required=False, help=Text("Begins with tk_.")
)
SERVER = Field(
    name="server",
    label=Text("Server"),
    kind="url",
    is_required=False,
    default="https://ntfy.sh",
    help=Text("Your own server."),
)
FIELDS: tuple[Field, ...] = (TOPIC, TOKEN, SERVER)
CAN = frozenset({Capability.UPDATE, Capability.DEDUP, Capability.PRIORITY})
_PRIORITIES = {Severity.CRITICAL: 5, Severity.ERROR: 4, Severity.WARNING: 3, Severity.INFO: 2}
_CALM = 2
_TAGS = {
    wording.State.FAILING: "red_circle",
    wording.State.ACKNOWLEDGED: "yellow_circle",
    wording.State.OVER: "green_circle",
    wording.State.NOTE: "large_blue_circle",
}
_TOPIC_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    topic = values.get(TOPIC.name, "").strip()
    if topic and not (_TOPIC_CHARACTERS.issuperset(topic) and len(topic) <= 64):
        found[TOPIC.name] = Text("A topic has at most 64 letters, digits, - and _.")
    return found


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one message. With the group as its sequence, ntfy 2.16 and newer replace the earlier one."""
    del ref, now
    state = wording.state(alert)
    is_calm = state in {wording.State.OVER, wording.State.ACKNOWLEDGED}
    content: dict[str, Any] = {
        "topic": value(target, TOPIC),
        "title": wording.title(alert, TITLE_BYTES_MAX, wording.octets),
        "message": _message(alert, is_plain=is_plain),
        "priority": _CALM if is_calm else _PRIORITIES[wording.severity(alert)],
    }
    if not is_plain:
        content["tags"] = [_TAGS[state]]
        if links := wording.links(alert):
            content["click"] = links[-1][1]
            content["actions"] = [{"action": "view", "label": label, "url": url} for label, url in links]
        if alert.event not in {Event.CLOCK, Event.TEST}:
            content["sequence_id"] = str(alert.group)
    token = value(target, TOKEN)
    return (
        post_json(
            f"{value(target, SERVER).rstrip('/')}/",
            content,
            secrets=hidden(FIELDS, target),
            headers={"authorization": f"Bearer {token}"} if token else {},
        ),
    )


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means. The reference is the id of the message."""
    content = read_json(answer)
    if answer.status == 200 and "id" not in content:
        return outcome(request, answer, SendResultKind.CONFIGURATION, why="This is not an answer of ntfy:")
    return outcome(request, answer, ref=str(content.get("id", "")))


def _message(alert: Alert, *, is_plain: bool) -> str:
    """Return the text without headline and links, which ntfy shows itself; never empty."""
    if is_plain:
        return wording.summary(alert, 1_000, wording.octets)
    parts = [
        wording.reason(alert, 1_500, wording.octets),
        wording.listing(alert, 3_000 if not alert.reason else 2_200, wording.octets),
        wording.log(alert, 1_500, wording.octets),
    ]
    return wording.cut("\n\n".join(part for part in parts if part), MESSAGE_BYTES_MAX, wording.octets) or "-"
