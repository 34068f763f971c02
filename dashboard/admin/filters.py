"""Filters beside the lists of monitors and environments."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from dashboard.admin.unfold import DropdownFilter
from monitors.models import (
    Monitor,
    MonitorEnvironment,
)
from monitors.shard_count import shard_count


class OnlyFailing(DropdownFilter):
    """Monitors by whether one of their environments has an open incident."""

    title = "failing"
    parameter_name = "failing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("yes", "Failing"), ("no", "Not failing")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> QuerySet[Monitor]:
        """Filter by the state of the environments."""
        failing = MonitorEnvironment.objects.filter(status="error").values("monitor")
        if self.value() == "yes":
            return queryset.filter(pk__in=failing)
        return queryset.exclude(pk__in=failing) if self.value() == "no" else queryset


class StatusFilter(DropdownFilter):
    """Monitors by status; those that are being deleted are out of sight."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the statuses that a person can set."""
        return [("active", "active"), ("disabled", "disabled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by status."""
        return queryset.filter(status=self.value()) if self.value() else queryset


class MutedFilter(DropdownFilter):
    """Rows by whether they are muted."""

    title = "muted"
    parameter_name = "muted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("yes", "Muted"), ("no", "Not muted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by the row's own flag."""
        return queryset.filter(is_muted=self.value() == "yes") if self.value() in ("yes", "no") else queryset


class EnvironmentStatusFilter(DropdownFilter):
    """Monitor environments by status; those that are being deleted are out of sight."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the statuses in the words of the list."""
        return [("error", "failing"), ("ok", "ok"), ("active", "waiting")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by status."""
        return queryset.filter(status=self.value()) if self.value() else queryset


class ShardFilter(DropdownFilter):
    """Rows of one shard of the clock."""

    title = "shard"
    parameter_name = "shard"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer every shard."""
        return [(str(shard), str(shard)) for shard in range(shard_count())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by shard."""
        return queryset.filter(shard=self.value()) if (self.value() or "").isdecimal() else queryset
