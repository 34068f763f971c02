"""Check-ins, their logs, and what could not be used, in the admin. Nobody edits it.

There may be millions of check-ins, so the list is ordered by id (they arrive in that order), its filters are those that
an index serves, and it has no date hierarchy, which would read the whole table; one day at a time is offered instead.
"""

import base64
import binascii
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checkins.messages import PROBLEM_MEANINGS, CheckInMessage, ProblemKind
from checkins.models import CheckIn, CheckInLog, ClientLossReport, IngestNode, ProcessingError, WaitingCheckIn
from checkins.protocols.request import IngestRequest
from checkins.services import retry_failed
from checkins.transitions import LIFE_MAX
from lib.wallclock import utcnow
from monitors.inspection import (
    NOTHING,
    InspectionAdmin,
    code,
    duration,
    facts,
    instant,
    label,
    link,
    logs_text,
    readable,
    table,
    without_addresses,
)
from monitors.losses import losses_beside, losses_text
from monitors.models import MonitorEnvironment, Project
from monitors.theme import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter

DAYS_OFFERED = 31
SILENCE_SHOWN_MIN = timedelta(seconds=5)
"""Between two signs of life every node is silent for a moment."""
ENVIRONMENTS_SEARCHED = 1_000
"""As many as a monitor may have."""
LOG_BEFORE_RUN_MAX = timedelta(days=1)
"""Output may come before the first word of its run."""
LOGS_SHOWN = 20
"""Logs on the page of a run. Each may have 100 kB."""


def ended_at(checkin: CheckIn) -> datetime | None:
    """Return when a run ended, as far as that is known: by its start and duration, else by its last word."""
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
        """Filter by day; a day that is not offered works too, if the address says so."""
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
    """Every run that was heard of or missed."""

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
        StartedOnFilter,
        ("monitor", MonitorFilter),
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

        Asked for an old day in the order of ids, PostgreSQL walks back through every newer row.
        """
        return ("-date_added", "-id") if chosen_day(request.GET.get("day")) else ("-id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[CheckIn], search_term: str
    ) -> tuple[QuerySet[CheckIn], bool]:
        """Find one check-in by its id, or those of a monitor by its slug.

        Indexes: checkin_guid_unique_in_project, checkin_history.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            guid = uuid.UUID(term)
        except ValueError:
            return queryset.filter(monitor_environment__in=environment_ids(monitor__slug=term.lower())), False
        # The unique index begins with the project.
        projects = list(Project.objects.values_list("id", flat=True))
        return queryset.filter(project_id__any_of=projects, guid=guid), False

    @admin.display(description="Status")
    def status_label(self, checkin: CheckIn) -> SafeString:
        """Show the status; for a timeout that ended after all, also how."""
        text = checkin.get_status_display()
        if checkin.finished_status:
            return label(f"{text}, then {checkin.finished_status}", "bad", title="It ended after its deadline (D8).")
        if checkin.unknown_because:
            return label(text, title=f"Not judged: {checkin.get_unknown_because_display()}.")
        return label(text)

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
                "Times out at": instant(checkin.timeout_at, zone, now=now),
                "Counted as a failure at": instant(checkin.failed_at, zone),
                "Ended": instant(ended_at(checkin), zone),
                "Ended after the deadline": late,
                "Not judged, because": checkin.get_unknown_because_display() or NOTHING,
            }
        )

    @admin.display(description="Lost on the way")
    def lost_around(self, checkin: CheckIn) -> SafeString:
        """Show what clients say that they lost around a miss or a timeout (D19)."""
        zone = checkin.monitor_environment.monitor.timezone
        return losses_text(losses_beside([checkin], checkin.project_id), timezone=zone) or NOTHING

    @admin.display(description="Log")
    def log(self, checkin: CheckIn) -> SafeString:
        """Show what the job printed, newest first: of several, the last words matter most."""
        logs = CheckInLog.objects.filter(monitor_environment=checkin.monitor_environment_id, guid=checkin.guid)
        # The index is by time: without both ends all that the environment ever printed would be searched.
        lifetime = (checkin.date_added - LOG_BEFORE_RUN_MAX, checkin.date_added + LIFE_MAX)
        newest = logs.filter(received_at__range=lifetime).order_by("-received_at", "-id")
        return logs_text(newest[:LOGS_SHOWN], timezone=checkin.monitor_environment.monitor.timezone)

    @admin.display(description="Attempts")
    def earlier_attempts(self, checkin: CheckIn) -> SafeString:
        """Show what the job said under the same id before (D16)."""
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
        """Show how the process ended, if it said so."""
        return checkin.exit_status if checkin.wide_exit_status is None else checkin.wide_exit_status

    @admin.display(description="Errors folded into it")
    def folded_errors(self, checkin: CheckIn) -> str:
        """Show how many errors counted and have no row of their own (D39)."""
        return f"{checkin.folded_count:,} of the same minute, which were counted" if checkin.folded_count else "none"

    @admin.display(description="Configuration")
    def configuration(self, checkin: CheckIn) -> SafeString:
        """Show the monitor's configuration as it was when the run began."""
        return facts({name.replace("_", " ").capitalize(): value for name, value in checkin.config.columns().items()})


