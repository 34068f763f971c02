from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CheckinsConfig(AppConfig):
    """Received check-ins."""

    name = "checkins"
    verbose_name = "Check-ins"

    def ready(self) -> None:
        """Create the coming days of check-ins after each migration: at the first one nothing else runs yet."""
        post_migrate.connect(make_first_days, sender=self)


def make_first_days(**_: Any) -> None:
    """Create the coming days of check-ins, as beat does every hour; nothing is dropped here."""
    from checkins.partitions import ensure_partitions
    from lib.wallclock import utcnow

    ensure_partitions(now=utcnow(), tries=1)
