"""Merging configurations of a batch into their monitors: differences, locks, and the record of changes (shell)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import msgspec

from checkins.messages import CheckInMessage, ProblemKind
from checkins.processing.configuring import Change, digest, record_changes, refusal, remembered
from checkins.processing.finding import Found
from checkins.processing.items import BatchItem, KnownMonitor
from checkins.processing.rows import load_by_guid
from checkins.protocols.fields import dropped_part
from monitors.changes import Edit
from monitors.configuration import Configuration, rule_columns
from monitors.models import Monitor, Project
from monitors.schedule import ScheduleError, refuse_without_time
from monitors.state import MonitorRules, MonitorStatus


@dataclass(slots=True)
class Changes:
    """The edits of monitors whose configuration came with the batch, all locked, and their status and rules before.

    Each configuration is an edit of its own, at the reception of its message: the batch may be a backlog (D31, D32).
    """

    edits: Sequence[Edit]
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]]


def change_monitors(items: Sequence[BatchItem], found: Found) -> tuple[Changes, dict[int, Monitor]]:
    """Merge the configurations that came with the batch into their monitors, where they differ.

    Locks these and the monitors that get new environments, all at once: in two steps, the ids would not be in order.
    The lock on the second kind makes a simultaneous edit wait, so that it does not miss the new environments. All
    locked monitors are returned, by id.

    A new run without configuration means that the monitor is no longer configured by its job; the end of a known run
    means nothing, since several clients send the configuration with the start only.
    """
    with_monitor = [(item, monitor) for item in items if (monitor := found.monitors.get(item.key)) is not None]
    _mark_new_runs_without_config(with_monitor)
    changing = {
        monitor.id
        for item, monitor in with_monitor
        if item.begins_without_config or (item.config is not None and _has_news(item.config, monitor))
    }
    growing = {
        monitor.id for item, monitor in with_monitor if (monitor.id, item.message.environment) not in found.environments
    }
    if not changing | growing:
        return Changes([], {}), {}
    locked = {m.id: m for m in Monitor.objects.filter(id__any_of=changing | growing).locked_in_id_order()}
    changed = {id_: monitor for id_, monitor in locked.items() if id_ in changing}
    before = {id_: (MonitorStatus(monitor.status), monitor.rules()) for id_, monitor in changed.items()}
    locking = _projects_that_lock(changed.values())
    reported: set[int] = set()
    recorded: list[Change] = []
    edits: dict[int, list[Edit]] = {id_: [] for id_ in changed}
    for item, known in with_monitor:
        changing_one = changed.get(known.id)
        if changing_one is not None and item.config is not None and _is_locked(changing_one, locking):
            _refuse_config(item, item.config, changing_one)
            continue
        if known.is_locked and changing_one is None:
            continue  # The refusal was reported before.
        if item.config is not None and known.id not in reported and not known.has_in_force(item.config):
            reported.add(known.id)
            item.outcome.problems += item.ignored
        if changing_one is not None and (error := _without_time(item, changing_one.rules())) is not None:
            _drop_config(item, error)
            continue
        if changing_one is not None and item.config is not None:
            if wanted := item.config.differs_from(changing_one.rules(), changing_one.owner):
                recorded.append(Change(known.id, item.message.received_at, item.message.key_id, wanted))
                earlier = edits[known.id]
                if earlier:
                    earlier[-1].monitor = copy(changing_one)
                earlier.append(Edit(changing_one, item.message.received_at))
                merge(changing_one, item.config)
                changing_one.refused_changes = None
            changing_one.is_upserting = True
        elif changing_one is not None and item.begins_without_config:
            changing_one.is_upserting = False
    record_changes(recorded)
    newest = max(item.message.received_at for item in items)
    for id_, one in changed.items():
        edits[id_] = edits[id_] or [Edit(one, newest)]
    return Changes([edit for own in edits.values() for edit in own], before), locked


def merge(monitor: Monitor, config: Configuration) -> None:
    """Apply a configuration to the columns of a monitor."""
    for column, value in rule_columns(config.applied_to(monitor.rules())).items():
        setattr(monitor, column, value)
    if config.owner is not None:
        monitor.owner = config.owner


def _has_news(config: Configuration, known: KnownMonitor) -> bool:
    """Return whether a configuration changes its monitor, or asks a locked one for a change not refused yet (D40)."""
    if known.has_in_force(config):
        return False
    if not (known.is_locked and known.is_upserting):
        return True
    wanted = config.differs_from(known.rules, known.owner)
    return bool(wanted) and digest(wanted) not in known.refused


def _without_time(item: BatchItem, rules: MonitorRules) -> ScheduleError | None:
    """Return an error if the item's crontab has no time in the monitor's zone (D34).

    Its own zone, or UTC, was checked when it was decoded.
    """
    if item.config is None or item.config.timezone is not None:
        return None
    try:
        refuse_without_time(item.config.applied_to(rules).schedule, now=item.message.received_at)
    except ScheduleError as error:
        return error
    return None


def _drop_config(item: BatchItem, error: ScheduleError) -> None:
    """Drop the configuration of an item: its schedule cannot be used."""
    kind, field = ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config.schedule"
    item.outcome.problems.append(dropped_part(kind, field, error.value, error.allowed))
    item.message = msgspec.structs.replace(item.message, config=None)


def _projects_that_lock(monitors: Iterable[Monitor]) -> set[int]:
    """Return the projects whose monitors refuse configuration by default. One statement, or none."""
    undecided = {monitor.project_id for monitor in monitors if monitor.is_config_locked is None}
    return (
        set(Project.objects.filter(id__any_of=undecided, is_config_locked=True).values_list("id", flat=True))
        & undecided
    )


def _is_locked(monitor: Monitor, locking: Collection[int]) -> bool:
    return monitor.project_id in locking if monitor.is_config_locked is None else monitor.is_config_locked


def _refuse_config(item: BatchItem, config: Configuration, monitor: Monitor) -> None:
    """Leave a locked monitor unchanged, and report each refused change once (D40)."""
    monitor.is_upserting = True
    wanted = config.differs_from(monitor.rules(), monitor.owner)
    if wanted and digest(wanted) not in (monitor.refused_changes or ()):
        item.outcome.problems.append(refusal(wanted))
        monitor.refused_changes = remembered(monitor.refused_changes, digest(wanted))


def _mark_new_runs_without_config(items: Sequence[tuple[BatchItem, KnownMonitor]]) -> None:
    """Mark the items that begin a new run, without configuration, of a monitor that its job has configured so far.

    A run whose opening message brings the configuration in the same batch is not marked.
    """
    configured = {(item.message.project_id, item.message.check_in_id) for item, _ in items if item.config is not None}
    undecided = [
        ((item.message.project_id, guid), item)
        for item, monitor in items
        if monitor.is_upserting
        and isinstance(item.message, CheckInMessage)
        and item.message.config is None
        and (guid := item.message.check_in_id) is not None
    ]
    if not undecided:
        return
    since = min(item.message.received_at for item, _ in items)
    known = load_by_guid({key for key, _ in undecided} - configured, since=since)
    for key, item in undecided:
        item.begins_without_config = key not in known and key not in configured
