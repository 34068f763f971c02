"""The page of an incident: what failed and why, who was notified, and what people do about it."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from accounts.models import Membership
from accounts.roles import Action
from dashboard.ids import row_id
from dashboard.pages.access import Rights, button, find_incident, page, reader_language, rights_in, sees_log
from dashboard.pages.buttons import actor_of, back
from dashboard.pages.incident.facts import (
    is_acknowledged,
    load_duties,
    load_earlier,
    load_failure,
    nobody_notified,
)
from dashboard.pages.snoozes import snooze_buttons
from dashboard.sentences import sentence
from dashboard.texts import said
from dashboard.vocabulary import word
from incidents import handling
from incidents.handling.comments import TEXT_LENGTH_MAX
from incidents.history import timeline_of_incident
from incidents.models import Incident
from lib.wallclock import utcnow

MEMBERS_SHOWN = 200


@page
def incident(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an incident."""
    return _show(request, find_incident(request, pk))


def _show(request: HttpRequest, row: Incident, *, comment: str = "", error: str = "") -> HttpResponse:
    """Show an incident; with a comment that was refused and why."""
    at = utcnow()
    environment = row.monitor_environment
    rights = rights_in(request, environment.monitor.project_id)
    failure = load_failure(row, sees_log=sees_log(environment.monitor, rights))
    language = reader_language(request)
    entries = list(reversed(timeline_of_incident(row, language=language, sees_addresses=rights["acknowledge"])))
    context: dict[str, Any] = {
        "now": at,
        "incident": row,
        "environment": environment,
        "monitor": environment.monitor,
        "rights": rights,
        "is_open": row.resolved_at is None,
        "is_acknowledged": is_acknowledged(row, now=at),
        "failure": failure,
        "reason": sentence(row, failure.explanation, language=language),
        "timeline": entries,
        "nobody_notified": nobody_notified(row),
        "duties": load_duties(row),
        "earlier": load_earlier(row),
        "snooze_buttons": snooze_buttons(at),
        "comment_length_max": TEXT_LENGTH_MAX,
        "comment": comment,
        "comment_error": error,
        "members": _members(row, rights),
    }
    return render(request, "pages/incident.html", context, status=422 if error else 200)


def _members(row: Incident, rights: Rights) -> list[Membership]:
    if row.issue is None or Action.ASSIGN not in rights:
        return []
    members = Membership.objects.filter(project_id=row.issue.project_id).select_related("user")
    return list(members.order_by("user__username")[:MEMBERS_SHOWN])


@button
def act_on_incident(request: HttpRequest, pk: int) -> HttpResponse:
    """Do what a button asks for: acknowledge, withdraw, comment, assign."""
    row = find_incident(request, pk)
    if request.POST.get("do") == "comment" and row.issue_id is not None:
        return _comment(request, row, row.issue_id)
    _act(request, row, rights_in(request, row.monitor_environment.monitor.project_id), now=utcnow())
    return back(request, "incident", pk)


def _comment(request: HttpRequest, row: Incident, issue_id: int) -> HttpResponse:
    """Store a comment. One that is refused is shown again, so that its text is not lost."""
    rights_in(request, row.monitor_environment.monitor.project_id).demand(Action.COMMENT)
    text, now = request.POST.get("text", ""), utcnow()
    try:
        handling.comment(issue_id, text, by=actor_of(request, at=now), now=now)
    except handling.CommentError as error:
        return _show(request, row, comment=text, error=said(error))
    return back(request, "incident", row.pk)


def _act(request: HttpRequest, row: Incident, rights: Rights, *, now: datetime) -> None:
    by = actor_of(request, at=now)
    match request.POST.get("do"):
        case "acknowledge":
            rights.demand(Action.ACKNOWLEDGE)
            result = handling.acknowledge(row.guid, by=by, via="its page", now=now)
            if result is handling.Acknowledgement.DONE:
                messages.success(request, _("Acknowledged."))
            else:
                messages.warning(request, _("Not done: %(why)s.") % {"why": word(result.value)})
        case "withdraw":
            rights.demand(Action.ACKNOWLEDGE)
            if handling.withdraw_acknowledgement(row.guid, by=by, now=now):
                messages.success(request, _("No longer acknowledged: reminders and escalation begin anew."))
        case "assign" if row.issue_id is not None:
            rights.demand(Action.ASSIGN)
            member = request.POST.get("member", "")
            try:
                handling.assign(row.issue_id, row_id(member) if member else None, by=by)
            except handling.AssignmentError as error:
                messages.error(request, said(error))
        case unknown:
            messages.error(request, _("%(what)r cannot be done here.") % {"what": str(unknown)[:50]})
