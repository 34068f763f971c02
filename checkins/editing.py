"""Editing, disabling and deleting monitors that have runs: an edit affects runs in progress (D10, D23, D31).

Lock order: see `monitors.services`. Edits that affect no run are there as well.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from audit.entries import CHANGED, Actor, difference
from audit.recording import record
from lib.sql import array_literal, fetch_rows, insert_rows, update_rows
from monitors.changes import CHANGEABLE_COLUMNS, Change, Edit, write_changes
from monitors.configuration import RUNTIME_MINUTES_MAX
from monitors.expectation import first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments
from monitors.maintenance import deadline_after
from monitors.models import Monitor, MonitorEnvironment
from monitors.querysets import MonitorEnvironmentQuerySet
from monitors.services import environment_entry, monitor_entry
from monitors.state import EnvironmentState, EnvironmentStatus, MonitorRules, MonitorStatus
from monitors.windows import NEEDED_FOR, load_windows


@transaction.atomic
def update_monitor(monitor_id: int, changes: Mapping[str, Any], *, now: datetime, by: Actor | None = None) -> Monitor:
    """Set columns of one monitor and apply the consequences (D10). Returns the changed monitor.

    `changes` maps column names to valid values (see `CHANGEABLE_COLUMNS`). Raises Monitor.DoesNotExist.
    """
    monitor = Monitor.objects.locked_in_id_order().get(id=monitor_id)
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules())}
    entry = monitor_entry(monitor, CHANGED, difference({name: getattr(monitor, name) for name in changes}, changes))
    for column, value in changes.items():
        assert column in CHANGEABLE_COLUMNS, column
        setattr(monitor, column, value)
    if "is_config_locked" in changes:
        monitor.refused_changes = None
    _apply_changes([monitor], before=before, now=now)
    record([entry], by=by)
    return monitor


@transaction.atomic
def set_monitors_status(
    monitor_ids: Collection[int], status: MonitorStatus, *, now: datetime, by: Actor | None = None
) -> int:
    """Enable or disable monitors. A re-enabled one counts from `now`: never an immediate miss (D10).

    Returns the number of monitors found. Monitors that are being deleted are not found.
    """
    monitors = list(Monitor.objects.filter(id__any_of=monitor_ids).not_deleted().locked_in_id_order())
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules()) for monitor in monitors}
    for monitor in monitors:
        monitor.status = status.value
    _apply_changes(monitors, before=before, now=now)
    action = "enabled" if status is MonitorStatus.ACTIVE else "disabled"
    changed = [(one, before[one.id][0]) for one in monitors if before[one.id][0] is not status]
    record([monitor_entry(one, action, {"status": (was, status)}) for one, was in changed], by=by)
    return len(monitors)


@transaction.atomic
def delete_monitors(monitor_ids: Collection[int], *, now: datetime, by: Actor | None = None) -> int:
    """Hide monitors at once; `purge_deleted` removes their rows later. Returns how many were found.

    The slug is freed, so that a late check-in cannot find the monitor (with a configuration it creates a new one).
    Source: docs/reference/behaviour.md, section 17.
    """
    monitors = list(Monitor.objects.filter(id__any_of=monitor_ids).not_deleted().locked_in_id_order())
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules()) for monitor in monitors}
    record([monitor_entry(monitor, "deleted", {}) for monitor in monitors], by=by)
    for monitor in monitors:
        monitor.status = MonitorStatus.PENDING_DELETION.value
        monitor.slug = secrets.token_hex(12)
    _apply_changes(monitors, before=before, now=now)
    _mark_environments_deleted(MonitorEnvironment.objects.filter(monitor_id__any_of=[m.id for m in monitors]))
    return len(monitors)


@transaction.atomic
def delete_environments(monitor_id: int, names: Collection[str], *, by: Actor | None = None) -> int:
    """Hide the named environments of a monitor until their rows are removed. Returns how many were found.

    D15: names that do not exist delete nothing, and no names delete nothing; the monitor itself stays in every case.
    """
    deleted = _mark_environments_deleted(
        MonitorEnvironment.objects.filter(monitor_id=monitor_id, environment__name__any_of=names)
    )
    record([environment_entry(row.id, row.monitor_slug, row.name, "deleted", row.project_id) for row in deleted], by=by)
    return len(deleted)


def _mark_environments_deleted(rows: MonitorEnvironmentQuerySet) -> Collection[LockedEnvironment]:
    environments = lock_environments(list(rows.exclude(status="pending_deletion").values_list("id", flat=True)))
    for environment in environments.values():
        environment.state = EnvironmentState(
            status=EnvironmentStatus.PENDING_DELETION,
            last_checkin=environment.state.last_checkin,
            last_ok_at=environment.state.last_ok_at,
            last_ok_received_at=environment.state.last_ok_received_at,
        )
    save_environments(environments.values())
    with connection.cursor() as cursor:  # Nothing is counted any more.
        cursor.execute(
            "DELETE FROM checkins_deferredending WHERE monitor_environment_id = ANY(%s::bigint[])",
            [array_literal("bigint", list(environments))],
        )
    # The name is freed, as a monitor's slug is: the next check-in creates a new environment instead of reviving this.
    freed = {f"deleted-{secrets.token_hex(12)}": environment for environment in environments.values()}
    tombstones = insert_rows(
        "monitors_environment",
        {"project_id": "bigint", "name": "text"},
        [(environment.project_id, name) for name, environment in freed.items()],
        returning="id, name",
    )
    update_rows(
        "monitors_monitorenvironment",
        {"environment_id": "bigint"},
        [(freed[name].id, tombstone_id) for tombstone_id, name in tombstones],
    )
    return environments.values()


def _apply_changes(
    monitors: Sequence[Monitor], *, before: Mapping[int, tuple[MonitorStatus, MonitorRules]], now: datetime
) -> None:
    ids = MonitorEnvironment.objects.filter(monitor_id__any_of=before).values_list("id", flat=True)
    environments = lock_environments(list(ids))
    write_edits([Edit(monitor, now) for monitor in monitors], before=before, environments=environments.values())
    save_environments(environments.values())


def write_edits(
    edits: Sequence[Edit],
    *,
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]],
    environments: Collection[LockedEnvironment],
) -> None:
    """Write changed monitors, as `monitors.changes.write_changes` does, and update their runs.

    Runs that fell due while nothing was judged are given up; the deadlines of the others move.
    """
    changes = write_changes(edits, before=before, environments=environments)
    _end_what_fell_due_unjudged(changes)
    _move_deadlines(changes)


def _end_what_fell_due_unjudged(changes: Collection[Change]) -> None:
    """Make unknown the runs that fell due while their monitor, now enabled again, was disabled (D23).

    A deadline in a maintenance window falls due at the end of that. The clock does this minute by minute while the
    monitor is disabled; this covers minutes not applied yet.
    """
    enabled = {
        change.monitor.id: (change.off_since, change.at)
        for change in changes
        if change.off_since is not None and change.monitor.status == MonitorStatus.ACTIVE
    }
    if not enabled:
        return
    runs = fetch_rows(_DUE_BY_SQL, [list(enabled), [at for _, at in enabled.values()]])
    if not runs:
        return
    projects = {change.monitor.id: change.monitor.project_id for change in changes if change.monitor.id in enabled}
    windows = load_windows(projects, since=min(timeout_at for *_, timeout_at in runs) - NEEDED_FOR)
    ended = []
    for monitor_id, environment, id_, date_added, timeout_at in runs:
        disabled_at, enabled_at = enabled[monitor_id]
        judged_at = deadline_after(windows.of_environment(monitor_id, environment), timeout_at)
        if disabled_at < judged_at <= enabled_at:
            ended.append((id_, date_added, first_tick_at_or_after(judged_at)))
    if not ended:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE checkins_checkin AS c
               SET status = coalesce(c.finished_status, 'unknown'), timeout_at = NULL,
                   unknown_because = CASE WHEN c.finished_status IS NULL THEN 'disabled' END,
                   finished_status = NULL, finished_at = NULL, date_updated = coalesce(c.finished_at, ended.tick)
              FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS ended (id, date_added, tick)
             WHERE c.id = ended.id AND c.date_added = ended.date_added
            """,
            [list(column) for column in zip(*ended, strict=True)],
        )


