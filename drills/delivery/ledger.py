"""What receivers have seen: each request as it came, and whether people heard of it. The simulation and the drill share
it, and judge by it; nothing here asks the product.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as mail_policy
from typing import Any
from urllib.parse import urlsplit

PAGERS = {"pagerduty": "dedup_key", "opsgenie": "alias"}
"""Kinds of receivers that keep alerts, and by what they know them."""
_DATED = {"webhook-timestamp", "webhook-signature"}


@dataclass(frozen=True)
class Received:
    """One request, or one mail, at its receiver. `number` orders all that were received.

    `key` is the message's: the same on each attempt; a message may be several requests (`part`). `body` is without
    dates and signatures. `is_applied`: people heard of it. `action` and `group` are what a pager does with which alert.
    """

    number: int
    recipient: str
    key: str
    body: bytes
    is_applied: bool
    part: str = ""
    was_refused: bool = False
    action: str = ""
    group: str = ""


def read_mail(mail: EmailMessage | Any) -> tuple[str, bytes]:
    """Return the key of a mail and its bytes, without its date and what separates its parts."""
    content = mail if isinstance(mail, EmailMessage) else BytesParser(policy=mail_policy).parsebytes(bytes(mail))
    key = str(content["Message-ID"]).strip("<>").partition("@")[0]
    headers = sorted(
        f"{name.lower()}: {text}"
        for name, text in content.items()
        if name.lower() not in ("date", "message-id", "content-type", "content-transfer-encoding", "mime-version")
    )
    parts = [str(part.get_content()) for part in content.walk() if not part.is_multipart()]
    return key, "\n".join([*headers, *parts]).encode()


def read_action(kind: str, url: str, body: bytes) -> tuple[str, str]:
    """Return what a request does to an alert of a pager, and to which: opens, acknowledges, closes or notes it.

    Both are empty where nothing is kept.
    """
    if kind == "pagerduty":
        content = json.loads(body)
        names = {"trigger": "open", "resolve": "close", "acknowledge": "acknowledge"}
        return names[content["event_action"]], str(content["dedup_key"])
    if kind == "opsgenie":
        path = urlsplit(url).path.rstrip("/")
        *_, group, verb = path.split("/")
        if verb in ("close", "acknowledge", "notes"):
            return {"notes": "note"}.get(verb, verb), group
        return "open", str(json.loads(body)["alias"])
    return "", ""


def read_body(body: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return what must be the same on each attempt: the body, and the headers without dates and signatures."""
    kept = sorted(f"{name.lower()}: {text}" for name, text in headers if name.lower() not in _DATED)
    return "\n".join(kept).encode() + b"\n\n" + body


def open_alerts(received: Iterable[Received]) -> dict[tuple[str, str], int]:
    """Return the alerts that pagers have open in the end, by recipient and group, with what opened each."""
    found: dict[tuple[str, str], int] = {}
    for one in received:
        if one.is_applied and one.action == "open":
            found.setdefault((one.recipient, one.group), one.number)
        elif one.is_applied and one.action == "close":
            found.pop((one.recipient, one.group), None)
    return found


def unequal_repeats(received: Iterable[Received]) -> list[str]:
    """Return the keys under which different bytes were sent, unless the receiver had refused the first ones.

    A message that was refused is sent plainly, whichever of its requests that was.
    """
    first: dict[tuple[str, str, str], bytes] = {}
    may_differ: set[tuple[str, str]] = set()
    found = []
    for one in received:
        place = one.recipient, one.key, one.part
        if one.was_refused:
            may_differ.add((one.recipient, one.key))
        if first.setdefault(place, one.body) != one.body and place[:2] not in may_differ:
            found.append(f"{one.key} to {one.recipient}: a repetition has other bytes")
    return found
