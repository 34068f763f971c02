"""The page of a route: which incidents go to which channels, and what happens until somebody acknowledges them."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.editing import lock_row
from dashboard.pages.access import button, find_project, form, page, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.routes.forms import RoutePageForm, store_route
from dashboard.texts import said
from incidents.models import Route
from incidents.notifications.conditions import parse_lines
from incidents.notifications.configuring import delete_route, move_route
from incidents.notifications.previews import find_matches
from incidents.notifications.routing import ConditionError, parse_conditions
from lib.wallclock import utcnow
from monitors.models import Project

MATCHES_SHOWN = 20
CONDITIONS_LENGTH_MAX = 5_000


@form
def new_route(request: HttpRequest, project: str) -> HttpResponse:
    """Show the form, or create a route, which comes last."""
    return _edit(request, project, None)


@form
def route(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Show a route, or change it."""
    return _edit(request, project, pk)


@transaction.atomic
def _edit(request: HttpRequest, slug: str, pk: int | None) -> HttpResponse:
    now = utcnow()
    project = find_project(request, slug)
    found = Route(project=project) if pk is None else _find(project, pk)
    rights = rights_in(request, project.pk)
    rights.demand(Action.EDIT_ROUTES)
    if request.method == "POST" and pk is not None:
        lock_row(Route.objects.all(), found)
        found = _find(project, pk)
    typed = RoutePageForm(request.POST or None, instance=found)
    if request.method == "POST" and typed.is_valid():
        store_route(typed, by=actor_of(request, at=now))
        messages.success(request, _("The route %(route)s was stored.") % {"route": found})
        return redirect("project-channels", slug)
    name = "" if pk is None else _find(project, pk).name
    context = {"now": now, "project": project, "form": typed, "pk": pk, "name": name, "rights": rights}
    return render(request, "pages/route.html", context, status=422 if request.method == "POST" else 200)


@page
def matches(request: HttpRequest, project: str) -> HttpResponse:
    """Return what the conditions that are being typed would match, as a part of the page."""
    row = find_project(request, project)
    try:
        conditions = parse_conditions(parse_lines(request.GET.get("conditions", "")[:CONDITIONS_LENGTH_MAX]))
    except ConditionError as error:
        return render(request, "pages/route_matches.html", {"error": said(error)})
    found = find_matches(row.pk, conditions)
    shown, more = found.found[:MATCHES_SHOWN], max(len(found.found) - MATCHES_SHOWN, 0)
    context = {"project": row, "matches": found, "count": len(found.found), "shown": shown, "more": more}
    return render(request, "pages/route_matches.html", context)


@button
def act_on_route(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Do what a button asks for: move up or down, delete."""
    now = utcnow()
    row = find_project(request, project)
    found = _find(row, pk)
    rights_in(request, row.pk).demand(Action.EDIT_ROUTES)
    by = actor_of(request, at=now)
    match request.POST.get("do"):
        case "up" | "down" as where:
            move_route(found, places=-1 if where == "up" else 1, now=now, by=by)
        case "delete":
            delete_route(found, by=by)
            messages.success(request, _("The route %(route)s was deleted.") % {"route": found})
        case unknown:
            messages.error(request, _("%(what)r cannot be done here.") % {"what": str(unknown)[:50]})
    return redirect("project-channels", project)


def _find(project: Project, pk: int) -> Route:
    return get_object_or_404(Route, project=project, pk=pk)
