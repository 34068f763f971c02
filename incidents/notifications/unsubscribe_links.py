"""Signed links by which whoever gets mails of a channel unsubscribes an address without an account.

The same address of a channel always has the same link, so that a repetition has the same text.
"""

import base64
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer

from incidents.models import Message
from incidents.models.channels import EMAIL

PATH = "/u/"
TOKEN_LENGTH_MAX = 800
_SALT = "watchclock: unsubscribe an address"


class Link(NamedTuple):
    """What a valid link says: which address of which channel."""

    channel_guid: UUID
    address: str


def unsubscribe_link(message: Message) -> str:
    """Return the link of a mail, always the same for an address of a channel.

    Empty without a PUBLIC_URL over HTTPS, which mail services demand, and for a mail to an address of ALERT_EMAIL_TO:
    that is a setting of the installation.
    """
    if not settings.PUBLIC_URL.startswith("https://") or message.channel is None or message.channel.kind != EMAIL:
        return ""
    return f"{settings.PUBLIC_URL}{PATH}{sign(message.channel.guid, message.recipient)}"


def sign(channel_guid: UUID, address: str) -> str:
    """Return the token of a link. It does not expire: who finds an old mail may still unsubscribe."""
    name = base64.urlsafe_b64encode(address.encode()).decode().rstrip("=")
    return Signer(salt=_SALT).sign(f"{channel_guid.hex}.{name}")


def read(token: str) -> Link | None:
    """Return what a token says; None if it is not one of ours. No statement."""
    if len(token) > TOKEN_LENGTH_MAX:
        return None
    try:
        guid, _, name = Signer(salt=_SALT).unsign(token).partition(".")
        return Link(UUID(hex=guid), base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode())
    except (BadSignature, ValueError):
        return None
