"""Creating and muting monitors, in one place, so that admin, ingest and commands behave alike.

Editing and deleting also change runs, so they are in the app of check-ins.

Lock order, everywhere: monitor rows in id order, the number of shards, then environment rows in id order.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from audit.entries import CHANGED, Actor, Changes, Entry, Source, difference
from audit.recording import record
from lib.sql import array_literal, fetch_rows, insert_new
from monitors.changes import attach_config_snapshots
from monitors.configuration import CONFIGURATION_COLUMNS
from monitors.hot_rows import LockedEnvironment, lock_environments
from monitors.models import Environment, Monitor, MonitorEnvironment, Project
from monitors.shard_count import hold_shard_count
from monitors.sharding import shard_of


def create_monitors(monitors: Sequence[Monitor]) -> None:
    """Insert monitors with their snapshots; an existing slug is not changed. Three statements.

    The given objects get no ids: query them again by project and slug. Needs a transaction.
    """
    attach_config_snapshots(monitors)
    insert_new(monitors)


@transaction.atomic
def create_monitor(monitor: Monitor, *, by: Actor | None = None) -> Monitor:
    """Insert one new monitor and return it with its id. Raises IntegrityError if the slug is taken."""
    attach_config_snapshots([monitor])
    monitor.save(force_insert=True)
    people_set = ("owner", "severity", "tags", "is_config_locked")
    columns = ("slug", "name", "status", "is_muted", *CONFIGURATION_COLUMNS, *people_set)
    made = {column: value for column in columns if (value := getattr(monitor, column)) not in (None, "", [])}
    record([monitor_entry(monitor, "created", difference({}, made))], by=by)
    return monitor


def monitor_entry(monitor: Monitor, action: str, changes: Changes) -> Entry:
    """Return what the audit log stores of a change of a monitor."""
    return Entry("monitor", monitor.id, monitor.slug, action, monitor.project_id, changes)


def hold_monitors(monitor_ids: Collection[int]) -> None:
    """Lock monitors and their environments, before the instant of an edit is read. Needs a transaction.

    An edit may have to wait for a batch or a tick, even for minutes. Those would have applied the former rules to times
    after an instant that was read before the wait (D32).
    """
    monitors = [monitor.id for monitor in Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order()]
    ids = MonitorEnvironment.objects.filter(monitor_id__any_of=monitors).values_list("id", flat=True)
    lock_environments(list(ids))


@transaction.atomic
def lock_config_of_project(project_id: int, locked: bool, *, by: Actor | None = None) -> None:
    """Let the monitors of a project without an own setting refuse configuration from check-ins, or accept it (D40)."""
    before = Project.objects.select_for_update(no_key=True).get(id=project_id)
    Project.objects.filter(id=project_id).update(is_config_locked=locked)
    if before.is_config_locked != locked:
        changes = {"is_config_locked": (before.is_config_locked, locked)}
        record([Entry("project", project_id, str(before), CHANGED, project_id, changes)], by=by)
    reported = Monitor.objects.filter(project_id=project_id, refused_changes__isnull=False).locked_in_id_order()
    Monitor.objects.filter(id__any_of=[monitor.id for monitor in reported]).update(refused_changes=None)


def create_environments(wanted: Collection[tuple[Monitor, str]], *, now: datetime) -> None:
    """Create the missing ones of `wanted`, pairs of a monitor and an environment name. Four statements.

    The caller has locked the monitors' rows, so that a concurrent edit includes the new environments, and no
    environments' rows: this may wait for a change of the number of shards, which may wait for those.
    A new environment is muted if its monitor is. Needs a transaction.
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
def set_monitors_muted(monitor_ids: Collection[int], muted: bool, *, by: Actor | None = None) -> int:
    """Mute or unmute monitors and all their environments, also those created later.

    Returns the number of monitors. No notification is sent for failures while muted.
    Source: docs/reference/behaviour.md, section 10.
    """
    monitors = list(Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order())
    ids = [monitor.id for monitor in monitors]
    Monitor.objects.filter(id__any_of=ids).update(is_muted=muted)
    rows = list(MonitorEnvironment.objects.filter(monitor_id__any_of=ids).locked_in_id_order())
    found = MonitorEnvironment.objects.filter(id__any_of=[row.id for row in rows])
    found.update(is_muted=muted, muted_until=None)
    others = {row.monitor_id for row in rows if row.is_muted != muted}
    changed = [monitor for monitor in monitors if monitor.is_muted != muted or monitor.id in others]
    record([monitor_entry(one, _muted(muted), {"is_muted": (one.is_muted, muted)}) for one in changed], by=by)
    return len(monitors)


