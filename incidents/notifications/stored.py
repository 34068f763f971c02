"""The alert of a stored message, as it was written before the first attempt (no database)."""

import msgspec

from incidents.models import Message
from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels.mail_text import PREFIX


def stored_alert(message: Message) -> Alert | None:
    """Return the alert of a message, its channel loaded; None if it has no text yet, or that of an older version."""
    if message.body.startswith("{"):
        return msgspec.json.decode(message.body, type=Alert)
    return None if message.is_about_incidents else news(message)


def news(message: Message) -> Alert:
    """Return the alert of a message from the clock, or of a test: its text was written with it."""
    channel, key = message.channel, message.idempotency_key
    return Alert(
        key=key,
        event=Event.TEST if message.kind == Message.Kind.TEST else Event.CLOCK,
        at=message.created_at,
        title=message.subject.removeprefix(PREFIX),
        reason=message.body,
        group=key,
        language=channel.language if channel else "en",
        timezone=channel.timezone if channel else "UTC",
    )
