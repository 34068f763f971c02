"""Whether the installation has a mail server. Mail that is only printed to a log reaches nobody."""

from django.conf import settings

from lib.texts import Text

CONSOLE = "django.core.mail.backends.console.EmailBackend"
NO_SERVER = Text("EMAIL_URL names no mail server (consolemail:// prints to the log).")


def has_mail_server() -> bool:
    """Return whether mail is sent to a server."""
    return settings.EMAIL_BACKEND != CONSOLE
