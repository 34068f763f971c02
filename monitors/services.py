"""Creating, editing, muting and deleting monitors: one place for each, so that admin, ingest and commands behave alike.

Lock order, everywhere: monitor rows in id order, the number of shards, then environment rows in id order.
"""

import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from monitors.bulk import array_literal, fetch_rows, insert_new, insert_rows, update_rows
from monitors.environments import LockedEnvironment, lock_environments, save_environments
from monitors.expectation import expect_after_repair, expect_from_now, expect_no_more, expect_nothing
from monitors.layout import hold_shard_count
from monitors.models import RUNTIME_MINUTES_MAX, ConfigSnapshot, Environment, Monitor, MonitorEnvironment, Project
from monitors.querysets import MonitorEnvironmentQuerySet
from monitors.schedule import why_unreadable
from monitors.sharding import shard_of
from monitors.state import EnvironmentState, EnvironmentStatus, MonitorRules, MonitorStatus

CONFIGURATION_FIELDS = (
    "schedule_type",
    "crontab",
    "interval",
    "interval_unit",
    "timezone",
    "checkin_margin",
    "max_runtime",
    "failure_threshold",
    "recovery_threshold",
)
CHANGEABLE_COLUMNS = {
    "slug": "text",
    "name": "text",
    "status": "text",
    "schedule_type": "text",
    "crontab": "text",
    "interval": "integer",
    "interval_unit": "text",
    "timezone": "text",
    "checkin_margin": "integer",
    "max_runtime": "integer",
    "failure_threshold": "smallint",
    "recovery_threshold": "smallint",
    "is_upserting": "boolean",
    "is_config_locked": "boolean",
    "refused_changes": "jsonb",
    "owner": "text",
    "config_id": "bigint",
    "disabled_at": "timestamptz",
}


def attach_config_snapshots(monitors: Iterable[Monitor]) -> None:
    """Point each monitor at the snapshot of its configuration columns, creating missing snapshots. Two statements.

    Needs a transaction: the snapshots are held until they are referred to.
    """
    configs: dict[str, dict[str, Any]] = {}
    by_digest: dict[str, list[Monitor]] = {}
    for monitor in monitors:
        config = {field: getattr(monitor, field) for field in CONFIGURATION_FIELDS}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        configs[digest] = config
        by_digest.setdefault(digest, []).append(monitor)
    if not configs:
        return
    ids: dict[str, int] = {}
    while missing := sorted(configs.keys() - ids.keys()):
        insert_new([ConfigSnapshot(sha256=digest, config=configs[digest]) for digest in missing])
        ids |= _hold_snapshots(missing)
    for digest, alike in by_digest.items():
        for monitor in alike:
            monitor.config_id = ids[digest]


def _hold_snapshots(digests: Collection[str]) -> dict[str, int]:
    """Return the ids of those that are there, so that they stay: housekeeping leaves alone what is locked (D42)."""
    rows = fetch_rows(
        "SELECT sha256, id FROM monitors_configsnapshot WHERE sha256 = ANY(%s::text[]) ORDER BY id FOR KEY SHARE",
        [array_literal("text", sorted(digests))],
    )
    return dict(rows)


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
    write_changes(monitors, before=before, environments=environments.values(), now=now)
    save_environments(environments.values())


def write_changes(
    monitors: Sequence[Monitor],
    *,
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]],
    environments: Iterable[LockedEnvironment],
    now: datetime,
) -> None:
    """Write changed monitors that this transaction has locked, and recompute what they expect, everywhere (D10).

    `before` holds status and rules as they were. A changed schedule, time zone, margin or runtime and a re-enabled
    monitor expect their next check-in counted from `now` in every environment; a disabled or deleted one expects
    nothing. Runs in progress get their new deadline. The number of statements does not grow with the monitors.

    `environments` holds at least all environments of these monitors. They are locked before, since a snapshot that is
    being created elsewhere makes this transaction wait as well. They get their new rules and state here; the caller
    saves them.
    """
    if not monitors:
        return
    attach_config_snapshots(monitors)
    enabled = _note_since_when_disabled(monitors, before, now=now)
    update_rows(
        "monitors_monitor",
        CHANGEABLE_COLUMNS,
        [[getattr(monitor, column) for column in ("id", *CHANGEABLE_COLUMNS)] for monitor in monitors],
    )
    changed = {monitor.id: monitor for monitor in monitors}
    for environment in environments:
        monitor = changed.get(environment.monitor_id)
        if monitor is None:
            continue
        environment.monitor_name, environment.monitor_slug = monitor.name, monitor.slug
        environment.monitor_status = MonitorStatus(monitor.status)
        environment.monitor_is_upserting, environment.monitor_owner = monitor.is_upserting, monitor.owner
        environment.config_id, environment.rules = monitor.config_id, monitor.rules()
        environment.disabled_at = monitor.disabled_at
        if _expects_anew(monitor, before[monitor.id]):
            environment.state = _expected_anew(environment.state, monitor, before[monitor.id][1], now=now)
    _end_what_fell_due_unjudged(enabled, now=now)
    _move_deadlines(
        [monitor for monitor in monitors if before[monitor.id][1].max_runtime_minutes < monitor.max_runtime], now=now
    )


