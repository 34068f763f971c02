"""Which monitors and environments: chainable adjectives. No decision and no write happens here."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from monitors.models import Monitor, MonitorEnvironment  # noqa: F401


class MonitorQuerySet(models.QuerySet["Monitor"]):
    """Adjectives for monitors."""

    def not_deleted(self) -> MonitorQuerySet:
        """Monitors that are not on their way out."""
        return self.exclude(status="pending_deletion")

    def locked_in_id_order(self) -> MonitorQuerySet:
        """Lock the rows against configuration changes, lowest id first (before any environment row is locked)."""
        return self.order_by("id").select_for_update(no_key=True, of=("self",))


class MonitorEnvironmentQuerySet(models.QuerySet["MonitorEnvironment"]):
    """Adjectives for monitor environments."""

    def in_shard(self, shard: int) -> MonitorEnvironmentQuerySet:
        """Rows that the given shard's clock walks."""
        return self.filter(shard=shard)

    def due_at(self, tick: datetime) -> MonitorEnvironmentQuerySet:
        """Rows whose oldest unserved slot has used up its margin at or before `tick`. Index: monenv_due."""
        return self.filter(next_checkin_latest__lte=tick)

    def locked_in_id_order(self, **options: Any) -> MonitorEnvironmentQuerySet:
        """Lock the rows for update, lowest id first: the one lock order of ingest, clock and administration."""
        return self.order_by("id").select_for_update(of=("self",), **options)
