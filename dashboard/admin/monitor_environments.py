"""Pages of monitor environments and of environment names."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.safestring import SafeString

from checkins.editing import delete_environments
from dashboard.admin.base import InspectionAdmin, may_view
from dashboard.admin.cells import facts, instant, link, link_to_list, logs_text
from dashboard.admin.deletion import ServiceDeletionMixin
from dashboard.admin.filters import EnvironmentStatusFilter, MutedFilter, ShardFilter
from dashboard.admin.recording import actor_of
from dashboard.admin.tables import (
    CHECKINS_SHOWN,
    INCIDENTS_SHOWN,
    NOTES_SHOWN,
    checkins_table,
    counted,
    environment_status,
    incidents_table,
    keys_of,
)
from dashboard.admin.unfold import AutocompleteSelectFilter
from dashboard.durations import charts, durations_table, load_measured
from dashboard.losses import losses_beside, losses_text
from dashboard.runs import newest_checkins
from lib.wallclock import utcnow
from monitors.models import (
    Environment,
    MonitorEnvironment,
)
from monitors.services import set_environments_muted


@admin.register(MonitorEnvironment)
class MonitorEnvironmentAdmin(ServiceDeletionMixin, InspectionAdmin):
    """The live state of each job in each environment, written by check-ins and the clock."""

    list_display = (
        "monitor_slug",
        "environment_name",
        "status_labels",
        "next_expected_local",
        "missed_at_local",
        "last_checkin_local",
        "streak",
        "shard",
    )
    list_filter = (
        EnvironmentStatusFilter,
        MutedFilter,
        ShardFilter,
        ("monitor", AutocompleteSelectFilter),
        ("environment", AutocompleteSelectFilter),
    )
    search_fields = ("monitor__slug", "monitor__name", "environment__name")
    search_help_text = "Part of the monitor's slug or name, or of the environment's name"
    ordering = ("monitor__slug", "environment__name")
    actions = ("mute", "unmute")
    change_form_template = "admin/monitors/monitorenvironment/change_form.html"
    fields = ("monitor_link", "environment_name", "status_labels", "state")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[MonitorEnvironment]:
        """Environments that are not being deleted."""
        rows = super().get_queryset(request).exclude(status="pending_deletion")
        return rows.select_related("monitor", "environment")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.delete_monitorenvironment")

    @admin.display(description="Monitor", ordering="monitor__slug")
    def monitor_slug(self, row: MonitorEnvironment) -> str:
        """Show the slug."""
        return row.monitor.slug

    @admin.display(description="Monitor")
    def monitor_link(self, row: MonitorEnvironment) -> SafeString:
        """Link to the monitor."""
        return link(row.monitor)

    @admin.display(description="Environment", ordering="environment__name")
    def environment_name(self, row: MonitorEnvironment) -> str:
        """Show the name."""
        return row.environment.name

    @admin.display(description="Status", ordering="status")
    def status_labels(self, row: MonitorEnvironment) -> SafeString:
        """Show status and mute."""
        return environment_status(row)

    @admin.display(description="Next expected", ordering="next_checkin")
    def next_expected_local(self, row: MonitorEnvironment) -> SafeString:
        """Show the next expected time in the monitor's zone."""
        return instant(row.next_checkin, row.monitor.timezone, is_narrow=True)

    @admin.display(description="Missed if silent until", ordering="next_checkin_latest")
    def missed_at_local(self, row: MonitorEnvironment) -> SafeString:
        """Show when the oldest open slot becomes a miss, in the monitor's zone."""
        return instant(row.next_checkin_latest, row.monitor.timezone, is_narrow=True)

    @admin.display(description="Last run started", ordering="last_checkin")
    def last_checkin_local(self, row: MonitorEnvironment) -> SafeString:
        """Show when the job last reported, in the monitor's zone."""
        return instant(row.last_checkin, row.monitor.timezone, is_narrow=True)

    @admin.display(description="In a row", ordering="failure_streak")
    def streak(self, row: MonitorEnvironment) -> str:
        """Show the streak that is compared with the thresholds."""
        if row.failure_streak:
            return f"{row.failure_streak} of {row.monitor.failure_threshold} failures"
        return f"{row.ok_streak} ok"

    @admin.display(description="State")
    def state(self, row: MonitorEnvironment) -> SafeString:
        """Show every column that decisions use, times in the monitor's zone."""
        zone, now = row.monitor.timezone, utcnow()
        return facts(
            {
                "Last run started": instant(row.last_checkin, zone, now=now),
                "Last ok run started": instant(row.last_ok_at, zone, now=now),
                "Oldest slot not accounted for": instant(row.pending_slot, zone, now=now),
                "That slot is missed without a check-in until": instant(row.next_checkin_latest, zone, now=now),
                "Next expected": instant(row.next_checkin, zone, now=now),
                "Interval counted from": instant(row.anchor_at, zone),
                "Failures in a row": f"{row.failure_streak} (an incident opens at {row.monitor.failure_threshold})",
                "Failing since": instant(row.failure_streak_started_at, zone, now=now),
                "Oks in a row": f"{row.ok_streak} (an incident is resolved at {row.monitor.recovery_threshold})",
                "Shard of the clock": row.shard,
                "First check-in": instant(row.created_at, zone),
            }
        )

    def surroundings(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Show incidents, check-ins and notes below the state."""
        zone = row.monitor.timezone
        incidents = row.incidents.select_related("monitor_environment__environment", "issue").order_by("-id")
        checkins = newest_checkins(MonitorEnvironment.objects.filter(pk=row.pk), CHECKINS_SHOWN)
        notes = row.logs.filter(guid__isnull=True)
        sees_checkins = may_view(request, "checkins.checkin")
        measured = load_measured([row]) if sees_checkins else []
        return {
            "durations_table": durations_table(measured),
            "duration_charts": charts(measured),
            "incidents_table": may_view(request, "incidents.incident")
            and incidents_table(incidents[:INCIDENTS_SHOWN], timezone=zone, title=f"Last {INCIDENTS_SHOWN} incidents"),
            "checkins_table": sees_checkins
            and checkins_table(checkins, timezone=zone, title=f"Last {CHECKINS_SHOWN} check-ins"),
            "losses": may_view(request, "checkins.clientlossreport")
            and losses_text(losses_beside(checkins, row.monitor.project_id), timezone=zone),
            "notes": sees_checkins and logs_text(notes.order_by("-received_at", "-id")[:NOTES_SHOWN], timezone=zone),
        }

    def delete_model(self, request: HttpRequest, obj: MonitorEnvironment) -> None:
        """Hide the environment; its rows are removed later."""
        delete_environments(obj.monitor_id, [obj.environment.name], by=actor_of(request, at=utcnow()))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Hide the environments; their rows are removed later."""
        names: dict[int, list[str]] = {}
        for monitor_id, name in queryset.order_by("monitor_id").values_list("monitor_id", "environment__name"):
            names.setdefault(monitor_id, []).append(name)
        for monitor_id, environment_names in names.items():
            delete_environments(monitor_id, environment_names, by=actor_of(request, at=utcnow()))

    @admin.action(description="Mute: record failures, notify nobody", permissions=["handle"])
    def mute(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Mute the selected environments."""
        count = set_environments_muted(keys_of(queryset), True, by=actor_of(request, at=utcnow()))
        messages.success(request, f"Muted {counted(count, 'monitor environment')}.")

    @admin.action(description="Unmute", permissions=["handle"])
    def unmute(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Unmute the selected environments."""
        count = set_environments_muted(keys_of(queryset), False, by=actor_of(request, at=utcnow()))
        messages.success(request, f"Unmuted {counted(count, 'monitor environment')}.")


@admin.register(Environment)
class EnvironmentAdmin(InspectionAdmin):
    """The names of places where jobs run; the first check-in from a place creates it."""

    list_display = ("name", "project_link", "monitors_text")
    list_filter = (("project", AutocompleteSelectFilter),)
    search_fields = ("name",)
    ordering = ("name", "id")
    fields = ("name", "project_link", "monitors_text")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Environment]:
        """Environments in use: a deleted one leaves a placeholder name that no check-in can have."""
        rows = MonitorEnvironment.objects.filter(environment=OuterRef("pk")).order_by().values("environment")
        used = Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n")), 0)
        environments = super().get_queryset(request).exclude(name__startswith="deleted-")
        annotated: QuerySet[Environment] = environments.select_related("project").annotate(used=used)
        return annotated

    @admin.display(description="Project", ordering="project__name")
    def project_link(self, environment: Environment) -> SafeString:
        """Link to the project."""
        return link(environment.project)

    @admin.display(description="Monitors")
    def monitors_text(self, environment: Any) -> SafeString:
        """Show how many monitors run here, with a link to them."""
        return link_to_list(
            "monitors.monitorenvironment", f"environment__id__exact={environment.pk}", str(environment.used)
        )
