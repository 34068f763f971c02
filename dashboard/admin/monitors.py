"""Monitors in the admin: their list, their state and next times, and forms to change them.

Nothing here writes configuration by itself: saving, muting, enabling and deleting go through services, so an edit in
the admin has the same effects as any other (D10).
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db import IntegrityError, transaction
from django.db.models import Case, Model, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkins.editing import delete_monitors, set_monitors_status
from dashboard.addresses import address_of, base_url, key_of
from dashboard.admin.base import duration, may_view
from dashboard.admin.cells import (
    NOTHING,
    code,
    instant,
    label,
    labels,
    link,
    link_to_list,
)
from dashboard.admin.deletion import ServiceDeletionMixin
from dashboard.admin.editing import EditAdmin
from dashboard.admin.filters import MutedFilter, OnlyFailing, StatusFilter
from dashboard.admin.forecasts import would_be_notified
from dashboard.admin.keys import to_copy
from dashboard.admin.monitor_facts import history, maintenance, next_times, older_rules, with_environment_summary
from dashboard.admin.monitor_form import FIELDSETS, AdminMonitorForm
from dashboard.admin.permissions import may_see_keys
from dashboard.admin.recording import actor_of
from dashboard.admin.snoozing import Snoozing, snoozed_label
from dashboard.admin.tables import (
    counted,
    environments_table,
    keys_of,
)
from dashboard.admin.unfold import (
    AutocompleteSelectFilter,
    ChoicesDropdownFilter,
    FieldTextFilter,
)
from dashboard.durations import charts, durations_table, load_measured
from dashboard.monitor_form import store_monitor
from dashboard.standing import attach_failures, attach_runs, failing_first
from dashboard.typed_schedules import parse_schedule
from lib.wallclock import utcnow
from monitors.addresses import note_address_shown, note_keys_shown
from monitors.configuration import SCHEDULE_COLUMNS
from monitors.dependencies import DependencyError, set_upstreams
from monitors.describing import describe
from monitors.models import (
    Monitor,
    MonitorEnvironment,
    Project,
)
from monitors.schedule import ScheduleError, why_unreadable
from monitors.services import create_monitor, hold_monitors, set_monitors_muted
from monitors.snippets import client_lines, ping_lines
from monitors.state import MonitorStatus

SHOWN_BESIDE_A_MONITOR = (
    "monitors.monitorenvironment",
    "monitors.configchange",
    "incidents.incident",
    "incidents.route",
    "checkins.checkin",
    "checkins.clientlossreport",
    "checkins.processingerror",
)
WRAPPED = "display: inline-block; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 12rem"
"""For long names in a list: 1,440 pixels hold all columns."""
ENVIRONMENTS_SHOWN = 100
"""A monitor may have a thousand environments; its page shows the failing ones first and links to all of them."""


@admin.register(Monitor)
class MonitorAdmin(EditAdmin, ServiceDeletionMixin, Snoozing):
    """Monitors: list, configuration, live state and history on one page."""

    form = AdminMonitorForm
    list_display = (
        "name_and_slug",
        "status_and_reason",
        "running_text",
        "next_expected_local",
        "last_reported_local",
        "schedule_text",
        "environments_text",
        "project_link",
    )
    list_filter = (
        StatusFilter,
        OnlyFailing,
        MutedFilter,
        ("schedule_type", ChoicesDropdownFilter),
        ("severity", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("owner", FieldTextFilter),
    )
    search_fields = ("slug", "name")
    search_help_text = "Part of the slug or the name"
    ordering = ("slug",)
    autocomplete_fields = ("project",)
    readonly_fields = ("next_ten_times",)
    conditional_fields = {
        name: f"typeof schedule_type === 'undefined' || schedule_type == '{kind}'"  # A page without a form shows all.
        for name, kind in (("crontab", "crontab"), ("interval", "interval"), ("interval_unit", "interval"))
    }
    change_form_template = "admin/monitors/monitor/change_form.html"
    fieldsets = FIELDSETS

    class Media:
        js = ("monitors/schedule_preview.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Monitor]:
        """Monitors that are not being deleted, with what the list shows of their environments."""
        monitors = super().get_queryset(request).filter(status__in=["active", "disabled"])
        return with_environment_summary(monitors.select_related("project"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.add_monitor")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.change_monitor")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.delete_monitor")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        """A monitor stays in its project: its check-ins and environments belong to it."""
        return ("next_ten_times",) if obj is None else ("project", "next_ten_times")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out the crontab that stands for a schedule to be learned, where nobody can change it."""
        found = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj) or not obj.schedule().is_learning:
            return found
        return [(title, {"fields": [row for row in options["fields"] if row != "crontab"]}) for title, options in found]

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """Failing monitors come first."""
        return (failing_first(), "slug")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add the failures and running check-ins of the monitors of one page."""
        changelist = super().get_changelist_instance(request)
        shown = list(changelist.result_list)
        if may_view(request, "incidents.incident"):
            attach_failures(shown)
        if may_view(request, "checkins.checkin"):
            attach_runs(shown, now=utcnow())
        changelist.result_list = shown
        return changelist

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse `?guid__startswith=…`: the list would reveal a ping address letter by letter."""
        return not lookup.startswith("guid") and super().lookup_allowed(lookup, value, request)

    # List

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Omit the project if there is only one: the list has to fit a screen."""
        columns = super().get_list_display(request)
        return [name for name in columns if name != "project_link" or Project.objects.count() > 1]

    @admin.display(description="Monitor", ordering="slug")
    def name_and_slug(self, monitor: Any) -> SafeString:
        """Show the slug, and the name if it differs."""
        if monitor.name == monitor.slug:
            return format_html('<span style="{}">{}</span>', WRAPPED, monitor.slug)
        return format_html(
            '<span style="{}">{}<div class="font-normal text-font-subtle-light dark:text-font-subtle-dark">{}</div>'
            "</span>",
            WRAPPED,
            monitor.slug,
            monitor.name,
        )

    @admin.display(description="Status", ordering="failing_count")
    def status_and_reason(self, monitor: Any) -> SafeString:
        """Show the status, and of a failing monitor since when and why."""
        if monitor.status != "active" or getattr(monitor, "failing_since", None) is None:
            return self.status_labels(monitor)
        why = f"{monitor.failing_why}, since" if monitor.failing_why else "since"
        since = instant(monitor.failing_since, monitor.timezone, is_narrow=True)
        return format_html("{}<div>{}</div>{}", self.status_labels(monitor), why, since)

    @admin.display(description="Running now")
    def running_text(self, monitor: Any) -> SafeString | str:
        """Show for how long a run has been in progress, and how many more are."""
        count = getattr(monitor, "running_count", 0)
        if not count:
            return NOTHING
        text = duration(utcnow() - monitor.running_since)
        return label(text if count == 1 else f"{count}, longest {text}", "running")

    @admin.display(description="Status", ordering="failing_count")
    def status_labels(self, monitor: Any) -> SafeString:
        """Show the worst status of the monitor's environments."""
        muted = monitor.is_muted or (monitor.environment_count and monitor.muted_count == monitor.environment_count)
        if monitor.status == "disabled":
            text, hint = "disabled", "Refuses check-ins and expects none."
        elif reason := why_unreadable(monitor.schedule()):
            text, hint = "not judged", f"{reason} Slots and runs that fall due are unknown until this is fixed."
        elif monitor.failing_count:
            text, hint = "failing", f"{counted(monitor.failing_count, 'environment')} with an open incident."
        elif monitor.concluded_count:
            text, hint = "ok", ""
        else:
            text, hint = "waiting", "No check-in has ended yet."
        return labels([label(text, title=hint), *([label("muted")] if muted else []), *snoozed_label(monitor)])

    @admin.display(description="Schedule")
    def schedule_text(self, monitor: Monitor) -> SafeString:
        """Show the schedule in words; the tooltip holds the crontab."""
        schedule = monitor.schedule()
        if reason := why_unreadable(schedule):
            return format_html('<span class="text-red-700 dark:text-red-500">{}</span>', reason)
        crontab = "" if schedule.is_learning else monitor.crontab or ""
        return format_html('<span title="{}" style="{}">{}</span>', crontab, WRAPPED, describe(schedule))

    @admin.display(description="Environments", ordering="environment_count")
    def environments_text(self, monitor: Any) -> SafeString | str:
        """Show how many environments there are and how many of them fail, with a link to them."""
        text = f"{monitor.environment_count}"
        if monitor.failing_count:
            text += f", {monitor.failing_count} failing"
        if not monitor.environment_count:
            return "0"
        return link_to_list("monitors.monitorenvironment", f"monitor__id__exact={monitor.pk}", text)

    @admin.display(description="Next expected", ordering="next_expected")
    def next_expected_local(self, monitor: Any) -> SafeString:
        """Show the earliest time at which an environment is expected, in the monitor's zone."""
        return instant(monitor.next_expected, monitor.timezone, is_narrow=True)

    @admin.display(description="Last run started", ordering="last_reported")
    def last_reported_local(self, monitor: Any) -> SafeString:
        """Show when a job of the monitor last reported, in the monitor's zone."""
        return instant(monitor.last_reported, monitor.timezone, is_narrow=True)

    @admin.display(description="Project", ordering="project__name")
    def project_link(self, monitor: Monitor) -> SafeString:
        """Link to the project."""
        return link(monitor.project)

    # Page

    @admin.display(description="Next ten times")
    def next_ten_times(self, monitor: Monitor | None) -> SafeString:
        """Show the meaning of the schedule; the script refreshes it while a person types."""
        lines: list[str] = []
        text = "Choose a schedule to see its times."
        if monitor is not None and monitor.pk:
            lines, text = next_times(monitor.schedule(), now=utcnow()), describe(monitor.schedule())
        return format_html(
            '<div id="schedule-preview" data-url="{}"><strong data-role="text">{}</strong>'
            '<ol data-role="times" class="font-mono mt-2">{}</ol></div>',
            reverse("admin:monitors_monitor_preview"),
            text,
            format_html("".join("<li>{}</li>" for _ in lines), *lines) if lines else "",
        )

    def get_prepopulated_fields(self, request: HttpRequest, obj: Model | None = None) -> dict[str, Any]:
        """The slug of a new monitor follows its name; one that is in use stays."""
        return {} if obj is not None or not self.has_add_permission(request) else {"slug": ("name",)}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Choose the project if there is only one."""
        projects = list(Project.objects.values_list("pk", flat=True)[:2])
        chosen = {"project": str(projects[0])} if len(projects) == 1 else {}
        return {**chosen, **super().get_changeform_initial_data(request)}

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Lead to the ping URL of the new monitor."""
        elsewhere = {"_addanother", "_continue", "_popup"} & set(request.POST)
        if elsewhere or not self.has_change_permission(request):
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"{obj.name} was created. Let its job request the ping URL below when it is done.")
        return HttpResponseRedirect(reverse("admin:monitors_monitor_change", args=[obj.pk]))

    def get_urls(self) -> list[URLPattern]:
        """Add the preview of schedules that are not saved yet."""
        view = self.admin_site.admin_view(self.preview_view)
        urls: list[URLPattern] = super().get_urls()
        return [path("preview/", view, name="monitors_monitor_preview"), *urls]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Answer `{"text", "times"}` for the schedule fields in the query, or 400 with `{"field", "error"}`."""
        if not self.has_view_permission(request):
            return JsonResponse({"error": "You do not have permission to view monitors."}, status=403)
        now = utcnow()
        try:
            schedule = parse_schedule({name: request.GET.get(name, "") for name in SCHEDULE_COLUMNS}, now=now)
        except ScheduleError as error:
            return JsonResponse({"field": error.field, "error": str(error)}, status=400)
        return JsonResponse({"text": describe(schedule), "times": next_times(schedule, now=now)})

    def surroundings(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Show live state above the form and history below it."""
        monitor, now = row, utcnow()
        zone = monitor.timezone
        live = MonitorEnvironment.objects.filter(monitor=monitor).exclude(status="pending_deletion")
        failing_first = Case(When(status="error", then=0), default=1)
        environments = live.select_related("environment").order_by(failing_first, "environment__name")
        shown = list(environments[:ENVIRONMENTS_SHOWN])
        for environment in shown:
            environment.monitor = monitor
        keys = live.filter(pk__in=[row.pk for row in shown])
        key = key_of(monitor.project) if may_see_keys(request) else None
        address = address_of(monitor, base_url(request), key=key)
        if self.has_change_permission(request):
            note_address_shown(monitor, by=actor_of(request, at=now))
            note_keys_shown([] if key is None else [key], by=actor_of(request, at=now))
        locked_here = monitor.is_config_locked
        is_locked = monitor.project.is_config_locked if locked_here is None else locked_here
        sees = {name: may_view(request, name) for name in SHOWN_BESIDE_A_MONITOR}
        measured = load_measured(shown) if sees["checkins.checkin"] else []
        return {
            "status_labels": self.status_labels(monitor),
            "durations_table": durations_table(measured),
            "duration_charts": charts(measured),
            "schedule_text": self.schedule_text(monitor),
            "next_expected": instant(monitor.next_expected, zone, now=now),
            "last_reported": instant(monitor.last_reported, zone, now=now),
            "may_be_overwritten": monitor.is_upserting and not is_locked,
            "refuses_config": monitor.is_upserting and is_locked,
            "environments_table": sees["monitors.monitorenvironment"]
            and environments_table(shown, timezone=zone, now=now),
            "older_rules": older_rules(monitor, shown, now=now),
            "maintenance": maintenance(monitor, now=now),
            "environments_left_out": max(0, monitor.environment_count - len(shown)),
            "all_environments": link_to_list(
                "monitors.monitorenvironment", f"monitor__id__exact={monitor.pk}", "all of them"
            ),
            "would_be_notified": sees["incidents.route"] and would_be_notified(monitor),
            **history(monitor, keys, sees=sees),
            **self.snooze_context(request, monitor, now=now),
            "shows_address": self.has_change_permission(request),
            "ping_url": code(address.ping_url),
            "has_reported": monitor.environment_count > 0,
            "ping_lines": to_copy(ping_lines(address)),
            "client_lines": to_copy(client_lines(address)),
        }

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show what another writer did between check and insert, a slug or a circle, as the form error that it is."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DependencyError:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except IntegrityError as error:
            # This time validation sees the other monitor. Any other error is a bug and is raised.
            diagnosis = getattr(error.__cause__, "diag", None)
            if getattr(diagnosis, "constraint_name", None) != "monitor_slug_unique_in_project":
                raise
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save through the services: every environment expects its next check-in anew where that changed (D10)."""
        if not change:
            obj.created_at = utcnow()
            create_monitor(obj, by=actor_of(request, at=obj.created_at))
            set_upstreams(obj.pk, form.upstreams(), now=obj.created_at, by=actor_of(request, at=obj.created_at))
            return
        now = _hold([obj.pk])
        store_monitor(form, now=now, by=actor_of(request, at=now))

    def delete_model(self, request: HttpRequest, obj: Monitor) -> None:
        """Hide the monitor; its rows are removed later."""
        now = _hold([obj.pk])
        delete_monitors([obj.pk], now=now, by=actor_of(request, at=now))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Hide the monitors; their rows are removed later."""
        keys = list(queryset.values_list("pk", flat=True))
        now = _hold(keys)
        delete_monitors(keys, now=now, by=actor_of(request, at=now))

    # Actions

    @admin.action(description="Mute: record failures, notify nobody", permissions=["handle"])
    def mute(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Mute the selected monitors and all their environments."""
        count = set_monitors_muted(keys_of(queryset), True, by=actor_of(request, at=utcnow()))
        messages.success(request, f"Muted {counted(count, 'monitor')}.")

    @admin.action(description="Unmute", permissions=["handle"])
    def unmute(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Unmute the selected monitors and all their environments."""
        count = set_monitors_muted(keys_of(queryset), False, by=actor_of(request, at=utcnow()))
        messages.success(request, f"Unmuted {counted(count, 'monitor')}.")

    @admin.action(description="Enable: expect check-ins from now on", permissions=["handle"])
    @transaction.atomic
    def enable(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Enable the selected monitors; the next check-in is expected counted from now (D10)."""
        count = self._set_status(request, keys_of(queryset), MonitorStatus.ACTIVE)
        messages.success(request, f"Enabled {counted(count, 'monitor')}.")

    @admin.action(description="Disable: refuse check-ins, expect none", permissions=["handle"])
    @transaction.atomic
    def disable(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Disable the selected monitors."""
        count = self._set_status(request, keys_of(queryset), MonitorStatus.DISABLED)
        messages.success(request, f"Disabled {counted(count, 'monitor')}.")

    def _set_status(self, request: HttpRequest, keys: Collection[int], status: MonitorStatus) -> int:
        now = _hold(keys)
        return set_monitors_status(keys, status, now=now, by=actor_of(request, at=now))


def _hold(keys: Collection[int]) -> datetime:
    """Lock monitors and return the instant of their edit, which no other edit can precede (D32).

    Needs a transaction.
    """
    hold_monitors(keys)
    return utcnow()
