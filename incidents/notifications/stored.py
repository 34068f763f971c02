"""What is stored in a message before the first attempt: an alert, or the parts of a report (no database)."""

import msgspec

from incidents.models import Message
from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels.mail_text import PREFIX, Content, content


def stored_alert(message: Message) -> Alert | None:
    """Return the alert of a message, its channel loaded.

    None for a report, and if it has no text yet, or that of an older version.
    """
    if message.kind == Message.Kind.REPORT:
        return None
    if message.body.startswith("{"):
        return msgspec.json.decode(message.body, type=Alert)
    return None if message.is_about_incidents else news(message)


def stored_content(message: Message) -> Content | None:
    """Return the parts of the mail of a message; None if it has no text yet, or that of an older version."""
    if message.kind == Message.Kind.REPORT:
        return msgspec.json.decode(message.body, type=Content)
    alert = stored_alert(message)
    return None if alert is None else content(alert)


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