_DUE_BY_SQL = """
    SELECT me.monitor_id, e.name, running.checkin_id, running.date_added, c.timeout_at
      FROM unnest(%s::bigint[], %s::timestamptz[]) AS enabled (monitor_id, at),
           monitors_monitorenvironment AS me, monitors_environment AS e,
           checkins_runningcheckin AS running, checkins_checkin AS c
     WHERE me.monitor_id = enabled.monitor_id AND e.id = me.environment_id AND running.monitor_environment_id = me.id
       AND c.id = running.checkin_id AND c.date_added = running.date_added AND c.timeout_at <= enabled.at
"""


def _move_deadlines(changes: Iterable[Change]) -> None:
    """Give runs in progress the deadline of a new maximum runtime, if that is later than the one they have (D31).

    It is counted from their last message; an end that came too late is none. A run whose deadline has passed is left to
    the clock, which may be late. One statement, or one for each longer runtime of the monitor with most of them, in
    their order.
    """
    longer: dict[int, list[Change]] = {}
    for change in changes:
        if change.before.max_runtime_minutes < change.rules.max_runtime_minutes:
            longer.setdefault(change.monitor.id, []).append(change)
    while longer:
        _move_deadlines_once([own.pop(0) for own in longer.values()])
        longer = {id_: own for id_, own in longer.items() if own}


def _move_deadlines_once(changes: Sequence[Change]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE checkins_checkin AS c
               SET timeout_at = greatest(
                       c.timeout_at,
                       least(CASE WHEN c.finished_at IS NULL THEN c.date_updated
                                  ELSE c.timeout_at - make_interval(mins => new.runtime_before) END
                                 + make_interval(mins => new.max_runtime),
                             c.date_added + make_interval(mins => %s)))
              FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::timestamptz[])
                   AS new (monitor_id, runtime_before, max_runtime, at),
                   monitors_monitorenvironment me, checkins_runningcheckin AS running
             WHERE me.monitor_id = new.monitor_id AND running.monitor_environment_id = me.id
               AND c.id = running.checkin_id AND c.date_added = running.date_added
               AND c.timeout_at > new.at
            """,
            [
                RUNTIME_MINUTES_MAX,
                [change.monitor.id for change in changes],
                [change.before.max_runtime_minutes for change in changes],
                [change.rules.max_runtime_minutes for change in changes],
                [change.at for change in changes],
            ],
        )
