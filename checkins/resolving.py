"""Finding what a batch of messages is about: monitors, created or updated by configurations, and environments (shell).

Whatever has to wait for other transactions is locked here, in the one order: monitors by id, then environments by id.
Source: reference sections 6.2, 6.5 and 6.6.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.db.models import Count

from checkins.messages import CheckInMessage, MonitorConfig, Outcome, Problem, ProblemKind
from checkins.writing import load_by_guid
from monitors.environments import LockedEnvironment, lock_environments
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import create_environments, create_monitors, write_changes
from monitors.state import MonitorRules, MonitorStatus


@dataclass(slots=True)
class BatchItem:
    """One message on its way through the batch. `environment_id` is set while nothing has refused it."""

    message: CheckInMessage
    outcome: Outcome
    monitor: Monitor | None = None
    environment_id: int | None = None

    def refuse(self, kind: ProblemKind, field_name: str, value: str, text: str) -> None:
        """Note why the message is not taken, for its sender and for the project's people."""
        self.outcome.problems.append(Problem(kind, field_name, value, text))


class OvertakenError(Exception):
    """While this batch waited for its locks, a monitor was switched off or an environment deleted: look again."""


def resolve(items: Sequence[BatchItem], *, now: datetime) -> dict[int, tuple[MonitorStatus, MonitorRules]]:
    """Find, create or update the monitor and environment of each item; refuse items that cannot have them.

    Returns the changed monitors with their status and rules as they were. Locks the monitors that it changes or adds
    environments to, in id order. Source: reference sections 6.2, 6.5 and 6.6.
    """
    monitors = find_monitors({_key(item) for item in items})
    missing = [item for item in items if _key(item) not in monitors and item.message.config is not None]
    if missing:
        _create_missing(missing, now=now)
        monitors = find_monitors({_key(item) for item in items})
    environments = _find_environments(
        {(monitor.id, item.message.environment) for item in items if (monitor := monitors.get(_key(item)))}
    )
    changed = _update_monitors(items, monitors, environments)
    for item in items:
        item.monitor = monitors.get(_key(item))
        if item.message.config_problem is not None:
            item.outcome.problems.append(item.message.config_problem)
    _resolve_environments([item for item in items if _has_active_monitor(item)], environments, now=now)
    return changed


def _has_active_monitor(item: BatchItem) -> bool:
    """Tell whether the item's monitor listens; refuse the item otherwise."""
    message = item.message
    if item.monitor is None:
        if not any(problem.kind is ProblemKind.MONITOR_LIMIT_EXCEEDED for problem in item.outcome.problems):
            item.refuse(
                ProblemKind.MONITOR_NOT_FOUND,
                "monitor_slug",
                message.raw_slug,
                f"monitor_slug {message.raw_slug!r} is not known in this project; "
                "create the monitor, or send a monitor_config with the check-in.",
            )
        return False
    if item.monitor.status != MonitorStatus.ACTIVE:
        item.refuse(
            ProblemKind.MONITOR_DISABLED,
            "monitor_slug",
            message.slug,
            f"monitor_slug {message.slug!r} is disabled and takes no check-ins; enable it to go on.",
        )
        return False
    return True


def _key(item: BatchItem) -> tuple[int, str]:
    return item.message.project_id, item.message.slug


def find_monitors(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], Monitor]:
    """Return the monitors with these pairs of project id and slug. One statement."""
    if not keys:
        return {}
    found = Monitor.objects.not_deleted().filter(
        project_id__in={project_id for project_id, _ in keys}, slug__in={slug for _, slug in keys}
    )
    return {(monitor.project_id, monitor.slug): monitor for monitor in found}