@admin.register(ProcessingError)
class ProcessingErrorAdmin(InspectionAdmin):
    """What clients sent and nothing could be made of."""

    list_display = (
        "last_received",
        "kind_label",
        "project",
        "monitor_or_slug",
        "environment",
        "field",
        "message",
        "count",
    )
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("monitor", AutocompleteSelectFilter),
        ("source", ChoicesDropdownFilter),
    )
    date_hierarchy = "last_received_at"
    search_fields = ("slug", "message")
    search_help_text = "Part of the slug or of the message"
    ordering = ("-last_received_at",)
    list_select_related = ("project", "monitor")
    fieldsets = (
        ("What", {"fields": ("kind_label", "meaning", "message", "field", "value")}),
        ("Whose", {"fields": ("project", "monitor_or_slug", "environment", "source")}),
        ("When", {"fields": ("first_received_at", "last_received_at", "count")}),
        ("What was sent first", {"fields": ("pretty_payload",)}),
    )
    readonly_fields = ("kind_label", "meaning", "monitor_or_slug", "pretty_payload")

    @admin.display(description="Last received (UTC)", ordering="last_received_at")
    def last_received(self, error: ProcessingError) -> str:
        """Show the newest of them."""
        return f"{error.last_received_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="Kind", ordering="kind")
    def kind_label(self, error: ProcessingError) -> SafeString:
        """Show the kind."""
        return label(error.kind.replace("_", " ").lower(), "doubtful", title=error.kind)

    @admin.display(description="Meaning")
    def meaning(self, error: ProcessingError) -> str:
        """Say the kind in a sentence."""
        return PROBLEM_MEANINGS[ProblemKind(error.kind)]

    @admin.display(description="Monitor", ordering="slug")
    def monitor_or_slug(self, error: ProcessingError) -> SafeString | str:
        """Link to the monitor if it is known, else show the slug that was sent."""
        return error.slug or NOTHING if error.monitor is None else link(error.monitor)

    @admin.display(description="Payload")
    def pretty_payload(self, error: ProcessingError) -> SafeString:
        """Show the payload as indented JSON."""
        return code(json.dumps(error.payload, indent=2, ensure_ascii=False, sort_keys=True))


