"""The recipients of alerts: the addresses in the settings, or the reason why there are none."""

from django.conf import settings

from incidents.notifications.mail_settings import has_mail_server
from incidents.notifications.routes import instance_channels, recipients_of
from incidents.notifications.routing import Recipient
from lib.texts import Text

NOBODY_NOTIFIED = (
    "Nobody was notified: no route with a channel that works caught it, and no address of ALERT_EMAIL_TO can be "
    "notified."
)


def recipients() -> list[str]:
    """Return the addresses that are notified about incidents, each once; empty if nobody can be notified."""
    return [] if why_nobody() else list(dict.fromkeys(settings.ALERT_EMAIL_TO))


def clock_recipients() -> list[Recipient]:
    """Return who is notified about the clock itself: ALERT_EMAIL_TO, and the channels of the instance."""
    found = {name: Recipient(name, None, "ALERT_EMAIL_TO") for name in recipients()}
    for channel in instance_channels():
        for name in recipients_of(channel):
            found.setdefault(name, Recipient(name, channel.id, "a channel of the instance"))
    return list(found.values())


def why_nobody() -> str:
    """Return why nobody is notified about incidents, in one sentence; empty if somebody is.

    A mail that is only printed to a log does not count.
    """
    if not settings.ALERT_EMAIL_TO:
        return Text("Nobody is notified about incidents: ALERT_EMAIL_TO is empty.")
    if not has_mail_server():
        return Text(
            "Nobody is notified about incidents: EMAIL_URL names no mail server (consolemail:// prints to the log)."
        )
    return ""
