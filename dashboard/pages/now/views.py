"""Now: what needs a person, oldest first; below it what is being waited for."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboard.live.marks import read_mark
from dashboard.pages.access import page, reader_language, rights_everywhere, visible_projects
from dashboard.pages.now.facts import Scope, count_open, load_late, load_long_runs, load_open
from dashboard.pages.snoozes import snooze_buttons
from lib.wallclock import utcnow


@page
def now(request: HttpRequest) -> HttpResponse:
    """Show what is failing and who looks after it."""
    at, mark = utcnow(), read_mark()
    projects = visible_projects(request.user)
    is_mine = bool(request.GET.get("mine"))
    scope = Scope(projects, request.user if is_mine else None)
    rights = rights_everywhere(request)
    found = load_open(scope, now=at, language=reader_language(request))
    context = {
        "now": at,
        "mark": mark,
        "is_mine": is_mine,
        "counts": count_open(scope, now=at),
        "open": [(one, rights(one.environment.monitor.project_id)) for one in found],
        "late": load_late(scope, now=at),
        "long": load_long_runs(scope, now=at),
        "snooze_buttons": snooze_buttons(at),
        "has_projects": bool(found) or projects.exists(),
    }
    return render(request, "pages/now.html", context)
