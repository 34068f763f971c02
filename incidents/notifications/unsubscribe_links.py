"""Signed links by which whoever gets mails of a channel unsubscribes an address without an account.

The same address of a channel always has the same link, so that a repetition has the same text.
"""

import base64
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer

from incidents.models import Channel, Unsubscription
from incidents.models.channels import EMAIL

Topic = Unsubscription.Topic
PATH = "/u/"
TOKEN_LENGTH_MAX = 800
_SALT = "watchclock: unsubscribe an address"


class Link(NamedTuple):
    """What a valid link says: which address of which channel, and which mails it is about."""

    channel_guid: UUID
    address: str
    topic: str = Topic.ALERTS.value


def unsubscribe_link(channel: Channel | None, address: str, topic: str = Topic.ALERTS.value) -> str:
    """Return the link in mails of a topic to an address of a channel; always the same.

    Empty without a PUBLIC_URL over HTTPS, which mail services demand, and for a mail to an address of ALERT_EMAIL_TO:
    that is a setting of the installation.
    """
    if not settings.PUBLIC_URL.startswith("https://") or channel is None or channel.kind != EMAIL:
        return ""
    return f"{settings.PUBLIC_URL}{PATH}{sign(Link(channel.guid, address, topic))}"


def sign(link: Link) -> str:
    """Return the token of a link. It does not expire: who finds an old mail may still unsubscribe."""
    name = base64.urlsafe_b64encode(link.address.encode()).decode().rstrip("=")
    return Signer(salt=_SALT).sign(f"{link.channel_guid.hex}.{name}.{link.topic}")


def read(token: str) -> Link | None:
    """Return what a token says; None if it is not one of ours. No statement."""
    if len(token) > TOKEN_LENGTH_MAX:
        return None
    try:
        guid, name, topic = Signer(salt=_SALT).unsign(token).split(".")
        address = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        return Link(UUID(hex=guid), address, Topic(topic).value)
    except (BadSignature, ValueError):
        return None
