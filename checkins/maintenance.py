"""Planning, editing and ending maintenance windows, and the tags that they go by (shell).

What is past is never rewritten: a window begins and ends at a whole minute that is still to come. So it changes nothing
that was due before, and needs no lock against batches and ticks, except for runs that it has put off: when it ends
early, the clock has to check them sooner.

Lock order: project, monitors, environments.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext

from audit.entries import CHANGED, Actor, Changes, Entry, difference
from audit.recording import record
from checkins.exceptions import CheckInsError
from lib.sql import array_literal, types_of, update_rows
from monitors.expectation import first_tick_at_or_after
from monitors.models import MaintenanceWindow, Monitor, MonitorEnvironment, Project
from monitors.services import monitor_entry
from monitors.windows import FOREVER, former_tags_with

TAGS_MAX = 20
"""Tags of a monitor, as people and windows go by them."""
LEAD = timedelta(seconds=5)
"""How long before its minute a window is stored at least, so that every batch and tick of that minute knows it."""


class TooManyWindowsError(CheckInsError):
    """The project has as many maintenance windows that have not ended as it may have (MAINTENANCE_WINDOWS_MAX)."""


class WindowOverError(CheckInsError):
    """The window has ended, or somebody else has changed it in the meantime, which ends it too."""


def next_minute(now: datetime) -> datetime:
    """Return the first minute at which a window may begin or end that is planned, edited or ended now."""
    return first_tick_at_or_after(now + LEAD)


@transaction.atomic
def plan_window(window: MaintenanceWindow, *, now: datetime, by: Actor | None = None) -> MaintenanceWindow:
    """Insert a new window and return it with its id. It begins at `next_minute` at the earliest.

    Raises TooManyWindowsError. The caller has checked the fields.
    """
    Project.objects.select_for_update(no_key=True).get(id=window.project_id)
    current = MaintenanceWindow.objects.filter(not_ended(next_minute(now)), project=window.project_id)
    if current.count() >= settings.MAINTENANCE_WINDOWS_MAX:
        raise TooManyWindowsError(
            gettext(
                "The project has %(count)d maintenance windows that have not ended, and may have no more: end one, or "
                "give monitors a tag and plan one window for the tag."
            )
            % {"count": settings.MAINTENANCE_WINDOWS_MAX}
        )
    window.starts_at = max(window.starts_at, next_minute(now))
    window.created_at = now
    window.save(force_insert=True)
    note_windows(window.project_id)
    record([_entry(window, "planned", {name: (None, value) for name, value in _shown(window).items() if value})], by=by)
    return window


@transaction.atomic
def end_window(window_id: int, *, now: datetime, by: Actor | None = None) -> bool:
    """End a window at `next_minute`; one that has not begun is removed. Returns whether it had not ended already.

    Runs whose deadline it has moved are judged then.
    """
    row = MaintenanceWindow.objects.filter(id=window_id).first()
    if row is None:
        return False
    Project.objects.select_for_update(no_key=True).get(id=row.project_id)
    _lock_environments(row)
    ends_at = next_minute(now)
    # Read again: it may have changed while this waited.
    waiting = MaintenanceWindow.objects.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=ends_at), id=window_id)
    began = waiting.filter(starts_at__lt=ends_at).update(ends_at=ends_at)
    removed, _ = waiting.filter(starts_at__gte=ends_at).delete()
    if not began and not removed:
        return False
    note_windows(row.project_id)
    action, end = ("ended", ends_at) if began else ("removed", None)
    record([_entry(row, action, {"ends_at": (row.ends_at, end)})], by=by)
    _look_again(MonitorEnvironment.objects.filter(_concerned(row)).values_list("id", flat=True), at=ends_at)
    return True


@transaction.atomic
def replace_window(
    window_id: int, new: MaintenanceWindow, *, now: datetime, by: Actor | None = None
) -> MaintenanceWindow:
    """End a window and plan another one in its place, from the same minute on. Returns the new one.

    Raises TooManyWindowsError; WindowOverError if it is over, so that of two edits at once one is refused.
    """
    if not end_window(window_id, now=now, by=by):
        raise WindowOverError(gettext("The window has ended, or somebody else has just changed it: plan a new one."))
    return plan_window(new, now=now, by=by)


def change_tags(monitor_id: int, tags: Collection[str], *, now: datetime, by: Actor | None = None) -> None:
    """Give a monitor other tags from `next_minute` on, as far as maintenance windows go by them."""
    retag([monitor_id], lambda _: list(tags), now=now, by=by)


@transaction.atomic
def retag(
    monitor_ids: Collection[int],
    change: Callable[[Sequence[str]], Sequence[str]],
    *,
    now: datetime,
    by: Actor | None = None,
) -> int:
    """Give monitors the tags that `change` makes of theirs, as `change_tags` does; returns how many changed."""
    found = Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order()
    changed = [(one, list(change(one.tags))) for one in found]
    changed = [(one, tags) for one, tags in changed if tags != one.tags]
    if not changed:
        return 0
    record(
        [monitor_entry(one, CHANGED, difference({"tags": one.tags}, {"tags": tags})) for one, tags in changed], by=by
    )
    until = next_minute(now)
    environments = MonitorEnvironment.objects.filter(monitor_id__any_of=[one.id for one, _ in changed])
    ids = [row.id for row in environments.locked_in_id_order()]
    update_rows(
        Monitor._meta.db_table,
        types_of(Monitor, "tags", "former_tags"),
        [(one.id, tags, former_tags_with(one.former_tags, until, one.tags)) for one, tags in changed],
    )
    _look_again(ids, at=until)
    return len(changed)


def _entry(window: MaintenanceWindow, action: str, changes: Changes) -> Entry:
    return Entry("maintenance window", window.id, window.name, action, window.project_id, changes)


def _shown(window: MaintenanceWindow) -> dict[str, object]:
    """Return the columns of a window that the audit log shows."""
    left_out = {"id", "name", "project_id", "created_at"}
    return {
        field.attname: getattr(window, field.attname)
        for field in window._meta.concrete_fields
        if field.attname not in left_out
    }


def not_ended(now: datetime) -> Q:
    """Return the condition that a window is active or still to come."""
    return Q(ends_at__isnull=True) | Q(ends_at__gt=now)


def _concerned(window: MaintenanceWindow) -> Q:
    """Return the environments that a window may concern: with a tag all of the project, since tags may have changed."""
    condition = Q(monitor__project=window.project_id)
    return condition if window.monitor_id is None else condition & Q(monitor=window.monitor_id)


def _lock_environments(window: MaintenanceWindow) -> None:
    rows = MonitorEnvironment.objects.filter(_concerned(window)).order_by("id").select_for_update(of=("self",))
    list(rows.values_list("id", flat=True))


def note_windows(project_id: int) -> None:
    """Write until when the project has windows, for whoever locks environments (`monitors.windows`)."""
    ends = MaintenanceWindow.objects.filter(project=project_id).annotate(end=Coalesce(F("ends_at"), FOREVER))
    last = ends.order_by("-end").values_list("end", flat=True).first()
    Project.objects.filter(id=project_id).update(maintained_until=last)


def _look_again(environment_ids: Collection[int], *, at: datetime) -> None:
    """Have the clock check at its next tick the runs that a window has put off: they may be due sooner, from `at` on.

    The caller has locked the environments.
    """
    ids = array_literal("bigint", list(environment_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE checkins_runningcheckin AS running SET timeout_at = c.timeout_at
              FROM checkins_checkin AS c
             WHERE running.monitor_environment_id = ANY(%s::bigint[]) AND running.timeout_at > c.timeout_at
               AND c.id = running.checkin_id AND c.date_added = running.date_added
            """,
            [ids],
        )
        cursor.execute(
            """
            UPDATE monitors_monitorenvironment SET first_timeout_at = %s
             WHERE id = ANY(%s::bigint[]) AND first_timeout_at > %s
            """,
            [at, ids, at],
        )
