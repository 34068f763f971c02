"""Chainable filters of keys, monitors and environments. No decisions and no writes."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q

if TYPE_CHECKING:
    from monitors.models import IngestKey, Monitor, MonitorEnvironment  # noqa: F401


class IngestKeyQuerySet(models.QuerySet["IngestKey"]):
    """Filters of ingest keys."""

    def in_force(self, now: datetime) -> IngestKeyQuerySet:
        """Keys with which check-ins are accepted now, those without an end first, then the oldest."""
        alive = Q(ends_at__isnull=True) | Q(ends_at__gt=now)
        return self.filter(alive, is_active=True).order_by(F("ends_at").desc(nulls_first=True), "id")


class MonitorQuerySet(models.QuerySet["Monitor"]):
    """Filters of monitors."""

    def not_deleted(self) -> MonitorQuerySet:
        """Exclude monitors that are pending deletion."""
        return self.exclude(status="pending_deletion")

    def locked_in_id_order(self) -> MonitorQuerySet:
        """Lock the rows against configuration changes, lowest id first (before any environment row is locked)."""
        return self.order_by("id").select_for_update(no_key=True, of=("self",))


class MonitorEnvironmentQuerySet(models.QuerySet["MonitorEnvironment"]):
    """Filters of monitor environments."""

    def in_shard(self, shard: int) -> MonitorEnvironmentQuerySet:
        """Rows of one shard."""
        return self.filter(shard=shard)

    def due_at(self, tick: datetime) -> MonitorEnvironmentQuerySet:
        """Rows whose oldest unserved slot has its deadline at or before `tick`. Index: monenv_due."""
        return self.filter(next_checkin_latest__lte=tick)

    def locked_in_id_order(self, **options: Any) -> MonitorEnvironmentQuerySet:
        """Lock the rows for update, lowest id first: the one lock order of ingest, clock and administration."""
        return self.order_by("id").select_for_update(of=("self",), **options)
