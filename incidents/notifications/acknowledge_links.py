"""Signed links by which whoever gets an alert acknowledges its incident, or all of a storm, without an account.

The link names the message, hence the incident or the storm, and the recipient: a link that was forwarded still says
whose it was. It is valid for seven days. The same message always has the same link, so that a repetition has the same
text.
"""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer

from incidents.models import Message

LINK_DAYS = 7
PATH = "/a/"
TOKEN_LENGTH_MAX = 200
_SALT = "watchclock: acknowledge an incident"
_AHEAD_MAX = timedelta(hours=1)
"""Clocks of two machines may disagree."""
_KINDS = frozenset(
    kind.value for kind in (Message.Kind.OPENED, Message.Kind.REMINDER, Message.Kind.ESCALATED, Message.Kind.DIGEST)
)
"""Messages that ask for an acknowledgement."""


class Link(NamedTuple):
    """What a valid link says: the guid is the incident's, or the storm's."""

    guid: UUID
    message_id: int


def acknowledge_link(message: Message) -> str:
    """Return the link of a stored message; empty without PUBLIC_URL, or if it does not ask for one."""
    about = message.incident or message.storm
    if not settings.PUBLIC_URL or message.kind not in _KINDS or about is None:
        return ""
    return f"{settings.PUBLIC_URL}{PATH}{sign(about.guid, message.pk, at=message.created_at)}"


def sign(guid: UUID, message_id: int, *, at: datetime) -> str:
    """Return the token of a link made at this instant."""
    return Signer(salt=_SALT).sign(f"{guid.hex}-{message_id}-{int(at.timestamp())}")


def read(token: str, *, now: datetime) -> Link | None:
    """Return what a token says; None if it is not one of ours, or too old. No statement."""
    try:
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        guid, message_id, seconds = Signer(salt=_SALT).unsign(token).split("-")
        age = now - datetime.fromtimestamp(int(seconds), tz=now.tzinfo)
    except (BadSignature, ValueError):
        return None
    if not -_AHEAD_MAX <= age <= timedelta(days=LINK_DAYS):
        return None
    return Link(UUID(hex=guid), int(message_id))
