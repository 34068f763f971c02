"""Locking, loading and writing the hot rows, a set at a time (shell: no judgement here).

Every writer of monitor environments comes through `lock_environments`, which locks in id order and only then reads
the configuration of their monitors. Read before the locks, it could be older than an edit that had the same rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import astuple

from lib.sql import array_literal, fetch_rows, update_rows
from monitors.configuration import CONFIGURATION_COLUMNS, shared_rules
from monitors.schedule import Anchor
from monitors.spans import held_at, held_until
from monitors.state import (
    EnvironmentState,
    EnvironmentStatus,
    FormerRules,
    MonitorRules,
    MonitorStatus,
    ServedAhead,
    Span,
    WasOff,
    was_off_between,
)

_decode_served_ahead = msgspec.json.Decoder(tuple[ServedAhead, ...]).decode
_decode_spans = msgspec.json.Decoder(tuple[Span, ...]).decode


def read_served_ahead(text: bytes | str) -> tuple[ServedAhead, ...]:
    """Return what a row says was served ahead; nothing if a hand wrote what cannot be read (D37)."""
    try:
        return _decode_served_ahead(text)
    except msgspec.DecodeError:
        return ()


def read_spans(text: bytes | str) -> tuple[Span, ...]:
    """Return the spans in a row; none if a hand wrote what cannot be read (D37)."""
    try:
        return _decode_spans(text)
    except msgspec.DecodeError:
        return ()


_MONITOR_STATUSES = {status.value: status for status in MonitorStatus}
_STATUSES = {status.value: status for status in EnvironmentStatus}
ALWAYS = datetime.min.replace(tzinfo=UTC)


class LockedEnvironment(msgspec.Struct, gc=False):
    """A monitor environment whose row this transaction holds; each decision replaces its `state`.

    `stored` is the state that the row has, None if a hand wrote what cannot be read (D37).
    `former` are the rules that its monitor had before, as far back as whoever locked it said that it looks (D32);
    `rules_since` is when it was edited last, if ever; `was_off` is when it was disabled the last time, and is no more.
    """

    id: int
    monitor_id: int
    project_id: int
    name: str
    monitor_name: str
    monitor_slug: str
    monitor_status: MonitorStatus
    monitor_is_upserting: bool
    monitor_owner: str
    config_id: int
    disabled_at: datetime | None
    shard: int
    is_muted: bool
    rules: MonitorRules
    state: EnvironmentState
    stored: EnvironmentState | None
    former: tuple[FormerRules, ...] = ()
    rules_since: datetime | None = None
    was_off: WasOff | None = None

    def rules_at(self, at: datetime) -> tuple[int, MonitorRules]:
        """Return the rules that held for a message received at `at`, after the id of their snapshot."""
        held = held_at(self.former, at) if self.former else None
        return (self.config_id, self.rules) if held is None else (held.config_id, held.rules)

    def rules_until(self, tick: datetime) -> MonitorRules:
        """Return the rules that held at a tick."""
        held = held_until(self.former, tick)
        return self.rules if held is None else held.rules

    @property
    def off_since(self) -> datetime | None:
        """Since when nothing is judged here (D23); None while the monitor is active and the environment is kept."""
        if self.state.status is EnvironmentStatus.PENDING_DELETION:
            return ALWAYS
        if self.monitor_status is MonitorStatus.ACTIVE:
            return None
        return self.disabled_at or ALWAYS

    def unjudged_because(self, due_at: datetime) -> str | None:
        """Return why what falls due at this instant is not judged, if so (D23)."""
        if self.was_off is not None and self.was_off.covers(due_at):
            return "disabled"
        if self.off_since is None or due_at <= self.off_since:
            return None
        return "disabled" if self.monitor_status is MonitorStatus.DISABLED else "deleted"

    def expects(self, slot: datetime) -> bool:
        """Tell whether a slot came while the monitor was active (D23)."""
        return (self.off_since is None or slot <= self.off_since) and not (
            self.was_off is not None and self.was_off.covers(slot)
        )

    def slot_unjudged_because(self, slot: datetime, deadline: datetime) -> str | None:
        """Return why a slot that was expected is not judged: it was not due before its monitor was disabled (D23)."""
        if self.was_off is not None and slot <= self.was_off.since < deadline:
            return "disabled"
        return self.unjudged_because(deadline)


LOCK_SQL = """
    SELECT me.id, me.monitor_id, e.name, me.shard, me.is_muted,
           me.status, me.last_checkin, me.last_ok_at, me.last_ok_received_at,
           me.pending_slot, me.next_checkin, me.next_checkin_latest, me.anchor_at, me.anchor_day, me.served_ahead,
           me.unjudged_until, me.failure_streak, me.failure_streak_started_at, me.ok_streak,
           me.limit_minute, me.limit_count, me.first_timeout_at, me.has_deferred, me.spans
      FROM monitors_monitorenvironment me
      JOIN monitors_environment e ON e.id = me.environment_id
     WHERE me.id = ANY(%s::bigint[]) {condition}
     ORDER BY me.id
       FOR UPDATE OF me
