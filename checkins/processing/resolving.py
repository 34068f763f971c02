"""Finding the monitors and environments of a batch, and creating or updating them by configurations (shell).

All locks that may wait for other transactions are taken here, in one order: monitors by id, then environments by id.
Source: docs/reference/behaviour.md, sections 6.2, 6.5 and 6.6.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from django.conf import settings
from django.db.models import Count

from checkins.editing import write_edits
from checkins.exceptions import CheckInsError
from checkins.messages import CheckInMessage, LogMessage, Outcome, ProblemKind, Source
from checkins.processing.budgets import Budget, account, exceeded, grant
from checkins.processing.changing import Changes, change_monitors, merge
from checkins.processing.environments import (
    find_environments_of_disabled,
    find_runs_being_deleted,
    resolve_environments,
)
from checkins.processing.finding import Found, Hints
from checkins.processing.items import BatchItem, KnownMonitor, monitor_not_found
from checkins.processing.waiting import claim_parked, park
from monitors.hot_rows import LockedEnvironment, lock_environments
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import create_monitors
from monitors.slugs import cut_slug, slugify
from monitors.state import MonitorStatus

PARKING_SOURCES = frozenset({Source.SENTRY_ENVELOPE, Source.SENTRY_HTTP, Source.SIMULATION})
"""Clients that send the configuration with only one of a run's messages, in any order (D17)."""

SAYS_WHY_THERE_IS_NONE = frozenset({ProblemKind.MONITOR_LIMIT_EXCEEDED, ProblemKind.KEY_BUDGET_EXCEEDED})
"""Problems that explain a missing monitor: "not found" is not reported as well."""


class OvertakenError(CheckInsError):
    """While this batch waited for its locks, a monitor was disabled or an environment deleted: try again."""


def resolve(items: list[BatchItem], *, now: datetime, hints: Hints, applies_parked: bool = True) -> Changes:
    """Find, create or update the monitor and environment of each item; refuse items that cannot have them.

    Parked check-ins of monitors that are created here are put before the others (D17), unless `applies_parked` is
    False: then the next `settle_parked` applies them.
    Returns the changed monitors. Locks the monitors that it changes or adds environments to, in id order.
    Source: docs/reference/behaviour.md, sections 6.2, 6.5 and 6.6.
    """
    _find_old_slugs(items)
    found = Found(items, hints)
    missing = [item for item in items if item.key not in found.monitors and item.first_config is not None]
    if missing:
        created = _create_missing(missing, now=now)
        if applies_parked:
            items[:0] = [BatchItem(message, Outcome()) for message in claim_parked(created)]
        found = Found(items, hints)
        _note_creators(items, created & found.monitors.keys())
    changes, growing = change_monitors(items, found)
    for item in items:
        item.monitor = found.monitors.get(item.key)
        if isinstance(item.message, CheckInMessage) and item.message.config_problem is not None:
            item.outcome.problems.append(item.message.config_problem)
    unknown = [item for item in items if item.monitor is None and not _explains_missing_monitor(item)]
    _park([item for item in unknown if item.message.source in PARKING_SOURCES], now=now)
    _refuse_unknown(unknown)
    active = [item for item in items if item.monitor is not None and item.monitor.status is MonitorStatus.ACTIVE]
    find_runs_being_deleted(active, found)
    resolve_environments([item for item in active if item.environment_id is None], found, growing, hints, now=now)
    find_environments_of_disabled(items, found)
    return changes


def _find_old_slugs(items: Sequence[BatchItem]) -> None:
    """Find the monitors that long names created when slugs were cut at 50 characters (D27).

    Such a monitor was named after the raw name that created it; another raw name with the same 50 characters is
    another job. If a person has renamed the monitor, this cannot be checked, and it is still found.
    """
    long = [
        (item, old)
        for item in items
        if (old := cut_slug(item.message.raw_slug)) is not None and item.message.slug == slugify(item.message.raw_slug)
    ]
    if not long:
        return
    projects = {item.message.project_id for item, _ in long}
    slugs = {slug for item, old in long for slug in (old, item.message.slug)}
    found = Monitor.objects.not_deleted().filter(project_id__any_of=projects, slug__any_of=slugs)
    names = {(project_id, slug): name for project_id, slug, name in found.values_list("project_id", "slug", "name")}
    for item, old in long:
        message = item.message
        name = names.get((message.project_id, old))
        if name is None or item.key in names:
            continue
        if name == message.raw_slug[:128] or cut_slug(name) != old:
            item.message = msgspec.structs.replace(message, slug=old)


