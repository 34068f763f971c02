"""What the pages of maintenance windows show (shell). A fixed number of statements, whatever there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db.models import CharField, F, Func, QuerySet
from django.utils.translation import gettext as _

from checkins.maintenance import not_ended
from dashboard.moments import READER_ZONE, wall_clock
from dashboard.texts import said
from dashboard.windows import rule_in_words, what_it_covers
from monitors.maintenance import end_of, occurrences
from monitors.models import MaintenanceWindow, Monitor, Project
from monitors.schedule import why_unreadable, zone_to_show

NEXT_SHOWN = 3
OVER_SHOWN = 30
COVERED_SHOWN = 10
SUGGESTED = 200


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a window is in force. `there`: on the wall clock of its zone, unless the reader's shows the same.

    It is only the name of the zone if that of the reader is not known: times are shown in it then.
    """

    begins_at: datetime
    ends_at: datetime
    there: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A window, in words. `until`: if it is in force now. `problem`: why its rule has no times."""

    row: MaintenanceWindow
    covers: str
    rule: str
    until: datetime | None
    coming: Sequence[Span]
    problem: str
    has_begun: bool


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a project: in force now, with times to come, and those that are over."""

    now: Sequence[Shown]
    coming: Sequence[Shown]
    over: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class Covered:
    """The first monitors that a window is about, and how many of the project's there are."""

    monitors: Sequence[Monitor]
    count: int
    known: int

    @property
    def more(self) -> int:
        """How many are not among the first."""
        return self.count - len(self.monitors)


def load_windows_of(project: Project, *, now: datetime, language: str) -> Windows:
    """Return the windows of a project. Two statements; `MAINTENANCE_WINDOWS_MAX` bounds those that are not over."""
    rows = MaintenanceWindow.objects.filter(project=project).select_related("monitor", "environment")
    alive = [describe_window(row, now=now, language=language) for row in rows.filter(not_ended(now)).order_by("id")]
    over = rows.filter(ends_at__lte=now).order_by("-ends_at", "-id")[:OVER_SHOWN]
    waiting = [one for one in alive if one.until is None]
    return Windows(
        now=sorted((one for one in alive if one.until is not None), key=lambda one: one.until or now),
        # What has no time to come is last.
        coming=sorted(waiting, key=lambda one: (not one.coming, one.coming[0].begins_at if one.coming else now)),
        over=[describe_window(row, now=now, language=language) for row in over],
    )


def describe_window(row: MaintenanceWindow, *, now: datetime, language: str) -> Shown:
    """Return what is shown of a window. No statement."""
    window = row.window()
    found = list(islice(occurrences(window, now), NEXT_SHOWN + 1))
    until = None
    if found and found[0][0] <= now:
        until = end_of([window], now)
        found = found[1:]
    coming = [span_of(*times, row.timezone, now=now) for times in found[:NEXT_SHOWN]]
    problem = "" if window.recurrence is None else said(why_unreadable(window.recurrence.schedule))
    has_begun = row.starts_at <= now
    return Shown(row, what_it_covers(row), rule_in_words(row, language), until, coming, problem, has_begun)


def span_of(begins_at: datetime, ends_at: datetime, timezone: str, *, now: datetime) -> Span:
    """Return a time of a window, as its reader and the people of its zone see it."""
    zone, reader = zone_to_show(timezone), READER_ZONE.get()
    ends = (begins_at, ends_at)
    if reader is None:
        return Span(*ends, zone.key)
    if all(at.astimezone(reader).utcoffset() == at.astimezone(zone).utcoffset() for at in ends):
        return Span(*ends, "")
    begin, end = (at.astimezone(zone) for at in ends)
    text = f"{wall_clock(begin, now=now.astimezone(zone))} {_('to')} {wall_clock(end, now=begin)}"
    return Span(*ends, f"{text} {zone.key}")


def load_covered(window: MaintenanceWindow) -> Covered:
    """Return the monitors that a window would be about if it were in force now. Three statements."""
    alive = Monitor.objects.not_deleted().filter(project_id=window.project_id)
    found: QuerySet[Monitor] = alive
    if window.monitor_id is not None:
        found = found.filter(pk=window.monitor_id)
    elif window.tag:
        found = found.filter(tags__contains=[window.tag])
    if window.environment_id is not None:
        found = found.filter(monitor_environments__environment=window.environment_id)
    return Covered(list(found.order_by("slug")[:COVERED_SHOWN]), found.count(), alive.count())


def _unnested(column: str) -> Func:
    return Func(F(column), function="unnest", output_field=CharField())


def suggested_names(project: Project) -> tuple[Sequence[str], Sequence[str]]:
    """Return the first tags and environments of a project, which the form suggests. Two statements."""
    tags = Monitor.objects.not_deleted().filter(project=project).annotate(each=_unnested("tags"))
    environments = project.environments.order_by("name").values_list("name", flat=True)
    return (
        list(tags.order_by("each").values_list("each", flat=True).distinct()[:SUGGESTED]),
        list(environments[:SUGGESTED]),
    )
