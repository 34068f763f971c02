"""Locking, loading and writing the hot rows, a set at a time (shell; no decisions).

Every writer of monitor environments uses `lock_environments`, which locks in id order and only then reads the
configuration of their monitors. Before the locks it could be older than an edit that held the same rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import astuple

from lib.encoding import to_json
from lib.records import Record, Stored
from lib.sql import array_literal, fetch_rows, update_rows
from monitors.configuration import CONFIGURATION_COLUMNS, shared_rules
from monitors.former import held_at, held_until
from monitors.maintenance import MAINTAINED, Window, deadline_after, window_at, window_of_slot
from monitors.models import Monitor, MonitorEnvironment
from monitors.schedule import Anchor
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
from monitors.windows import IS_MAINTAINED_SQL, NEEDED_FOR, load_windows

_decode_served_ahead = msgspec.json.Decoder(tuple[ServedAhead, ...]).decode
_decode_spans = msgspec.json.Decoder(tuple[Span, ...]).decode


def read_served_ahead(text: bytes | str | None) -> tuple[ServedAhead, ...]:
    """Return the slots served ahead in a row; none if somebody wrote by hand what cannot be read (D37)."""
    try:
        return () if text is None else _decode_served_ahead(text)
    except msgspec.DecodeError:
        return ()


def read_spans(text: bytes | str | None) -> tuple[Span, ...]:
    """Return the spans in a row; none if somebody wrote by hand what cannot be read (D37)."""
    try:
        return () if text is None else _decode_spans(text)
    except msgspec.DecodeError:
        return ()


def _anchor(at: datetime | None, day: int | None) -> Anchor | None:
    return None if at is None or day is None else Anchor(at, day)


def _anchor_columns(anchor: Anchor | None) -> tuple[datetime | None, int | None]:
    return (None, None) if anchor is None else (anchor.at, anchor.day)


ALWAYS = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


class LockedEnvironment(msgspec.Struct, gc=False):
    """A monitor environment whose row this transaction has locked; each decision replaces its `state`.

    `stored` is the state in the row; None if somebody wrote by hand what cannot be read (D37).
    `former` are the earlier rules of its monitor, as far back as the caller of the lock needs them (D32);
    `rules_since` is when it was edited last, if ever; `was_off` is the last time in which it was disabled, if over.
    `windows` are its maintenance windows, if the caller of the lock asked for what may matter since an instant.
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
    windows: tuple[Window, ...] = ()

    def rules_at(self, at: datetime) -> tuple[int, MonitorRules]:
        """Return the rules in force for a message received at `at`, after the id of their snapshot."""
        held = held_at(self.former, at) if self.former else None
        return (self.config_id, self.rules) if held is None else (held.config_id, held.rules)

    def rules_until(self, tick: datetime) -> MonitorRules:
        """Return the rules in force at a tick."""
        held = held_until(self.former, tick)
        return self.rules if held is None else held.rules

    @property
    def off_since(self) -> datetime | None:
        """Since when nothing is judged (D23); None while the monitor is active and the environment is not deleted."""
        if self.state.status is EnvironmentStatus.PENDING_DELETION:
            return ALWAYS
        if self.monitor_status is MonitorStatus.ACTIVE:
            return None
        return self.disabled_at or ALWAYS

    def unjudged_because(self, due_at: datetime) -> str | None:
        """Return why a deadline at this instant is not judged, if so (D23)."""
        if self.was_off is not None and self.was_off.covers(due_at):
            return "disabled"
        if self.off_since is None or due_at <= self.off_since:
            return None
        return "disabled" if self.monitor_status is MonitorStatus.DISABLED else "deleted"

    def expects(self, slot: datetime) -> bool:
        """Return whether a slot came while the monitor was active (D23)."""
        return (self.off_since is None or slot <= self.off_since) and not (
            self.was_off is not None and self.was_off.covers(slot)
        )

    def slot_unjudged_because(self, slot: datetime, deadline: datetime) -> str | None:
        """Return why a slot that was expected is not judged.

        It was not due before its monitor was disabled (D23), or it is in a maintenance window.
        """
        if self.was_off is not None and slot <= self.was_off.since < deadline:
            return "disabled"
        why = self.unjudged_because(deadline)
        if why is None and window_of_slot(self.windows, slot, deadline) is not None:
            return MAINTAINED
        return why

    def judged_at(self, deadline: datetime) -> datetime:
        """Return when a run with this deadline is judged: a maintenance window moves it to its end."""
        return deadline_after(self.windows, deadline)

    def is_maintained(self, at: datetime) -> bool:
        """Return whether an instant is in a maintenance window."""
        return bool(self.windows) and window_at(self.windows, at) is not None


