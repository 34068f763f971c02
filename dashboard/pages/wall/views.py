"""The wall: a row for each monitor and environment, time from left to right."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboard.ids import row_id
from dashboard.live.marks import read_mark
from dashboard.pages.access import page, projects_with_rights, visible_projects
from dashboard.pages.many.rights import offers
from dashboard.pages.snoozes import snooze_choices
from dashboard.pages.wall.cells import ORDER
from dashboard.pages.wall.filters import GROUPS, STATES, read_filters
from dashboard.pages.wall.ranges import RANGES
from dashboard.pages.wall.rows import SEGMENT, count_rows, find_rows, load_rows_from
from dashboard.saved_views import visible_views
from lib.wallclock import utcnow
from monitors.models import Environment, Project

ROWS_MAX = 1_000_000
SEGMENTS_ASKED_MAX = 4
"""Segments that are read at once: more are hardly in view."""
NAMES_SHOWN = 200
VIEWS_SHOWN = 20


@page
def wall(request: HttpRequest) -> HttpResponse:
    """Show the first rows, and room for all others, which are read when they are scrolled to."""
    at, mark = utcnow(), read_mark()
    filters = read_filters(request.GET.dict(), request.COOKIES)
    projects = visible_projects(request.user)
    rows = find_rows(projects, filters, now=at, person=request.user)
    counts = count_rows(rows, now=at)
    granted = projects_with_rights(request)
    views, environments = _views_and_environments(request.user, projects)
    context: dict[str, Any] = {
        "now": at,
        "mark": mark,
        "filters": filters,
        "query": filters.query(),
        "counts": counts,
        "rows": load_rows_from(rows, filters, begin=0, now=at),
        "segments": range(SEGMENT, min(counts.all, ROWS_MAX), SEGMENT),
        "views": views,
        "projects": [(slug, name) for slug, name, _ in granted[:NAMES_SHOWN]],
        "environments": environments,
        "states": STATES,
        "groups": GROUPS[1:],
        "ranges": RANGES.values(),
        "start": filters.range.start(at),
        "legend": ORDER,
        "many": offers(rights for _, _, rights in granted),
        "snooze_choices": snooze_choices(at),
    }
    return render(request, "pages/wall.html", context)


def _views_and_environments(
    user: User | AnonymousUser, projects: QuerySet[Project]
) -> tuple[list[dict[str, str]], list[str]]:
    """Return what to choose from: saved views, and the names of environments. One statement for both."""
    views = visible_views(user).select_related(None).values_list(Value("view"), "name", "query")[:VIEWS_SHOWN]
    own = Environment.objects.filter(project__in=projects).order_by("name").distinct()
    rows = list(views.union(own.values_list(Value("environment"), "name", Value(""))[:NAMES_SHOWN], all=True))
    found = [{"name": name, "query": query} for kind, name, query in rows if kind == "view"]
    return found, [name for kind, name, _ in rows if kind == "environment"]


@page
def wall_rows(request: HttpRequest) -> HttpResponse:
    """Return the rows of some `segments`, `from` a number on; with `live`, also what stands above all rows."""
    at = utcnow()
    filters = read_filters(request.GET.dict(), request.COOKIES)
    rows = find_rows(visible_projects(request.user), filters, now=at, person=request.user)
    begin = min(row_id(request.GET.get("from", "")), ROWS_MAX)
    segments = min(row_id(request.GET.get("segments", "1")), SEGMENTS_ASKED_MAX)
    context: dict[str, Any] = {"now": at, "rows": load_rows_from(rows, filters, begin=begin, segments=segments, now=at)}
    if "live" in request.GET:
        context |= {"counts": count_rows(rows, now=at), "start": filters.range.start(at)}
    return render(request, "pages/wall_rows.html", context)