def _expects_anew(monitor: Monitor, before: tuple[MonitorStatus, MonitorRules]) -> bool:
    status, rules = before
    new = monitor.rules()
    expected = (rules.schedule, rules.margin_minutes, rules.max_runtime_minutes)
    return status != monitor.status or expected != (new.schedule, new.margin_minutes, new.max_runtime_minutes)


def _expected_anew(
    state: EnvironmentState, monitor: Monitor, before: MonitorRules, *, now: datetime
) -> EnvironmentState:
    if state.status is EnvironmentStatus.PENDING_DELETION or monitor.status == MonitorStatus.PENDING_DELETION:
        return expect_nothing(state)
    was_readable = not why_unreadable(before.schedule)
    if monitor.status == MonitorStatus.ACTIVE:
        if not was_readable:
            return expect_after_repair(state, monitor.rules(), now=now)
        return expect_from_now(state, monitor.rules(), now=now)
    if monitor.disabled_at == now and was_readable:
        return expect_no_more(state, now=now)
    return expect_nothing(state)


def _note_since_when_disabled(
    monitors: Iterable[Monitor], before: Mapping[int, tuple[MonitorStatus, MonitorRules]], *, now: datetime
) -> dict[int, datetime]:
    """Keep the instant at which monitors are disabled; return the ids of those that are enabled, with since when not.

    Needed for what the clock has not come to when a monitor changes (D23).
    """
    enabled: dict[int, datetime] = {}
    for monitor in monitors:
        was_active = before[monitor.id][0] is MonitorStatus.ACTIVE
        if monitor.status == MonitorStatus.ACTIVE:
            if not was_active:
                enabled[monitor.id] = monitor.disabled_at or datetime.min.replace(tzinfo=UTC)
            monitor.disabled_at = None
        elif was_active:
            monitor.disabled_at = now
    return enabled


def _end_what_fell_due_unjudged(enabled: Mapping[int, datetime], *, now: datetime) -> None:
    """Make unknown the runs whose deadline passed while their monitor was disabled, which it no longer is (D23).

    The clock does this minute by minute while it is; this is for the minutes that it has not come to.
    """
    if not enabled:
        return
    checkins = apps.get_model("checkins", "CheckIn")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE {checkins._meta.db_table} AS c
               SET status = coalesce(c.finished_status, 'unknown'), timeout_at = NULL,
                   unknown_because = CASE WHEN c.finished_status IS NULL THEN 'disabled' END,
                   finished_status = NULL, finished_at = NULL,
                   date_updated = coalesce(c.finished_at, date_trunc('minute', c.timeout_at + interval '59.999999 s'))
              FROM unnest(%s::bigint[], %s::timestamptz[]) AS enabled (monitor_id, disabled_at),
                   monitors_monitorenvironment me
             WHERE me.monitor_id = enabled.monitor_id AND c.monitor_environment_id = me.id AND c.status = 'in_progress'
               AND c.timeout_at > enabled.disabled_at AND c.timeout_at <= %s
            """,  # noqa: S608 - the table name comes from the model
            [list(enabled), list(enabled.values()), now],
        )


def _move_deadlines(monitors: Sequence[Monitor], *, now: datetime) -> None:
    """Give runs in progress the deadline of a new maximum runtime, if that is later than the one they have (D31).

    It is counted from when they were last heard of. A run whose deadline has passed is the clock's, which may be late.
    """
    if not monitors:
        return
    # Check-ins live in a higher app; the model is found by name, as relations do.
    checkins = apps.get_model("checkins", "CheckIn")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE {checkins._meta.db_table} AS c
               SET timeout_at = greatest(
                       c.timeout_at,
                       least(c.date_updated + make_interval(mins => new.max_runtime),
                             c.date_added + make_interval(mins => %s)))
              FROM unnest(%s::bigint[], %s::integer[]) AS new (monitor_id, max_runtime), monitors_monitorenvironment me
             WHERE me.monitor_id = new.monitor_id AND c.monitor_environment_id = me.id AND c.status = 'in_progress'
               AND c.timeout_at > %s
            """,  # noqa: S608 - the table name comes from the model
            [
                RUNTIME_MINUTES_MAX,
                [monitor.id for monitor in monitors],
                [monitor.max_runtime for monitor in monitors],
                now,
            ],
        )


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

    Returns the number of monitors. Nothing is sent for what happened while muted. Source: reference section 10.
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
    Source: reference section 17.
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