class _Configured(msgspec.Struct, frozen=True, gc=False):
    """The columns of a monitor that its environments need."""

    id: int
    project_id: int
    name: str
    slug: str
    status: MonitorStatus
    is_upserting: bool
    owner: str
    config_id: int
    disabled_at: datetime | None
    rules: MonitorRules
    was_off: WasOff | None
    rules_since: datetime | None


STATES = Record(
    EnvironmentState,
    MonitorEnvironment,
    stored={
        "anchor": Stored(("anchor_at", "anchor_day"), _anchor, _anchor_columns),
        "served_ahead": Stored(("served_ahead",), read_served_ahead, lambda listed: listed or None),
        "spans": Stored(("spans",), read_spans, lambda listed: listed or None),
    },
)
_CONFIGURED = Record(
    _Configured,
    Monitor,
    stored={
        "rules": Stored(CONFIGURATION_COLUMNS, shared_rules),
        "was_off": Stored(("was_disabled_at", "was_enabled_at"), was_off_between),
    },
)
_SERVED_AHEAD, _SPANS, _PENDING_SLOT, _FIRST_TIMEOUT = (
    list(STATES.types).index(column) for column in ("served_ahead", "spans", "pending_slot", "first_timeout_at")
)
LOCK_SQL = f"""
    SELECT me.id, me.monitor_id, e.name, me.shard, me.is_muted, {STATES.select("me")}
      FROM monitors_monitorenvironment me
      JOIN monitors_environment e ON e.id = me.environment_id
     WHERE me.id = ANY(%s::bigint[]) {{condition}}
     ORDER BY me.id
       FOR UPDATE OF me
"""  # noqa: S608 - names of columns
CONFIGURATION_SQL = f"""
    SELECT {_CONFIGURED.select()}, {IS_MAINTAINED_SQL} FROM monitors_monitor WHERE id = ANY(%s::bigint[])
"""  # noqa: S608 - names of columns
FORMER_SQL = """
    SELECT f.monitor_id, f.until, f.config_id, s.config
      FROM monitors_formerrules f JOIN monitors_configsnapshot s ON s.id = f.config_id
     WHERE f.monitor_id = ANY(%s::bigint[])
     ORDER BY f.monitor_id, f.until
"""


def lock_environments(
    ids: Collection[int], *, due_at: datetime | None = None, since: datetime | None = None
) -> dict[int, LockedEnvironment]:
    """Lock rows in id order and return them by id, in that order, with the configuration in force.

    With `due_at`, rows that are no longer due at that tick are left out (a check-in was faster than the clock). Rows
    that no longer exist are left out too. Needs a transaction. Two statements; and a third to load former rules, if any
    of the monitors was edited at `since` or later, or since it is disabled, or has an older slot waiting, also one from
    before it was disabled last (D32).
    """
    if not ids:
        return {}
    condition = ""
    parameters: list[Any] = [array_literal("bigint", sorted(ids))]
    if due_at is not None:
        condition = "AND me.next_checkin_latest <= %s"
        parameters.append(due_at)
    rows = fetch_rows(LOCK_SQL.format(condition=condition), parameters)
    monitor_ids = array_literal("bigint", sorted({row[1] for row in rows}))
    windows_since = NEVER if since is None else _waits_since(since, rows) - NEEDED_FOR
    configured = {}
    maintained = {}
    for *columns, is_maintained in fetch_rows(CONFIGURATION_SQL, [windows_since, monitor_ids], is_prepared=True):
        one = configured[columns[0]] = _CONFIGURED.load(columns)
        if is_maintained:
            maintained[one.id] = one.project_id
    environments = {}
    edited = set()
    for id_, monitor_id, name, shard, is_muted, *stored in rows:
        one = configured[monitor_id]
        environments[id_] = _locked(id_, name, shard, is_muted, stored, one)
        slot = stored[_PENDING_SLOT]
        if stored[_SPANS] is not None or (one.was_off is not None and slot is not None and slot <= one.was_off.since):
            edited.add(monitor_id)
    if since is not None:
        edited |= {
            one.id
            for one in configured.values()
            if one.rules_since is not None and one.rules_since >= min(since, one.disabled_at or since)
        }
    if edited:
        attach_former_rules([one for one in environments.values() if one.monitor_id in edited])
    if maintained:
        _attach_windows(environments.values(), maintained, since=windows_since)
    return environments


