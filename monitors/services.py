"""Creating, editing, muting and deleting monitors: one place for each, so that admin, ingest and commands behave alike.

Lock order, everywhere: monitor rows in id order, the number of shards, then environment rows in id order.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from lib.sql import array_literal, insert_new, insert_rows, update_rows
from monitors.changes import CHANGEABLE_COLUMNS, Edit, attach_config_snapshots, write_changes
from monitors.hot_rows import lock_environments, save_environments
from monitors.models import Environment, Monitor, MonitorEnvironment, Project
from monitors.querysets import MonitorEnvironmentQuerySet
from monitors.shard_count import hold_shard_count
from monitors.sharding import shard_of
from monitors.state import EnvironmentState, EnvironmentStatus, MonitorRules, MonitorStatus


def create_monitors(monitors: Sequence[Monitor]) -> None:
    """Insert monitors with their snapshots; a slug that exists already is left as it is. Three statements.

    The given objects get no ids: look them up again by project and slug. Needs a transaction.
    """
    attach_config_snapshots(monitors)
    insert_new(monitors)


@transaction.atomic
def create_monitor(monitor: Monitor) -> Monitor:
    """Insert one new monitor and return it with its id. Raises IntegrityError if the slug is taken."""
    attach_config_snapshots([monitor])
    monitor.save(force_insert=True)
    return monitor


def hold_monitors(monitor_ids: Collection[int]) -> None:
    """Lock monitors and their environments, before the instant of an edit is read. Needs a transaction.

    Whoever edits may have to wait for a batch or a tick, also for minutes. An instant from before that would be one
    that others have gone beyond already, by the rules of then (D32).
    """
    monitors = [monitor.id for monitor in Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order()]
    ids = MonitorEnvironment.objects.filter(monitor_id__any_of=monitors).values_list("id", flat=True)
    lock_environments(list(ids))


@transaction.atomic
def update_monitor(monitor_id: int, changes: Mapping[str, Any], *, now: datetime) -> Monitor:
    """Set columns of one monitor and apply what follows from it (D10). Returns the monitor as it is then.

    `changes` maps column names to valid values (see `CHANGEABLE_COLUMNS`). Raises Monitor.DoesNotExist.
    """
    monitor = Monitor.objects.locked_in_id_order().get(id=monitor_id)
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules())}
    for column, value in changes.items():
        assert column in CHANGEABLE_COLUMNS, column
        setattr(monitor, column, value)
    if "is_config_locked" in changes:
        monitor.refused_changes = None
    _apply_changes([monitor], before=before, now=now)
    return monitor


@transaction.atomic
def lock_config_of_project(project_id: int, locked: bool) -> None:
    """Let the monitors of a project that do not say otherwise refuse configuration from check-ins, or take it (D40)."""
    Project.objects.filter(id=project_id).update(is_config_locked=locked)
    told = Monitor.objects.filter(project_id=project_id, refused_changes__isnull=False).locked_in_id_order()
    Monitor.objects.filter(id__any_of=[monitor.id for monitor in told]).update(refused_changes=None)


def _apply_changes(
    monitors: Sequence[Monitor], *, before: Mapping[int, tuple[MonitorStatus, MonitorRules]], now: datetime
) -> None:
    ids = MonitorEnvironment.objects.filter(monitor_id__any_of=before).values_list("id", flat=True)
    environments = lock_environments(list(ids))
    write_changes([Edit(monitor, now) for monitor in monitors], before=before, environments=environments.values())
    save_environments(environments.values())


def create_environments(wanted: Collection[tuple[Monitor, str]], *, now: datetime) -> None:
    """Create the missing ones of `wanted`, pairs of a monitor and an environment name. Four statements.

    The caller holds the monitors' rows, so that an edit going on at the same time reaches the new environments too, and
    no environments' rows: whoever changes the number of shards, for whom this waits, may wait for those.
    A new environment starts muted if its monitor is. Needs a transaction.
    """
    names = sorted({(monitor.project_id, name) for monitor, name in wanted})
    insert_new([Environment(project_id=project_id, name=name) for project_id, name in names])
    found = Environment.objects.filter(project_id__any_of={p for p, _ in names}, name__any_of={n for _, n in names})
    ids = {(environment.project_id, environment.name): environment.id for environment in found}
    count = hold_shard_count()
    insert_new(
        [
            MonitorEnvironment(
                monitor=monitor,
                environment_id=ids[monitor.project_id, name],
                is_muted=monitor.is_muted,
                shard=shard_of(monitor.id, count),
                created_at=now,
            )
            for monitor, name in sorted(wanted, key=lambda pair: (pair[0].id, pair[1]))
        ]
    )


@transaction.atomic
def set_monitors_muted(monitor_ids: Collection[int], muted: bool) -> int:
    """Mute or unmute monitors and all their environments; environments still to come start the same way.

    Returns the number of monitors. Nothing is sent for what happened while muted.
    Source: docs/reference/behaviour.md, section 10.
    """
    monitors = [monitor.id for monitor in Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order()]
    Monitor.objects.filter(id__any_of=monitors).update(is_muted=muted)
    rows = MonitorEnvironment.objects.filter(monitor_id__any_of=monitors).locked_in_id_order()
    MonitorEnvironment.objects.filter(id__any_of=[row.id for row in rows]).update(is_muted=muted)
    return len(monitors)


@transaction.atomic
def set_environments_muted(environment_ids: Collection[int], muted: bool) -> int:
    """Mute or unmute single monitor environments. Returns their number.

    A monitor counts as muted while all its environments are: then new ones start muted too.
    """
    monitors = Monitor.objects.filter(monitor_environments__id__any_of=environment_ids)
    ids = [monitor.id for monitor in Monitor.objects.filter(id__in=monitors).locked_in_id_order()]
    rows = MonitorEnvironment.objects.filter(id__any_of=environment_ids).locked_in_id_order()
    count = MonitorEnvironment.objects.filter(id__any_of=[row.id for row in rows]).update(is_muted=muted)
    audible = MonitorEnvironment.objects.filter(monitor=OuterRef("id"), is_muted=False)
    Monitor.objects.filter(id__any_of=ids).update(is_muted=~Exists(audible))
    return count


@transaction.atomic
def set_monitors_status(monitor_ids: Collection[int], status: MonitorStatus, *, now: datetime) -> int:
    """Enable or disable monitors. A re-enabled one counts from `now`: never an immediate miss (D10).

    Returns the number of monitors found. Monitors that are being deleted stay so.
    """
    monitors = list(Monitor.objects.filter(id__any_of=monitor_ids).not_deleted().locked_in_id_order())
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules()) for monitor in monitors}
    for monitor in monitors:
        monitor.status = status.value
    _apply_changes(monitors, before=before, now=now)
    return len(monitors)


@transaction.atomic
def delete_monitors(monitor_ids: Collection[int], *, now: datetime) -> int:
    """Take monitors out of sight at once; `purge_deleted` removes their rows later. Returns how many were found.

    The slug is freed, so that a late check-in cannot find the monitor (with a configuration it creates a new one).
    Source: docs/reference/behaviour.md, section 17.
    """
    monitors = list(Monitor.objects.filter(id__any_of=monitor_ids).not_deleted().locked_in_id_order())
    before = {monitor.id: (MonitorStatus(monitor.status), monitor.rules()) for monitor in monitors}
    for monitor in monitors:
        monitor.status = MonitorStatus.PENDING_DELETION.value
        monitor.slug = secrets.token_hex(12)
    _apply_changes(monitors, before=before, now=now)
    _mark_environments_deleted(MonitorEnvironment.objects.filter(monitor_id__any_of=[m.id for m in monitors]))
    return len(monitors)


@transaction.atomic
def delete_environments(monitor_id: int, names: Collection[str]) -> int:
    """Take the named environments of a monitor out of sight. Returns how many were found.

    D15: names that do not exist delete nothing, and no names delete nothing; the monitor itself stays in every case.
    """
    return _mark_environments_deleted(
        MonitorEnvironment.objects.filter(monitor_id=monitor_id, environment__name__any_of=names)
    )


def _mark_environments_deleted(rows: MonitorEnvironmentQuerySet) -> int:
    environments = lock_environments(list(rows.exclude(status="pending_deletion").values_list("id", flat=True)))
    for environment in environments.values():
        environment.state = EnvironmentState(
            status=EnvironmentStatus.PENDING_DELETION,
            last_checkin=environment.state.last_checkin,
            last_ok_at=environment.state.last_ok_at,
            last_ok_received_at=environment.state.last_ok_received_at,
        )
    save_environments(environments.values())
    # Nothing is counted any more. (Check-ins live in a higher app; the model is found by name, as relations do.)
    deferred = apps.get_model("checkins", "DeferredEnding")
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {deferred._meta.db_table} WHERE monitor_environment_id = ANY(%s::bigint[])",  # noqa: S608
            [array_literal("bigint", list(environments))],
        )
    # The name is freed as a monitor's slug is: the next check-in makes a new environment instead of reviving this one.
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
    return len(environments)
