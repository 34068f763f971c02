"""What all channels have in common: fields, targets, requests, and what an answer means (pure).

A channel is a module beside this one (`Sender`). It turns an alert into requests and reads the answers; it opens no
connection itself (`incidents.notifications.exchange` does).
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from incidents.notifications.alert import Alert
from incidents.notifications.channels.redaction import redact
from lib.encoding import to_json
from lib.texts import Text

ANSWER_BYTES_MAX = 4096
EXCERPT_LENGTH_MAX = 500
RETRY_AFTER_MAX = timedelta(hours=1)
JSON = "application/json"


class Capability(StrEnum):
    """What a channel can do besides notifying."""

    UPDATE = "update"
    """The first message is changed when the incident changes."""
    THREAD = "thread"
    """Later messages are replies to the first."""
    DEDUP = "dedup"
    """A repeated message has one effect."""
    ACKNOWLEDGE = "acknowledge"
    """An acknowledgement here is shown there."""
    PRIORITY = "priority"
    """The severity changes how loud it is."""
    CALLBACK = "callback"
    """An acknowledgement there comes back."""
    KEEPS_ALERTS = "keeps_alerts"
    """What is sent stays open there until its end is sent, however many of it there are: a pager.
    It also reminds people by itself."""
    KEEP_ALIVE = "keep_alive"
    """It forgets an open incident that is not sent again (`alertmanager.REPEAT_EVERY`)."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A setting of a channel. `kind` is url, text, choice, email or number; `default` stands for an empty value.

    `is_sent`: a secret that is sent to the server. A key that only signs, or that checks what comes back, is not.
    """

    name: str
    label: str
    is_secret: bool = False
    is_sent: bool = True
    kind: str = "text"
    is_required: bool = True
    choices: tuple[str, ...] = ()
    help: str = ""
    default: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to notify: a configured channel, with its settings and secrets. Its repr shows no value."""

    guid: UUID
    kind: str
    values: Mapping[str, str]
    timezone: str = "UTC"
    language: str = "en"

    def __repr__(self) -> str:
        return f"Target(guid={self.guid!r}, kind={self.kind!r}, values=<{len(self.values)} hidden>)"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. Its repr shows neither path, query, headers nor body.

    `secrets` are the secret values of the target, which no excerpt may contain. `is_follow_up`: it changes or continues
    an earlier message, so its answer has no new reference.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[str, ...] = ()
    is_follow_up: bool = False

    def __repr__(self) -> str:
        return f"Request({self.method} {host_of(self.url)}, {len(self.body)} bytes)"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request. The names of its headers are in lower case; the body is cut at `ANSWER_BYTES_MAX`."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class SendResultKind(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    TRANSIENT = "transient"
    """Not sent; try again later."""
    UNKNOWN = "unknown"
    """It may have been sent: a repetition is possible, under the same key."""
    MESSAGE_REFUSED = "message_refused"
    """This message will never be taken: send the plain form once."""
    CHANNEL_REFUSED = "channel_refused"
    """No message will be taken until somebody repairs the channel."""
    CONFIGURATION = "configuration"
    """The address does not work (name, certificate, policy, redirect); it may be repaired elsewhere."""


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of sending a message.

    `retry_after` is what the receiver asked for, at most an hour. `external_ref` is what later messages of the same
    group follow; empty if there is nothing new to remember. `excerpt` is what to show: redacted, at most 500
    characters. `replaces` are settings of the channel that the receiver has changed. `slows`: the whole channel should
    slow down. `is_inside`: the receiver is in an allowed network inside, so only staff may see what it says.
    """

    kind: SendResultKind
    retry_after: timedelta | None = None
    external_ref: str = ""
    excerpt: str = ""
    replaces: Mapping[str, str] = {}
    slows: bool = False
    is_inside: bool = False


class Sender(Protocol):
    """A channel: what a module beside this one offers."""

    @property
    def KIND(self) -> str: ...  # noqa: D102, N802 - a constant of a module
    @property
    def NAME(self) -> str: ...  # noqa: D102, N802
    @property
    def FIELDS(self) -> tuple[Field, ...]: ...  # noqa: D102, N802
    @property
    def CAN(self) -> frozenset[Capability]: ...  # noqa: D102, N802

    def problems(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return what is wrong with the settings, by field; empty if nothing is."""
        ...

    def requests(
        self, alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False
    ) -> tuple[Request, ...]:
        """Return the requests for an alert, to be sent one after the other; none if there is nothing to send.

        `ref` is the external reference of the earlier message of the same group in this channel, empty if there is
        none. `is_plain`: after a refusal of the message, its shortest form without markup, always as a new message.
        Only dates and signatures depend on `now`.
        """
        ...

    def classify(self, request: Request, answer: Answer) -> SendResult:
        """Return what the answer means."""
        ...


