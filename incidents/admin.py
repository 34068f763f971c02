"""Incidents and issues in the admin: what went wrong, why, and handling it. Nobody edits history.

The check-ins that incidents and occurrences point at may have been removed (their history is kept for a limited time,
and there is no foreign key check), so they are always looked up, never assumed.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.db.models import Case, Exists, OuterRef, QuerySet, When
from django.http import HttpRequest
from django.utils.safestring import SafeString

from incidents import services
from incidents.addressees import NOBODY_WAS_TOLD
from incidents.models import Incident, Issue, Message, Notification, Occurrence
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
    link_to,
    may_view,
    table,
)
from monitors.inspection import readable as written
from monitors.losses import SILENT, losses_around, losses_beside, losses_text
from monitors.theme import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter

LOSS_REPORTS, OCCURRENCES = "checkins.clientlossreport", "incidents.occurrence"
OCCURRENCES_SHOWN = 50
INCIDENTS_SHOWN = 50
LOG_LINES_SHOWN = 20
LOG_NEAR = timedelta(days=1)
"""Output may come before the first word of its run, or after its last."""
EXPLANATION_TITLES = {
    "kind": "What happened",
    "reason": "Why it counts",
    "schedule": "Schedule",
    "crontab": "Crontab",
    "interval": "Interval",
    "interval_unit": "Interval unit",
    "timezone": "Time zone",
    "expected_at": "Expected (UTC)",
    "expected_at_local": "Expected (local)",
    "margin_minutes": "Margin in minutes",
    "max_runtime_minutes": "Maximum runtime in minutes",
    "deadline_at": "Deadline",
    "tick": "Tick that found it",
    "clock_decision": "Decision of the clock",
    "started_at": "Started",
    "received_at": "Message received",
    "failure_threshold": "Failures that open an incident",
    "recovery_threshold": "Oks that resolve it",
    "failure_streak": "Failures in a row",
    "failure_streak_started_at": "Failing since",
    "last_ok_at": "Last ok run started",
    "last_ok_duration_ms": "Last ok run took (ms)",
    "exit_status": "Exit status",
    "log_tail": "End of its log",
}
"""The words for `incidents.evidence.explain`; a key that is not here is shown as it is."""


def checkins_by_id(ids: Iterable[int | None]) -> dict[int, Any]:
    """Return the check-ins that still exist, by id. One statement."""
    checkins = apps.get_model("checkins", "CheckIn")._default_manager
    found: dict[int, Any] = checkins.in_bulk({checkin_id for checkin_id in ids if checkin_id is not None})
    return found


def checkin_link(checkin_id: int | None, found: dict[int, Any], timezone: str) -> SafeString | str:
    """Return a link to a check-in with its status and start, or say that it is gone."""
    if checkin_id is None:
        return NOTHING
    if checkin_id not in found:
        return "removed (older than the history that is kept)"
    checkin = found[checkin_id]
    return table(
        (),
        [
            (
                label(checkin.get_status_display()),
                instant(checkin.date_added, timezone),
                link(checkin, str(checkin.guid)),
            )
        ],
    )


def readable(value: object, timezone: str) -> object:
    """Return a value of an explanation for people: instants in the monitor's zone, words without underscores."""
    if isinstance(value, str) and len(value) >= 20 and value[4] == "-" and "T" in value:
        try:
            return instant(datetime.fromisoformat(value), timezone)
        except ValueError:
            return value
    return value.replace("_", " ") if isinstance(value, str) else value


