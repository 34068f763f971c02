"""Incidents in the admin, read-only.

The check-ins that incidents and occurrences refer to may have been removed (their history is kept for a limited time,
and there is no foreign key check), so they are always looked up, never assumed.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin, duration, may_view
from dashboard.admin.cells import NOTHING, facts, instant, label, link, table
from dashboard.admin.handling import (
    acknowledge_selected,
    acknowledgement,
    handling_context,
    handling_urls,
    timeline_table,
)
from dashboard.admin.occurrences import (
    LOSS_REPORTS,
    OCCURRENCES,
    checkin_link,
    checkins_by_id,
    losses_of,
    newest,
    newest_failure,
    occurrences_table,
)
from dashboard.admin.unfold import AutocompleteSelectFilter, DropdownFilter
from dashboard.losses import losses_beside, losses_text
from incidents.history import timeline_of_incident
from incidents.models import Incident, Message, Notification
from incidents.notifications.addressees import NOBODY_NOTIFIED
from lib.wallclock import utcnow

DUTIES_SHOWN = 100


class StateFilter(DropdownFilter):
    """Incidents by whether they are open."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer all."""
        return [("open", "open"), ("unacknowledged", "open, not acknowledged"), ("resolved", "resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        """Filter by the resolving instant."""
        if self.value() == "unacknowledged":
            return queryset.filter(resolved_at__isnull=True, acknowledged_at__isnull=True)
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
        ("Times", {"fields": ("times", "notified", "acknowledged")}),
        ("Check-ins", {"fields": ("starting", "resolving")}),
    )
    readonly_fields = (
        "state_label",
        "monitor_link",
        "environment_link",
        "issue_link",
        "times",
        "notified",
        "acknowledged",
        "starting",
        "resolving",
    )
    change_form_template = "admin/incidents/with_occurrences.html"
    actions = ("acknowledge",)

    def has_handle_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may acknowledge: whoever may handle issues."""
        return request.user.has_perms(["incidents.change_issue"])

    def get_urls(self) -> list[URLPattern]:
        """Add what people do on the page of an incident."""
        return [*handling_urls(self), *super().get_urls()]

    @admin.action(description="Acknowledge: somebody looks after it", permissions=["handle"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """Acknowledge the selected incidents that are open."""
        acknowledge_selected(request, queryset.filter(resolved_at__isnull=True).order_by("id"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """All incidents with what a row shows."""
        return (
            super()
            .get_queryset(request)
            .select_related("monitor_environment__monitor", "monitor_environment__environment", "issue__assignee")
        )

    @admin.display(description="State", ordering="resolved_at")
    def state_label(self, incident: Incident) -> SafeString:
        """Show whether it is open, and whether somebody looks after it."""
        if incident.resolved_at is None and incident.acknowledged_at is not None:
            return label("acknowledged", "doubtful", title=f"Open. By {incident.acknowledged_by}.")
        return label("resolved" if incident.resolved_at else "open")

    @admin.display(description="Acknowledged")
    def acknowledged(self, incident: Incident) -> SafeString | str:
        """Show who looks after it."""
        return acknowledgement(incident, incident.monitor_environment.monitor.timezone, now=utcnow())

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

    @admin.display(description="Notified")
    def notified(self, incident: Incident) -> SafeString | str:
        """Show when people were notified about what, or why nobody was."""
        notifications = list(incident.notifications.order_by("id"))
        if not notifications:
            return "Nobody was notified: the environment was muted, or the issue archived."
        zone, shown = incident.monitor_environment.monitor.timezone, {}
        for notification in notifications:
            if notification.sent_at is not None:
                state: SafeString | str = instant(notification.sent_at, zone)
            elif notification.held_by and (notification.nobody_since or notification.addressed_at is None):
                state = f"held: {notification.held_by}"
            elif notification.nobody_since is not None:
                state = NOBODY_NOTIFIED
            elif _needs_no_message(notification):
                state = "no message of its own"
            else:
                state = "not yet: see Messages"
            shown[notification.get_transition_display().capitalize()] = state
        return facts(shown)

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
            **handling_context(request, self, row),
            "timeline_table": timeline_table(request, timeline_of_incident(row), monitor.timezone),
            "duties_table": may_view(request, "incidents.message") and _duties_table(row, monitor.timezone),
            "losses": may_view(request, LOSS_REPORTS) and losses_text(losses, timezone=monitor.timezone),
            "occurrences_table": may_view(request, OCCURRENCES) and occurrences_table(shown),
            "newest_failure": may_view(request, "checkins.checkin")
            and newest_failure(
                shown[0].checkin_id if shown else row.starting_checkin_id,
                shown[0].explanation if shown else {},
                monitor.timezone,
            ),
        }


def _duties_table(incident: Incident, zone: str) -> SafeString:
    """Show who was notified of what, over which channel, why, and with which result."""
    duties = incident.duties.select_related("notification", "channel", "message").order_by("id")[:DUTIES_SHOWN]
    rows = [
        (
            duty.notification.get_transition_display(),
            duty.channel.name if duty.channel else "mail",
            duty.recipient if duty.message.is_mail else NOTHING,
            duty.reason,
            label(duty.message.get_status_display(), title=duty.message.last_error or duty.message.answer),
            instant(duty.message.finished_at, zone),
        )
        for duty in duties
    ]
    return table(
        ("Of", "Channel", "Address", "Because", "State", "At"),
        rows,
        title=f"Who was notified (at most {DUTIES_SHOWN})",
    )


def _needs_no_message(notification: Notification) -> bool:
    """Whether it is an acknowledgement that no channel shows: only some do."""
    if notification.transition != Notification.Transition.ACKNOWLEDGED or notification.addressed_at is None:
        return False
    return not Message.objects.filter(incident=notification.incident_id, kind=Message.Kind.ACKNOWLEDGED).exists()
