"""Environments of the messages of a batch: existing ones, new ones, and those being deleted (shell).

Source: docs/reference/behaviour.md, section 6.6.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.conf import settings
from django.db.models import Count

from checkins.messages import CheckInMessage, CheckInStatus, LogMessage, ProblemKind
from checkins.processing.budgets import Budget, account, exceeded, grant
from checkins.processing.finding import Found, Hints
from checkins.processing.items import BatchItem, refuse_as_disabled
from checkins.processing.rows import load_by_guid
from checkins.processing.transitions import CheckInState
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import create_environments
from monitors.state import EnvironmentStatus, MonitorStatus


def resolve_environments(
    items: Sequence[BatchItem], found: Found, growing: Mapping[int, Monitor], hints: Hints, *, now: datetime
) -> None:
    """Give each item its environment's id; create missing ones up to the limit.

    Source: docs/reference/behaviour.md, section 6.6.
    """
    missing = {environment_key(item) for item in items} - found.environments.keys()
    environments: Mapping[tuple[int, str], int] = found.environments
    unpaid: set[tuple[int, str]] = set()
    if missing:
        monitor_ids = {monitor_id for monitor_id, _ in missing}
        counts = dict(
            MonitorEnvironment.objects.filter(monitor_id__any_of=monitor_ids)
            .exclude(status="pending_deletion")
            .order_by()
            .values_list("monitor_id")
            .annotate(Count("id"))
        )
        first: dict[tuple[int, str], BatchItem] = {}
        for item in items:
            if environment_key(item) in missing:
                first.setdefault(environment_key(item), item)
        wishes = [account(item.message.project_id, item.message.key_id, Budget.ENVIRONMENTS) for item in first.values()]
        unpaid = {key for key, is_granted in zip(first, grant(wishes, now=now), strict=True) if not is_granted}
        allowed = set()
        for monitor_id, name in sorted(missing - unpaid):
            if counts.get(monitor_id, 0) < settings.ENVIRONMENTS_PER_MONITOR and monitor_id in growing:
                counts[monitor_id] = counts.get(monitor_id, 0) + 1
                allowed.add((monitor_id, name))
        create_environments([(growing[monitor_id], name) for monitor_id, name in allowed], now=now)
        environments = Found(items, hints).environments
    for item in items:
        item.environment_id = environments.get(environment_key(item))
        if item.environment_id is None and environment_key(item) in unpaid:
            name = item.message.environment
            what = f"environment {name!r} of monitor {item.message.slug!r} was not created"
            item.outcome.problems.append(exceeded(Budget.ENVIRONMENTS, name, what))
        elif item.environment_id is None:
            item.refuse(
                ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED,
                "environment",
                item.message.environment,
                f"environment {item.message.environment!r} would be one more than the "
                f"{settings.ENVIRONMENTS_PER_MONITOR} that a monitor may have.",
            )


def environment_key(item: BatchItem) -> tuple[int, str]:
    """Return the monitor and the name by which an environment is found."""
    assert item.monitor is not None, "only items with a monitor have an environment"
    return item.monitor.id, item.message.environment


def find_environments_of_disabled(items: Iterable[BatchItem], found: Found) -> None:
    """Find the existing environments of disabled monitors for ends of runs: they may end runs that it knows (D23)."""
    for item in items:
        if item.monitor is None or item.monitor.status is MonitorStatus.ACTIVE:
            continue
        if isinstance(item.message, CheckInMessage) and item.message.status is not CheckInStatus.IN_PROGRESS:
            item.environment_id = found.environments.get(environment_key(item))
        if item.environment_id is None:
            refuse_as_disabled(item)


def find_runs_being_deleted(items: Iterable[BatchItem], found: Found) -> None:
    """Assign ends whose environment does not exist to that of their runs, rather than create an environment."""
    absent = {
        (item.message.project_id, guid): item
        for item in items
        if is_named_end(item.message)
        and (guid := item.message.check_in_id) is not None
        and environment_key(item) not in found.environments
    }
    if absent:
        known = load_by_guid(set(absent), since=min(item.message.received_at for item in absent.values()))
        lead_to_runs_being_deleted((absent[key], run) for key, run in known.items())


def is_named_end(message: CheckInMessage | LogMessage) -> bool:
    """Return whether a message reports the end of a run that it names by its id."""
    return (
        isinstance(message, CheckInMessage)
        and message.check_in_id is not None
        and message.status is not CheckInStatus.IN_PROGRESS
    )


def lead_to_runs_being_deleted(ends: Iterable[tuple[BatchItem, CheckInState]]) -> set[int]:
    """Assign ends to the environment of their run if that is being deleted: they are stored there (D23).

    Its name is free again, and a new environment may have it. Returns the ids of these environments. One statement, or
    none.
    """
    ends = list(ends)
    if not ends:
        return set()
    deleted = dict(
        MonitorEnvironment.objects.filter(
            id__any_of={run.environment_id for _, run in ends}, status=EnvironmentStatus.PENDING_DELETION.value
        ).values_list("id", "monitor_id")
    )
    led = set()
    for item, run in ends:
        if item.monitor is not None and deleted.get(run.environment_id) == item.monitor.id:
            item.environment_id = run.environment_id
            led.add(run.environment_id)
    return led
