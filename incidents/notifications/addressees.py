"""Who is told: the addresses of the settings, or nobody and why."""

from django.conf import settings

CONSOLE = "django.core.mail.backends.console.EmailBackend"
NOBODY_NOTIFIED = "Nobody was told: no address is set (ALERT_EMAIL_TO), or no mail server (EMAIL_URL)."


def recipients() -> list[str]:
    """Return the addresses that are told about incidents, each once; empty if nobody can be told."""
    return [] if why_nobody() else list(dict.fromkeys(settings.ALERT_EMAIL_TO))


def why_nobody() -> str:
    """Return why nobody is told of incidents, in one sentence; empty if somebody is.

    A mail that is printed into a log has reached nobody.
    """
    if not settings.ALERT_EMAIL_TO:
        return "Nobody is told of incidents: ALERT_EMAIL_TO is empty."
    if settings.EMAIL_BACKEND == CONSOLE:
        return "Nobody is told of incidents: EMAIL_URL names no mail server (consolemail:// prints mail to the log)."
    return ""
