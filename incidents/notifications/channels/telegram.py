"""Telegram through a bot: one message that is changed, and replies to it (pure).

Source: https://core.telegram.org/bots/api#sendmessage
"""

import html
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

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

KIND = "telegram"
NAME = Text("Telegram")
TEXT_LENGTH_MAX = 4_096
"""In UTF-16 units, after entities are parsed."""
TOKEN = Field(
    name="token", label=Text("Bot token"), is_secret=True, help=Text("As BotFather shows it: 123456789:AA...")
)
CHAT = Field(
    name="chat_id",
    label=Text("Chat"),
    help=Text("The id of the chat, as -1001234567890, or @name of a public channel."),
)
THREAD = Field(
    name="thread_id", label=Text("Topic"), kind="number", is_required=False, help=Text("The id of a topic, if any.")
)
API_URL = Field(
    name="api_url",
    label=Text("Address of the API"),
    kind="url",
    is_required=False,
    default="https://api.telegram.org",
    help=Text("Only for a Bot API server of your own."),
)
FIELDS: tuple[Field, ...] = (TOKEN, CHAT, THREAD, API_URL)
CAN = frozenset({Capability.UPDATE, Capability.THREAD, Capability.ACKNOWLEDGE})
_UPDATED = frozenset({Event.ACKNOWLEDGED, Event.RESOLVED, Event.DIGEST, Event.STORM_OVER})
_REPLIED = frozenset({Event.REMINDER, Event.ESCALATED, Event.RESOLVED, Event.STORM_OVER})
_TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]+")
_CHAT = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]+")
_NO_CHAT = (
    "chat not found",
    "chat_id is empty",
    "peer_id_invalid",
    "topic_closed",
    "thread not found",
)


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    token, chat = values.get(TOKEN.name, "").strip(), values.get(CHAT.name, "").strip()
    if token and not _TOKEN.fullmatch(token):
        found[TOKEN.name] = Text("A bot token is a number, a colon, and letters, digits, - and _.")
    if chat and not _CHAT.fullmatch(chat):
        found[CHAT.name] = Text(
            "%(chat)s is neither the id of a chat, as -1001234567890, nor a name, as @alerts.", chat=repr(chat)
        )
    return found


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return a new message, or a change of the earlier one, or a reply to it, or both: a change notifies nobody."""
    del now
    if is_plain:
        return (_call("sendMessage", {"text": wording.plain_text(alert, TEXT_LENGTH_MAX)}, target),)
    if not ref.isdecimal() or alert.event not in _UPDATED | _REPLIED:
        return (_call("sendMessage", _message(alert, target.timezone), target),)
    found = []
    if alert.event in _UPDATED:
        content = {"message_id": int(ref), **_message(alert, target.timezone)}
        found.append(_call("editMessageText", content, target, is_follow_up=True))
    if alert.event in _REPLIED:
        found.append(_call("sendMessage", _reply(alert, ref), target, is_follow_up=True))
    return tuple(found)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means. The reference is the id of the message."""
    content = read_json(answer)
    said = str(content.get("description", "")).lower()
    found = content.get("parameters")
    parameters = found if isinstance(found, dict) else {}
    result = content.get("result")
    if answer.status == 200:
        if content.get("ok") is not True:
            return outcome(request, answer, SendResultKind.UNKNOWN)
        return outcome(request, answer, ref=str(result.get("message_id", "")) if isinstance(result, dict) else "")
    if answer.status == 400 and "message is not modified" in said:
        return outcome(request, answer, SendResultKind.DELIVERED)
    if answer.status == 400 and isinstance(chat := parameters.get("migrate_to_chat_id"), int):
        return outcome(request, answer, SendResultKind.TRANSIENT, replaces={CHAT.name: str(chat)})
    if answer.status == 400 and any(words in said for words in _NO_CHAT):
        return outcome(request, answer, SendResultKind.CHANNEL_REFUSED)
    wait = parameters.get("retry_after")
    seconds = timedelta(seconds=wait) if isinstance(wait, int) and 0 <= wait < 1_000_000 else None
    return outcome(request, answer, retry_after=seconds)


def _call(method: str, content: dict[str, Any], target: Target, *, is_follow_up: bool = False) -> Request:
    chat, thread = value(target, CHAT), value(target, THREAD)
    where: dict[str, Any] = {"chat_id": int(chat) if chat.removeprefix("-").isdecimal() else chat}
    if thread and method == "sendMessage":
        where["message_thread_id"] = int(thread)
    url = f"{value(target, API_URL).rstrip('/')}/bot{quote(value(target, TOKEN), safe=':')}/{method}"
    content = {**where, **content, "link_preview_options": {"is_disabled": True}}
    return post_json(url, content, secrets=hidden(FIELDS, target), is_follow_up=is_follow_up)


def _reply(alert: Alert, ref: str) -> dict[str, Any]:
    mark = wording.MARKS[wording.state(alert)]
    return {
        "text": f"{mark} {wording.summary(alert, 500)}",
        "reply_parameters": {"message_id": int(ref), "allow_sending_without_reply": True},
    }


def _message(alert: Alert, timezone: str) -> dict[str, Any]:
    content: dict[str, Any] = {"text": _text(alert, timezone), "parse_mode": "HTML"}
    if buttons := [{"text": label, "url": url} for label, url in wording.links(alert)]:
        content["reply_markup"] = {"inline_keyboard": [buttons]}
    return content


def _text(alert: Alert, timezone: str) -> str:
    """Return the text: its fields are cut before they are escaped, and sum up to less than the limit."""
    reason = wording.reason(alert, 1_200)
    listing = wording.listing(alert, 2_200)
    log = wording.log(alert, 1_500)
    parts = [
        f"{wording.MARKS[wording.state(alert)]} <b>{escape(wording.title(alert, 200))}</b>",
        "".join(_piece(*piece) for piece in wording.code_spans(reason, alert.incidents)),
        escape(listing),
        escape(wording.cut(" · ".join(wording.about(alert, timezone)), 400)),
        f"<pre>{escape(log)}</pre>" if log else "",
    ]
    return "\n".join(part for part in parts if part)


def _piece(text: str, is_code: bool) -> str:
    return f"<code>{escape(text)}</code>" if is_code else escape(text)


def escape(text: str) -> str:
    """Return a text in which Telegram finds no tag."""
    return html.escape(text, quote=False)
