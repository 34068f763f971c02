"""Check-ins and their logs in the admin, read-only.

There may be millions of check-ins, so the list is ordered by id (they arrive in that order), its filters are those that
an index serves, and it has no date hierarchy, which would read the whole table; one day at a time is offered instead.
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkins.models import CheckIn, CheckInLog
from checkins.processing.transitions import LIFE_MAX
from dashboard.admin.base import InspectionAdmin, duration
from dashboard.admin.cells import NOTHING, facts, instant, label, link, logs_text, table
from dashboard.admin.tables import run_label
from dashboard.admin.unfold import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from dashboard.losses import losses_beside, losses_text
from dashboard.runs import judged_at, why_not_judged
from dashboard.vocabulary import setting
from lib.wallclock import utcnow
from monitors.models import MonitorEnvironment, Project

DAYS_OFFERED = 31
ENVIRONMENTS_SEARCHED = 1_000
"""As many as a monitor may have."""
LOG_BEFORE_RUN_MAX = timedelta(days=1)
"""Output may arrive before the first message of its run."""
LOGS_SHOWN = 20
"""Logs on the page of a run. Each may have 100 kB."""


def ended_at(checkin: CheckIn) -> datetime | None:
    """Return when a run ended, if known: by its start and duration, else by its last message."""
    if checkin.finished_at is not None:
        return checkin.finished_at
    if checkin.status not in ("ok", "error"):
        return None
    took = checkin.duration_ms
    return checkin.date_updated if took is None else checkin.date_added + timedelta(milliseconds=took)


def milliseconds(count: int | None) -> str:
    """Return a duration in milliseconds in words."""
    return duration(None if count is None else timedelta(milliseconds=count))


class StartedOnFilter(DropdownFilter):
    """Check-ins of one day (UTC). A day is a bounded range of the BRIN index."""

    title = "day (UTC)"
    parameter_name = "day"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the last days, today first."""
        today = utcnow().date()
        days = [today - timedelta(days=back) for back in range(DAYS_OFFERED)]
        return [(day.isoformat(), f"{day:%a %Y-%m-%d}") for day in days]

    def queryset(self, request: HttpRequest, queryset: QuerySet[CheckIn]) -> QuerySet[CheckIn]:
        """Filter by day; the address may also name a day that is not offered."""
        start = chosen_day(self.value())
        if start is None:
            return queryset
        return queryset.filter(date_added__gte=start, date_added__lt=start + timedelta(days=1))


def chosen_day(text: str | None) -> datetime | None:
    """Return the first instant (UTC) of a day written as in 2026-01-05; None if it is not one."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


class MonitorFilter(AutocompleteSelectFilter):
    """Check-ins of a monitor, found through its environments: their index holds the history."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[CheckIn]) -> QuerySet[CheckIn]:
        """Filter by the monitor's environments."""
        value = self.value()
        if not value or not value.isdecimal():
            return queryset
        return queryset.filter(monitor_environment__in=environment_ids(monitor=value))


def environment_ids(**conditions: Any) -> list[int]:
    """Return the ids of monitor environments, to be looked up in the index of their history."""
    rows = MonitorEnvironment.objects.filter(**conditions).order_by("id")
    return list(rows.values_list("id", flat=True)[:ENVIRONMENTS_SEARCHED])


