"""A first job in one minute: name, schedule with the next times while typing, then the line to paste."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from accounts.membership import projects_of
from accounts.roles import Action
from dashboard.ids import row_id
from dashboard.moments import READER_ZONE
from dashboard.pages.access import form, page, reader_language
from dashboard.pages.buttons import actor_of
from dashboard.pages.create.form import NewMonitorForm, copied_values
from dashboard.pages.schedule.form import zone_names
from dashboard.texts import said
from dashboard.typed_schedules import parse_schedule
from lib.wallclock import utcnow
from monitors.configuration import SCHEDULE_COLUMNS
from monitors.describing import describe
from monitors.models import Monitor
from monitors.patterns import ARRIVALS_NEEDED
from monitors.schedule import ScheduleError, anchor_for, next_slots
from monitors.services import create_monitor

PREVIEWED = 5


@form
def new_monitor(request: HttpRequest) -> HttpResponse:
    """Show the form, or create the monitor and go to its page, which waits for the first check-in."""
    now = utcnow()
    projects = projects_of(request.user, Action.EDIT_MONITORS).order_by("name")
    if not projects.exists():
        raise PermissionDenied(_("You may not create monitors in any project: ask an owner to make you an editor."))
    zone = READER_ZONE.get()
    initial: dict[str, Any] = {"timezone": "UTC" if zone is None else zone.key, "project": request.GET.get("project")}
    copied = _copied(request)
    if copied is not None:
        initial |= copied_values(copied)
    typed = NewMonitorForm(request.POST or None, projects=projects, now=now, copied=copied, initial=initial)
    if request.method == "POST" and typed.is_valid():
        try:
            monitor = create_monitor(typed.monitor(), by=actor_of(request, at=now))
        except IntegrityError:  # Somebody else has created it in this moment; anything else fails again below.
            typed.add_error("slug", _("The project has a monitor with this slug already."))
        else:
            return redirect("monitor", monitor.project.slug, monitor.slug)
    context = {"now": now, "form": typed, "zones": zone_names(), "copied": copied}
    return render(request, "pages/new_monitor.html", context, status=200 if request.method != "POST" else 422)


def _copied(request: HttpRequest) -> Monitor | None:
    """Return the monitor that is to be copied (`copy`), if it is one that the person may edit."""
    number = request.GET.get("copy", "")
    if not number:
        return None
    monitors = Monitor.objects.not_deleted().filter(project__in=projects_of(request.user, Action.EDIT_MONITORS))
    return get_object_or_404(monitors, pk=row_id(number))


@page
def preview_schedule(request: HttpRequest) -> HttpResponse:
    """Return a schedule that is being typed in words, with its next times, or what is wrong with it."""
    now = utcnow()
    context = {"now": now, "needed": ARRIVALS_NEEDED}
    try:
        schedule = parse_schedule({name: request.GET.get(name, "")[:200] for name in SCHEDULE_COLUMNS}, now=now)
    except ScheduleError as error:
        return render(request, "pages/schedule_preview.html", context | {"error": said(error)})
    slots = next_slots(schedule, now, anchor_for(schedule, now), PREVIEWED)
    text = describe(schedule, reader_language(request))
    shown = {"text": text, "slots": slots, "zone": schedule.timezone, "is_learning": schedule.is_learning}
    return render(request, "pages/schedule_preview.html", context | shown)