def _create_missing(items: Sequence[BatchItem], *, now: datetime) -> None:
    projects = {item.message.project_id for item in items}
    counts = dict(
        Monitor.objects.not_deleted()
        .filter(project_id__in=projects)
        .order_by()
        .values_list("project_id")
        .annotate(Count("id"))
    )
    new: dict[tuple[int, str], Monitor] = {}
    for item in items:
        project_id, slug = key = _key(item)
        if key in new:
            continue
        if counts.get(project_id, 0) >= settings.MONITORS_PER_PROJECT:
            item.refuse(
                ProblemKind.MONITOR_LIMIT_EXCEEDED,
                "monitor_slug",
                slug,
                f"monitor_slug {slug!r} would be monitor {counts[project_id] + 1} of the project; "
                f"{settings.MONITORS_PER_PROJECT} are allowed.",
            )
            continue
        counts[project_id] = counts.get(project_id, 0) + 1
        new[key] = Monitor(
            project_id=project_id, slug=slug, name=item.message.raw_slug[:128], is_upserting=True, created_at=now
        )
        assert item.message.config is not None, "only a configuration creates a monitor"
        _merge(new[key], item.message.config)
    # In one order, so that two batches that create the same monitors wait for each other instead of deadlocking.
    create_monitors([new[key] for key in sorted(new)])


def _merge(monitor: Monitor, config: MonitorConfig) -> None:
    """Take the schedule always, and of the rest what the payload named. Source: reference section 4.3."""
    schedule = config.schedule
    monitor.schedule_type = schedule.schedule_type.value
    monitor.crontab = schedule.crontab
    monitor.interval = schedule.interval
    monitor.interval_unit = None if schedule.interval_unit is None else schedule.interval_unit.value
    if "timezone" in config.named or not monitor.timezone:
        monitor.timezone = schedule.timezone
    if config.checkin_margin_minutes is not None:
        monitor.checkin_margin = config.checkin_margin_minutes
    if config.max_runtime_minutes is not None:
        monitor.max_runtime = config.max_runtime_minutes
    if config.failure_threshold is not None:
        monitor.failure_threshold = config.failure_threshold
    if config.recovery_threshold is not None:
        monitor.recovery_threshold = config.recovery_threshold
    if config.owner is not None:
        monitor.owner = config.owner


def _configuration(monitor: Monitor) -> tuple[object, ...]:
    return monitor.rules(), monitor.owner, monitor.is_upserting


def _merge_all(items: Iterable[BatchItem], monitors: dict[tuple[int, str], Monitor], new_runs: set[int]) -> None:
    for item in items:
        monitor = monitors.get(_key(item))
        if monitor is None:
            continue
        if item.message.config is not None:
            _merge(monitor, item.message.config)
            monitor.is_upserting = True
        elif id(item) in new_runs:
            monitor.is_upserting = False


def _update_monitors(
    items: Sequence[BatchItem],
    monitors: dict[tuple[int, str], Monitor],
    environments: Mapping[tuple[int, str], int],
) -> dict[int, tuple[MonitorStatus, MonitorRules]]:
    """Merge the configurations that came with the batch into their monitors, where they differ.

    Locks those and the monitors that get new environments, all at once: locked in two steps, the ids would not be in
    order. The second kind makes a simultaneous edit wait, so that it cannot overlook what is being created.

    A new run without configuration says that the monitor is no longer configured by its job; the end of a known run
    says nothing, since several clients send the configuration with the start only.
    """
    undecided = [
        item
        for item in items
        if item.message.config is None and (monitor := monitors.get(_key(item))) is not None and monitor.is_upserting
    ]
    known = load_by_guid({(i.message.project_id, i.message.check_in_id) for i in undecided if i.message.check_in_id})
    new_runs = {
        id(item)
        for item in undecided
        if item.message.check_in_id and (item.message.project_id, item.message.check_in_id) not in known
    }
    before = {monitor.id: _configuration(monitor) for monitor in monitors.values()}
    _merge_all(items, monitors, new_runs)
    changing = {monitor.id for monitor in monitors.values() if _configuration(monitor) != before[monitor.id]}
    growing = {
        monitor.id
        for item in items
        if (monitor := monitors.get(_key(item))) and (monitor.id, item.message.environment) not in environments
    }
    if not changing | growing:
        return {}
    locked = Monitor.objects.filter(id__in=changing | growing).locked_in_id_order()
    current = {(monitor.project_id, monitor.slug): monitor for monitor in locked if monitor.id in changing}
    as_they_were = {monitor.id: (MonitorStatus(monitor.status), monitor.rules()) for monitor in current.values()}
    _merge_all(items, current, new_runs)
    monitors.update(current)
    return as_they_were


