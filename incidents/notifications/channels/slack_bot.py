"""Slack through a bot: one message that is changed, and replies in its thread (pure).

Source: https://docs.slack.dev/reference/methods/chat.postMessage and chat.update
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels import slack, wording
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

KIND = "slack_bot"
NAME = Text("Slack (bot)")
TOKEN = Field(
    name="token",
    label=Text("Bot token"),
    is_secret=True,
    help=Text("Begins with xoxb-. The app needs the scope chat:write and must be in the channel."),
)
CHANNEL = Field(
    name="channel", label=Text("Channel"), help=Text("Its id, as C024BE91L: it stays when the channel is renamed.")
)
API_URL = Field(
    name="api_url",
    label=Text("Address of the API"),
    kind="url",
    is_required=False,
    default="https://slack.com/api",
    help=Text("Only for other clouds of Slack, as https://slack-gov.com/api."),
)
SIGNING_SECRET = Field(
    name="signing_secret",
    label=Text("Signing secret of the app"),
    is_secret=True,
    is_sent=False,
    is_required=False,
    help=Text(
        "With it, and the address that this page shows as the app's Request URL, the button acknowledges at once."
    ),
)
FIELDS: tuple[Field, ...] = (TOKEN, CHANNEL, API_URL, SIGNING_SECRET)
ACKNOWLEDGE = "acknowledge"
"""The id of the button that acknowledges."""
CAN = frozenset({Capability.UPDATE, Capability.THREAD, Capability.ACKNOWLEDGE, Capability.CALLBACK})
_CHANNEL = frozenset(
    {
        "access_denied",
        "account_inactive",
        "channel_is_archived",
        "channel_not_found",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "is_archived",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "not_in_channel",
        "org_login_required",
        "restricted_action",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
_TRANSIENT = frozenset({"ratelimited", "rate_limited", "service_unavailable", "request_timeout"})
_HALF_DONE = frozenset({"internal_error", "fatal_error"})
_UPDATED = frozenset({Event.ACKNOWLEDGED, Event.RESOLVED, Event.DIGEST, Event.STORM_OVER})
_REPLIED = frozenset({Event.REMINDER, Event.ESCALATED, Event.RESOLVED, Event.STORM_OVER})
_BROADCAST = frozenset({Event.ESCALATED})


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    return field_problems(FIELDS, values)


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return a new message, or a change of the earlier one, or a reply to it, or both: a change notifies nobody."""
    del now
    channel, _, ts = ref.partition(":")
    if is_plain:
        return (_call("chat.postMessage", _new(target) | slack.plain_message(alert), target),)
    if not ts or alert.event not in _UPDATED | _REPLIED:
        return (_call("chat.postMessage", _new(target) | _message(alert, target), target),)
    calls = []
    if alert.event in _UPDATED:
        content = {"channel": channel, "ts": ts} | _message(alert, target)
        calls.append(_call("chat.update", content, target, is_follow_up=True))
    if alert.event in _REPLIED:
        reply: dict[str, Any] = {"channel": channel, "thread_ts": ts, "text": slack.short_text(alert)}
        if alert.event in _BROADCAST:
            reply["reply_broadcast"] = True
        calls.append(_call("chat.postMessage", reply, target, is_follow_up=True))
    return tuple(calls)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: an error is a 200 with `ok: false`. The reference is `channel:ts`."""
    if answer.status != 200:
        return outcome(request, answer)
    content = read_json(answer)
    error = str(content.get("error", ""))
    if content.get("ok") is True:
        return outcome(request, answer, ref=f"{content.get('channel', '')}:{content.get('ts', '')}")
    if error in _CHANNEL:
        return outcome(request, answer, SendResultKind.CHANNEL_REFUSED)
    if error in _TRANSIENT:
        return outcome(request, answer, SendResultKind.TRANSIENT, slows="limited" in error)
    if error in _HALF_DONE or not error:
        return outcome(request, answer, SendResultKind.UNKNOWN)
    # The blocks, or an earlier message that is gone: the plain form is a new message.
    return outcome(request, answer, SendResultKind.MESSAGE_REFUSED)


def _message(alert: Alert, target: Target) -> dict[str, Any]:
    """Return a message. If clicks come back, the button that acknowledges is no link: nobody has to leave Slack."""
    content = slack.message(alert, target.timezone)
    incident = wording.only(alert)
    if incident is None or not incident.acknowledge_url or not value(target, SIGNING_SECRET):
        return content
    for block in content["blocks"]:
        for element in block["elements"] if block["type"] == "actions" else ():
            if element.get("url") == incident.acknowledge_url:
                del element["url"]
                element |= {"action_id": ACKNOWLEDGE, "value": str(incident.guid)}
    return content


def _new(target: Target) -> dict[str, Any]:
    return {"channel": value(target, CHANNEL), "unfurl_links": False}


def _call(method: str, content: dict[str, Any], target: Target, *, is_follow_up: bool = False) -> Request:
    return post_json(
        f"{value(target, API_URL).rstrip('/')}/{method}",
        content,
        secrets=hidden(FIELDS, target),
        headers={
            "content-type": "application/json; charset=utf-8",
            "authorization": f"Bearer {value(target, TOKEN)}",
        },
        is_follow_up=is_follow_up,
    )
