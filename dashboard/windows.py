"""Maintenance windows in words, and which of them come next for a monitor (shell)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from dashboard.moments import length_in_words
from dashboard.texts import said
from monitors.describing import describe
from monitors.maintenance import end_of, occurrences
from monitors.models import MaintenanceWindow, Monitor
from monitors.schedule import why_unreadable
from monitors.windows import load_windows

COMING_SHOWN = 5


def what_it_covers(row: MaintenanceWindow) -> str:
    """Return what a window is about, in words. Its monitor and its environment are loaded."""
    if row.monitor is not None:
        what = row.monitor.name
    elif row.tag:
        what = _("monitors tagged %(tag)s") % {"tag": row.tag}
    else:
        what = _("all monitors")
    if row.environment is None:
        return what
    return _("%(what)s in %(environment)s") % {"what": what, "environment": row.environment.name}


def rule_in_words(row: MaintenanceWindow, language: str = "en") -> str:
    """Return when the occurrences of a window are, in words; nothing if it is once."""
    recurrence = row.window().recurrence
    if recurrence is None:
        return ""
    if reason := why_unreadable(recurrence.schedule):
        return said(reason)
    rule = describe(recurrence.schedule, language)
    if row.until is not None:
        return _("%(rule)s, until %(time)s") % {"rule": rule, "time": f"{row.until:%H:%M}"}
    length = length_in_words(timedelta(minutes=row.minutes or 0))
    return _("%(rule)s, for %(length)s") % {"rule": rule, "length": length}


@dataclass(frozen=True, slots=True)
class Coming:
    """A time in which a monitor is, or will be, in maintenance; in this environment, or in all of them."""

    name: str
    environment: str | None
    begins_at: datetime
    ends_at: datetime
    is_now: bool


def coming_windows(monitor: Monitor, *, now: datetime, environment: str = "") -> Sequence[Coming]:
    """Return the windows that a monitor is in, and the next time of each other one, the first to begin first.

    With an environment, only those that concern it. At most two statements, and none if its project has no windows.
    """
    until = monitor.project.maintained_until
    if until is None or until <= now:
        return []
    found = []
    for one in load_windows({monitor.pk: monitor.project_id}, since=now).of_monitor(monitor.pk):
        times = next(occurrences(one.window, now), None)
        if times is None or (environment and one.environment and one.environment != environment):
            continue
        begins_at, ends_at = times
        is_now = begins_at <= now
        end = end_of([one.window], now) if is_now else ends_at
        found.append(Coming(one.window.name, one.environment, begins_at, end, is_now))
    return sorted(found, key=lambda each: each.begins_at)[:COMING_SHOWN]
