"""Pages of issues."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, Exists, OuterRef, QuerySet, When
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin, duration, may_view
from dashboard.admin.cells import NOTHING, facts, instant, label, link, table
from dashboard.admin.handling import handling_context, handling_urls, timeline_table
from dashboard.admin.occurrences import LOSS_REPORTS, OCCURRENCES, losses_of, newest, occurrences_table
from dashboard.admin.recording import actor_of
from dashboard.admin.tables import keys_of
from dashboard.admin.unfold import AutocompleteSelectFilter, ChoicesDropdownFilter
from dashboard.losses import losses_text
from incidents import handling
from incidents.history import timeline_of_issue
from incidents.models import Incident, Issue
from lib.wallclock import utcnow

INCIDENTS_SHOWN = 50


@admin.register(Issue)
class IssueAdmin(InspectionAdmin):
    """Issues for people to handle: one for the life of a monitor environment."""

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
            "monitor_environment__monitor", "monitor_environment__environment", "assignee__user"
        )
        return found

    def get_urls(self) -> list[URLPattern]:
        """Add what people do on the page of an issue."""
        return [*handling_urls(self), *super().get_urls()]

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """Unresolved first, archived last, each newest first."""
        rank = Case(When(status="unresolved", then=0), When(status="resolved", then=1), default=2)
        return (rank, "-last_seen_at", "-id")

    @admin.display(description="Status", ordering="status")
    def status_label(self, issue: Issue) -> SafeString:
        """Show the status, and who resolved it."""
        hint = f"by {issue.get_resolved_by_display()}" if issue.resolved_by else ""
        if issue.status == "resolved" and issue.is_failing:  # type: ignore[attr-defined]  # annotated
            return label("resolved by hand, still failing", "doubtful", title="Its incident is open until the next ok.")
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
                "Assigned to": issue.assignee.user.get_username() if issue.assignee else NOTHING,
                "Regressed": "once" if issue.regression_count == 1 else f"{issue.regression_count} times",
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
            **handling_context(request, self, row),
            "timeline_table": may_view(request, "incidents.incident")
            and timeline_table(request, timeline_of_issue(row), zone),
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
        now = utcnow()
        count = handling.resolve_issues(keys_of(queryset), now=now, by=actor_of(request, at=now))
        self._report(request, "Resolved", count)

    @admin.action(description="Archive: record failures, notify nobody", permissions=["handle"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Issue]) -> None:
        """Archive the selected issues."""
        count = handling.archive_issues(keys_of(queryset), by=actor_of(request, at=utcnow()))
        self._report(request, "Archived", count)

    @admin.action(description="Unarchive", permissions=["handle"])
    def unarchive(self, request: HttpRequest, queryset: QuerySet[Issue]) -> None:
        """Unarchive the selected issues."""
        now = utcnow()
        count = handling.unarchive_issues(keys_of(queryset), now=now, by=actor_of(request, at=now))
        self._report(request, "Unarchived", count)

    def _report(self, request: HttpRequest, done: str, count: int) -> None:
        messages.success(request, f"{done} {count} issue{'' if count == 1 else 's'}.")