@admin.register(CheckIn)
class CheckInAdmin(InspectionAdmin):
    """Every run that was reported or missed."""

    list_display = (
        "status_label",
        "monitor_slug",
        "environment_name",
        "expected_local",
        "started_local",
        "duration_text",
        "source",
        "short_id",
    )
    list_display_links = ("status_label", "short_id")
    sortable_by = ()
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("limit_broken", ChoicesDropdownFilter),
        StartedOnFilter,
        ("monitor_environment__monitor", MonitorFilter),
        ("monitor_environment", AutocompleteSelectFilter),
        ("project", AutocompleteSelectFilter),
    )
    search_fields = ("guid",)
    search_help_text = "The id of a check-in, or the whole slug of a monitor"
    fieldsets = (
        (
            "Run",
            {
                "fields": (
                    "status_label",
                    "monitor_link",
                    "environment_link",
                    "guid",
                    "source",
                    "trace_id",
                    "exit_status_sent",
                    "folded_errors",
                )
            },
        ),
        ("Times", {"fields": ("times", "lost_around")}),
        ("Log", {"fields": ("log",)}),
        ("Earlier attempts", {"fields": ("earlier_attempts",)}),
        ("Configuration in force", {"fields": ("configuration",)}),
    )
    readonly_fields = (
        "status_label",
        "monitor_link",
        "environment_link",
        "times",
        "lost_around",
        "log",
        "earlier_attempts",
        "configuration",
        "exit_status_sent",
        "folded_errors",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[CheckIn]:
        """All check-ins with what a row shows."""
        return (
            super()
            .get_queryset(request)
            .select_related("monitor_environment__monitor", "monitor_environment__environment", "config")
        )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first: by id, or by start within one day.

        With an old day in the order of ids, PostgreSQL would read every newer row.
        """
        return ("-date_added", "-id") if chosen_day(request.GET.get("day")) else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[CheckIn], search_term: str
    ) -> tuple[QuerySet[CheckIn], bool]:
        """Find one check-in by its id, or those of a monitor by its slug.

        Indexes: the one of ids in each partition, checkin_history.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            guid = uuid.UUID(term)
        except ValueError:
            return queryset.filter(monitor_environment__in=environment_ids(monitor__slug=term.lower())), False
        # The unique index of ids begins with the project.
        projects = list(Project.objects.values_list("id", flat=True))
        return queryset.filter(project_id__any_of=projects, guid=guid), False

    @admin.display(description="Status")
    def status_label(self, checkin: CheckIn) -> SafeString:
        """Show the status; for a timeout that ended later, also how."""
        text = checkin.get_status_display()
        if checkin.finished_status:
            return label(f"{text}, then {checkin.finished_status}", "bad", title="It ended after its deadline (D8).")
        if checkin.unknown_because:
            judged = "Not counted" if checkin.status == "error" else "Not judged"
            return label(text, title=f"{judged}: {checkin.get_unknown_because_display()}.")
        return run_label(checkin)

    @admin.display(description="Monitor")
    def monitor_slug(self, checkin: CheckIn) -> str:
        """Show the slug."""
        return checkin.monitor_environment.monitor.slug

    @admin.display(description="Environment")
    def environment_name(self, checkin: CheckIn) -> str:
        """Show the name."""
        return checkin.monitor_environment.environment.name

    @admin.display(description="Expected")
    def expected_local(self, checkin: CheckIn) -> SafeString:
        """Show the slot in the monitor's zone."""
        return instant(checkin.expected_time, checkin.monitor_environment.monitor.timezone)

    @admin.display(description="Started")
    def started_local(self, checkin: CheckIn) -> SafeString:
        """Show the start in the monitor's zone."""
        return instant(checkin.date_added, checkin.monitor_environment.monitor.timezone)

    @admin.display(description="Duration")
    def duration_text(self, checkin: CheckIn) -> str:
        """Show how long the run took."""
        return milliseconds(checkin.duration_ms)

    @admin.display(description="Id")
    def short_id(self, checkin: CheckIn) -> SafeString:
        """Show the beginning of the id; the tooltip holds all of it."""
        return format_html('<span title="{}" class="font-mono">{}</span>', checkin.guid, str(checkin.guid)[:8])

    @admin.display(description="Monitor")
    def monitor_link(self, checkin: CheckIn) -> SafeString:
        """Link to the monitor."""
        return link(checkin.monitor_environment.monitor)

    @admin.display(description="Environment")
    def environment_link(self, checkin: CheckIn) -> SafeString:
        """Link to the environment."""
        return link(checkin.monitor_environment, checkin.monitor_environment.environment.name)

    @admin.display(description="Times")
    def times(self, checkin: CheckIn) -> SafeString:
        """Show every instant of the run in the monitor's zone, and how it ended."""
        zone, now = checkin.monitor_environment.monitor.timezone, utcnow()
        late = NOTHING
        if checkin.finished_at is not None:
            late = label(checkin.finished_status or "", title="Reported after the deadline")
        return facts(
            {
                "Expected": instant(checkin.expected_time, zone, now=now),
                "Started": instant(checkin.date_added, zone, now=now),
                "Opening message received": instant(checkin.date_in_progress, zone),
                "First message received": instant(checkin.received_at, zone),
                "Last change": instant(checkin.date_updated, zone),
                "Duration": milliseconds(checkin.duration_ms),
                "Times out at": instant(judged_at(checkin), zone, now=now),
                "Counted as a failure at": instant(checkin.failed_at, zone),
                "Ended": instant(ended_at(checkin), zone),
                "Ended after the deadline": late,
                "Limit broken": checkin.get_limit_broken_display() or NOTHING,
                "Not judged, because": why_not_judged(checkin) or NOTHING,
            }
        )

    @admin.display(description="Lost on the way")
    def lost_around(self, checkin: CheckIn) -> SafeString:
        """Show the loss reports of clients around a miss or a timeout (D19)."""
        zone = checkin.monitor_environment.monitor.timezone
        return losses_text(losses_beside([checkin], checkin.project_id), timezone=zone) or NOTHING

    @admin.display(description="Log")
    def log(self, checkin: CheckIn) -> SafeString:
        """Show the output of the job, newest first: the last lines matter most."""
        logs = CheckInLog.objects.filter(monitor_environment=checkin.monitor_environment_id, guid=checkin.guid)
        # The index is by time: without both bounds all logs of the environment would be searched.
        lifetime = (checkin.date_added - LOG_BEFORE_RUN_MAX, checkin.date_added + LIFE_MAX)
        newest = logs.filter(received_at__range=lifetime).order_by("-received_at", "-id")
        return logs_text(newest[:LOGS_SHOWN], timezone=checkin.monitor_environment.monitor.timezone)

    @admin.display(description="Attempts")
    def earlier_attempts(self, checkin: CheckIn) -> SafeString:
        """Show the earlier ends that the job reported under the same id (D16)."""
        return table(
            ("Status", "Received", "Duration"),
            [
                (
                    label(attempt.status),
                    instant(attempt.received_at, checkin.monitor_environment.monitor.timezone),
                    milliseconds(attempt.duration_ms),
                )
                for attempt in checkin.attempts.all()
            ],
        )

    @admin.display(description="Exit status")
    def exit_status_sent(self, checkin: CheckIn) -> int | None:
        """Show how the process ended, if it was reported."""
        return checkin.exit_status if checkin.wide_exit_status is None else checkin.wide_exit_status

    @admin.display(description="Errors folded into it")
    def folded_errors(self, checkin: CheckIn) -> str:
        """Show how many errors counted and have no row of their own (D39)."""
        return f"{checkin.folded_count:,} of the same minute, all counted" if checkin.folded_count else "none"

    @admin.display(description="Configuration")
    def configuration(self, checkin: CheckIn) -> SafeString:
        """Show the monitor's configuration as it was when the run began."""
        return facts(
            {name.replace("_", " ").capitalize(): setting(value) for name, value in checkin.config.columns().items()}
        )
