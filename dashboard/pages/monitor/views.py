"""The page of a monitor: its state in one sentence, its runs, its schedule, and how its job checks in."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.addresses import address_of, base_url, key_of
from dashboard.durations import charts, load_measured
from dashboard.ids import row_id
from dashboard.live.marks import read_mark
from dashboard.pages.access import Rights, button, find_monitor, page, reader_language, rights_in, sees_log
from dashboard.pages.buttons import actor_of, back
from dashboard.pages.incident.facts import is_acknowledged
from dashboard.pages.maintenance.beginning import begin_now
from dashboard.pages.monitor.facts import (
    RUNS_SHOWN,
    choose,
    describe_durations,
    load_environments,
    load_incidents,
    load_runs,
    load_shown,
    next_times,
)
from dashboard.pages.schedule.learned import load_learned
from dashboard.pages.snoozes import snooze_buttons, snooze_end
from dashboard.pages.wall.cells import ORDER
from dashboard.pages.wall.filters import read_filters
from dashboard.pages.wall.ranges import RANGES
from dashboard.pages.wall.strips import Drawn, late_slot, load_strips
from dashboard.texts import said, said_or_word
from dashboard.windows import coming_windows
from incidents import handling
from incidents.notifications.previews import preview
from lib.wallclock import utcnow
from monitors.addresses import note_address_shown, note_keys_shown
from monitors.describing import describe
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import set_environments_muted, set_monitors_muted
from monitors.snippets import client_lines, ping_lines


@page
def monitor(request: HttpRequest, project: str, slug: str) -> HttpResponse:
    """Show a monitor in one of its environments."""
    at, mark = utcnow(), read_mark()
    row = find_monitor(request, project, slug)
    rights = rights_in(request, row.project_id)
    environments = load_environments(row)
    wanted = request.GET.get("env", "")
    environment = choose(row, environments, wanted)
    if environment is None and wanted:
        raise Http404(_("There is no environment %(name)r.") % {"name": wanted[:64]})
    slots, changes = next_times(row, now=at)
    names, forecasts = preview(row)
    context: dict[str, Any] = {
        "now": at,
        "mark": mark,
        "monitor": row,
        "rights": rights,
        "environments": environments,
        "environment": environment,
        "sees_log": sees_log(row, rights),
        "schedule": said(describe(row.schedule(), reader_language(request))),
        "slots": slots,
        "clock_changes": changes,
        "forecasts": [(one, one.when(names, said_or_word)) for one in forecasts],
        "snippets": _snippets(request, row, rights),
        "snooze_buttons": snooze_buttons(at),
        "coming_windows": coming_windows(
            row, now=at, environment="" if environment is None else environment.environment.name
        ),
        "is_snoozed": row.snoozed_until is not None and row.snoozed_until > at,
    }
    if row.schedule().is_learning:
        context["learned"] = load_learned(row, environment, now=at, language=reader_language(request))
    if environment is not None:
        measured = load_measured([environment])
        shown = load_shown(environment, now=at, language=reader_language(request))
        filters = read_filters({"range": request.GET.get("range", "")}, request.COOKIES)
        drawn = Drawn(
            id=environment.pk,
            monitor_id=row.pk,
            project_id=row.project_id,
            environment=environment.environment.name,
            created_at=environment.created_at,
            maintained_until=row.project.maintained_until,
            late_slot=late_slot(row.status, environment.pending_slot, environment.next_checkin_latest, now=at),
            is_running=shown.running_since is not None,
        )
        strip = load_strips([drawn], filters.range, now=at, is_large=True)[environment.pk]
        context |= {
            "shown": shown,
            "incident": shown.incident,
            "is_acknowledged": shown.incident is not None and is_acknowledged(shown.incident, now=at),
            **_runs(request, environment),
            "durations": describe_durations(measured[0]) if measured else None,
            "chart": charts(measured),
            "strip": mark_safe(strip),  # noqa: S308 - escaped where it is drawn
            "start": filters.range.start(at),
            "range_name": filters.range_name,
            "ranges": RANGES.values(),
            "legend": ORDER,
            "incidents": load_incidents(environment),
        }
    return render(request, "pages/monitor.html", context)


def _runs(request: HttpRequest, environment: MonitorEnvironment) -> dict[str, Any]:
    """Return the runs to show, and the one before which older ones are found (`before` in an address)."""
    wanted = request.GET.get("before", "")
    before = row_id(wanted) if wanted else 0
    runs = load_runs(environment, before)
    return {"runs": runs, "are_older": bool(before), "older": runs[-1].checkin.pk if len(runs) == RUNS_SHOWN else 0}


def _snippets(request: HttpRequest, row: Monitor, rights: Rights) -> list[tuple[str, str]]:
    if Action.SEE_PING_URLS not in rights:
        return []
    by = actor_of(request, at=utcnow())
    note_address_shown(row, by=by)
    key = key_of(row.project) if Action.MANAGE_KEYS in rights else None
    if key is not None:
        note_keys_shown([key], by=by)
    address = address_of(row, base_url(request), key=key)
    return [(line.title, line.text) for line in (*ping_lines(address), *client_lines(address))]


@button
def act_on_monitor(request: HttpRequest, project: str, slug: str) -> HttpResponse:
    """Do what a button asks for: snooze, end a snooze, mute, unmute, begin maintenance."""
    row = find_monitor(request, project, slug)
    _act(request, row, rights_in(request, row.project_id), now=utcnow())
    return back(request, "monitor", project, slug)


def _act(request: HttpRequest, row: Monitor, rights: Rights, *, now: datetime) -> None:
    by = actor_of(request, at=now)
    match request.POST.get("do"):
        case "snooze":
            rights.demand(Action.SNOOZE)
            try:
                end = snooze_end(request.POST.get("for", ""), now=now)
                handling.snooze([row.pk], end, now=now, by=by)
            except handling.SnoozeError as error:
                messages.error(request, said(error))
            else:
                messages.success(request, _("%(monitor)s is snoozed.") % {"monitor": row.name})
        case "unsnooze":
            rights.demand(Action.SNOOZE)
            handling.snooze([row.pk], None, now=now, by=by)
            messages.success(request, _("%(monitor)s is no longer snoozed.") % {"monitor": row.name})
        case "mute" | "unmute" as what:
            rights.demand(Action.MUTE)
            _mute(request, row, what == "mute", now=now)
        case "maintain":
            rights.demand(Action.EDIT_WINDOWS)
            found = _own_environments(request, row).select_related("environment").first()
            if found is None:
                messages.error(request, _("There is no such environment."))
            else:
                begin_now(request, row, found.environment, now=now)
        case unknown:
            messages.error(request, _("%(what)r cannot be done here.") % {"what": str(unknown)[:50]})


def _mute(request: HttpRequest, row: Monitor, muted: bool, *, now: datetime) -> None:
    """Mute or unmute one environment of a monitor, or all of them."""
    by = actor_of(request, at=now)
    if not request.POST.get("environment"):
        set_monitors_muted([row.pk], muted, by=by)
        count = 1
    else:
        own = _own_environments(request, row)
        count = set_environments_muted(list(own.values_list("pk", flat=True)), muted, by=by)
    if not count:
        messages.error(request, _("There is no such environment."))
    elif muted:
        messages.success(request, _("%(monitor)s is muted: nobody is notified.") % {"monitor": row.name})
    else:
        messages.success(request, _("%(monitor)s is no longer muted.") % {"monitor": row.name})


def _own_environments(request: HttpRequest, row: Monitor) -> QuerySet[MonitorEnvironment]:
    """Return the environment that a button is about, if the monitor has it."""
    return row.monitor_environments.filter(pk=row_id(request.POST.get("environment", "")))
