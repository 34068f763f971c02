"""Editing monitors: the effects on their expectations, and storing their former rules (shell; D10, D32).

Lock order: see `monitors.services`. The callers hold all locks.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from lib.sql import array_literal, fetch_rows, insert_new, insert_rows, types_of, update_rows
from monitors.configuration import CONFIGURATION_COLUMNS
from monitors.expectation import expect_nothing
from monitors.former import counts_alike
from monitors.hot_rows import ALWAYS, LockedEnvironment, attach_former_rules
from monitors.models import ConfigSnapshot, Monitor
from monitors.schedule import why_unreadable
from monitors.spans import expect_after_edit, expect_no_more
from monitors.state import (
    EnvironmentState,
    EnvironmentStatus,
    FormerRules,
    MonitorRules,
    MonitorStatus,
    was_off_between,
)

CHANGEABLE_COLUMNS = types_of(
    Monitor,
    "slug",
    "name",
    "status",
    *CONFIGURATION_COLUMNS,
    "is_upserting",
    "is_config_locked",
    "refused_changes",
    "owner",
    "severity",
    "config_id",
    "disabled_at",
    "was_disabled_at",
    "was_enabled_at",
    "rules_since",
)


def attach_config_snapshots(monitors: Iterable[Monitor]) -> None:
    """Point each monitor at the snapshot of its configuration columns, creating missing snapshots. Two statements.

    Needs a transaction: the snapshots stay locked until the monitors refer to them.
    """
    configs: dict[str, dict[str, Any]] = {}
    by_digest: dict[str, list[Monitor]] = {}
    for monitor in monitors:
        config = {field: getattr(monitor, field) for field in CONFIGURATION_COLUMNS}
        if config["limits"] is None:
            del config["limits"]  # Few monitors have any; the others keep the snapshots from before there were limits.
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
    """Lock existing snapshots and return their ids: housekeeping skips locked rows (D42)."""
    rows = fetch_rows(
        "SELECT sha256, id FROM monitors_configsnapshot WHERE sha256 = ANY(%s::text[]) ORDER BY id FOR KEY SHARE",
        [array_literal("text", sorted(digests))],
    )
    return dict(rows)


@dataclass(slots=True)
class Edit:
    """A monitor as an edit at `at` leaves it."""

    monitor: Monitor
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """An edit with its effects: the rules `before`, and since when the monitor had been disabled, if it was.

    `former` holds the rules before with their end, if the edit changes any.
    """

    monitor: Monitor
    at: datetime
    before: MonitorRules
    rules: MonitorRules
    off_since: datetime | None
    expects_anew: bool
    former: FormerRules | None


def write_changes(
    edits: Sequence[Edit],
    *,
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]],
    environments: Collection[LockedEnvironment],
) -> list[Change]:
    """Write changed monitors that this transaction has locked, and recompute all their expectations (D10).

    The `edits` of one monitor are in order; its row is written as the last one leaves it. `before` holds the previous
    status and rules. After a change of schedule, time zone, margin or runtime, or after re-enabling, every environment
    counts its next expected check-in from the edit; a disabled or deleted monitor expects nothing. Slots and runs from
    before the edit are still judged by the former rules, which are stored (D32). Returns the changes of each edit, for
    the runs in progress (`checkins.editing`). The number of statements does not grow with the monitors.

    1. Find or create the snapshots of the new configurations.
    2. Put the edits of each monitor in order and find the changes of each: rules, whether it is active, expectations.
    3. Write the monitors, and store their former rules.
    4. Set the expectations of each environment after each edit, and its new rules.

    `environments` holds at least all environments of these monitors. The caller locks them first, since this
    transaction may also wait for a snapshot that another one is creating. They get their new rules and state here; the
    caller saves them.
    """
    if not edits:
        return []
    config_ids = {edit.monitor.id: edit.monitor.config_id for edit in reversed(edits)}
    attach_config_snapshots(edit.monitor for edit in edits)
    changes = _in_order(edits, before, config_ids)
    monitors = {edit.monitor.id: edit.monitor for edit in edits}
    update_rows(
        "monitors_monitor",
        CHANGEABLE_COLUMNS,
        [[getattr(monitor, column) for column in ("id", *CHANGEABLE_COLUMNS)] for monitor in monitors.values()],
    )
    edited_before = [
        one for one in environments if one.monitor_id in monitors and one.rules_since is not None and not one.former
    ]
    if edited_before:  # To judge by rules older than these edits, it must be known when those began.
        attach_former_rules(edited_before)
    _store_former_rules(changes)
    by_monitor: dict[int, list[Change]] = {}
    for change in changes:
        by_monitor.setdefault(change.monitor.id, []).append(change)
    for environment in environments:
        monitor = monitors.get(environment.monitor_id)
        if monitor is None:
            continue
        for change in by_monitor[monitor.id]:
            if change.expects_anew:
                environment.state = _expected_anew(environment.state, change, environment.former)
            if change.former is not None:
                environment.former = (*environment.former, change.former)
        environment.monitor_name, environment.monitor_slug = monitor.name, monitor.slug
        environment.monitor_status = MonitorStatus(monitor.status)
        environment.monitor_is_upserting, environment.monitor_owner = monitor.is_upserting, monitor.owner
        environment.config_id, environment.rules = monitor.config_id, monitor.rules()
        environment.disabled_at = monitor.disabled_at
        environment.was_off = was_off_between(monitor.was_disabled_at, monitor.was_enabled_at)
    return changes


def _in_order(
    edits: Sequence[Edit],
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]],
    config_ids: Mapping[int, int],
) -> list[Change]:
    """Return the changes of each edit; `config_ids` are the snapshots in force before the first edit of each monitor.

    A later edit never counts from an earlier instant than the one before it, even if the clocks of hosts differ. Sets
    in the monitors when they were disabled and enabled last (D23), and since when their rules are in force.
    """
    known = {id_: (status, rules, config_ids[id_]) for id_, (status, rules) in before.items()}
    since = {edit.monitor.id: (edit.monitor.rules_since, edit.monitor.disabled_at) for edit in reversed(edits)}
    changes = []
    for edit in edits:
        monitor = edit.monitor
        status, rules, config_id = known[monitor.id]
        rules_since, disabled_at = since[monitor.id]
        earlier = (rules_since, disabled_at, monitor.was_enabled_at)
        at = max([edit.at, *(instant for instant in earlier if instant is not None)])
        was_active, new = status is MonitorStatus.ACTIVE, monitor.rules()
        off_since = None if was_active else disabled_at or ALWAYS
        if monitor.status == MonitorStatus.ACTIVE:
            if disabled_at is not None:
                monitor.was_disabled_at, monitor.was_enabled_at = disabled_at, at
            disabled_at = None
        elif was_active:
            disabled_at = at
        former = None if new == rules else FormerRules(at, config_id, rules)
        monitor.disabled_at, monitor.rules_since = disabled_at, rules_since if former is None else at
        expects_anew = status != monitor.status or not counts_alike(rules, new)
        changes.append(Change(monitor, at, rules, new, off_since, expects_anew, former))
        known[monitor.id] = (MonitorStatus(monitor.status), new, monitor.config_id)
        since[monitor.id] = monitor.rules_since, disabled_at
    return changes


FORMER_RULES_MAX = 100
"""Former rules that are stored for a monitor, besides those by which a slot is still to be judged."""
JUDGES_SQL = """
    EXISTS (
        SELECT FROM monitors_monitorenvironment me
         CROSS JOIN LATERAL jsonb_array_elements(
               CASE jsonb_typeof(me.spans) WHEN 'array' THEN me.spans ELSE '[]' END) AS span
         WHERE me.monitor_id = f.monitor_id
           AND f.until = (SELECT min(until) FROM monitors_formerrules
                           WHERE monitor_id = f.monitor_id AND until >= (span ->> 'until')::timestamptz))
