"""What people do on the pages of incidents and issues: acknowledge, comment, assign; and the timeline below.

One address for each row, `handle/`, takes what the small forms beside the row send.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.models import Membership
from dashboard.admin.base import may_view
from dashboard.admin.cells import instant, label, table
from dashboard.admin.recording import actor_of
from dashboard.ids import row_id
from incidents import handling
from incidents.handling.comments import TEXT_LENGTH_MAX
from incidents.models import Incident, Issue
from incidents.timeline import Entry, What
from lib.wallclock import utcnow

MEMBERS_SHOWN = 200
TONES = {
    What.OPENED: "bad",
    What.REGRESSED: "bad",
    What.OCCURRENCE: "bad",
    What.ACKNOWLEDGED: "running",
    What.RESOLVED: "good",
}


class Handled(Protocol):
    """The part of a page's class that is needed here."""

    model: Any
    admin_site: Any
    opts: Any

    def has_handle_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may handle these rows."""
        ...


def handling_urls(page: Handled) -> list[URLPattern]:
    """Return the address that takes the forms of a page."""

    def view(request: HttpRequest, pk: int) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = get_object_or_404(page.model, pk=pk)
        if not page.has_handle_permission(request, row):
            raise PermissionDenied
        _do(request, row, now=utcnow())
        return HttpResponseRedirect(reverse(f"admin:{_name(page)}_change", args=[pk]))

    return [path("<int:pk>/handle/", page.admin_site.admin_view(view), name=f"{_name(page)}_handle")]


def _name(page: Handled) -> str:
    return f"{page.opts.app_label}_{page.opts.model_name}"


def _do(request: HttpRequest, row: Incident | Issue, *, now: datetime) -> None:
    """Do what a form asks for, and show the person what became of it."""
    by = actor_of(request, at=now)
    issue_id = row.issue_id if isinstance(row, Incident) else row.pk
    match request.POST.get("do"):
        case "acknowledge" if isinstance(row, Incident):
            result = handling.acknowledge(row.guid, by=by, via="the admin", now=now)
            done = result is handling.Acknowledgement.DONE
            (messages.success if done else messages.warning)(
                request, "Acknowledged." if done else f"Not done: {result}."
            )
        case "withdraw" if isinstance(row, Incident):
            if handling.withdraw_acknowledgement(row.guid, by=by, now=now):
                messages.success(request, "No longer acknowledged: reminders and escalation begin anew.")
        case "comment" if issue_id is not None:
            try:
                handling.comment(issue_id, request.POST.get("text", ""), by=by, now=now)
            except handling.CommentError as error:
                messages.error(request, str(error))
        case "assign" if issue_id is not None:
            member = request.POST.get("member", "")
            try:
                handling.assign(issue_id, row_id(member) if member else None, by=by)
            except handling.AssignmentError as error:
                messages.error(request, str(error))
        case unknown:
            messages.error(request, f"{str(unknown)[:50]!r} cannot be done here.")


def acknowledge_selected(request: HttpRequest, incidents: Iterable[Incident]) -> None:
    """Acknowledge open incidents, one after the other."""
    now = utcnow()
    by = actor_of(request, at=now)
    results = [handling.acknowledge(incident.guid, by=by, via="the admin", now=now) for incident in incidents]
    count = results.count(handling.Acknowledgement.DONE)
    messages.success(request, f"Acknowledged {count} incident{'' if count == 1 else 's'}.")


def handling_context(request: HttpRequest, page: Handled, row: Incident | Issue) -> dict[str, Any]:
    """Return what the forms beside a row need; nothing for people who may only look."""
    if not page.has_handle_permission(request, row):
        return {}
    incident = row if isinstance(row, Incident) else None
    issue = incident.issue if incident else row
    is_open = incident is not None and incident.resolved_at is None
    members = Membership.objects.filter(project_id=issue.project_id) if isinstance(issue, Issue) else None
    return {
        "handle_url": reverse(f"admin:{_name(page)}_handle", args=[row.pk]),
        "may_acknowledge": is_open and incident is not None and incident.acknowledged_at is None,
        "may_withdraw": is_open and incident is not None and incident.acknowledged_at is not None,
        "comment_length_max": TEXT_LENGTH_MAX if issue else 0,
        "members": list(members.select_related("user").order_by("user__username")[:MEMBERS_SHOWN]) if members else [],
        "assignee_id": issue.assignee_id if isinstance(issue, Issue) else None,
    }


def acknowledgement(incident: Incident, zone: str, *, now: datetime) -> SafeString | str:
    """Return who acknowledged an incident, when and by which way."""
    if incident.acknowledged_at is None:
        return "by nobody" if incident.resolved_at is None else "by nobody while it was open"
    until = incident.acknowledged_until
    return format_html(
        "{} at {}, by {}{}",
        incident.acknowledged_by,
        instant(incident.acknowledged_at, zone, now=now),
        incident.acknowledged_via,
        format_html(", until {}", instant(until, zone)) if until is not None and incident.resolved_at is None else "",
    )


def timeline_table(request: HttpRequest, entries: Iterable[Entry], zone: str) -> SafeString:
    """Return a timeline as a table, newest first. Who was notified is shown to people who may view messages."""
    sees_recipients = may_view(request, "incidents.message")
    rows = [
        (instant(entry.at, zone), label(entry.what.value, TONES.get(entry.what, "quiet")), entry.who, entry.text)
        for entry in reversed(list(entries))
        if entry.what is not What.NOTIFIED or sees_recipients
    ]
    return table(("When", "What", "Who", "Details"), rows, title="Timeline, newest first")