def explanation_table(occurrence: Occurrence) -> SafeString:
    """Return the explanation of an occurrence (P8) as a table of names and values."""
    explanation: dict[str, Any] = dict(occurrence.explanation)
    zone = str(explanation.get("timezone") or "UTC")
    values: dict[str, object] = {}
    # PostgreSQL orders the keys of a jsonb by their length; a person wants them in the order of a story.
    for key in dict.fromkeys((*EXPLANATION_TITLES, *explanation)):
        value = explanation.get(key)
        if value is None or key == "expected_at_local":  # Local is how every instant is shown.
            continue
        if key == "expected_at" and _is_still_to_come(explanation):
            continue
        plain = key in ("schedule", "crontab", "timezone", "log_tail")
        title = "Expected" if key == "expected_at" else EXPLANATION_TITLES.get(key, key)
        values[title] = value if plain else readable(value, zone)
    return facts(values)


def _is_still_to_come(explanation: dict[str, Any]) -> bool:
    """Tell whether the slot in an explanation lay ahead when the failure was found: then it was not expected at it."""
    found = explanation.get("tick") or explanation.get("received_at")
    expected = explanation.get("expected_at")
    return bool(found and expected) and datetime.fromisoformat(str(expected)) > datetime.fromisoformat(str(found))


def losses_of(occurrences: Iterable[Occurrence], project_id: int) -> list[Any]:
    """Return what clients say that they lost around those of the occurrences that are misses or timeouts (D19)."""
    silent = [occurrence for occurrence in occurrences if occurrence.explanation.get("kind") in SILENT]
    return losses_around(project_id, [(occurrence.occurred_at, occurrence.detected_at) for occurrence in silent])


def newest(occurrences: QuerySet[Occurrence]) -> list[Occurrence]:
    """Return the occurrences that a page shows, newest first."""
    return list(occurrences.order_by("-id")[:OCCURRENCES_SHOWN])


def occurrences_table(shown: Collection[Occurrence]) -> SafeString:
    """Return occurrences with the core of their explanations, one a row."""
    found = checkins_by_id(occurrence.checkin_id for occurrence in shown)
    rows = []
    for occurrence in shown:
        explanation = occurrence.explanation
        zone = str(explanation.get("timezone") or "UTC")
        checkin = found.get(occurrence.checkin_id)
        threshold = explanation.get("failure_threshold")
        rows.append(
            (
                link(occurrence, occurrence.failure_reason),
                instant(occurrence.detected_at, zone),
                "removed" if checkin is None else link(checkin, label(checkin.get_status_display())),
                NOTHING
                if _is_still_to_come(explanation)
                else readable(explanation.get("expected_at"), zone) or NOTHING,
                readable(explanation.get("deadline_at"), zone) or NOTHING,
                f"{explanation.get('failure_streak', '?')} (opens at {threshold})",
                readable(explanation.get("reason", ""), zone),
            )
        )
    headers = ("Failure", "Detected", "Check-in", "Expected", "Deadline", "In a row", "Why it counts")
    return table(headers, rows, title=f"Occurrences, newest first (at most {OCCURRENCES_SHOWN})")


def newest_failure(checkin_id: int, explanation: Mapping[str, Any], timezone: str) -> SafeString | str:
    """Return the exit status and the end of the log of a failed run; empty if it left neither. Two statements.

    What has grown too old to be kept is taken from the explanation of its occurrence.
    """
    shown: dict[str, object] = {"Exit status": explanation.get("exit_status")}
    lines = str(explanation.get("log_tail") or "").splitlines()
    checkin = checkins_by_id([checkin_id]).get(checkin_id)
    if checkin is not None:
        exit_status = checkin.exit_status if checkin.wide_exit_status is None else checkin.wide_exit_status
        shown = {"Run": link(checkin, instant(checkin.date_added, timezone)), "Exit status": exit_status}
        logs = apps.get_model("checkins", "CheckInLog")._default_manager.filter(
            monitor_environment=checkin.monitor_environment_id,
            guid=checkin.guid,
            received_at__range=(checkin.date_added - LOG_NEAR, checkin.date_updated + LOG_NEAR),
        )
        log = logs.order_by("-received_at", "-id").first()
        if log is not None:
            lines = written(bytes(log.body)).rstrip().splitlines()[-LOG_LINES_SHOWN:]
    if not lines and shown["Exit status"] is None:
        return ""
    if lines:
        shown["End of its log"] = code("\n".join(lines))
    return facts(shown)