# --- environments ---------------------------------------------------------------------------------------------------


def _resolve_environments(items: Sequence[BatchItem], found: Mapping[tuple[int, str], int], *, now: datetime) -> None:
    """Give each item its environment's id; create missing ones up to the limit. Source: reference section 6.6."""
    missing = {_environment_key(item) for item in items} - found.keys()
    if missing:
        monitor_ids = {monitor_id for monitor_id, _ in missing}
        counts = dict(
            MonitorEnvironment.objects.filter(monitor_id__in=monitor_ids)
            .exclude(status="pending_deletion")
            .order_by()
            .values_list("monitor_id")
            .annotate(Count("id"))
        )
        allowed = set()
        for monitor_id, name in sorted(missing):
            if counts.get(monitor_id, 0) < settings.ENVIRONMENTS_PER_MONITOR:
                counts[monitor_id] = counts.get(monitor_id, 0) + 1
                allowed.add((monitor_id, name))
        monitors = {item.monitor.id: item.monitor for item in items if item.monitor}
        create_environments([(monitors[monitor_id], name) for monitor_id, name in allowed], now=now)
        found = {**found, **_find_environments(allowed)}
    for item in items:
        item.environment_id = found.get(_environment_key(item))
        if item.environment_id is None:
            item.refuse(
                ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED,
                "environment",
                item.message.environment,
                f"environment {item.message.environment!r} would be one more than the "
                f"{settings.ENVIRONMENTS_PER_MONITOR} that a monitor may have.",
            )


def _environment_key(item: BatchItem) -> tuple[int, str]:
    assert item.monitor is not None, "only items with a monitor have an environment"
    return item.monitor.id, item.message.environment


def _find_environments(wanted: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    pairs = sorted(wanted)
    if not pairs:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT me.monitor_id, e.name, me.id
              FROM unnest(%s::bigint[], %s::text[]) AS wanted (monitor_id, name)
              JOIN monitors_monitorenvironment me ON me.monitor_id = wanted.monitor_id
              JOIN monitors_environment e ON e.id = me.environment_id AND e.name = wanted.name
            """,
            [[monitor_id for monitor_id, _ in pairs], [name for _, name in pairs]],
        )
        return {(monitor_id, name): id_ for monitor_id, name, id_ in cursor.fetchall()}


def lock_batch(
    items: Sequence[BatchItem], changed: dict[int, tuple[MonitorStatus, MonitorRules]]
) -> dict[int, LockedEnvironment]:
    """Lock everything that the batch touches at once, in id order, and apply changed configurations (D10).

    Raises OvertakenError if one of the environments does not take check-ins any more.
    """
    ids = {item.environment_id for item in items if item.environment_id is not None}
    also: set[int] = set()
    if changed:
        also = set(MonitorEnvironment.objects.filter(monitor_id__in=changed).values_list("id", flat=True))
    environments = lock_environments(ids | also)
    monitors = {item.monitor.id: item.monitor for item in items if item.monitor and item.monitor.id in changed}
    if monitors:
        received_at = max(item.message.received_at for item in items if item.monitor and item.monitor.id in changed)
        write_changes(list(monitors.values()), before=changed, environments=environments.values(), now=received_at)
    if not ids <= environments.keys() or any(
        environments[id_].monitor_status is not MonitorStatus.ACTIVE for id_ in ids
    ):
        raise OvertakenError
    return environments
