"""The schedule of a monitor: a form, and what the check-ins suggest."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from checkins.editing import update_monitor
from dashboard.pages.access import find_monitor, form, reader_language, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.monitor.facts import choose, load_environments
from dashboard.pages.schedule.form import EditScheduleForm, zone_names
from dashboard.pages.schedule.learned import load_learned
from dashboard.typed_schedules import typed_as
from lib.wallclock import utcnow
from monitors.configuration import SCHEDULE_COLUMNS, schedule_columns
from monitors.describing import describe
from monitors.models import Monitor
from monitors.services import hold_monitors

NUMBERS = ("checkin_margin", "max_runtime")
COLUMNS = (*SCHEDULE_COLUMNS, *NUMBERS)


@form
@transaction.atomic
def edit_schedule(request: HttpRequest, project: str, slug: str) -> HttpResponse:
    """Show the form, with a schedule that the address proposes, or change the schedule of a monitor.

    1. Find the monitor, and demand the right to edit it. A change locks its row, and reads it again.
    2. Fill the form with the present settings, then with what the address proposes, then with what was typed.
    3. Store a valid form and leave, unless somebody changed the settings since the form was shown (D41): then the form
       is shown again with what they are now, and overwrites them when it is sent once more.
    4. Show the form, with what was learned from the runs of the chosen environment.
    """
    row = find_monitor(request, project, slug)
    rights = rights_in(request, row.project_id)
    rights.demand(Action.EDIT_MONITORS)
    if request.method == "POST":
        hold_monitors([row.pk])
        row = find_monitor(request, project, slug)
    now = utcnow()  # After the wait for the row: what came before it is judged by the rules before.
    language = reader_language(request)
    present = typed_as(row.schedule()) | {name: getattr(row, name) for name in NUMBERS} | {"seen": row.config_id}
    proposed = {name: request.GET[name][:200] for name in COLUMNS if name in request.GET}
    if "schedule_type" in proposed:
        present = {name: value for name, value in present.items() if name not in SCHEDULE_COLUMNS}
    typed = EditScheduleForm(request.POST or None, now=now, initial=present | proposed)
    if request.method == "POST" and typed.is_valid():
        if typed.cleaned_data["seen"] == row.config_id:
            _store(request, row, typed)
            return redirect("monitor", project, slug)
        typed.add_error(
            None,
            _("Somebody changed the settings meanwhile. They are now: %(schedule)s. Save again to replace them.")
            % {"schedule": describe(row.schedule(), language)},
        )
        data = request.POST.copy()
        data["seen"] = str(row.config_id)
        typed.data = data
    environments = load_environments(row)
    wanted = request.GET.get("env", "")
    environment = choose(row, environments, wanted)
    if environment is None and wanted:
        raise Http404(_("There is no environment %(name)r.") % {"name": wanted[:64]})
    context = {
        "now": now,
        "monitor": row,
        "rights": rights,
        "environment": environment,
        "form": typed,
        "zones": zone_names(),
        "learned": load_learned(row, environment, now=now, language=language),
        "is_overwritten": row.is_upserting and not _is_locked(row),
    }
    status = 422 if request.method == "POST" else 200
    return render(request, "pages/schedule.html", context, status=status)


def _store(request: HttpRequest, row: Monitor, typed: EditScheduleForm) -> None:
    assert typed.schedule is not None, "the form is valid"
    wanted: dict[str, Any] = schedule_columns(typed.schedule) | {name: typed.cleaned_data[name] for name in NUMBERS}
    changes = {name: value for name, value in wanted.items() if getattr(row, name) != value}
    if changes:
        update_monitor(row.pk, changes, now=typed.now, by=actor_of(request, at=typed.now))
    text = describe(typed.schedule, reader_language(request))
    messages.success(request, _("The schedule is now: %(schedule)s.") % {"schedule": text})


def _is_locked(row: Monitor) -> bool:
    return row.project.is_config_locked if row.is_config_locked is None else row.is_config_locked
