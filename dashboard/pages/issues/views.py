"""The pages of issues: what has failed in a project, and all incidents of one environment of a monitor."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.pages.access import button, find_issue, find_project, page, reader_language, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.issues.facts import describe, issues_of, load_incidents
from incidents.handling.issues import archive_issues, resolve_issues, unarchive_issues
from incidents.history import timeline_of_issue
from incidents.models import Issue
from lib.wallclock import utcnow

ISSUES_SHOWN = 50


@page
def issues(request: HttpRequest, project: str) -> HttpResponse:
    """List the issues of a project."""
    row = find_project(request, project)
    status, text = request.GET.get("status", ""), request.GET.get("q", "")[:100]
    shown = Paginator(issues_of(row, status=status, text=text), ISSUES_SHOWN).get_page(request.GET.get("page"))
    context = {
        "now": utcnow(),
        "project": row,
        "rights": rights_in(request, row.pk),
        "status": status,
        "statuses": Issue.Status.values,
        "text": text,
        "shown": shown,
        "issues": describe(list(shown), language=reader_language(request)),
    }
    return render(request, "pages/issues.html", context)


@page
def issue(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an issue with its incidents and what has happened."""
    row = find_issue(request, pk)
    rights = rights_in(request, row.project_id)
    language = reader_language(request)
    entries = list(reversed(timeline_of_issue(row, language=language, sees_addresses=rights["acknowledge"])))
    context = {
        "now": utcnow(),
        "shown": describe([row], language=language)[0],
        "issue": row,
        "project": row.monitor_environment.monitor.project,
        "monitor": row.monitor_environment.monitor,
        "environment": row.monitor_environment.environment,
        "rights": rights,
        "incidents": load_incidents(row),
        "timeline": entries,
    }
    return render(request, "pages/issue.html", context)


@button
def act_on_issue(request: HttpRequest, pk: int) -> HttpResponse:
    """Do what a button asks for: resolve, archive, unarchive."""
    row, now = find_issue(request, pk), utcnow()
    rights_in(request, row.project_id).demand(Action.HANDLE_ISSUES)
    by = actor_of(request, at=now)
    match request.POST.get("do"):
        case "resolve" if resolve_issues([pk], now=now, by=by):
            messages.success(request, _("Resolved. The next failure makes it unresolved again."))
        case "archive" if archive_issues([pk], by=by):
            messages.success(request, _("Archived: failures are recorded, and nobody is notified."))
        case "unarchive" if unarchive_issues([pk], now=now, by=by):
            messages.success(request, _("People are notified of its failures again."))
        case "resolve" | "archive" | "unarchive":
            messages.warning(request, _("Somebody else has done so already."))
        case unknown:
            messages.error(request, _("%(what)r cannot be done here.") % {"what": str(unknown)[:50]})
    return redirect("issue", pk)