def _create_missing(items: Sequence[BatchItem], *, now: datetime) -> set[tuple[int, str]]:
    """Create the monitors of items that have none, up to the limit. Returns the keys of those that were created."""
    projects = {item.message.project_id for item in items}
    counts = dict(
        Monitor.objects.not_deleted()
        .filter(project_id__any_of=projects)
        .order_by()
        .values_list("project_id")
        .annotate(Count("id"))
    )
    first: dict[tuple[int, str], BatchItem] = {}
    for item in items:
        first.setdefault(item.key, item)
    wishes = [account(one.message.project_id, one.message.key_id, Budget.MONITORS) for one in first.values()]
    granted = dict(zip(first, grant(wishes, now=now), strict=True))
    new: dict[tuple[int, str], Monitor] = {}
    for item in items:
        project_id, slug = key = item.key
        if key in new:
            continue
        if not granted[key]:
            what = f"monitor_slug {slug!r} was not created"
            item.outcome.problems.append(exceeded(Budget.MONITORS, slug, what))
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
            project_id=project_id,
            slug=slug,
            name=item.message.raw_slug[:128],
            is_upserting=item.config is not None,
            created_at=now,
        )
        config = item.first_config
        assert config is not None, "only a configuration creates a monitor"
        item.outcome.problems += item.ignored
        merge(new[key], config)
    # Sorted, so that two batches that create the same monitors wait for each other instead of deadlocking.
    create_monitors([new[key] for key in sorted(new)])
    return set(new)


def _note_creators(items: Iterable[BatchItem], created: set[tuple[int, str]]) -> None:
    """Mark the first message of each new monitor as its creator."""
    for item in items:
        if item.key in created and item.first_config is not None:
            item.outcome.created = True
            created = created - {item.key}


def _explains_missing_monitor(item: BatchItem) -> bool:
    return any(problem.kind in SAYS_WHY_THERE_IS_NONE for problem in item.outcome.problems)


def _without_problems(message: CheckInMessage | LogMessage) -> CheckInMessage | LogMessage:
    """Return a message without its problems: they are stored at its reception, not again after it was parked (D33)."""
    if not isinstance(message, CheckInMessage) or not (message.problems or message.config_problem):
        return message
    return msgspec.structs.replace(message, problems=(), config_problem=None)


def _park(items: Sequence[BatchItem], *, now: datetime) -> None:
    """Store check-ins whose monitor may still come with the run's other message (D17).

    Within the budgets of their keys (D38).
    """
    wishes = [account(item.message.project_id, item.message.key_id, Budget.PARKED) for item in items]
    for item, is_granted in zip(items, grant(wishes, now=now), strict=True):
        item.outcome.parked = is_granted
        if not is_granted:
            what = f"monitor_slug {item.message.raw_slug!r} is not known, and its check-in cannot wait for it"
            item.outcome.problems.append(exceeded(Budget.PARKED, item.message.raw_slug, what))
    park(_without_problems(item.message) for item in items if item.outcome.parked)


def _refuse_unknown(items: Iterable[BatchItem]) -> None:
    """Refuse items without a monitor that are not parked, unless a problem explains it already."""
    for item in items:
        if not (item.outcome.parked or _explains_missing_monitor(item)):
            item.outcome.problems.append(monitor_not_found(item.message))


def lock_batch(items: Sequence[BatchItem], changes: Changes, hints: Hints) -> dict[int, LockedEnvironment]:
    """Lock everything that the batch touches at once, in id order, and apply changed configurations (D10).

    Raises OvertakenError if one of the environments no longer accepts check-ins, or differs from the hints.
    """
    ids = {item.environment_id for item in items if item.environment_id is not None}
    also: set[int] = set()
    if changes.edits:
        also = set(MonitorEnvironment.objects.filter(monitor_id__any_of=changes.before).values_list("id", flat=True))
    since = min((item.message.received_at for item in items if item.environment_id is not None), default=None)
    environments = lock_environments(ids | also, since=since)
    write_edits(changes.edits, before=changes.before, environments=environments.values())
    for item in items:
        if item.environment_id is None or item.monitor is None:
            continue
        environment = environments.get(item.environment_id)
        if environment is None or not _is_as_found(item, environment, item.monitor, changes):
            hints.forget()
            raise OvertakenError
    for item in items:
        if item.monitor is not None and item.monitor.id in changes.before:
            hints.drop(item.key)
    return environments


def _is_as_found(item: BatchItem, environment: LockedEnvironment, known: KnownMonitor, changes: Changes) -> bool:
    """Return whether a locked row accepts check-ins and equals the hint, with the configuration that it had."""
    if environment.monitor_status is not known.status:
        return False
    if not item.is_hinted:
        return True  # Read a moment ago: a change since then might as well have come after the batch.
    return (
        environment.monitor_id == known.id
        and environment.monitor_slug == item.message.slug
        and environment.name == item.message.environment
        and (
            known.id in changes.before
            or (
                (environment.rules is known.rules or environment.rules == known.rules)  # they are shared
                and environment.monitor_is_upserting == known.is_upserting
                and environment.monitor_owner == known.owner
            )
        )
    )
