"""The pages of maintenance windows: what is not judged, when, and who may plan, change and end it."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from audit.entries import Actor
from checkins.maintenance import (
    TooManyWindowsError,
    WindowOverError,
    end_window,
    next_minute,
    plan_window,
    replace_window,
)
from dashboard.moments import READER_ZONE
from dashboard.pages.access import button, find_project, form, page, reader_language, rights_in
from dashboard.pages.buttons import actor_of, back
from dashboard.pages.channels.facts import suggested_monitors
from dashboard.pages.maintenance.facts import (
    OVER_SHOWN,
    describe_window,
    load_covered,
    load_windows_of,
    suggested_names,
)
from dashboard.pages.maintenance.form import WindowPageForm
from dashboard.pages.schedule.form import zone_names
from dashboard.texts import said
from dashboard.window_form import SCOPE, TIMES
from dashboard.windows import what_it_covers
from lib.wallclock import utcnow
from monitors.models import MaintenanceWindow, Project


@page
def maintenance(request: HttpRequest, project: str) -> HttpResponse:
    """Show the windows of a project: in force now, to come, over."""
    now, row = utcnow(), find_project(request, project)
    context = {
        "now": now,
        "project": row,
        "rights": rights_in(request, row.pk),
        "windows": load_windows_of(row, now=now, language=reader_language(request)),
        "over_max": OVER_SHOWN,
    }
    return render(request, "pages/maintenance.html", context)


@form
def new_window(request: HttpRequest, project: str) -> HttpResponse:
    """Show the form, or plan a window. The address may name its monitor, tag and environment."""
    row = find_project(request, project)
    zone = READER_ZONE.get()
    proposed = {name: request.GET.get(name, "") for name in SCOPE}
    proposed["timezone"] = "UTC" if zone is None else zone.key
    return _edit(request, row, MaintenanceWindow(project=row), proposed)


@form
def window(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Show the form of a window, or change it: what is past stays as it was. A window that is over is in the list."""
    row = find_project(request, project)
    return _edit(request, row, _find(row, pk), {})


def _edit(request: HttpRequest, project: Project, row: MaintenanceWindow, proposed: dict[str, str]) -> HttpResponse:
    now = utcnow()
    rights_in(request, project.pk).demand(Action.EDIT_WINDOWS)
    if row.ends_at is not None and row.ends_at <= now:
        messages.info(request, _("%(window)s is over, and stays as it was: plan a new window.") % {"window": row.name})
        return redirect("maintenance", project.slug)
    # The form puts what was typed into the row.
    pk, name, has_begun = row.pk, row.name, bool(row.pk) and row.starts_at <= now
    typed = WindowPageForm(request.POST or None, instance=row, now=now, initial=proposed)
    if request.method == "POST" and typed.is_valid() and _store(request, typed, by=actor_of(request, at=now)):
        return redirect("maintenance", project.slug)
    tags, environments = suggested_names(project)
    context: dict[str, Any] = {
        "now": now,
        "project": project,
        "form": typed,
        "pk": pk,
        "name": name,
        "has_begun": has_begun,
        "zones": zone_names(),
        "monitors": suggested_monitors(project),
        "tags": tags,
        "environments": environments,
    }
    return render(request, "pages/window.html", context, status=422 if request.method == "POST" else 200)


def _store(request: HttpRequest, typed: WindowPageForm, *, by: Actor) -> bool:
    """Plan what was typed, in place of the window that was edited, if any. False: the form says why not."""
    row = typed.instance
    try:
        if row.pk is None:
            plan_window(row, now=by.at, by=by)
            messages.success(request, _("%(window)s is planned.") % {"window": row.name})
        elif typed.changed_data:
            replace_window(row.pk, typed.as_new_row(), now=by.at, by=by)
            text = _("%(window)s is planned anew from the next minute on. What was before stays as it was.")
            messages.success(request, text % {"window": row.name})
        else:
            messages.info(request, _("Nothing was changed."))
    except (TooManyWindowsError, WindowOverError) as error:
        typed.add_error(None, said(error))
        return False
    return True


@page
def preview_window(request: HttpRequest, project: str) -> HttpResponse:
    """Return when a window that is being typed would be, and what it would be about, as a part of the page."""
    now, row = utcnow(), find_project(request, project)
    typed = WindowPageForm(request.GET, instance=MaintenanceWindow(project=row), now=now)
    typed.is_valid()
    found, problems = typed.window(), typed.problems(SCOPE)
    context = {
        "now": now,
        "project": row,
        "is_empty": not request.GET.get("ends") and not request.GET.get("crontab"),
        "time_problems": typed.problems(TIMES),
        "shown": None if found is None else describe_window(found, now=now, language=reader_language(request)),
        "scope_problems": problems,
        "covers": what_it_covers(typed.instance),
        "covered": None if problems else load_covered(typed.instance),
        "tag": typed.instance.tag,
    }
    return render(request, "pages/window_preview.html", context)


@button
def act_on_window(request: HttpRequest, project: str, pk: int) -> HttpResponse:
    """Do what a button asks for: end a window. One that has not begun is deleted."""
    now, row = utcnow(), find_project(request, project)
    found = _find(row, pk)
    rights_in(request, row.pk).demand(Action.EDIT_WINDOWS)
    what, named = request.POST.get("do", ""), {"window": found.name}
    if what != "end":
        messages.error(request, _("%(what)r cannot be done here.") % {"what": what[:50]})
    elif not end_window(pk, now=now, by=actor_of(request, at=now)):
        messages.info(request, _("%(window)s is over already.") % named)
    elif found.starts_at >= next_minute(now):
        messages.success(request, _("%(window)s was deleted.") % named)
    else:
        messages.success(request, _("%(window)s ends with this minute; then everything is judged again.") % named)
    return back(request, "maintenance", project)


def _find(project: Project, pk: int) -> MaintenanceWindow:
    rows = MaintenanceWindow.objects.select_related("monitor", "environment", "project")
    return get_object_or_404(rows, project=project, pk=pk)
