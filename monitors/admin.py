"""Monitors in the admin: what is watched, how it stands, what it expects next, and changing that.

Nothing here writes configuration by itself: saving, muting, enabling and deleting go through `monitors.services`, so
that an edit in the admin has the same effects as any other (D10). Check-ins, incidents and issues belong to higher
apps; they are reached by model name or through their relations, never by import.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.apps import apps
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.postgres.expressions import ArraySubquery
from django.db import IntegrityError, transaction
from django.db.models import Case, Count, Max, Min, Model, OuterRef, Q, QuerySet, Subquery, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from lib.wallclock import utcnow
from monitors.changes import CHANGEABLE_COLUMNS
from monitors.editing import EditAdmin, EditForm
from monitors.forms import SCHEDULE_FIELDS, MonitorForm, parse_schedule
from monitors.hot_rows import load_former_rules
from monitors.inspection import (
    NOTHING,
    InspectionAdmin,
    code,
    duration,
    facts,
    instant,
    label,
    labels,
    link,
    link_to_list,
    logs_text,
    may_view,
    table,
    times_in,
)
from monitors.losses import losses_beside, losses_text
from monitors.models import (
    CONFIG_CHANGES_KEPT,
    ConfigSnapshot,
    Environment,
    IngestKey,
    Monitor,
    MonitorEnvironment,
    Project,
)
from monitors.schedule import Schedule, ScheduleError, anchor_for, describe, next_slots, why_unreadable
from monitors.services import (
    create_monitor,
    delete_environments,
    delete_monitors,
    hold_monitors,
    lock_config_of_project,
    set_environments_muted,
    set_monitors_muted,
    set_monitors_status,
    update_monitor,
)
from monitors.shard_count import shard_count
from monitors.snippets import Address, Line, client_lines, ping_lines, project_lines
from monitors.spans import held_until
from monitors.standing import attach_failures, attach_runs, failing_first
from monitors.state import MonitorStatus
from monitors.theme import (
    AdminPasswordChangeForm,
    AutocompleteSelectFilter,
    ChoicesDropdownFilter,
    DropdownFilter,
    FieldTextFilter,
    ModelAdmin,
    TabularInline,
    UserChangeForm,
    UserCreationForm,
)

PREVIEW_COUNT = 10
NO_TIME = "No time in the next ten years: nothing is expected."
CHECKINS_SHOWN = 20
INCIDENTS_SHOWN = 20
ERRORS_SHOWN = 10
NOTES_SHOWN = 10
SHOWN_BESIDE_A_MONITOR = (
    "monitors.monitorenvironment",
    "monitors.configchange",
    "incidents.incident",
    "checkins.checkin",
    "checkins.clientlossreport",
    "checkins.processingerror",
)
WRAPPED = "display: inline-block; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 12rem"
"""For long names in a list: 1,440 pixels hold all columns."""
EARLY_MAX = timedelta(minutes=1)
"""EARLY_CHECKIN_SECONDS is at most this: so much before its slot a run may begin (D12)."""
ENVIRONMENTS_SHOWN = 100
"""A monitor may have a thousand environments; its page shows the failing ones first and links to all of them."""


def next_times(schedule: Schedule, *, now: datetime) -> list[str]:
    """Return the next ten times of a schedule counted from `now`, on the wall clock of its own zone.

    If there are no ten in the next ten years, the last line says that nothing is expected then (D34).
    """
    if why_unreadable(schedule):
        return []
    zone = ZoneInfo(schedule.timezone)
    slots = next_slots(schedule, now, anchor_for(schedule, now), PREVIEW_COUNT)
    lines = [f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M %Z}" for slot in slots]
    if not lines:
        lines.append(NO_TIME)
    elif len(lines) < PREVIEW_COUNT:
        lines.append("No further time in the ten years after that: nothing is expected then.")
    return lines


def environment_status(row: MonitorEnvironment) -> SafeString:
    """Return the labels of one environment: how it stands, and whether it is muted."""
    text = {"active": "waiting", "error": "failing"}.get(row.status, row.get_status_display())
    hint = "Nothing concluded yet: no check-in has ended." if row.status == "active" else ""
    if row.monitor.status == "disabled":
        text, hint = "disabled", "Its monitor is disabled: nothing is judged."
    return labels([label(text, title=hint), *([label("muted")] if row.is_muted else [])])


def slot_of(checkin: Any) -> datetime | None:
    """Return the slot that a run stands for; one that was still to come then is not what it was expected at."""
    slot: datetime | None = checkin.expected_time
    return slot if slot is None or slot <= checkin.date_added + EARLY_MAX else None


def checkins_table(checkins: Iterable[Any], *, timezone: str, title: str) -> SafeString:
    """Return check-ins as a table, each linked to its own page, times in the zone of their monitor."""
    return table(
        ("Status", "Environment", "Expected", "Started", "Duration", "Source", "Id"),
        [
            (
                label(checkin.get_status_display()),
                checkin.monitor_environment.environment.name,
                instant(slot_of(checkin), timezone, zone_is_said=True),
                instant(checkin.date_added, timezone, zone_is_said=True),
                duration(None if checkin.duration_ms is None else timedelta(milliseconds=checkin.duration_ms)),
                checkin.get_source_display(),
                link(checkin, str(checkin.guid)[:8]),
            )
            for checkin in checkins
        ],
        title=f"{title}, {times_in(timezone)}",
    )


def incidents_table(incidents: Iterable[Any], *, timezone: str, title: str) -> SafeString:
    """Return incidents as a table, each linked to its page and its issue."""
    return table(
        ("Incident", "Environment", "Started", "Opened", "Resolved", "Issue"),
        [
            (
                link(incident, label("resolved" if incident.resolved_at else "open")),
                incident.monitor_environment.environment.name,
                instant(incident.started_at, timezone, zone_is_said=True),
                instant(incident.opened_at, timezone, zone_is_said=True),
                instant(incident.resolved_at, timezone, zone_is_said=True),
                link(incident.issue) if incident.issue else "none (muted)",
            )
            for incident in incidents
        ],
        title=f"{title}, {times_in(timezone)}",
    )


def newest_checkins(environments: QuerySet[MonitorEnvironment], count: int) -> list[Any]:
    """Return the newest check-ins of some environments, newest first. Two statements.

    Each environment gives its own newest ones by index (checkin_history), so that a long history costs nothing.
    """
    checkins = apps.get_model("checkins", "CheckIn")._default_manager.all()
    newest = checkins.filter(monitor_environment=OuterRef("pk")).order_by("-date_added").values("pk")[:count]
    ids = environments.annotate(newest_ids=ArraySubquery(newest)).values_list("newest_ids", flat=True)
    wanted = [checkin_id for environment_ids in ids for checkin_id in environment_ids]
    rows = checkins.filter(pk__in=wanted).select_related("monitor_environment__environment")
    return list(rows.order_by("-date_added", "-id")[:count])


# --- Monitors ---------------------------------------------------------------------------------------------------------


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


class ServiceDeletionMixin:
    """Deleting takes rows out of sight through the services; what hangs on them is not listed.

    Django would load every check-in of a monitor to show what will be deleted with it.
    """

    opts: Any

    def get_deleted_objects(
        self, objs: Collection[Model], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the rows themselves, and what happens to the rest."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []


def with_environment_summary(monitors: QuerySet[Monitor]) -> QuerySet[Monitor]:
    """Annotate monitors with what their environments say together; computed only for rows that are shown or sorted."""
    live = MonitorEnvironment.objects.filter(monitor=OuterRef("pk")).exclude(status="pending_deletion")
    rows = live.order_by().values("monitor")

    def number(condition: Q) -> Coalesce:
        return Coalesce(Subquery(rows.annotate(n=Count("pk", filter=condition)).values("n")), 0)

    return monitors.annotate(
        environment_count=number(Q()),
        failing_count=number(Q(status="error")),
        concluded_count=number(~Q(status="active")),
        muted_count=number(Q(is_muted=True)),
        next_expected=Subquery(rows.annotate(at=Min("next_checkin")).values("at")),
        last_heard=Subquery(rows.annotate(at=Max("last_checkin")).values("at")),
    )


def older_rules(monitor: Monitor, environments: Iterable[MonitorEnvironment], *, now: datetime) -> list[SafeString]:
    """Say which rules of before an edit are still to judge a slot, until when (D32). One statement, or none."""
    waiting: dict[datetime, datetime] = {}
    for environment in environments:
        for span in environment.state().spans:
            if span.until is not None and span.next_checkin_latest is not None:
                latest = waiting.get(span.until, span.next_checkin_latest)
                waiting[span.until] = max(latest, span.next_checkin_latest)
    if not waiting:
        return []
    former, zone = load_former_rules([monitor.pk]).get(monitor.pk, ()), monitor.timezone
    lines = []
    for until, latest in sorted(waiting.items()):
        held = held_until(former, until)
        rules = monitor.rules() if held is None else held.rules
        lines.append(
            format_html(
                "Slots of before {} are still judged by the rules of then: {}, margin {}, until {} at least.",
                instant(until, zone),
                why_unreadable(rules.schedule) or describe(rules.schedule),
                _number(rules.margin_minutes, "minute"),
                instant(max(latest, until + timedelta(minutes=rules.margin_minutes)), zone, now=now),
            )
        )
    return lines


@admin.register(Monitor)
class MonitorAdmin(EditAdmin, ServiceDeletionMixin, InspectionAdmin):
    """Monitors: list, configuration, live state and history on one page."""

    form = MonitorForm
    list_display = (
        "name_and_slug",
        "status_and_reason",
        "running_text",
        "next_expected_local",
        "last_heard_local",
        "schedule_text",
        "environments_text",
        "project_link",
    )
    list_filter = (
        StatusFilter,
        OnlyFailing,
        MutedFilter,
        ("schedule_type", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("owner", FieldTextFilter),
    )
    search_fields = ("slug", "name")
    search_help_text = "Part of the slug or the name"
    ordering = ("slug",)
    autocomplete_fields = ("project",)
    actions = ("mute", "unmute", "enable", "disable")
    readonly_fields = ("next_ten_times",)
    conditional_fields = {
        name: f"typeof schedule_type === 'undefined' || schedule_type == '{kind}'"  # A page without a form shows all.
        for name, kind in (("crontab", "crontab"), ("interval", "interval"), ("interval_unit", "interval"))
    }
    change_form_template = "admin/monitors/monitor/change_form.html"
    fieldsets = (
        ("Job", {"fields": (("name", "slug"), ("project", "owner"), "tags", ("status", "is_muted"))}),
        (
            "Schedule",
            {
                "fields": (
                    ("schedule_type", "timezone"),
                    "crontab",
                    ("interval", "interval_unit"),
                    ("checkin_margin", "max_runtime"),
                    "next_ten_times",
                )
            },
        ),
        ("Thresholds", {"fields": (("failure_threshold", "recovery_threshold"),)}),
        ("Configuration from check-ins", {"fields": ("is_config_locked",)}),
    )

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

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """What fails stands first."""
        return (failing_first(), "slug")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add to the monitors of one page why they fail and what they run."""
        changelist = super().get_changelist_instance(request)
        shown = list(changelist.result_list)
        if may_view(request, "incidents.incident"):
            attach_failures(shown)
        if may_view(request, "checkins.checkin"):
            attach_runs(shown, now=utcnow())
        changelist.result_list = shown
        return changelist

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse `?guid__startswith=…`: the list would tell a ping address letter by letter."""
        return not lookup.startswith("guid") and super().lookup_allowed(lookup, value, request)

    # List

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Leave the project out where there is only one: the list has to fit a screen."""
        columns = super().get_list_display(request)
        return [name for name in columns if name != "project_link" or Project.objects.count() > 1]

    @admin.display(description="Monitor", ordering="slug")
    def name_and_slug(self, monitor: Any) -> SafeString:
        """Show the slug, and the name where it says more."""
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
        """Show the worst that can be said of the monitor's environments."""
        muted = monitor.is_muted or (monitor.environment_count and monitor.muted_count == monitor.environment_count)
        if monitor.status == "disabled":
            text, hint = "disabled", "Refuses check-ins and expects none."
        elif reason := why_unreadable(monitor.schedule()):
            text, hint = "not judged", f"{reason} What falls due is unknown until that is mended."
        elif monitor.failing_count:
            text, hint = "failing", f"{_number(monitor.failing_count, 'environment')} with an open incident."
        elif monitor.concluded_count:
            text, hint = "ok", ""
        else:
            text, hint = "waiting", "No check-in has ended yet."
        return labels([label(text, title=hint), *([label("muted")] if muted else [])])

    @admin.display(description="Schedule")
    def schedule_text(self, monitor: Monitor) -> SafeString:
        """Show the schedule in words; the tooltip holds the crontab."""
        schedule = monitor.schedule()
        if reason := why_unreadable(schedule):
            return format_html('<span class="text-red-700 dark:text-red-500">{}</span>', reason)
        return format_html('<span title="{}" style="{}">{}</span>', monitor.crontab or "", WRAPPED, describe(schedule))

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

    @admin.display(description="Last run started", ordering="last_heard")
    def last_heard_local(self, monitor: Any) -> SafeString:
        """Show when a job of the monitor last reported, in the monitor's zone."""
        return instant(monitor.last_heard, monitor.timezone, is_narrow=True)

    @admin.display(description="Project", ordering="project__name")
    def project_link(self, monitor: Monitor) -> SafeString:
        """Link to the project."""
        return link(monitor.project)

    # Page

    @admin.display(description="Next ten times")
    def next_ten_times(self, monitor: Monitor | None) -> SafeString:
        """Show what the schedule means; the script refreshes it while a person types."""
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
        messages.success(request, f"{obj.name} is there. Let its job ask for the ping URL below when it is done.")
        return HttpResponseRedirect(reverse("admin:monitors_monitor_change", args=[obj.pk]))

    def get_urls(self) -> list[URLPattern]:
        """Add the preview of schedules that are not saved yet."""
        view = self.admin_site.admin_view(self.preview_view)
        urls: list[URLPattern] = super().get_urls()
        return [path("preview/", view, name="monitors_monitor_preview"), *urls]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Answer `{"text", "times"}` for the schedule fields in the query, or 400 with `{"field", "error"}`."""
        if not self.has_view_permission(request):
            return JsonResponse({"error": "You may not look at monitors."}, status=403)
        now = utcnow()
        try:
            schedule = parse_schedule({name: request.GET.get(name, "") for name in SCHEDULE_FIELDS}, now=now)
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
        incidents = apps.get_model("incidents", "Incident")._default_manager.filter(
            monitor_environment__monitor=monitor, resolved_at__isnull=True
        )
        related = ("monitor_environment__environment", "issue")
        checkins = newest_checkins(keys, CHECKINS_SHOWN)
        address = address_of(monitor, base_url(request), shows_key=may_see_keys(request))
        locked_here = monitor.is_config_locked
        is_locked = monitor.project.is_config_locked if locked_here is None else locked_here
        sees = {name: may_view(request, name) for name in SHOWN_BESIDE_A_MONITOR}
        return {
            "status_labels": self.status_labels(monitor),
            "schedule_text": self.schedule_text(monitor),
            "next_expected": instant(monitor.next_expected, zone, now=now),
            "last_heard": instant(monitor.last_heard, zone, now=now),
            "may_be_overwritten": monitor.is_upserting and not is_locked,
            "refuses_config": monitor.is_upserting and is_locked,
            "changes_table": sees["monitors.configchange"]
            and changes_table(monitor.config_changes.order_by("-id")[:CONFIG_CHANGES_KEPT], timezone=zone),
            "environments_table": sees["monitors.monitorenvironment"]
            and environments_table(shown, timezone=zone, now=now),
            "older_rules": older_rules(monitor, shown, now=now),
            "environments_left_out": max(0, monitor.environment_count - len(shown)),
            "all_environments": link_to_list(
                "monitors.monitorenvironment", f"monitor__id__exact={monitor.pk}", "all of them"
            ),
            "open_incidents_table": sees["incidents.incident"]
            and incidents_table(
                incidents.select_related(*related).order_by("-opened_at")[:INCIDENTS_SHOWN],
                timezone=zone,
                title="Open incidents",
            ),
            "checkins_table": sees["checkins.checkin"]
            and checkins_table(checkins, timezone=zone, title=f"Last {CHECKINS_SHOWN} check-ins"),
            "losses": sees["checkins.clientlossreport"]
            and losses_text(losses_beside(checkins, monitor.project_id), timezone=zone),
            "all_checkins": sees["checkins.checkin"]
            and link_to_list("checkins.checkin", f"monitor__id__exact={monitor.pk}", "All check-ins"),
            "errors_table": sees["checkins.processingerror"]
            and errors_table(
                monitor.processing_errors.order_by("-last_received_at")[:ERRORS_SHOWN], title="Processing errors"
            ),
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
        """Show a slug that another writer took between check and insert as the form error that it is."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except IntegrityError as error:
            # Validation sees the other monitor this time. Anything else is a mistake of ours, and loud.
            diagnosis = getattr(error.__cause__, "diag", None)
            if getattr(diagnosis, "constraint_name", None) != "monitor_slug_unique_in_project":
                raise
            return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save through the services: every environment expects its next check-in anew where that changed (D10)."""
        if not change:
            obj.created_at = utcnow()
            create_monitor(obj)
            return
        written = form.written()
        now = _hold([obj.pk])
        # Only what its person changed (D41): writing nothing recomputes nothing.
        update_monitor(obj.pk, {name: form.cleaned_data[name] for name in written & set(CHANGEABLE_COLUMNS)}, now=now)
        if "is_muted" in written:
            set_monitors_muted([obj.pk], form.cleaned_data["is_muted"])
        if "tags" in written:
            Monitor.objects.filter(pk=obj.pk).update(tags=form.cleaned_data["tags"])

    def delete_model(self, request: HttpRequest, obj: Monitor) -> None:
        """Take the monitor out of sight; its rows are removed later."""
        delete_monitors([obj.pk], now=_hold([obj.pk]))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Take the monitors out of sight; their rows are removed later."""
        keys = list(queryset.values_list("pk", flat=True))
        delete_monitors(keys, now=_hold(keys))

    # Actions

    @admin.action(description="Mute: record failures, tell nobody", permissions=["handle"])
    def mute(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Mute the selected monitors and all their environments."""
        count = set_monitors_muted(_keys(queryset), True)
        messages.success(request, f"Muted {_number(count, 'monitor')}.")

    @admin.action(description="Unmute", permissions=["handle"])
    def unmute(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Unmute the selected monitors and all their environments."""
        count = set_monitors_muted(_keys(queryset), False)
        messages.success(request, f"Unmuted {_number(count, 'monitor')}.")

    @admin.action(description="Enable: expect check-ins from now on", permissions=["handle"])
    @transaction.atomic
    def enable(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Enable the selected monitors; the next check-in is expected counted from now (D10)."""
        keys = _keys(queryset)
        count = set_monitors_status(keys, MonitorStatus.ACTIVE, now=_hold(keys))
        messages.success(request, f"Enabled {_number(count, 'monitor')}.")

    @admin.action(description="Disable: refuse check-ins, expect none", permissions=["handle"])
    @transaction.atomic
    def disable(self, request: HttpRequest, queryset: QuerySet[Monitor]) -> None:
        """Disable the selected monitors."""
        keys = _keys(queryset)
        count = set_monitors_status(keys, MonitorStatus.DISABLED, now=_hold(keys))
        messages.success(request, f"Disabled {_number(count, 'monitor')}.")


def _hold(keys: Collection[int]) -> datetime:
    """Return the instant of an edit of monitors: when nobody else can go beyond it (D32). Needs a transaction."""
    hold_monitors(keys)
    return utcnow()


def may_see_keys(request: HttpRequest) -> bool:
    """Tell whether the user may see ingest keys: who may change them may, since a key lets anybody send."""
    return request.user.has_perm("monitors.change_ingestkey")


def address_of(monitor: Monitor, base: str, *, shows_key: bool = True) -> Address:
    """Return where a monitor is reached, with the oldest active key of its project if that may be shown."""
    key = monitor.project.ingest_keys.filter(is_active=True).order_by("id").first() if shows_key else None
    return Address(
        base_url=base,
        project_id=monitor.project_id,
        slug=monitor.slug,
        guid=monitor.guid,
        public_key=None if key is None else key.public_key,
        crontab=monitor.crontab,
        timezone=monitor.timezone,
    )


def _keys(queryset: QuerySet[Any]) -> list[int]:
    return list(queryset.order_by().values_list("pk", flat=True))


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def environments_table(rows: Iterable[MonitorEnvironment], *, timezone: str, now: datetime) -> SafeString:
    """Return the live state of environments as a table, times in the zone of their monitor."""
    return table(
        ("Environment", "Status", "Last run started", "Next expected", "Missed if silent until", "In a row"),
        [
            (
                link(row, row.environment.name),
                environment_status(row),
                instant(row.last_checkin, timezone, now=now, zone_is_said=True),
                instant(row.next_checkin, timezone, now=now, zone_is_said=True),
                instant(row.next_checkin_latest, timezone, zone_is_said=True),
                f"{row.failure_streak} failed" if row.failure_streak else f"{row.ok_streak} ok",
            )
            for row in rows
        ],
        title=f"Environments, {times_in(timezone)}",
    )


def changes_table(changes: Iterable[Any], *, timezone: str) -> SafeString:
    """Return what check-ins changed of a monitor, with the labels of the keys that did (D40)."""
    return table(
        ("Changed", "By", "What"),
        [
            (
                instant(change.changed_at, timezone, zone_is_said=True),
                change.made_by,
                ", ".join(
                    f"{column.replace('_', ' ')}: {_shown(before)} → {_shown(after)}"
                    for column, (before, after) in change.difference.items()
                ),
            )
            for change in changes
        ],
        title=f"Changes by check-ins, {times_in(timezone)}",
    )


def _shown(value: object) -> object:
    return "nothing" if value in (None, "") else value


def errors_table(errors: Iterable[Any], *, title: str) -> SafeString:
    """Return processing errors as a table, each linked to its page."""
    return table(
        ("Last received", "Kind", "What", "Times"),
        [(instant(error.last_received_at), link(error, error.kind), error.message, error.count) for error in errors],
        title=title,
    )


# --- Monitor environments and environments ----------------------------------------------------------------------------


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


@admin.register(MonitorEnvironment)
class MonitorEnvironmentAdmin(ServiceDeletionMixin, InspectionAdmin):
    """The live state of each job in each environment: written by check-ins and the clock, looked at here."""

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
        """Show when the oldest slot that waits becomes a miss, in the monitor's zone."""
        return instant(row.next_checkin_latest, row.monitor.timezone, is_narrow=True)

    @admin.display(description="Last run started", ordering="last_checkin")
    def last_checkin_local(self, row: MonitorEnvironment) -> SafeString:
        """Show when the job last reported, in the monitor's zone."""
        return instant(row.last_checkin, row.monitor.timezone, is_narrow=True)

    @admin.display(description="In a row", ordering="failure_streak")
    def streak(self, row: MonitorEnvironment) -> str:
        """Show the run that thresholds are compared with."""
        if row.failure_streak:
            return f"{row.failure_streak} of {row.monitor.failure_threshold} failures"
        return f"{row.ok_streak} ok"

    @admin.display(description="State")
    def state(self, row: MonitorEnvironment) -> SafeString:
        """Show every column that a decision is made from, times in the monitor's zone."""
        zone, now = row.monitor.timezone, utcnow()
        return facts(
            {
                "Last run started": instant(row.last_checkin, zone, now=now),
                "Last ok run started": instant(row.last_ok_at, zone, now=now),
                "Oldest slot not accounted for": instant(row.pending_slot, zone, now=now),
                "That slot is missed if nothing comes until": instant(row.next_checkin_latest, zone, now=now),
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
        return {
            "incidents_table": may_view(request, "incidents.incident")
            and incidents_table(incidents[:INCIDENTS_SHOWN], timezone=zone, title=f"Last {INCIDENTS_SHOWN} incidents"),
            "checkins_table": sees_checkins
            and checkins_table(checkins, timezone=zone, title=f"Last {CHECKINS_SHOWN} check-ins"),
            "losses": may_view(request, "checkins.clientlossreport")
            and losses_text(losses_beside(checkins, row.monitor.project_id), timezone=zone),
            "notes": sees_checkins and logs_text(notes.order_by("-received_at", "-id")[:NOTES_SHOWN], timezone=zone),
        }

    def delete_model(self, request: HttpRequest, obj: MonitorEnvironment) -> None:
        """Take the environment out of sight; its rows are removed later."""
        delete_environments(obj.monitor_id, [obj.environment.name])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Take the environments out of sight; their rows are removed later."""
        names: dict[int, list[str]] = {}
        for monitor_id, name in queryset.order_by("monitor_id").values_list("monitor_id", "environment__name"):
            names.setdefault(monitor_id, []).append(name)
        for monitor_id, environment_names in names.items():
            delete_environments(monitor_id, environment_names)

    @admin.action(description="Mute: record failures, tell nobody", permissions=["handle"])
    def mute(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Mute the selected environments."""
        count = set_environments_muted(_keys(queryset), True)
        messages.success(request, f"Muted {_number(count, 'monitor environment')}.")

    @admin.action(description="Unmute", permissions=["handle"])
    def unmute(self, request: HttpRequest, queryset: QuerySet[MonitorEnvironment]) -> None:
        """Unmute the selected environments."""
        count = set_environments_muted(_keys(queryset), False)
        messages.success(request, f"Unmuted {_number(count, 'monitor environment')}.")


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
        """Environments in use: deleted ones leave a name that nothing can be sent to."""
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


# --- Projects and keys ------------------------------------------------------------------------------------------------


class GrantedPermissions:
    """Rows that people make: adding and changing as granted to the user."""

    opts: Any

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm(f"{self.opts.app_label}.add_{self.opts.model_name}")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


class KeyPermissions(GrantedPermissions):
    """Ingest keys are shown, listed and searched only with the right to change them."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Who sees a key can send with it."""
        return may_see_keys(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.delete_ingestkey")


class IngestKeyInline(KeyPermissions, TabularInline):
    """The keys of a project; a new one generates itself."""

    model = IngestKey
    form = EditForm
    fields = ("public_key", "label", "is_active")
    extra = 0


@admin.register(Project)
class ProjectAdmin(EditAdmin, GrantedPermissions, InspectionAdmin):
    """Projects, their keys, and what to paste into a job."""

    form = EditForm
    list_display = ("name", "slug", "monitors_text", "created_at")
    search_fields = ("name", "slug")
    ordering = ("name",)
    fields = ("name", "slug", "is_config_locked")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (IngestKeyInline,)
    change_form_template = "admin/monitors/project/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        """Projects with their number of monitors."""
        rows = Monitor.objects.not_deleted().filter(project=OuterRef("pk")).order_by().values("project")
        projects: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Project] = projects.annotate(
            monitor_count=Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n")), 0)
        )
        return counted

    def get_prepopulated_fields(self, request: HttpRequest, obj: Model | None = None) -> dict[str, Any]:
        """Suggest a slug for a new project; never change one that is in use."""
        return {} if obj is not None or not self.has_add_permission(request) else {"slug": ("name",)}

    @admin.display(description="Monitors", ordering="monitor_count")
    def monitors_text(self, project: Any) -> SafeString:
        """Show how many monitors there are, with a link to them."""
        return link_to_list("monitors.monitor", f"project__id__exact={project.pk}", str(project.monitor_count))

    def surroundings(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Show what to paste into a job."""
        if not may_see_keys(request):
            return {}
        base = base_url(request)
        keys = row.ingest_keys.filter(is_active=True).order_by("id")
        return {
            "connections": [
                {"key": key, "lines": to_copy(project_lines(base, key.public_key, key.project_id))} for key in keys
            ]
        }

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Date a new project; what was refused under a lock is told again under the next one."""
        if change:
            self.save_changes(obj, form)
            if "is_config_locked" in form.written():
                lock_config_of_project(obj.pk, form.cleaned_data["is_config_locked"])
            return
        obj.created_at = utcnow()
        obj.save()

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Date new keys; of the others write what was changed."""
        formset.save(commit=False)
        for key in formset.new_objects:
            key.created_at = utcnow()
            key.save()
        for key, changed in formset.changed_objects:
            key.save(update_fields=changed)
        for key in formset.deleted_objects:
            key.delete()


def base_url(request: HttpRequest) -> str:
    """Return the address under which jobs reach this server: as set, else the one that this page was asked under."""
    scheme = "https" if request.is_secure() else "http"
    return settings.PUBLIC_URL or f"{scheme}://{request.get_host()}"


def to_copy(lines: Iterable[Line]) -> list[tuple[str, SafeString]]:
    """Return titles and texts, each to be copied with one click."""
    return [(line.title, code(line.text)) for line in lines]


@admin.register(IngestKey)
class IngestKeyAdmin(EditAdmin, KeyPermissions, InspectionAdmin):
    """Keys of all projects: to find whose a key is, and to switch one off."""

    form = EditForm
    list_display = ("public_key", "project", "label", "is_active", "created_at")
    list_filter = ("is_active", ("project", AutocompleteSelectFilter))
    search_fields = ("public_key", "label")
    list_select_related = ("project",)
    autocomplete_fields = ("project",)
    ordering = ("-id",)
    fields = ("project", "public_key", "label", "is_active")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Date a new key."""
        if change:
            self.save_changes(obj, form)
            return
        obj.created_at = utcnow()
        obj.save()


@admin.register(ConfigSnapshot)
class ConfigSnapshotAdmin(InspectionAdmin):
    """The configurations that check-ins ran under."""

    list_display = ("__str__", "summary")
    search_fields = ("sha256",)
    ordering = ("-id",)
    fields = ("sha256", "content")
    readonly_fields = fields

    @admin.display(description="Configuration")
    def summary(self, snapshot: ConfigSnapshot) -> str:
        """Show what is set, on one line."""
        return ", ".join(f"{name} {value}" for name, value in snapshot.columns().items() if value is not None)

    @admin.display(description="Configuration")
    def content(self, snapshot: ConfigSnapshot) -> SafeString:
        """Show the columns of the monitor as they were."""
        return facts({name.replace("_", " "): value for name, value in snapshot.columns().items()})


# --- People: Django's own pages in the look of the theme --------------------------------------------------------------

admin.site.unregister(User)
admin.site.unregister(Group)


class UserForm(EditForm, UserChangeForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A person's account."""


@admin.register(User)
class UserAdmin(EditAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """People who may sign in."""

    form = UserForm
    readonly_fields = ("last_login", "date_joined")
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(EditAdmin, DjangoGroupAdmin, ModelAdmin):
    """Sets of permissions."""

    form = EditForm
