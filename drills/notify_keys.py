"""Which message a request belongs to: by its key, or, where a service has no place for one, by its bytes.

A stored alert gives the same request on each attempt. So all requests that the stored messages can give are computed
with the senders; a received one that is none of them is of no known message.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from drills.delivery.ledger import Received, read_body
from incidents.models import Message
from incidents.notifications.alerts import target_of
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Request
from incidents.notifications.stored import stored_alert


def named(received: Iterable[Received]) -> list[Received]:
    """Return what was received, each with the key of its message; without one if there is none."""
    keys: dict[tuple[str, str, bytes], str] = {}
    messages = list(Message.objects.filter(channel__isnull=False).exclude(body="").select_related("channel"))
    refs: dict[tuple[int | None, str], list[str]] = {}
    for message in messages:
        if message.external_ref:
            refs.setdefault((message.incident_id, message.recipient), []).append(message.external_ref)
    for message in messages:
        for request in _requests(message, ["", *refs.get((message.incident_id, message.recipient), [])]):
            part = f"{request.method} {urlsplit(request.url).path}"
            keys[message.recipient, part, read_body(request.body, [])] = str(message.idempotency_key)
    return [one if one.key else replace(one, key=keys.get((one.recipient, one.part, one.body), "")) for one in received]


def _requests(message: Message, refs: Sequence[str]) -> Iterable[Request]:
    assert message.channel is not None, "it is sent over a channel"
    if message.channel.kind not in SENDERS:
        return
    alert = stored_alert(message)
    assert alert is not None, "every message here was written by this version"
    target, sender = target_of(message.channel), SENDERS[message.channel.kind]
    for ref in dict.fromkeys(refs):
        for is_plain in (False, True):
            yield from sender.requests(alert, target, ref, now=message.created_at, is_plain=is_plain)