@admin.register(WaitingCheckIn)
class WaitingCheckInAdmin(InspectionAdmin):
    """Check-ins that were acknowledged and are not applied yet: parked for their monitor (D17), or failed (D14)."""

    list_display = ("received", "reason_label", "slug", "environment", "project", "source", "error_line")
    list_filter = (
        ("reason", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("source", ChoicesDropdownFilter),
    )
    sortable_by = ("received", "slug")
    search_fields = ("slug",)
    search_help_text = "Part of the slug"
    ordering = ("-id",)
    list_select_related = ("project",)
    actions = ("process_again",)
    fieldsets = (
        ("Why it waits", {"fields": ("reason_label", "meaning", "failure")}),
        ("Whose", {"fields": ("project", "slug", "environment", "source", "received")}),
        ("What was sent", {"fields": ("content",)}),
    )
    readonly_fields = ("reason_label", "meaning", "failure", "received", "content")

    @admin.display(description="Received (UTC)", ordering="id")
    def received(self, row: WaitingCheckIn) -> SafeString:
        """Show when it came."""
        return instant(row.received_at, zone_is_said=True)

    @admin.display(description="Reason", ordering="reason")
    def reason_label(self, row: WaitingCheckIn) -> SafeString:
        """Show why it waits."""
        return label(row.get_reason_display(), "bad" if row.reason == "failed" else "doubtful")

    @admin.display(description="Error")
    def error_line(self, row: WaitingCheckIn) -> str:
        """Show the last line of the error, which says what it was."""
        return row.error.strip().rpartition("\n")[2] or NOTHING

    @admin.display(description="Meaning")
    def meaning(self, row: WaitingCheckIn) -> str:
        """Say what becomes of it."""
        if row.reason == "failed":
            return (
                "An unexpected error kept it from being applied. It stays until it is processed again, "
                "with the time at which it was received."
            )
        return (
            "Its monitor is not known yet. It is applied when the monitor comes, which usually is with the run's "
            "other message, and becomes a processing error otherwise."
        )

    @admin.display(description="Error")
    def failure(self, row: WaitingCheckIn) -> SafeString:
        """Show the end of the error's traceback."""
        return code(row.error) if row.error else NOTHING

    @admin.display(description="Message")
    def content(self, row: WaitingCheckIn) -> SafeString:
        """Show the message part by part; what is not set is left out."""
        parts = row.message["fields"]
        # PostgreSQL orders the keys of a jsonb by their length.
        names = [name for name in dict.fromkeys((*CheckInMessage.__struct_fields__, *parts)) if name in parts]
        told = {name: parts[name] for name in names if parts[name] not in (None, "", [], {})}
        shown = facts({name.replace("_", " "): part_text(name, value) for name, value in told.items()})
        # The address and the headers of a whole request hold the key that it came with.
        return without_addresses(shown) if row.message["type"] == IngestRequest.__name__ else shown

    @admin.action(description="Process again", permissions=["handle"])
    def process_again(self, request: HttpRequest, queryset: QuerySet[WaitingCheckIn]) -> None:
        """Apply the selected check-ins that failed, each by itself, as if they had been applied when they came."""
        chosen = list(queryset.order_by().values_list("pk", "reason"))
        failed = [key for key, reason in chosen if reason == "failed"]
        applied, failed_again = retry_failed(failed, now=utcnow())
        said = [f"Applied {applied}, {failed_again} failed again."]
        if parked := len(chosen) - len(failed):
            said.append(f"{parked} parked for a monitor that is not known yet: nothing can be done before it is there.")
        (messages.warning if failed_again or parked else messages.success)(request, " ".join(said))


def part_text(name: str, value: Any) -> SafeString | str:
    """Return one part of a stored message for people: bytes as text, what is nested as indented JSON."""
    if name == "log" and isinstance(value, dict):
        return format_html("{} bytes{}", value.get("size_bytes"), part_text("body", value.get("body")))
    if name == "body":
        try:
            return code(readable(base64.b64decode(str(value), validate=True)))
        except binascii.Error:
            return code(str(value))
    if isinstance(value, dict | list):
        return code(json.dumps(value, indent=2, ensure_ascii=False))
    return str(value)


@admin.register(ClientLossReport)
class ClientLossReportAdmin(InspectionAdmin):
    """What clients say that they lost on the way to us (D19)."""

    list_display = ("received", "quantity", "reason", "project", "reported")
    list_filter = (("project", AutocompleteSelectFilter),)
    sortable_by = ("received",)
    search_fields = ("reason",)
    search_help_text = "Part of the reason"
    ordering = ("-id",)
    list_select_related = ("project",)
    fields = ("project", "quantity", "reason", "received", "reported", "source")
    readonly_fields = ("received", "reported")

    @admin.display(description="Received", ordering="id")
    def received(self, report: ClientLossReport) -> SafeString:
        """Show when the report came."""
        return instant(report.received_at, now=utcnow())

    @admin.display(description="Reported, by the client's clock")
    def reported(self, report: ClientLossReport) -> SafeString:
        """Show when the client wrote it."""
        return instant(report.reported_at)


@admin.register(IngestNode)
class IngestNodeAdmin(InspectionAdmin):
    """The processes that take check-ins, and for which of them the clock waits."""

    list_display = (
        "name",
        "state_label",
        "watermark_text",
        "lag",
        "spooled_count",
        "seen",
        "started",
    )
    sortable_by = ("watermark_text", "spooled_count", "seen", "started")
    ordering = ("-seen_at", "id")
    fields = (
        "id",
        "name",
        "state_label",
        "watermark_text",
        "lag",
        "spooled_count",
        "seen",
        "started",
        "silent",
        "dropped",
        "left",
        "batch",
        "spool_position",
    )
    readonly_fields = fields

    @admin.display(description="Process")
    def name(self, node: IngestNode) -> str:
        """Show host and process id."""
        return str(node)

    @admin.display(description="State")
    def state_label(self, node: IngestNode) -> SafeString:
        """Show whether the clock waits for it."""
        if node.left_at is not None:
            return label("left", "quiet", title="It stored everything and went away.")
        if node.dropped_at is not None:
            return label("dropped", "bad", title="It was silent for too long: the clock does not wait for it.")
        if (silence := _silence(node)) is not None and silence >= SILENCE_SHOWN_MIN:
            return label("silent", "doubtful", title=f"Not heard of for {duration(silence)}; the clock waits for it.")
        return label("live", "good", title="The clock applies no minute that it has not passed.")

    @admin.display(description="Stored up to", ordering="watermark")
    def watermark_text(self, node: IngestNode) -> SafeString:
        """Show the watermark."""
        return instant(node.watermark)

    @admin.display(description="Behind by")
    def lag(self, node: IngestNode) -> str:
        """Show how far the watermark is behind what the node saw last."""
        return duration(node.seen_at - node.watermark)

    @admin.display(description="Last heard of", ordering="seen_at")
    def seen(self, node: IngestNode) -> SafeString:
        """Show when it was last heard of."""
        return instant(node.seen_at, now=utcnow())

    @admin.display(description="Started", ordering="started_at")
    def started(self, node: IngestNode) -> SafeString:
        """Show when the process took the node over."""
        return instant(node.started_at)

    @admin.display(description="Silent for")
    def silent(self, node: IngestNode) -> str:
        """Show how long the clock has seen it silent."""
        return duration(_silence(node))

    @admin.display(description="Dropped")
    def dropped(self, node: IngestNode) -> SafeString:
        """Show when the clock gave it up."""
        return instant(node.dropped_at)

    @admin.display(description="Left")
    def left(self, node: IngestNode) -> SafeString:
        """Show when it went away."""
        return instant(node.left_at)


def _silence(node: IngestNode) -> timedelta | None:
    if node.silent_since is None or node.silence_seen_at is None:
        return None
    return node.silence_seen_at - node.silent_since
