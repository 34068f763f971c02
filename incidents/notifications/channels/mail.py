"""Composing a mail from the alert of a message: headers, text and page. The same alert gives the same bytes.

Only the date differs between two attempts.
"""

from email.message import Message as MimeMessage
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template import Context, Engine, Template

from incidents.models import Message
from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels.mail_text import PREFIX, Content, subject, text
from incidents.notifications.channels.wording import State
from incidents.notifications.outbox import message_key
from incidents.notifications.stored import stored_alert, stored_content

COLOURS = {State.FAILING: "#b42318", State.ACKNOWLEDGED: "#b54708", State.OVER: "#067647", State.NOTE: "#175cd3"}
ONE_CLICK = "List-Unsubscribe=One-Click"
_FIRST_OF_INCIDENT, _FIRST_OF_STORM = Message.Kind.OPENED.value, Message.Kind.DIGEST.value


class Mail(EmailMultiAlternatives):
    """A mail whose parts are divided by its key, not by chance."""

    boundary = ""

    def message(self, **options: Any) -> Any:
        """Return the mail for the wire."""
        built: MimeMessage = super().message(**options)
        if built.is_multipart():
            built.set_boundary(self.boundary)
        return built


def compose(message: Message) -> Mail:
    """Return the mail of a message that has its text. Its key is the Message-ID: repeated, it is shown once."""
    alert, parts = stored_alert(message), stored_content(message)
    headers = _headers(message, alert, parts)
    if parts is None:
        # An older version has written it, as plain text.
        return Mail(subject=message.subject, body=message.body, to=[message.recipient], headers=headers)
    title = f"{PREFIX}{parts.headline}" if alert is None else subject(alert)
    mail = Mail(subject=title, body=text(parts), to=[message.recipient], headers=headers)
    mail.attach_alternative(page(parts), "text/html")
    mail.boundary = f"watchclock-{message.idempotency_key.hex}"
    return mail


def _headers(message: Message, alert: Alert | None, parts: Content | None) -> dict[str, str]:
    headers = {
        "Message-ID": message_id(message.idempotency_key),
        # RFC 3834, and its like at Microsoft: no answer by a machine.
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    earlier = _first_of(message, alert) if alert is not None else ""
    if earlier:
        headers |= {"In-Reply-To": earlier, "References": earlier}
    name = parts.list_name if parts is not None else ""
    headers["List-Id"] = f"<{'.'.join(filter(None, [name, 'watchclock', host()]))}>"
    if parts is not None and parts.unsubscribe_url.startswith("https://"):
        headers |= {"List-Unsubscribe": f"<{parts.unsubscribe_url}>", "List-Unsubscribe-Post": ONE_CLICK}
    return headers


def _first_of(message: Message, alert: Alert) -> str:
    """Return the Message-ID of the mail that began the conversation, computed; empty if this one does."""
    kind = _FIRST_OF_STORM if message.kind == Message.Kind.STORM_OVER else _FIRST_OF_INCIDENT
    if kind == _FIRST_OF_INCIDENT and alert.event in {
        Event.OPENED, Event.PASSED, Event.DIGEST, Event.CLOCK, Event.TEST,
    }:  # fmt: skip
        return ""
    return message_id(message_key(alert.group, kind, message.recipient))


def message_id(key: object) -> str:
    """Return a key as a Message-ID."""
    return f"<{key}@{host()}>"


def host() -> str:
    """Return the domain that mails are from; that of PUBLIC_URL if it is no real one: filters dislike such."""
    address: str = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    domain = address.rpartition("@")[2]
    return domain if "." in domain else urlsplit(settings.PUBLIC_URL).hostname or domain or "watchclock"


def page(parts: Content) -> str:
    """Return the mail as a page: styles in the elements, and nothing that is loaded from elsewhere."""
    return _template().render(Context({"mail": parts, "colour": COLOURS[parts.state]}))


@cache
def _template() -> Template:
    # An engine of its own: that of the settings imports the template tags of all apps, which takes memory.
    engine = Engine(dirs=[str(Path(__file__).parent / "templates")])
    return engine.get_template("mail.html")
