"""Bounds of a batcher, as the settings have them."""

from datetime import timedelta
from pathlib import Path

import msgspec
from django.conf import settings

FROZEN_AFTER = timedelta(seconds=10)
"""See `checkins.ingest.reception`."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the batcher. Seconds and bytes; counts are requests."""

    spool_directory: Path
    spool_bytes_max: int
    batch_max: int = 500
    patience: float = 0.5
    queue_max: int = 50_000
    queue_bytes_max: int = 32 << 20
    frozen_after: timedelta = FROZEN_AFTER


def options_of_settings() -> Options:
    """Return the bounds that the settings give."""
    return Options(
        spool_directory=settings.SPOOL_DIRECTORY,
        spool_bytes_max=settings.SPOOL_BYTES_MAX,
        batch_max=settings.INGEST_BATCH_MAX,
        patience=settings.INGEST_PATIENCE_SECONDS,
        queue_max=settings.INGEST_QUEUE_MAX,
        queue_bytes_max=settings.INGEST_QUEUE_BYTES_MAX,
        frozen_after=FROZEN_AFTER * (settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1),
    )
