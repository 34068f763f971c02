"""The limits for reading a request, from the settings."""

from functools import cache

from django.conf import settings

from checkins.protocols.request import Limits


@cache
def limits() -> Limits:
    """Return the limits. The settings are read once, since every request needs them."""
    return Limits(
        body_bytes_max=settings.INGEST_BODY_BYTES_MAX,
        checkin_bytes_max=settings.INGEST_CHECKIN_BYTES_MAX,
        log_bytes_max=settings.INGEST_LOG_BYTES_MAX,
        nesting_max=settings.INGEST_NESTING_MAX,
        envelope_items_max=settings.INGEST_ENVELOPE_ITEMS_MAX,
        rest_items_max=settings.INGEST_REST_ITEMS_MAX,
    )