class StateFilter(DropdownFilter):
    """Incidents by whether they are open."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("open", "open"), ("resolved", "resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        """Filter by the resolving instant."""
        if self.value() not in ("open", "resolved"):
            return queryset
        return queryset.filter(resolved_at__isnull=self.value() == "open")


@admin.register(Incident)
class IncidentAdmin(InspectionAdmin):
    """Failing stretches of monitor environments."""

    list_display = (
        "state_label",
        "monitor_slug",
        "environment_name",
        "started_local",
        "opened_local",
        "resolved_local",
        "duration_text",
        "issue",
    )
    list_filter = (
        StateFilter,
        ("monitor_environment__monitor", AutocompleteSelectFilter),
        ("monitor_environment", AutocompleteSelectFilter),
        ("monitor_environment__monitor__project", AutocompleteSelectFilter),
    )
    date_hierarchy = "opened_at"
    search_fields = ("monitor_environment__monitor__slug", "monitor_environment__monitor__name")
    search_help_text = "Part of the monitor's slug or name"
    ordering = ("-opened_at", "-id")
    fieldsets = (
        ("Incident", {"fields": ("state_label", "monitor_link", "environment_link", "issue_link", "guid")}),
        ("Times", {"fields": ("times", "told")}),
        ("Check-ins", {"fields": ("starting", "resolving")}),
    )
    readonly_fields = (
        "state_label",
        "monitor_link",
        "environment_link",
        "issue_link",
        "times",
        "told",
        "starting",
        "resolving",
    )
    change_form_template = "admin/incidents/with_occurrences.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """All incidents with what a row shows."""
        return (
            super()
            .get_queryset(request)
            .select_related("monitor_environment__monitor", "monitor_environment__environment", "issue")
        )

    @admin.display(description="State", ordering="resolved_at")
    def state_label(self, incident: Incident) -> SafeString:
        """Show whether it is open."""
        return label("resolved" if incident.resolved_at else "open")

    @admin.display(description="Monitor", ordering="monitor_environment__monitor__slug")
    def monitor_slug(self, incident: Incident) -> str:
        """Show the slug."""
        return incident.monitor_environment.monitor.slug

    @admin.display(description="Monitor")
    def monitor_link(self, incident: Incident) -> SafeString:
        """Link to the monitor."""
        return link(incident.monitor_environment.monitor)

    @admin.display(description="Environment", ordering="monitor_environment__environment__name")
    def environment_name(self, incident: Incident) -> str:
        """Show the name."""
        return incident.monitor_environment.environment.name

    @admin.display(description="Environment")
    def environment_link(self, incident: Incident) -> SafeString:
        """Link to the environment."""
        return link(incident.monitor_environment, incident.monitor_environment.environment.name)

    @admin.display(description="Issue")
    def issue_link(self, incident: Incident) -> SafeString | str:
        """Link to the issue."""
        return link(incident.issue) if incident.issue else "none: the environment was muted"

    @admin.display(description="Started", ordering="started_at")
    def started_local(self, incident: Incident) -> SafeString:
        """Show when the failing run began, in the monitor's zone."""
        return instant(incident.started_at, incident.monitor_environment.monitor.timezone, is_narrow=True)

    @admin.display(description="Opened", ordering="opened_at")
    def opened_local(self, incident: Incident) -> SafeString:
        """Show when the threshold was reached, in the monitor's zone."""
        return instant(incident.opened_at, incident.monitor_environment.monitor.timezone, is_narrow=True)

    @admin.display(description="Resolved", ordering="resolved_at")
    def resolved_local(self, incident: Incident) -> SafeString:
        """Show when it ended, in the monitor's zone."""
        return instant(incident.resolved_at, incident.monitor_environment.monitor.timezone, is_narrow=True)

    @admin.display(description="Lasted")
    def duration_text(self, incident: Incident) -> str:
        """Show how long it lasted, until now if it is open."""
        return duration((incident.resolved_at or utcnow()) - incident.started_at)

    @admin.display(description="Times")
    def times(self, incident: Incident) -> SafeString:
        """Show the instants in the monitor's zone."""
        zone, now = incident.monitor_environment.monitor.timezone, utcnow()
        return facts(
            {
                "Failing run started": instant(incident.started_at, zone, now=now),
                "Threshold reached": instant(incident.opened_at, zone, now=now),
                "Resolved": instant(incident.resolved_at, zone, now=now),
                "Lasted": self.duration_text(incident),
            }
        )

    @admin.display(description="Told")
    def told(self, incident: Incident) -> SafeString | str:
        """Say when people were told of what, or that nobody was."""
        notifications = list(incident.notifications.order_by("id"))
        if not notifications:
            return "Nobody was told: the environment was muted, or the issue archived."
        zone, said = incident.monitor_environment.monitor.timezone, {}
        for notification in notifications:
            if notification.sent_at is not None:
                state: SafeString | str = instant(notification.sent_at, zone)
            elif notification.nobody_since is not None:
                state = NOBODY_WAS_TOLD
            else:
                state = "not yet: see Messages"
            said[f"That it {'opened' if notification.transition == 'opened' else 'was resolved'}"] = state
        return facts(said)

    @admin.display(description="Starting check-in")
    def starting(self, incident: Incident) -> SafeString | str:
        """Link to the check-in that began it."""
        zone = incident.monitor_environment.monitor.timezone
        return checkin_link(incident.starting_checkin_id, checkins_by_id([incident.starting_checkin_id]), zone)

    @admin.display(description="Resolving check-in")
    def resolving(self, incident: Incident) -> SafeString | str:
        """Link to the check-in that ended it."""
        zone = incident.monitor_environment.monitor.timezone
        return checkin_link(incident.resolving_checkin_id, checkins_by_id([incident.resolving_checkin_id]), zone)

    def surroundings(self, request: HttpRequest, row: Incident) -> dict[str, Any]:
        """Show the occurrences below, and what may have been lost around them."""
        monitor, shown = row.monitor_environment.monitor, newest(row.occurrences.all())
        if shown:
            losses = losses_of(shown, monitor.project_id)
        else:  # It is muted, so only its first check-in is known.
            starting = checkins_by_id([row.starting_checkin_id]).values()
            losses = losses_beside(starting, monitor.project_id)
        return {
            "losses": may_view(request, LOSS_REPORTS) and losses_text(losses, timezone=monitor.timezone),
            "occurrences_table": may_view(request, OCCURRENCES) and occurrences_table(shown),
            "newest_failure": may_view(request, "checkins.checkin")
            and newest_failure(
                shown[0].checkin_id if shown else row.starting_checkin_id,
                shown[0].explanation if shown else {},
                monitor.timezone,
            ),
        }


