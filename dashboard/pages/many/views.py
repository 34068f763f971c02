"""Many at once: what people do with the selected rows of the wall (shell).

Each thing is one call of a service, whose statements do not grow with the rows, in one transaction. Rows of projects in
which the person may not do it are left out, and counted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.roles import Action
from audit.entries import Actor
from checkins.editing import delete_monitors, set_monitors_status
from checkins.maintenance import TAGS_MAX, retag
from dashboard.exceptions import DashboardError
from dashboard.ids import row_ids
from dashboard.pages.access import button, rights_everywhere, visible_projects
from dashboard.pages.buttons import actor_of, back
from dashboard.pages.snoozes import snooze_end
from dashboard.pages.wall.filters import Filters, read_filters
from dashboard.pages.wall.rows import find_rows
from dashboard.texts import said
from dashboard.vocabulary import word
from incidents import handling
from lib.wallclock import utcnow
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import hold_monitors, set_environments_muted
from monitors.state import MonitorStatus

ROWS_MAX = 900
"""Rows that are selected one by one. Django reads at most 1,000 fields of a form."""
FILTER_ROWS_MAX = 5_000
"""Rows of a filter that are changed at once, in one transaction."""
TAG_CHARACTERS_MAX = 50
NEEDED: Mapping[str, Action] = {
    "mute": Action.MUTE,
    "unmute": Action.MUTE,
    "snooze": Action.SNOOZE,
    "pause": Action.EDIT_MONITORS,
    "resume": Action.EDIT_MONITORS,
    "tag": Action.EDIT_MONITORS,
    "untag": Action.EDIT_MONITORS,
    "delete": Action.DELETE,
    "delete-now": Action.DELETE,
}
"""What can be done, and the right that it needs."""


LABELS: Mapping[str, Any] = {
    "mute": gettext_lazy("Mute"),
    "unmute": gettext_lazy("Unmute"),
    "snooze": gettext_lazy("Snooze"),
    "pause": gettext_lazy("Pause"),
    "resume": gettext_lazy("Resume"),
    "tag": gettext_lazy("Add the tag"),
    "untag": gettext_lazy("Remove the tag"),
    "delete": gettext_lazy("Delete"),
    "delete-now": gettext_lazy("Delete"),
}


class SelectionError(DashboardError):
    """Something that cannot be done with the selection. The text says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The environments that were selected and may be changed, with their monitors; `left_out` others may not."""

    environments: Collection[int]
    monitors: Collection[int]
    left_out: int

    @property
    def all(self) -> int:
        """How many rows were selected."""
        return len(self.environments) + self.left_out


@button
def act_on_many(request: HttpRequest) -> HttpResponse:
    """Do what a button asks for with the selected rows."""
    what = request.POST.get("do", "")
    try:
        if what not in NEEDED:
            raise SelectionError(_("%(what)r cannot be done here.") % {"what": what[:50]})
        is_filter = request.POST.get("scope") == "filter"
        selection = _read_selection(request, NEEDED[what], is_filter=is_filter)
        if is_filter and request.POST.get("expected") != str(selection.all):
            return _ask_about_filter(request, what, selection)
        if what == "delete":
            return _ask(request, selection)
        count = _act(request, what, selection)
    except (SelectionError, handling.SnoozeError) as error:
        messages.error(request, said(error))
    else:
        messages.success(request, _done(what, count))
        if selection.left_out:
            text = _("%(count)d selected rows were left out: your role in their projects may not %(action)s.")
            messages.warning(request, text % {"count": selection.left_out, "action": word(NEEDED[what].value)})
    return back(request, "wall")


def _read_selection(request: HttpRequest, action: Action, *, is_filter: bool) -> Selection:
    """Return the selection. Three statements at most. Raises SelectionError if nothing is left of it."""
    rows = _of_filter(request) if is_filter else _one_by_one(request)
    rights = rights_everywhere(request)
    found = list(rows.values_list("id", "monitor_id", "monitor__project_id")[: FILTER_ROWS_MAX + 1])
    if len(found) > FILTER_ROWS_MAX:
        text = _("The filter leaves more than %(count)d rows, which is the most at once. Narrow it.")
        raise SelectionError(text % {"count": FILTER_ROWS_MAX})
    if not found:
        raise SelectionError(_("Nothing is selected."))
    granted = [(id_, monitor_id) for id_, monitor_id, project_id in found if action in rights(project_id)]
    if not granted:
        text = _("Nothing was changed: your role in these projects may not %(action)s.")
        raise SelectionError(text % {"action": word(action.value)})
    monitors = sorted({monitor_id for _, monitor_id in granted})
    return Selection([id_ for id_, _ in granted], monitors, len(found) - len(granted))


def _one_by_one(request: HttpRequest) -> QuerySet[MonitorEnvironment]:
    wanted = set(row_ids(request.POST.getlist("row")))
    if len(wanted) > ROWS_MAX:
        raise SelectionError(_("At most %(count)d rows are changed at once.") % {"count": ROWS_MAX})
    rows = MonitorEnvironment.objects.filter(id__any_of=wanted, monitor__project__in=visible_projects(request.user))
    return rows.exclude(status="pending_deletion")


def _filters(request: HttpRequest) -> Filters:
    """Return the filters of the wall from which somebody came."""
    return read_filters(dict(parse_qsl(urlsplit(request.POST.get("next", "")).query)))


def _of_filter(request: HttpRequest) -> QuerySet[MonitorEnvironment]:
    return find_rows(visible_projects(request.user), _filters(request), now=utcnow(), person=request.user)


def _ask_about_filter(request: HttpRequest, what: str, selection: Selection) -> HttpResponse:
    """Say how many rows the filter means, before anything is done; also if others have come meanwhile."""
    address = request.POST.get("next", "")
    context = {
        "now": utcnow(),
        "what": "delete-now" if what == "delete" else what,
        "label": LABELS[what],
        "is_deletion": what in ("delete", "delete-now"),
        "selection": selection,
        "has_changed": "expected" in request.POST,
        "query": _filters(request).query(),
        "length": request.POST.get("for", "")[:20],
        "tag": request.POST.get("tag", "")[:100],
        "next": address if _is_own(request, address) else "",
    }
    return render(request, "pages/sure_many.html", context)


def _is_own(request: HttpRequest, address: str) -> bool:
    return url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())


def _ask(request: HttpRequest, selection: Selection) -> HttpResponse:
    """Ask before anything is deleted."""
    address = request.POST.get("next", "")
    monitors = Monitor.objects.filter(id__any_of=selection.monitors).select_related("project")
    context = {
        "now": utcnow(),
        "monitors": list(monitors),
        "ids": selection.environments,
        "next": address if _is_own(request, address) else "",
    }
    return render(request, "pages/delete_many.html", context)


@transaction.atomic
def _act(request: HttpRequest, what: str, selection: Selection) -> int:
    """Do it; returns how many environments or monitors that concerns."""
    ids = selection.monitors
    match what:
        case "mute" | "unmute":
            by = actor_of(request, at=utcnow())
            return set_environments_muted(selection.environments, what == "mute", by=by)
        case "snooze":
            now = utcnow()
            end = snooze_end(request.POST.get("for", ""), now=now)
            return handling.snooze(ids, end, now=now, by=actor_of(request, at=now))
        case "tag" | "untag":
            return _retag(ids, _typed_tag(request), what == "tag", by=actor_of(request, at=utcnow()))
    now = _hold(ids)
    by = actor_of(request, at=now)
    if what == "delete-now":
        return delete_monitors(ids, now=now, by=by)
    status = MonitorStatus.DISABLED if what == "pause" else MonitorStatus.ACTIVE
    return set_monitors_status(ids, status, now=now, by=by)


def _hold(ids: Collection[int]) -> datetime:
    """Lock monitors and return the instant of their edit, which no other edit can precede (D32)."""
    hold_monitors(ids)
    return utcnow()


def _typed_tag(request: HttpRequest) -> str:
    tag = request.POST.get("tag", "").replace("\x00", "").strip()
    if not tag or len(tag) > TAG_CHARACTERS_MAX or "," in tag:
        text = _("%(tag)r is no tag: it has 1 to %(count)d characters, and no comma.")
        raise SelectionError(text % {"tag": tag[:60], "count": TAG_CHARACTERS_MAX})
    return tag


def _retag(ids: Collection[int], tag: str, is_added: bool, *, by: Actor) -> int:
    """Add a tag to monitors that have room for it, or remove it."""

    def change(tags: Sequence[str]) -> Sequence[str]:
        others = [one for one in tags if one != tag]
        if not is_added:
            return others
        return tags if tag in tags or len(tags) >= TAGS_MAX else [*tags, tag]

    return retag(ids, change, now=by.at, by=by)


def _done(what: str, count: int) -> str:
    """Return what was done, in words."""
    texts = {
        "mute": ngettext("%(n)d environment is muted.", "%(n)d environments are muted.", count),
        "unmute": ngettext("%(n)d environment is unmuted.", "%(n)d environments are unmuted.", count),
        "snooze": ngettext("%(n)d monitor is snoozed.", "%(n)d monitors are snoozed.", count),
        "pause": ngettext("%(n)d monitor is paused.", "%(n)d monitors are paused.", count),
        "resume": ngettext("%(n)d monitor is active.", "%(n)d monitors are active.", count),
        "tag": ngettext("%(n)d monitor has got the tag.", "%(n)d monitors have got the tag.", count),
        "untag": ngettext("%(n)d monitor has lost the tag.", "%(n)d monitors have lost the tag.", count),
        "delete-now": ngettext("%(n)d monitor is deleted.", "%(n)d monitors are deleted.", count),
    }
    return texts[what] % {"n": count}