# --- requests


def value(target: Target, field: Field) -> str:
    """Return the target's value of a field, or the field's default."""
    return target.values.get(field.name, "").strip() or field.default


def hidden(fields: Collection[Field], target: Target) -> tuple[str, ...]:
    """Return the secret values of a target."""
    return tuple(filter(None, (value(target, field) for field in fields if field.is_secret)))


def post_json(
    url: str,
    content: Any,
    *,
    secrets: tuple[str, ...],
    headers: Mapping[str, str] | None = None,
    is_follow_up: bool = False,
    method: str = "POST",
) -> Request:
    """Return a request with a JSON body."""
    return Request(
        method=method,
        url=url,
        headers={"content-type": JSON} | dict(headers or {}),
        body=to_json(content),
        secrets=secrets,
        is_follow_up=is_follow_up,
    )


def host_of(url: str) -> str:
    """Return scheme and host of an address; the rest may be secret."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"
    except ValueError:
        return "an invalid address"


# --- answers

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_SLOWS = frozenset({429, 502, 504})
_CHANNEL = frozenset({401, 403, 404, 405, 410})


def kind_of_status(status: int) -> SendResultKind:
    """Return what a status means unless a channel knows better.

    >>> [kind_of_status(status).value for status in (204, 302, 429, 521, 413, 410)]
    ['delivered', 'configuration', 'transient', 'transient', 'message_refused', 'channel_refused']
    """
    if 200 <= status < 300:
        return SendResultKind.DELIVERED
    if 300 <= status < 400:
        return SendResultKind.CONFIGURATION
    if status in _CHANNEL:
        return SendResultKind.CHANNEL_REFUSED
    if status in _TRANSIENT or status >= 500:
        return SendResultKind.TRANSIENT
    return SendResultKind.MESSAGE_REFUSED


def outcome(
    request: Request,
    answer: Answer,
    kind: SendResultKind | None = None,
    *,
    ref: str = "",
    retry_after: timedelta | None = None,
    replaces: Mapping[str, str] | None = None,
    slows: bool = False,
    why: str = "",
) -> SendResult:
    """Return the outcome of an answer: what its status means, unless `kind` is given.

    `why` stands before the excerpt, as an explanation.
    """
    kind = kind or kind_of_status(answer.status)
    is_delivered = kind is SendResultKind.DELIVERED
    return SendResult(
        kind=kind,
        retry_after=None if is_delivered else bounded(retry_after) or read_retry_after(answer.headers),
        external_ref="" if request.is_follow_up or not is_delivered else ref,
        excerpt=excerpt(request, answer, why),
        replaces=replaces or {},
        slows=not is_delivered and (slows or answer.status in _SLOWS),
    )


def excerpt(request: Request, answer: Answer, why: str = "") -> str:
    """Return the status and the beginning of the body in one line, without secrets."""
    body = answer.body[:ANSWER_BYTES_MAX]
    text = redact(body.decode("utf-8", "replace"), request.secrets)
    if len(body) == ANSWER_BYTES_MAX:  # A secret may be cut off at the end.
        text = text[: -max(map(len, request.secrets), default=0) or None]
    location = answer.headers.get("location", "") if 300 <= answer.status < 400 else ""
    if location:
        text = f"redirects to {host_of(location)}, which is not followed"
    words = [why, str(answer.status), *text.split()]
    line = " ".join(word for word in words if word)
    printable = "".join(character if character.isprintable() else "?" for character in line)
    return printable[:EXCERPT_LENGTH_MAX]


def read_retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return how long the receiver asks to wait: seconds, or an HTTP date compared with its own `Date`.

    Without a `Date` a date says nothing here: no clock is read.

    >>> read_retry_after({"retry-after": "120"})
    datetime.timedelta(seconds=120)
    """
    text = headers.get("retry-after", "").strip()
    try:
        return bounded(timedelta(seconds=float(text)))
    except (ValueError, OverflowError):
        pass
    try:
        return bounded(parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", "")))
    except (ValueError, TypeError):
        return None


def bounded(length: timedelta | None) -> timedelta | None:
    """Return a wait between nothing and an hour."""
    return None if length is None else min(max(length, timedelta()), RETRY_AFTER_MAX)


def read_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer; empty if it is none."""
    try:
        content = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# --- settings

_ADDRESS = re.compile(r"[^@\s/:;,<>\"]+@[^@\s/:;,<>\"]+")
"""Any host, as mail servers inside a network have names without a dot; no name of a person, and no web address."""


def field_problems(fields: Collection[Field], values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the values, by field. An address itself is judged when it is connected to."""
    found = {}
    for field in fields:
        text = values.get(field.name, "").strip()
        problem = _problem(field, text) if text else (Text("This is needed.") if field.is_required else "")
        if problem:
            found[field.name] = problem
    known = {field.name for field in fields}
    only = Text("This channel has no such setting, only %(names)s.", names=", ".join(known))
    found |= dict.fromkeys(values.keys() - known, only)
    return found


def secrets_for_another_server(
    fields: Collection[Field], before: Mapping[str, str], after: Mapping[str, str], typed: Collection[str]
) -> list[str]:
    """Return the secrets that a change of the settings would send to another server, by name, unless just typed.

    Whoever may edit a channel may not read them; whoever gets a request can.
    """
    places = [field for field in fields if field.kind == "url"]
    if all(_origin(field, before) == _origin(field, after) for field in places):
        return []
    sent = [field.name for field in fields if field.is_secret and field.is_sent and field not in places]
    return [name for name in sent if before.get(name) and after.get(name) and name not in typed]


def _origin(field: Field, values: Mapping[str, str]) -> tuple[str, str | None, int | None] | None:
    """Return scheme, host and port of the address in a field; None if it is no address."""
    try:
        parts = urlsplit(values.get(field.name, "").strip() or field.default)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None


def _problem(field: Field, text: str) -> str:
    if not text.isprintable():
        return Text("This contains line breaks or other control characters.")
    match field.kind:
        case "url":
            return url_problem(text)
        case "choice" if text not in field.choices:
            return Text("%(text)s is not one of %(choices)s.", text=repr(text), choices=", ".join(field.choices))
        case "number" if not text.isdecimal():
            return Text("%(text)s is not a whole number.", text=repr(text))
        case "email" if not _ADDRESS.fullmatch(text):
            return Text("%(text)s is not an e-mail address.", text=repr(text))
    return ""


def url_problem(text: str) -> str:
    """Return why a text is not the address of a receiver; empty if it is. It does not repeat the text: it is secret."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return Text("This is not a web address.")
    if parts.scheme not in {"https", "http"} or not host:
        return Text("This is not a web address: it begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        return Text("A user name or password in the address is not sent; use the field for it.")
    return "" if " " not in text else Text("A web address contains no space.")
