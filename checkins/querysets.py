"""Which check-ins: chainable adjectives."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from checkins.models import CheckIn  # noqa: F401


class CheckInQuerySet(models.QuerySet["CheckIn"]):
    """Adjectives for check-ins."""

    def running(self) -> CheckInQuerySet:
        """Check-ins that started and did not end."""
        return self.filter(status="in_progress")

    def overdue_at(self, tick: datetime) -> CheckInQuerySet:
        """Running check-ins whose deadline is at or before `tick`. Index: checkin_deadline."""
        return self.filter(status="in_progress", timeout_at__lte=tick)

    def newest_first(self) -> CheckInQuerySet:
        """By start, newest first. Index: checkin_history, within one monitor environment."""
        return self.order_by("-date_added", "-id")
