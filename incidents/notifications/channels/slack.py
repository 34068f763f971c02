"""Slack through an incoming webhook, and the blocks that Slack's bot sends too (pure).

Limits: https://docs.slack.dev/reference/block-kit/blocks; errors of webhooks:
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from incidents.notifications.alert import Alert, IncidentFacts
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
    value,
)
from lib.texts import Text

KIND = "slack"
NAME = Text("Slack (incoming webhook)")
URL = Field(
    name="url",
    label=Text("Webhook address"),
    kind="url",
    is_secret=True,
    help=Text("As Slack shows it: https://hooks.slack.com/services/..."),
)
FIELDS: tuple[Field, ...] = (URL,)
CAN: frozenset[Capability] = frozenset()
HEADER_LENGTH_MAX = 150
SECTION_LENGTH_MAX = 3_000
URL_LENGTH_MAX = 3_000
TEXT_LENGTH_MAX = 3_000
"""Slack takes 40,000 characters; nobody reads them."""
SECTIONS_MAX = 10
_GONE = {b"user_not_found", b"invalid_token"}


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one message: a webhook can neither change a message nor reply to one."""
    del ref, now
    content = plain_message(alert) if is_plain else message(alert, target.timezone)
    return (post_json(value(target, URL), content, secrets=hidden(FIELDS, target)),)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: success is 200 with the body `ok`."""
    body = answer.body.strip()
    if answer.status == 200 and body != b"ok":
        return outcome(request, answer, SendResultKind.CONFIGURATION, why="This is not an answer of Slack:")
    if answer.status == 400 and body in _GONE:
        return outcome(request, answer, SendResultKind.CHANNEL_REFUSED)
    return outcome(request, answer)


# --- the message


def plain_message(alert: Alert) -> dict[str, Any]:
    """Return a message without markup."""
    return {"text": escape(wording.plain_text(alert, TEXT_LENGTH_MAX, escaped_length)), "mrkdwn": False}


def message(alert: Alert, timezone: str) -> dict[str, Any]:
    """Return a message with its blocks. `text` is what phones show."""
    return {"text": short_text(alert), "blocks": blocks(alert, timezone)}


def short_text(alert: Alert) -> str:
    """Return headline and reason in one line."""
    return escape(f"{wording.MARKS[wording.state(alert)]} {wording.summary(alert, 400)}")


def blocks(alert: Alert, timezone: str) -> list[dict[str, Any]]:
    """Return the blocks: headline, reason, list, links, facts, log."""
    mark = wording.MARKS[wording.state(alert)]
    title = f"{mark} {wording.title(alert, HEADER_LENGTH_MAX - 3)}"
    found: list[dict[str, Any]] = [{"type": "header", "text": _plain(title)}]
    if reason := wording.reason(alert, 2_000, escaped_length):
        found.append(_section(_marked(reason, alert.incidents)))
    found += map(_section, _list(alert))
    buttons = [_button(label, url) for label, url in wording.links(alert) if len(url) <= URL_LENGTH_MAX]
    if buttons:
        found.append({"type": "actions", "elements": buttons})
    if facts := wording.about(alert, timezone):
        found.append({"type": "context", "elements": [_plain(" · ".join(facts))]})
    if log := wording.log(alert, 2_000, escaped_length):
        found.append(_section(f"```{_code(log)}```"))
    return found


def escape(text: str) -> str:
    """Return a text in which Slack finds no mention, link or channel.

    >>> escape("<!channel> & <@U1>")
    '&lt;!channel&gt; &amp; &lt;@U1&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escaped_length(text: str) -> int:
    """Return how long a text is for Slack."""
    return wording.utf16(escape(text))


def _list(alert: Alert) -> list[str]:
    """Return the incidents of a digest as texts of sections, each as full as it may be."""
    lines = [_line(one, alert.language) for one in wording.listed(alert)]
    sections: list[str] = []
    while lines and len(sections) < SECTIONS_MAX:
        count = max(wording.fitting(lines, SECTION_LENGTH_MAX, "\n".join), 1)
        sections.append("\n".join(lines[:count]))
        del lines[:count]
    if more := wording.and_more(len(lines) + alert.omitted, alert.language):
        sections.append(more)
    return sections


def _line(incident: IncidentFacts, language: str) -> str:
    name = escape(wording.cut(wording.name(incident), 300, escaped_length))
    is_link = incident.url.startswith(("https://", "http://")) and not set("<>|").intersection(incident.url)
    shown = f"<{incident.url}|{name}>" if is_link and len(incident.url) < 500 else name
    said = wording.cut(wording.entry(incident, language), 600, escaped_length)
    return f"• {shown}: {_marked(said, [incident])}"


def _marked(text: str, incidents: Sequence[IncidentFacts]) -> str:
    return "".join(_piece(*piece) for piece in wording.code_spans(text, incidents))


def _piece(text: str, is_code: bool) -> str:
    return f"`{_code(text)}`" if is_code else escape(text)


def _code(text: str) -> str:
    return escape(text).replace("`", "\u02cb")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _button(label: str, url: str) -> dict[str, Any]:
    return {"type": "button", "text": _plain(label), "url": url}
