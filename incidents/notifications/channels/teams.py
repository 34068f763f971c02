"""Microsoft Teams through a workflow that posts adaptive cards (pure).

Texts are in `TextRun`s, which know no Markdown, so no name can become a link, a heading or bold. Source:
https://adaptivecards.io/explorer/RichTextBlock.html
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from incidents.notifications.alert import Alert
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
from lib.encoding import to_json
from lib.texts import Text

KIND = "teams"
NAME = Text("Microsoft Teams (workflow)")
CARD_BYTES_MAX = 24_000
"""Teams takes 28 KB; it may wrap the card in more."""
TITLE_LENGTH_MAX = 200
LOG_LENGTH_MAX = 3_000
URL = Field(
    name="url",
    label=Text("Workflow address"),
    kind="url",
    is_secret=True,
    help=Text("Of a workflow that begins with *When a Teams webhook request is received*."),
)
FIELDS: tuple[Field, ...] = (URL,)
CAN: frozenset[Capability] = frozenset()
_COLOURS = {
    wording.State.FAILING: "Attention",
    wording.State.ACKNOWLEDGED: "Warning",
    wording.State.OVER: "Good",
    wording.State.NOTE: "Accent",
}
_CONNECTORS = ("webhook.office.com", "outlook.office.com", "outlook.office365.com")
_ORPHANED = "The workflow takes no more messages. It may have been deleted, or its owner may have left:"


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field. Addresses of Office 365 connectors are refused."""
    found = field_problems(FIELDS, values)
    if URL.name not in found and _is_connector(values[URL.name].strip()):
        found[URL.name] = Text(
            "This is the address of an Office 365 connector, which Microsoft retires. Create a workflow that begins "
            "with When a Teams webhook request is received, and enter its address."
        )
    return found


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one card: a workflow can neither change a message nor reply to one."""
    del ref, now
    card = _plain_card(alert) if is_plain else _card(alert, target.timezone)
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.2",
            "msteams": {"width": "full"},
            "fallbackText": wording.summary(alert, 500),
            **card,
        },
    }
    content = {"type": "message", "attachments": [attachment]}
    return (post_json(value(target, URL), content, secrets=hidden(FIELDS, target)),)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: 202 means that the workflow was started, not that a card appeared."""
    if answer.status == 200 and b"returned HTTP error" in answer.body:  # a connector's way to refuse
        is_limit = b"HTTP error 429" in answer.body
        kind = SendResultKind.TRANSIENT if is_limit else SendResultKind.MESSAGE_REFUSED
        return outcome(request, answer, kind, slows=is_limit)
    return outcome(request, answer, why=_ORPHANED if answer.status in {401, 403, 404, 410} else "")


def _is_connector(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == one or host.endswith(f".{one}") for one in _CONNECTORS)


def _plain_card(alert: Alert) -> dict[str, Any]:
    lines = wording.plain_text(alert, 2_000).splitlines()
    return {"body": [_text(line) for line in lines if line]}


def _card(alert: Alert, timezone: str) -> dict[str, Any]:
    colour = _COLOURS[wording.state(alert)]
    body = [_text(wording.title(alert, TITLE_LENGTH_MAX), weight="Bolder", size="Medium", color=colour)]
    body += [_text(line) for line in wording.reason(alert).splitlines()]
    facts = wording.about(alert, timezone)
    end = [_text(" · ".join(facts), isSubtle=True)] if facts else []
    log = wording.log(alert, LOG_LENGTH_MAX)
    end += [_text(line, fontType="Monospace", size="Small") for line in log.splitlines() if line]
    actions = [{"type": "Action.OpenUrl", "title": label, "url": url} for label, url in wording.links(alert)]
    incidents = [_entry(wording.name(one), wording.entry(one, alert.language)) for one in wording.listed(alert)]

    def card(count: int) -> dict[str, Any]:
        more = wording.and_more(len(incidents) - count + alert.omitted, alert.language)
        return {"body": [*body, *incidents[:count], *([_text(more)] if more else []), *end], "actions": actions}

    count = wording.fitting(incidents, CARD_BYTES_MAX, lambda part: to_json(card(len(part))).decode(), wording.octets)
    return card(count)


def _text(text: str, **look: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **look}]}


def _entry(name: str, text: str) -> dict[str, Any]:
    inlines = [{"type": "TextRun", "text": name, "weight": "Bolder"}, {"type": "TextRun", "text": f": {text}"}]
    return {"type": "RichTextBlock", "inlines": inlines}