def _waits_since(since: datetime, rows: Sequence[Sequence[Any]]) -> datetime:
    """Return the oldest of an instant and of what waits in rows of `LOCK_SQL`: slots, and runs."""
    waiting = (row[5 + column] for row in rows for column in (_PENDING_SLOT, _FIRST_TIMEOUT))
    return min(since, min((at for at in waiting if at is not None), default=since))


def _attach_windows(
    environments: Iterable[LockedEnvironment], maintained: Mapping[int, int], *, since: datetime
) -> None:
    windows = load_windows(maintained, since=since)
    for environment in environments:
        environment.windows = windows.of_environment(environment.monitor_id, environment.name)


def attach_former_rules(environments: Collection[LockedEnvironment]) -> None:
    """Load all former rules of the monitors of these environments (D32). One statement."""
    former = load_former_rules({environment.monitor_id for environment in environments})
    for environment in environments:
        environment.former = former.get(environment.monitor_id, ())


def load_former_rules(monitor_ids: Collection[int]) -> dict[int, tuple[FormerRules, ...]]:
    """Return the stored former rules of these monitors, oldest first, by monitor."""
    former: dict[int, tuple[FormerRules, ...]] = {}
    for monitor_id, until, config_id, text in fetch_rows(FORMER_SQL, [array_literal("bigint", sorted(monitor_ids))]):
        rules = _rules_in(msgspec.json.decode(text))
        former[monitor_id] = (*former.get(monitor_id, ()), FormerRules(until, config_id, rules))
    return former


def _locked(
    id_: int, name: str, shard: int, is_muted: bool, stored: Sequence[Any], monitor: _Configured
) -> LockedEnvironment:
    state = STATES.load(stored)
    is_readable = bool(state.served_ahead) == (stored[_SERVED_AHEAD] is not None) and bool(state.spans) == (
        stored[_SPANS] is not None
    )
    return LockedEnvironment(
        id=id_,
        monitor_id=monitor.id,
        project_id=monitor.project_id,
        name=name,
        monitor_name=monitor.name,
        monitor_slug=monitor.slug,
        monitor_status=monitor.status,
        monitor_is_upserting=monitor.is_upserting,
        monitor_owner=monitor.owner,
        config_id=monitor.config_id,
        disabled_at=monitor.disabled_at,
        shard=shard,
        is_muted=is_muted,
        rules=monitor.rules,
        was_off=monitor.was_off,
        rules_since=monitor.rules_since,
        state=state,
        stored=state if is_readable else None,
    )


def state_of(row: MonitorEnvironment) -> EnvironmentState:
    """Return the state of a row of the model, for decisions."""
    columns = [getattr(row, column) for column in STATES.types]
    return STATES.load([to_json(held) if isinstance(held, list) else held for held in columns])


def load_rules(config_ids: Collection[int]) -> dict[int, MonitorRules]:
    """Return the rules in these snapshots of configurations, by id. One statement."""
    rows = fetch_rows(
        "SELECT id, config FROM monitors_configsnapshot WHERE id = ANY(%s::bigint[])",
        [array_literal("bigint", sorted(config_ids))],
    )
    return {id_: _rules_in(msgspec.json.decode(text)) for id_, text in rows}


def _rules_in(config: Mapping[str, Any]) -> MonitorRules:
    return shared_rules(*(config.get(column) for column in CONFIGURATION_COLUMNS))


def save_environments(environments: Iterable[LockedEnvironment]) -> None:
    """Write the states of locked environments that differ from the stored ones, in one statement at most.

    Only columns that differ in any of them are written: most decisions change a few, and each costs PostgreSQL time.
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
            columns |= STATES.columns(name, new)
    if columns:
        types = {name: STATES.types[name] for name in columns}
        rows = list(zip((one.id for one in changed), *columns.values(), strict=True))
        update_rows(STATES.table, types, rows)
    for one in changed:
        one.stored = one.state
