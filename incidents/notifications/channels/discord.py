"""Discord through a webhook: one message that is changed, and short new ones that are noticed (pure).

Source: https://discord.com/developers/docs/resources/webhook
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from incidents.notifications.alert import Alert, Event, IncidentFacts
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

KIND = "discord"
NAME = Text("Discord")
CONTENT_LENGTH_MAX = 2_000
TITLE_LENGTH_MAX = 256
DESCRIPTION_LENGTH_MAX = 4_096
FOOTER_LENGTH_MAX = 2_048
URL = Field(
    name="url",
    label=Text("Webhook address"),
    kind="url",
    is_secret=True,
    help=Text("As Discord copies it: https://discord.com/api/webhooks/..."),
)
THREAD = Field(
    name="thread_id", label=Text("Thread"), kind="number", is_required=False, help=Text("The id of a thread, if any.")
)
FIELDS: tuple[Field, ...] = (URL, THREAD)
CAN = frozenset({Capability.UPDATE, Capability.ACKNOWLEDGE})
_COLOURS = {
    wording.State.FAILING: 10_038_562,
    wording.State.ACKNOWLEDGED: 15_844_367,
    wording.State.OVER: 3_066_993,
    wording.State.NOTE: 3_447_003,
}
_UPDATED = frozenset({Event.ACKNOWLEDGED, Event.RESOLVED, Event.DIGEST, Event.STORM_OVER})
_NOTICED = frozenset({Event.REMINDER, Event.ESCALATED, Event.RESOLVED, Event.STORM_OVER})
_MARKUP = re.compile(r"([\\*_~`|<>\[\]]|^(?=[#-]))", re.MULTILINE)
"""Marks, and the beginnings of headings and lists."""
_UNKNOWN_MESSAGE = 10_008


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return a new message, or a change of the earlier one, or a short new one, or both: a change notifies nobody."""
    del now
    if is_plain:
        return (_post({"content": escape(wording.plain_text(alert, CONTENT_LENGTH_MAX, _length))}, target),)
    if not ref or alert.event not in _UPDATED | _NOTICED:
        return (_post({"embeds": [_embed(alert, target)]}, target),)
    found = []
    if alert.event in _UPDATED:
        found.append(_change(ref, {"embeds": [_embed(alert, target)]}, target))
    if alert.event in _NOTICED:
        mark = wording.MARKS[wording.state(alert)]
        text = f"{mark} {escape(wording.summary(alert, 500, _length))}"
        found.append(_post({"content": text}, target, is_follow_up=True))
    return tuple(found)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means. The reference is the id of the message."""
    content = read_json(answer)
    if answer.status == 404 and content.get("code") == _UNKNOWN_MESSAGE:
        # The message was deleted: the plain form is a new one.
        return outcome(request, answer, SendResultKind.MESSAGE_REFUSED)
    wait = content.get("retry_after")
    seconds = timedelta(seconds=wait) if isinstance(wait, int | float) and 0 <= wait < 1e6 else None
    return outcome(request, answer, ref=str(content.get("id", "")), retry_after=seconds)


def escape(text: str) -> str:
    r"""Return a text that Discord shows as it stands.

    >>> escape("*/5 * * * * <@everyone>")
    '\\*/5 \\* \\* \\* \\* \\<@everyone\\>'
    """
    return _MARKUP.sub(r"\\\1", text)


def _length(text: str) -> int:
    return wording.utf16(escape(text))


def _post(content: dict[str, Any], target: Target, *, is_follow_up: bool = False) -> Request:
    return _call("POST", "", {"wait": "true"}, {"username": "Watchclock", **content}, target, is_follow_up=is_follow_up)


def _change(ref: str, content: dict[str, Any], target: Target) -> Request:
    return _call("PATCH", f"/messages/{quote(ref, safe='')}", {}, content, target, is_follow_up=True)


def _call(
    method: str, path: str, query: dict[str, str], content: dict[str, Any], target: Target, *, is_follow_up: bool
) -> Request:
    url, _, given = value(target, URL).partition("?")
    if thread := value(target, THREAD):
        query = {**query, "thread_id": thread}
    parameters = "&".join(filter(None, (given, urlencode(query))))
    return post_json(
        f"{url.rstrip('/')}{path}" + (f"?{parameters}" if parameters else ""),
        {**content, "allowed_mentions": {"parse": []}},
        secrets=hidden(FIELDS, target),
        is_follow_up=is_follow_up,
        method=method,
    )


def _embed(alert: Alert, target: Target) -> dict[str, Any]:
    state = wording.state(alert)
    links = [(label, url.replace("(", "%28").replace(")", "%29")) for label, url in wording.links(alert)]
    embed: dict[str, Any] = {
        "title": escape(wording.title(alert, TITLE_LENGTH_MAX, _length)),
        "description": _description(alert, links),
        "color": _COLOURS[state],
        "timestamp": wording.iso(alert.at),
    }
    if links and len(links[-1][1]) <= 2_000:
        embed["url"] = links[-1][1]
    if facts := wording.about(alert, target.timezone):
        embed["footer"] = {"text": wording.cut(" · ".join(facts), FOOTER_LENGTH_MAX // 2)}
    return embed


def _description(alert: Alert, links: list[tuple[str, str]]) -> str:
    parts = [escape(wording.reason(alert, 1_500, _length))]
    parts.append(" · ".join(f"[{label}]({url})" for label, url in links if len(url) <= 500))
    room = DESCRIPTION_LENGTH_MAX - sum(map(wording.utf16, parts)) - 20
    parts.append(wording.listing(alert, room, line=_line))
    if log := wording.log(alert, 1_500):
        parts.append("```\n" + log.replace("`", "\u02cb") + "\n```")
    return "\n\n".join(part for part in parts if part) or "."


def _line(incident: IncidentFacts, language: str) -> str:
    return f"• **{escape(wording.name(incident))}**: {escape(wording.entry(incident, language))}"
