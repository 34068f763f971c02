"""Which check-ins: chainable adjectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from checkins.models import CheckIn  # noqa: F401


class CheckInQuerySet(models.QuerySet["CheckIn"]):
    """Adjectives for check-ins."""

    def running(self) -> CheckInQuerySet:
        """Check-ins that started and did not end."""
        return self.filter(status="in_progress")