"""
CONFIGURATION_SQL = f"""
    SELECT id, project_id, name, slug, status, is_upserting, owner, config_id, disabled_at,
           {", ".join(CONFIGURATION_COLUMNS)},
           was_disabled_at, was_enabled_at, rules_since
      FROM monitors_monitor
     WHERE id = ANY(%s::bigint[])
"""  # noqa: S608 - names of columns
FORMER_SQL = """
    SELECT f.monitor_id, f.until, f.config_id, s.config
      FROM monitors_formerrules f JOIN monitors_configsnapshot s ON s.id = f.config_id
     WHERE f.monitor_id = ANY(%s::bigint[])
     ORDER BY f.monitor_id, f.until
"""
STATE_COLUMNS = {
    "status": "text",
    "last_checkin": "timestamptz",
    "last_ok_at": "timestamptz",
    "last_ok_received_at": "timestamptz",
    "pending_slot": "timestamptz",
    "next_checkin": "timestamptz",
    "next_checkin_latest": "timestamptz",
    "anchor_at": "timestamptz",
    "anchor_day": "smallint",
    "served_ahead": "jsonb",
    "unjudged_until": "timestamptz",
    "failure_streak": "integer",
    "failure_streak_started_at": "timestamptz",
    "ok_streak": "integer",
    "limit_minute": "timestamptz",
    "limit_count": "integer",
    "first_timeout_at": "timestamptz",
    "has_deferred": "boolean",
    "spans": "jsonb",
}


def lock_environments(
    ids: Collection[int], *, due_at: datetime | None = None, since: datetime | None = None
) -> dict[int, LockedEnvironment]:
    """Lock rows in id order and return them by id, in that order, with the configuration in force.

    With `due_at`, rows that are no longer due at that tick are left out (a check-in was faster than the clock).
    Rows that do not exist any more are left out too. Needs a transaction. Two statements; and one more if any of the
    monitors was edited at `since` or later, or since it is disabled, or has an older slot waiting (D32): then its
    former rules come along.
    """
    if not ids:
        return {}
    condition = ""
    parameters: list[Any] = [array_literal("bigint", sorted(ids))]
    if due_at is not None:
        condition = "AND me.next_checkin_latest <= %s"
        parameters.append(due_at)
    rows = fetch_rows(LOCK_SQL.format(condition=condition), parameters)
    configurations = {
        row[0]: row
        for row in fetch_rows(CONFIGURATION_SQL, [array_literal("bigint", sorted({row[1] for row in rows}))])
    }
    environments = {row[0]: _locked(row, configurations[row[1]]) for row in rows}
    edited = {row[1] for row in rows if row[-1] is not None}
    if since is not None:
        edited |= {
            row[0]
            for row in configurations.values()
            if (edited_at := row[-1]) is not None and edited_at >= min(since, row[8] or since)
        }
    if edited:
        know_former_rules([one for one in environments.values() if one.monitor_id in edited])
    return environments


def know_former_rules(environments: Collection[LockedEnvironment]) -> None:
    """Have these environments know all rules that their monitors had before (D32). One statement."""
    former = load_former_rules({environment.monitor_id for environment in environments})
    for environment in environments:
        environment.former = former.get(environment.monitor_id, ())


def load_former_rules(monitor_ids: Collection[int]) -> dict[int, tuple[FormerRules, ...]]:
    """Return the rules that these monitors had before, oldest first, by monitor; those that are still known."""
    former: dict[int, tuple[FormerRules, ...]] = {}
    for monitor_id, until, config_id, text in fetch_rows(FORMER_SQL, [array_literal("bigint", sorted(monitor_ids))]):
        rules = _rules_in(msgspec.json.decode(text))
        former[monitor_id] = (*former.get(monitor_id, ()), FormerRules(until, config_id, rules))
    return former


def _locked(row: Sequence[Any], configuration: Sequence[Any]) -> LockedEnvironment:
    id_, monitor_id, name, shard, is_muted, status, *clock, anchor_at, anchor_day, served_ahead = row[:15]
    last_checkin, last_ok_at, last_ok_received_at = clock[:3]
    pending_slot, next_checkin, next_checkin_latest = clock[3:]
    unjudged_until, failure_streak, failure_streak_started_at, ok_streak, limit_minute, limit_count = row[15:21]
    first_timeout_at, has_deferred, spans_text = row[21:]
    ahead = () if served_ahead is None else read_served_ahead(served_ahead)
    spans = () if spans_text is None else read_spans(spans_text)
    is_readable = bool(ahead) == (served_ahead is not None) and bool(spans) == (spans_text is not None)
    state = EnvironmentState(
        status=_STATUSES[status],
        last_checkin=last_checkin,
        last_ok_at=last_ok_at,
        last_ok_received_at=last_ok_received_at,
        pending_slot=pending_slot,
        next_checkin=next_checkin,
        next_checkin_latest=next_checkin_latest,
        anchor=None if anchor_at is None else Anchor(anchor_at, anchor_day),
        served_ahead=ahead,
        unjudged_until=unjudged_until,
        failure_streak=failure_streak,
        failure_streak_started_at=failure_streak_started_at,
        ok_streak=ok_streak,
        limit_minute=limit_minute,
        limit_count=limit_count,
        first_timeout_at=first_timeout_at,
        has_deferred=has_deferred,
        spans=spans,
    )
    return LockedEnvironment(
        id=id_,
        monitor_id=monitor_id,
        project_id=configuration[1],
        name=name,
        monitor_name=configuration[2],
        monitor_slug=configuration[3],
        monitor_status=_MONITOR_STATUSES[configuration[4]],
        monitor_is_upserting=configuration[5],
        monitor_owner=configuration[6],
        config_id=configuration[7],
        disabled_at=configuration[8],
        shard=shard,
        is_muted=is_muted,
        rules=shared_rules(*configuration[9:18]),
        was_off=was_off_between(*configuration[18:20]),
        rules_since=configuration[20],
        state=state,
        stored=state if is_readable else None,
    )


def load_rules(config_ids: Collection[int]) -> dict[int, MonitorRules]:
    """Return the rules in these snapshots of configurations, by id. One statement."""
    rows = fetch_rows(
        "SELECT id, config FROM monitors_configsnapshot WHERE id = ANY(%s::bigint[])",
        [array_literal("bigint", sorted(config_ids))],
    )
    return {id_: _rules_in(msgspec.json.decode(text)) for id_, text in rows}


def _rules_in(config: Mapping[str, Any]) -> MonitorRules:
    return shared_rules(*(config[column] for column in CONFIGURATION_COLUMNS))


def save_environments(environments: Iterable[LockedEnvironment]) -> None:
    """Write the states of locked environments that differ from what is stored, in one statement at most.

    Only the columns that differ in any of them: most decisions change a few, and each costs PostgreSQL time.
    """
    changed = [one for one in environments if one.state is not one.stored]
    if not changed:
        return
    write_all = any(one.stored is None for one in changed)
    before = zip(*(astuple(one.stored or one.state) for one in changed), strict=True)
    after = zip(*(astuple(one.state) for one in changed), strict=True)
    columns: dict[str, Iterable[Any]] = {}
    for name, old, new in zip(EnvironmentState.__struct_fields__, before, after, strict=True):
        if write_all or old != new:
            columns |= _columns_of(name, new)
    if columns:
        kinds = {name: STATE_COLUMNS[name] for name in columns}
        rows = list(zip((one.id for one in changed), *columns.values(), strict=True))
        update_rows("monitors_monitorenvironment", kinds, rows)
    for one in changed:
        one.stored = one.state


def _columns_of(field: str, values: Iterable[Any]) -> dict[str, Iterable[Any]]:
    """Return what the columns hold that a field of `EnvironmentState` is stored in."""
    match field:
        case "status":
            return {field: [status.value for status in values]}
        case "anchor":
            anchors = list(values)
            return {
                "anchor_at": [None if anchor is None else anchor.at for anchor in anchors],
                "anchor_day": [None if anchor is None else anchor.day for anchor in anchors],
            }
        case "served_ahead" | "spans":
            return {field: [listed or None for listed in values]}
    return {field: values}
