"""Checks of `manage.py check --deploy` about notifications."""

from typing import Any

from django.conf import settings
from django.core import checks

from incidents.notifications.addressees import why_nobody


def check_recipients(**_: Any) -> list[checks.CheckMessage]:
    """Warn if nobody is notified about incidents, or mails about them have no link."""
    found: list[checks.CheckMessage] = []
    if sentence := why_nobody():
        hint = "Set ALERT_EMAIL_TO and EMAIL_URL, and try them with manage.py send_test_alert."
        found.append(checks.Warning(sentence, hint=hint, id="incidents.W001"))
    if not settings.PUBLIC_URL:
        sentence = "PUBLIC_URL is not set: mails about incidents have no link to them."
        found.append(checks.Warning(sentence, hint="https://watchclock.example.com", id="incidents.W002"))
    return found
