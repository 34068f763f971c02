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


def check_secrets_keys(**_: Any) -> list[checks.CheckMessage]:
    """Warn if the secrets of channels depend on SECRET_KEY, which may be changed without a thought of them."""
    if settings.SECRETS_KEYS:
        return []
    sentence = "SECRETS_KEYS is not set: if SECRET_KEY is changed without SECRET_KEY_FALLBACKS, every channel is lost."
    hint = "Set SECRETS_KEYS to 32 random bytes in URL-safe base64."
    return [checks.Warning(sentence, hint=hint, id="incidents.W003")]