@admin.register(Issue)
class IssueAdmin(InspectionAdmin):
    """What people handle: one issue for the life of a monitor environment."""

    list_display = (
        "status_label",
        "title",
        "environment_name",
        "occurrence_count",
        "regression_count",
        "first_seen",
        "last_seen",
    )
    list_display_links = ("status_label", "title")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("project", AutocompleteSelectFilter),
        ("monitor_environment__monitor", AutocompleteSelectFilter),
    )
    date_hierarchy = "last_seen_at"
    search_fields = ("title", "monitor_environment__monitor__slug")
    search_help_text = "Part of the title or of the monitor's slug"
    actions = ("resolve", "archive", "unarchive")
    fieldsets = (
        ("Issue", {"fields": ("status_label", "title", "monitor_link", "environment_link")}),
        ("Facts", {"fields": ("issue_facts",)}),
    )
    readonly_fields = ("status_label", "monitor_link", "environment_link", "issue_facts")
    change_form_template = "admin/incidents/with_occurrences.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Issue]:
        """All issues with what a row shows."""
        is_failing = Exists(Incident.objects.filter(issue=OuterRef("pk"), resolved_at__isnull=True))
        issues = super().get_queryset(request).annotate(is_failing=is_failing)
        found: QuerySet[Issue] = issues.select_related(
            "monitor_environment__monitor", "monitor_environment__environment"
        )
        return found

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """Unresolved first, archived last, each newest first."""
        rank = Case(When(status="unresolved", then=0), When(status="resolved", then=1), default=2)
        return (rank, "-last_seen_at", "-id")

    @admin.display(description="Status", ordering="status")
    def status_label(self, issue: Issue) -> SafeString:
        """Show the status, and by whom it was resolved."""
        hint = f"by {issue.get_resolved_by_display()}" if issue.resolved_by else ""
        if issue.status == "resolved" and issue.is_failing:  # type: ignore[attr-defined]  # annotated
            return label("resolved by hand, still failing", "doubtful", title="Its incident is open until an ok comes.")
        return label(issue.get_status_display(), title=hint)

    @admin.display(description="Monitor")
    def monitor_link(self, issue: Issue) -> SafeString:
        """Link to the monitor."""
        return link(issue.monitor_environment.monitor)

    @admin.display(description="Environment", ordering="monitor_environment__environment__name")
    def environment_name(self, issue: Issue) -> str:
        """Show the name."""
        return issue.monitor_environment.environment.name

    @admin.display(description="First seen", ordering="first_seen_at")
    def first_seen(self, issue: Issue) -> SafeString:
        """Show the instant in the monitor's zone."""
        return instant(issue.first_seen_at, issue.monitor_environment.monitor.timezone, is_narrow=True)

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, issue: Issue) -> SafeString:
        """Show the instant in the monitor's zone."""
        return instant(issue.last_seen_at, issue.monitor_environment.monitor.timezone, is_narrow=True)

    @admin.display(description="Environment")
    def environment_link(self, issue: Issue) -> SafeString:
        """Link to the environment."""
        return link(issue.monitor_environment, issue.monitor_environment.environment.name)

    @admin.display(description="Facts")
    def issue_facts(self, issue: Issue) -> SafeString:
        """Show counts and instants in the monitor's zone."""
        zone, now = issue.monitor_environment.monitor.timezone, utcnow()
        return facts(
            {
                "First seen": instant(issue.first_seen_at, zone, now=now),
                "Last seen": instant(issue.last_seen_at, zone, now=now),
                "Occurrences": issue.occurrence_count,
                "Came back": "once" if issue.regression_count == 1 else f"{issue.regression_count} times",
                "Resolved": instant(issue.resolved_at, zone, now=now),
                "Resolved by": issue.get_resolved_by_display() if issue.resolved_by else NOTHING,
                "Fingerprint": issue.fingerprint,
            }
        )

    def surroundings(self, request: HttpRequest, row: Issue) -> dict[str, Any]:
        """Show incidents and occurrences below, and what may have been lost around them."""
        zone, shown = row.monitor_environment.monitor.timezone, newest(row.occurrences.all())
        incidents = [
            (
                link(incident, label("resolved" if incident.resolved_at else "open")),
                instant(incident.started_at, zone),
                instant(incident.opened_at, zone),
                instant(incident.resolved_at, zone),
                duration((incident.resolved_at or utcnow()) - incident.started_at),
            )
            for incident in row.incidents.order_by("-id")[:INCIDENTS_SHOWN]
        ]
        return {
            "incidents_table": may_view(request, "incidents.incident")
            and table(
                ("Incident", "Started", "Opened", "Resolved", "Lasted"),
                incidents,
                title=f"Incidents, newest first (at most {INCIDENTS_SHOWN})",
            ),
            "losses": may_view(request, LOSS_REPORTS) and losses_text(losses_of(shown, row.project_id), timezone=zone),
            "occurrences_table": may_view(request, OCCURRENCES) and occurrences_table(shown),
        }

    @admin.action(description="Resolve", permissions=["handle"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Issue]) -> None:
        """Resolve the selected issues by hand; the next failure makes them unresolved again."""
        self._say(request, "Resolved", services.resolve_issues(_keys(queryset), now=utcnow()))

    @admin.action(description="Archive: record, and keep it out of the way", permissions=["handle"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Issue]) -> None:
        """Archive the selected issues."""
        self._say(request, "Archived", services.archive_issues(_keys(queryset)))

    @admin.action(description="Unarchive", permissions=["handle"])
    def unarchive(self, request: HttpRequest, queryset: QuerySet[Issue]) -> None:
        """Take the selected issues out of the archive."""
        self._say(request, "Unarchived", services.unarchive_issues(_keys(queryset), now=utcnow()))

    def _say(self, request: HttpRequest, done: str, count: int) -> None:
        messages.success(request, f"{done} {count} issue{'' if count == 1 else 's'}.")