"""
"""Whether a slot is still to be judged by the former rules `f` (`monitors.spans`)."""


def _store_former_rules(changes: Iterable[Change]) -> None:
    """Store the rules that these edits replaced, and remove the oldest ones if a monitor has too many."""
    rows = [
        (change.monitor.id, change.former.until, change.former.config_id)
        for change in changes
        if change.former is not None
    ]
    if not rows:
        return
    types = {"monitor_id": "bigint", "until": "timestamptz", "config_id": "bigint"}
    insert_rows("monitors_formerrules", types, rows, on_conflict="ON CONFLICT DO NOTHING")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            DELETE FROM monitors_formerrules AS f USING unnest(%s::bigint[]) AS edited (id)
             WHERE f.monitor_id = edited.id
               AND f.until < (SELECT until FROM monitors_formerrules WHERE monitor_id = edited.id
                               ORDER BY until DESC OFFSET %s LIMIT 1)
               AND NOT {JUDGES_SQL}
            """,  # noqa: S608 - a constant
            [array_literal("bigint", sorted({row[0] for row in rows})), FORMER_RULES_MAX - 1],
        )


def _expected_anew(state: EnvironmentState, change: Change, former: Sequence[FormerRules]) -> EnvironmentState:
    monitor = change.monitor
    if state.status is EnvironmentStatus.PENDING_DELETION or monitor.status == MonitorStatus.PENDING_DELETION:
        return expect_nothing(state)
    is_active = monitor.status == MonitorStatus.ACTIVE
    is_alike = counts_alike(change.before, change.rules) and not why_unreadable(change.before.schedule)
    if not is_active and change.off_since is None and is_alike:
        return expect_no_more(state, change.before, former, now=change.at)
    return expect_after_edit(
        state,
        change.before,
        change.rules,
        former,
        now=change.at,
        early_tolerance=timedelta(seconds=settings.EARLY_CHECKIN_SECONDS),
        off_since=change.off_since,
        is_active=is_active,
    )
