"""Acknowledgements that come back from services: whether a request is genuine, and what it says (pure).

Each service signs in its own way; Opsgenie and Jira Service Management do not sign, so a token stands in the address.
Sources: https://developer.pagerduty.com/docs/verifying-webhook-signatures,
https://docs.slack.dev/authentication/verifying-requests-from-slack,
https://support.atlassian.com/opsgenie/docs/integrate-opsgenie-with-webhook/
"""

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from uuid import UUID

import msgspec

from incidents.exceptions import IncidentsError
from incidents.notifications.channels import opsgenie, pagerduty, slack_bot
from incidents.notifications.channels.base import Field
from incidents.notifications.channels.wording import one_line

BODY_BYTES_MAX = 256 * 1024
TOLERANCE = timedelta(minutes=5)
"""How old a signed request may be where the instant is signed."""
NAME_LENGTH_MAX = 100


class CallbackRefusedError(IncidentsError):
    """A request that does not come from the service, or that cannot be read."""


class Call(NamedTuple):
    """A request of a service. The names of its headers are in lower case; `token` is the end of its address."""

    headers: Mapping[str, str]
    body: bytes
    token: str = ""


class Acknowledged(NamedTuple):
    """Somebody acknowledged what is known by this key: an incident's guid, or a storm's."""

    key: UUID
    by: str


class Callback(NamedTuple):
    """How a kind of channel calls back. `secret` is the setting without which it cannot.

    `knows`: it need not be notified. `has_token`: the secret is the end of the address.
    """

    secret: Field
    read: Callable[[Call, str, datetime], Acknowledged | None]
    knows: bool = True
    has_token: bool = False


def read(kind: str, call: Call, secret: str, *, now: datetime) -> Acknowledged | None:
    """Return what a request of a service says; None if that is nothing to act on.

    Raises CallbackRefusedError for one that is not genuine. Without a secret none is.
    """
    if not secret or len(call.body) > BODY_BYTES_MAX:
        raise CallbackRefusedError("this request is not from the service")
    return CALLBACKS[kind].read(call, secret, now)


def _read_pagerduty(call: Call, secret: str, now: datetime) -> Acknowledged | None:
    del now
    wanted = f"v1={_digest(secret, call.body)}"
    given = call.headers.get("x-pagerduty-signature", "").split(",")
    _require(any(_equal(one.strip(), wanted) for one in given[:10]))
    event = _member(_object(call.body), "event")
    data = _member(event, "data")
    if event.get("event_type") != "incident.acknowledged":
        return None
    return _received(data.get("incident_key"), _member(event, "agent").get("summary"), "somebody in PagerDuty")


def _read_opsgenie(call: Call, secret: str, now: datetime) -> Acknowledged | None:
    del now
    _require(_equal(call.token, secret))
    content = _object(call.body)
    alert = _member(content, "alert")
    if content.get("action") != "Acknowledge":
        return None
    return _received(alert.get("alias"), alert.get("username"), "somebody in Jira Service Management")


def _read_slack(call: Call, secret: str, now: datetime) -> Acknowledged | None:
    at = call.headers.get("x-slack-request-timestamp", "")
    wanted = f"v0={_digest(secret, b'v0:' + at.encode() + b':' + call.body)}"
    _require(_equal(call.headers.get("x-slack-signature", ""), wanted))
    _require(at.isdecimal() and len(at) <= 12 and abs(now.timestamp() - int(at)) <= TOLERANCE.total_seconds())
    content = _object(parse_qs(call.body.decode("utf-8", "replace")).get("payload", [""])[0].encode())
    user = _member(content, "user")
    actions = content.get("actions")
    for action in actions if isinstance(actions, list) else ():
        if isinstance(action, dict) and action.get("action_id") == slack_bot.ACKNOWLEDGE:
            return _received(action.get("value"), user.get("name") or user.get("username"), "somebody in Slack")
    return None


CALLBACKS: Mapping[str, Callback] = {
    pagerduty.KIND: Callback(pagerduty.SIGNING_SECRET, _read_pagerduty),
    opsgenie.KIND: Callback(opsgenie.CALLBACK_TOKEN, _read_opsgenie, has_token=True),
    # The message changes only if it is notified.
    slack_bot.KIND: Callback(slack_bot.SIGNING_SECRET, _read_slack, knows=False),
}
"""By kind of channel. Others cannot call back: their alerts have a link."""


def _digest(secret: str, content: bytes) -> str:
    return hmac.digest(secret.encode(), content, "sha256").hex()


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _require(is_genuine: bool) -> None:
    if not is_genuine:
        raise CallbackRefusedError("this request is not from the service")


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise CallbackRefusedError("this request has no JSON object")
    return content


def _member(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _received(key: object, name: object, nobody: str) -> Acknowledged | None:
    """Return who acknowledged what; None for an alert that is not ours."""
    try:
        guid = UUID(str(key))
    except ValueError:
        return None
    return Acknowledged(guid, (one_line(name, NAME_LENGTH_MAX) if isinstance(name, str) else "") or nobody)