@transaction.atomic
def set_environments_muted(environment_ids: Collection[int], muted: bool, *, by: Actor | None = None) -> int:
    """Mute or unmute single monitor environments. Returns their number.

    A monitor counts as muted while all its environments are: then new ones are muted too.
    """
    monitors = Monitor.objects.filter(monitor_environments__id__any_of=environment_ids)
    ids = [monitor.id for monitor in Monitor.objects.filter(id__in=monitors).locked_in_id_order()]
    rows = list(
        MonitorEnvironment.objects.filter(id__any_of=environment_ids)
        .select_related("monitor", "environment")
        .locked_in_id_order()
    )
    count = MonitorEnvironment.objects.filter(id__any_of=[row.id for row in rows]).update(
        is_muted=muted, muted_until=None
    )
    audible = MonitorEnvironment.objects.filter(monitor=OuterRef("id"), is_muted=False)
    Monitor.objects.filter(id__any_of=ids).update(is_muted=~Exists(audible))
    record(
        [
            environment_entry(row.id, row.monitor.slug, row.environment.name, _muted(muted), row.monitor.project_id)
            for row in rows
            if row.is_muted != muted
        ],
        by=by,
    )
    return count


@transaction.atomic
def keep_logs_private(monitor_id: int, private: bool, *, by: Actor | None = None) -> bool:
    """Let only members who may see private logs see what the runs of a monitor print, or everybody again.

    Returns whether that changed anything.
    """
    monitor = Monitor.objects.filter(id=monitor_id).locked_in_id_order().first()
    if monitor is None or monitor.has_private_logs == private:
        return False
    Monitor.objects.filter(id=monitor_id).update(has_private_logs=private)
    record([monitor_entry(monitor, "changed", {"has_private_logs": (not private, private)})], by=by)
    return True


def mute_until_recovery(environment_ids: Collection[int]) -> None:
    """Mute environments that have been failing for long, until they recover. The caller has locked them.

    What a person does about muting later takes precedence.
    """
    MonitorEnvironment.objects.filter(id__any_of=environment_ids).update(is_muted=True, muted_until="recovery")


def unmute_recovered(environments: Collection[LockedEnvironment], *, now: datetime) -> None:
    """Unmute those of these environments, which have just recovered, that are muted until then. One statement."""
    rows = fetch_rows(
        "UPDATE monitors_monitorenvironment SET is_muted = false, muted_until = NULL "
        "WHERE id = ANY(%s::bigint[]) AND muted_until IS NOT NULL RETURNING id",
        [array_literal("bigint", sorted(environment.id for environment in environments))],
    )
    unmuted = {id_ for (id_,) in rows}
    entries = []
    for environment in environments:
        if environment.id in unmuted:
            environment.is_muted = False
            project_id = environment.project_id
            slug, name = environment.monitor_slug, environment.name
            entries.append(environment_entry(environment.id, slug, name, _muted(False), project_id))
    record(entries, by=Actor(name="Watchclock", source=Source.SYSTEM, at=now))


def environment_entry(id_: int, slug: str, environment: str, action: str, project_id: int) -> Entry:
    """Return what the audit log stores of an action on a monitor environment."""
    return Entry("monitor environment", id_, f"{slug} / {environment}", action, project_id)


def _muted(muted: bool) -> str:
    return "muted" if muted else "unmuted"