def _keys(queryset: QuerySet[Any]) -> list[int]:
    return list(queryset.order_by().values_list("pk", flat=True))


@admin.register(Occurrence)
class OccurrenceAdmin(InspectionAdmin):
    """Failed check-ins of incidents, with what explains each."""

    list_display = ("subtitle", "title", "environment", "detected", "occurred")
    sortable_by = ()
    list_filter = (("issue", AutocompleteSelectFilter),)
    search_fields = ("title",)
    search_help_text = "Part of the title"
    ordering = ("-id",)
    fieldsets = (
        (
            "Occurrence",
            {
                "fields": (
                    "title",
                    "subtitle",
                    "failure_reason",
                    "environment",
                    "issue_link",
                    "incident_link",
                    "checkin_of",
                )
            },
        ),
        ("Why", {"fields": ("explanation_facts", "lost_around")}),
        ("Evidence", {"fields": ("detected", "occurred", "last_ok", "run", "trace_id")}),
    )
    readonly_fields = (
        "issue_link",
        "incident_link",
        "checkin_of",
        "explanation_facts",
        "lost_around",
        "detected",
        "occurred",
        "last_ok",
        "run",
    )

    @admin.display(description="Detected")
    def detected(self, occurrence: Occurrence) -> SafeString:
        """Show when the failure was found, in the zone that the monitor had then."""
        return instant(occurrence.detected_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Run started, or slot")
    def occurred(self, occurrence: Occurrence) -> SafeString:
        """Show the start of the failed run, or the slot that was missed."""
        return instant(occurrence.occurred_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Last successful check-in")
    def last_ok(self, occurrence: Occurrence) -> SafeString:
        """Show the start of the newest ok run before the failure."""
        return instant(occurrence.last_ok_at, _zone(occurrence), is_narrow=True)

    @admin.display(description="Issue")
    def issue_link(self, occurrence: Occurrence) -> SafeString:
        """Link to the issue."""
        return link_to("incidents.issue", occurrence.issue_id, occurrence.title)

    @admin.display(description="Incident")
    def incident_link(self, occurrence: Occurrence) -> SafeString:
        """Link to the incident."""
        return link_to("incidents.incident", occurrence.incident_id, f"Incident {occurrence.incident_id}")

    @admin.display(description="Check-in")
    def checkin_of(self, occurrence: Occurrence) -> SafeString | str:
        """Link to the failed check-in."""
        return checkin_link(occurrence.checkin_id, checkins_by_id([occurrence.checkin_id]), _zone(occurrence))

    @admin.display(description="Explanation")
    def explanation_facts(self, occurrence: Occurrence) -> SafeString:
        """Show all that led to it, as it was then (P8)."""
        return explanation_table(occurrence)

    @admin.display(description="Lost on the way")
    def lost_around(self, occurrence: Occurrence) -> SafeString:
        """Show what clients say that they lost around a miss or a timeout (D19)."""
        losses = losses_of([occurrence], occurrence.issue.project_id)
        return losses_text(losses, timezone=_zone(occurrence)) or NOTHING

    @admin.display(description="Failing run")
    def run(self, occurrence: Occurrence) -> str:
        """Show the ids of the check-ins of the run."""
        return ", ".join(str(guid) for guid in occurrence.run_checkin_guids)


def _zone(occurrence: Occurrence) -> str:
    return str(occurrence.explanation.get("timezone") or "UTC")


@admin.register(Notification)
class NotificationAdmin(InspectionAdmin):
    """What was told, or is still to be told, to people."""

    list_display = ("transition", "channel", "told_label", "incident_link", "created", "sent")
    sortable_by = ("created",)
    list_filter = (("transition", ChoicesDropdownFilter), ("channel", ChoicesDropdownFilter))
    ordering = ("-id",)
    fields = ("transition", "channel", "told_label", "incident_link", "created", "sent")
    readonly_fields = ("told_label", "incident_link", "created", "sent")

    @admin.display(description="Created", ordering="created_at")
    def created(self, notification: Notification) -> SafeString:
        """Show the instant in UTC."""
        return instant(notification.created_at)

    @admin.display(description="Sent")
    def sent(self, notification: Notification) -> SafeString:
        """Show the instant in UTC."""
        return instant(notification.sent_at)

    @admin.display(description="State")
    def told_label(self, notification: Notification) -> SafeString:
        """Show whether people were told."""
        if notification.sent_at:
            return label("sent", "good")
        if notification.nobody_since:
            return label("nobody was told", "bad", title=NOBODY_WAS_TOLD)
        return label("waiting", title="The messages say how far each has come.")

    @admin.display(description="Incident")
    def incident_link(self, notification: Notification) -> SafeString:
        """Link to the incident."""
        return link_to("incidents.incident", notification.incident_id, f"Incident {notification.incident_id}")


@admin.register(Message)
class MessageAdmin(InspectionAdmin):
    """The outbox: each mail to each recipient, and what the mail server said."""

    list_display = (
        "kind",
        "recipient",
        "state_label",
        "incident_link",
        "created",
        "finished",
        "attempt_count",
        "last_error",
    )
    sortable_by = ("created",)
    list_filter = (("kind", ChoicesDropdownFilter), ("status", ChoicesDropdownFilter))
    search_fields = ("recipient",)
    search_help_text = "Part of the address"
    ordering = ("-id",)
    fields = (
        "kind",
        "recipient",
        "state_label",
        "incident_link",
        "subject",
        "body",
        "created",
        "due",
        "finished",
        "attempt_count",
        "last_error",
        "idempotency_key",
    )
    readonly_fields = ("state_label", "incident_link", "created", "due", "finished")

    @admin.display(description="State")
    def state_label(self, message: Message) -> SafeString:
        """Show how far it has come, and the last error."""
        if message.status == Message.Status.WAITING and message.last_error:
            return label("failing", title=message.last_error)
        return label(message.get_status_display(), title=message.last_error)

    @admin.display(description="Created", ordering="created_at")
    def created(self, message: Message) -> SafeString:
        """Show the instant in UTC."""
        return instant(message.created_at)

    @admin.display(description="Next try")
    def due(self, message: Message) -> SafeString | str:
        """Show the instant in UTC while it waits."""
        return instant(message.due_at) if message.status == Message.Status.WAITING else NOTHING

    @admin.display(description="Finished")
    def finished(self, message: Message) -> SafeString:
        """Show the instant in UTC."""
        return instant(message.finished_at)

    @admin.display(description="Incident")
    def incident_link(self, message: Message) -> SafeString | str:
        """Link to the incident."""
        if message.incident_id is None:
            return NOTHING
        return link_to("incidents.incident", message.incident_id, f"Incident {message.incident_id}")
