"""Finding what a batch of messages is about: monitors, created or updated by configurations, and environments (shell).

Whatever has to wait for other transactions is locked here, in the one order: monitors by id, then environments by id.
Source: docs/reference/behaviour.md, sections 6.2, 6.5 and 6.6.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime

import msgspec
from django.conf import settings
from django.db.models import Count

from checkins.exceptions import CheckInsError
from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
    LogMessage,
    Outcome,
    Problem,
    ProblemKind,
    Source,
)
from checkins.processing.budgets import Budget, account, exceeded, grant
from checkins.processing.configuring import Change, digest, record_changes, refusal, remembered
from checkins.processing.rows import load_by_guid
from checkins.processing.transitions import CheckInState
from checkins.processing.waiting import park, take_parked
from checkins.protocols.fields import dropped_part
from checkins.protocols.request import KnownSender, Sender
from lib.sql import array_literal, fetch_rows
from monitors.changes import Edit, write_changes
from monitors.configuration import CONFIGURATION_COLUMNS, Configuration, rule_columns, shared_rules
from monitors.hot_rows import LockedEnvironment, lock_environments
from monitors.models import Monitor, MonitorEnvironment, Project
from monitors.schedule import ScheduleError, refuse_without_time
from monitors.services import create_environments, create_monitors
from monitors.slugs import cut_slug, slugify
from monitors.state import EnvironmentStatus, MonitorRules, MonitorStatus

PARKING_SOURCES = frozenset({Source.SENTRY_ENVELOPE, Source.SENTRY_HTTP, Source.SIMULATION})
"""Clients that send the configuration with only one of a run's messages, in any order (D17)."""

SAYS_WHY_THERE_IS_NONE = frozenset({ProblemKind.MONITOR_LIMIT_EXCEEDED, ProblemKind.KEY_BUDGET_EXCEEDED})
"""Of a message whose monitor is not there: that nobody knows it need not be said as well."""


class KnownMonitor(msgspec.Struct, frozen=True):
    """What messages have to know of a monitor. Not a model instance: making those took a third of a batch's time."""

    id: int
    status: MonitorStatus
    is_upserting: bool
    owner: str
    rules: MonitorRules
    is_locked: bool = False
    refused: tuple[str, ...] = ()


@dataclass(slots=True)
class BatchItem:
    """One message on its way through the batch. `environment_id` is set while nothing has refused it."""

    message: CheckInMessage | LogMessage
    outcome: Outcome
    monitor: KnownMonitor | None = None
    environment_id: int | None = None
    is_hinted: bool = False

    @property
    def key(self) -> tuple[int, str]:
        """Project and slug, by which the monitor is found."""
        return self.message.project_id, self.message.slug

    @property
    def config(self) -> Configuration | None:
        """The configuration that updates the monitor, or creates it."""
        return self.message.config if isinstance(self.message, CheckInMessage) else None

    def refuse(self, kind: ProblemKind, field_name: str, value: str, text: str) -> None:
        """Note why the message is not taken, for its sender and for the project's people."""
        self.outcome.problems.append(Problem(kind, field_name, value, text))


@dataclass(slots=True)
class Changes:
    """Monitors whose configuration came with the batch, locked: what changes them, and their status and rules before.

    Each configuration is an edit of its own, at the reception of its message: the batch may be a backlog (D31, D32).
    """

    edits: Sequence[Edit]
    before: Mapping[int, tuple[MonitorStatus, MonitorRules]]


class Hints:
    """Monitors and environments that earlier batches of this process have found, so that they need not be looked up.

    Nothing here is believed: `lock_batch` compares it with the locked rows, and if anything has changed, all is
    forgotten and the batch looks again. Only active monitors are remembered, since only these are locked.
    `senders` maps monitors' guids to what the owner of the hints makes of them, with the monitor's id.
    """

    PLACES_MAX = 50_000
    """Environments that are remembered: some 20 MB."""

    def __init__(self) -> None:
        self.monitors: dict[tuple[int, str], KnownMonitor] = {}
        self.environments: dict[tuple[int, str], int] = {}
        self.senders: dict[uuid.UUID, tuple[KnownSender, int]] = {}
        self._heard: dict[Sender, None] = {}

    def hear(self, sender: Sender, *, is_known: bool) -> None:
        """Remember that a sender was looked for and found, or was not."""
        self._heard.pop(sender, None)
        if is_known:
            if len(self._heard) >= self.PLACES_MAX:
                del self._heard[next(iter(self._heard))]
            self._heard[sender] = None

    def has_heard(self, sender: Sender) -> bool:
        """Tell whether a sender was known when it was last looked for. Outlives `forget`, and an absent PostgreSQL."""
        return sender.monitor_guid in self.senders or sender in self._heard

    def forget(self) -> None:
        """Start anew."""
        self.monitors.clear()
        self.environments.clear()
        self.senders.clear()

    def keep(self, key: tuple[int, str], monitor: KnownMonitor, environment: str, environment_id: int) -> None:
        """Remember where check-ins for this project and slug, in this environment, belong."""
        if monitor.status is not MonitorStatus.ACTIVE:
            return
        if len(self.environments) >= self.PLACES_MAX:
            self.forget()
        self.monitors[key] = monitor
        self.environments[monitor.id, environment] = environment_id

    def drop(self, key: tuple[int, str]) -> None:
        """Forget one monitor."""
        self.monitors.pop(key, None)


class OvertakenError(CheckInsError):
    """While this batch waited for its locks, a monitor was switched off or an environment deleted: look again."""


def resolve(items: list[BatchItem], *, now: datetime, hints: Hints, takes_parked: bool = True) -> Changes:
    """Find, create or update the monitor and environment of each item; refuse items that cannot have them.

    Check-ins that waited for a monitor that is created here are put before the others (D17), unless they are not to be
    taken: then the next `settle_parked` finds them.
    Returns the changed monitors. Locks the monitors that it changes or adds environments to, in id order.
    Source: docs/reference/behaviour.md, sections 6.2, 6.5 and 6.6.
    """
    _keep_old_slugs(items)
    found = _Found(items, hints)
    missing = [item for item in items if item.key not in found.monitors and _first_config(item) is not None]
    if missing:
        created = _create_missing(missing, now=now)
        if takes_parked:
            items[:0] = [BatchItem(message, Outcome()) for message in take_parked(created)]
        found = _Found(items, hints)
        for item in reversed(items):  # The first message of each is the one that created it.
            if item.key in created and _first_config(item) is not None:
                created[item.key] = item
        for creator in created.values():
            if creator is not None and creator.key in found.monitors:
                creator.outcome.created = True
    changes, growing = _change_monitors(items, found)
    for item in items:
        item.monitor = found.monitors.get(item.key)
        if isinstance(item.message, CheckInMessage) and item.message.config_problem is not None:
            item.outcome.problems.append(item.message.config_problem)
    _park([item for item in items if _waits_for_its_monitor(item)], now=now)
    active = [item for item in items if _has_active_monitor(item)]
    _find_runs_being_deleted(active, found)
    _resolve_environments([item for item in active if item.environment_id is None], found, growing, hints, now=now)
    _find_environments_of_disabled(items, found)
    return changes


def _keep_old_slugs(items: Sequence[BatchItem]) -> None:
    """Lead long names to the monitors that they made when slugs were cut at 50 characters (D27).

    Such a monitor was named after the raw name that made it; another raw name with the same 50 characters is another
    job. If somebody has named it otherwise, nothing says so, and it goes on being found.
    """
    old_slugs = {
        id(item): old
        for item in items
        if (old := cut_slug(item.message.raw_slug)) is not None and item.message.slug == slugify(item.message.raw_slug)
    }
    if not old_slugs:
        return
    projects = {item.message.project_id for item in items if id(item) in old_slugs}
    slugs = set(old_slugs.values()) | {item.message.slug for item in items if id(item) in old_slugs}
    found = Monitor.objects.not_deleted().filter(project_id__any_of=projects, slug__any_of=slugs)
    names = {(project_id, slug): name for project_id, slug, name in found.values_list("project_id", "slug", "name")}
    for item in items:
        message, old = item.message, old_slugs.get(id(item))
        name = None if old is None else names.get((message.project_id, old))
        if old is None or name is None or item.key in names:
            continue
        if name == message.raw_slug[:128] or cut_slug(name) != old:
            item.message = msgspec.structs.replace(message, slug=old)


class _Found:
    """What the database knows of the monitors and environments that items name."""

    def __init__(self, items: Iterable[BatchItem], hints: Hints) -> None:
        self.monitors: dict[tuple[int, str], KnownMonitor] = {}
        self.environments: dict[tuple[int, str], int] = {}
        unknown = set()
        for item in items:
            key, name = item.key, item.message.environment
            monitor = hints.monitors.get(key)
            environment_id = None if monitor is None else hints.environments.get((monitor.id, name))
            if monitor is None or environment_id is None or _meets_lock(item, monitor):
                unknown.add((*key, name))
            else:
                self.monitors[key] = monitor
                self.environments[monitor.id, name] = environment_id
                item.is_hinted = True
        self._look_up(unknown, hints)

    def _look_up(self, wanted: Collection[tuple[int, str, str]], hints: Hints) -> None:
        if not wanted:
            return
        projects, slugs, names = zip(*sorted(wanted), strict=True)
        # OFFSET 0 and no joins: each is found by its pair. A plan that was kept from the time when there were no
        # monitors went through all of the project's, or of the environment's, for each that is wanted.
        rows = fetch_rows(
            f"""
            SELECT m.project_id, m.slug, wanted.name,
                   (SELECT me.id FROM monitors_monitorenvironment AS me
                     WHERE me.monitor_id = m.id AND me.environment_id = e.id),
                   m.id, m.status, m.is_upserting, m.owner, {", ".join(CONFIGURATION_COLUMNS)},
                   coalesce(m.is_config_locked,
                            (SELECT is_config_locked FROM monitors_project p WHERE p.id = m.project_id)),
                   m.refused_changes::text
              FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS wanted (project_id, slug, name)
             CROSS JOIN LATERAL (SELECT * FROM monitors_monitor AS found
                                  WHERE found.project_id = wanted.project_id AND found.slug = wanted.slug
                                    AND found.status <> 'pending_deletion' OFFSET 0) AS m
              LEFT JOIN monitors_environment e ON e.project_id = wanted.project_id AND e.name = wanted.name
            """,  # noqa: S608 - names of columns
            [array_literal("bigint", projects), array_literal("text", slugs), array_literal("text", names)],
        )
        looked_up: dict[tuple[int, str], KnownMonitor] = {}
        for project_id, slug, name, environment_id, id_, status, is_upserting, owner, *rest in rows:
            *rules, is_locked, refused = rest
            key = project_id, slug
            monitor = looked_up.get(key)
            if monitor is None:
                told = () if refused is None else tuple(msgspec.json.decode(refused))
                status = MonitorStatus(status)
                monitor = KnownMonitor(id_, status, is_upserting, owner, shared_rules(*rules), is_locked, told)
                self.monitors[key] = looked_up[key] = monitor
            if environment_id is not None:
                self.environments[id_, name] = environment_id
                hints.keep(key, monitor, name, environment_id)


def _meets_lock(item: BatchItem, monitor: KnownMonitor) -> bool:
    """Tell whether an item wants to change a locked monitor. Hints are not told when a lock is lifted (D40)."""
    return monitor.is_locked and item.config is not None and not _is_in_force(item.config, monitor)


def _first_config(item: BatchItem) -> Configuration | None:
    """The configuration that the item's monitor gets if it is not there yet."""
    return item.config or item.message.config_if_new


def _ignored(item: BatchItem) -> tuple[Problem, ...]:
    return item.message.config_ignored if isinstance(item.message, CheckInMessage) else ()


def _waits_for_its_monitor(item: BatchItem) -> bool:
    """Tell whether the item's monitor may still come with the run's other message (D17)."""
    if item.monitor is not None or item.message.source not in PARKING_SOURCES:
        return False
    item.outcome.parked = not any(problem.kind in SAYS_WHY_THERE_IS_NONE for problem in item.outcome.problems)
    return item.outcome.parked


def _without_problems(message: CheckInMessage | LogMessage) -> CheckInMessage | LogMessage:
    """What was wrong with a message is stored when it comes, not once more when it has waited (D33)."""
    if not isinstance(message, CheckInMessage) or not (message.problems or message.config_problem):
        return message
    return msgspec.structs.replace(message, problems=(), config_problem=None)


def _park(items: Sequence[BatchItem], *, now: datetime) -> None:
    """Keep what waits for its monitor, as far as its key can pay for it (D38)."""
    wishes = [account(item.message.project_id, item.message.key_id, Budget.PARKED) for item in items]
    for item, is_granted in zip(items, grant(wishes, now=now), strict=True):
        if not is_granted:
            item.outcome.parked = False
            what = f"monitor_slug {item.message.raw_slug!r} is not known, and its check-in cannot wait for it"
            item.outcome.problems.append(exceeded(Budget.PARKED, item.message.raw_slug, what))
    park(_without_problems(item.message) for item in items if item.outcome.parked)


def _has_active_monitor(item: BatchItem) -> bool:
    """Tell whether the item's monitor listens; refuse the item if there is none."""
    message = item.message
    if item.monitor is None:
        if not (
            item.outcome.parked or any(problem.kind in SAYS_WHY_THERE_IS_NONE for problem in item.outcome.problems)
        ):
            item.outcome.problems.append(monitor_not_found(message))
        return False
    return item.monitor.status is MonitorStatus.ACTIVE


def _find_environments_of_disabled(items: Iterable[BatchItem], found: _Found) -> None:
    """Let last words reach the environments that a disabled monitor has: they may end runs that it knows (D23)."""
    for item in items:
        if item.monitor is None or item.monitor.status is MonitorStatus.ACTIVE:
            continue
        if isinstance(item.message, CheckInMessage) and item.message.status is not CheckInStatus.IN_PROGRESS:
            item.environment_id = found.environments.get(_environment_key(item))
        if item.environment_id is None:
            refuse_as_disabled(item)


def _find_runs_being_deleted(items: Iterable[BatchItem], found: _Found) -> None:
    """Let last words whose environment is not there reach their runs, rather than make an environment for them."""
    absent = {
        (item.message.project_id, guid): item
        for item in items
        if is_named_last_word(item.message)
        and (guid := item.message.check_in_id) is not None
        and _environment_key(item) not in found.environments
    }
    if absent:
        known = load_by_guid(set(absent), since=min(item.message.received_at for item in absent.values()))
        lead_to_runs_being_deleted((absent[key], run) for key, run in known.items())


def is_named_last_word(message: CheckInMessage | LogMessage) -> bool:
    """Tell whether a message says how a run ended that it names by its id."""
    return (
        isinstance(message, CheckInMessage)
        and message.check_in_id is not None
        and message.status is not CheckInStatus.IN_PROGRESS
    )


def lead_to_runs_being_deleted(ends: Iterable[tuple[BatchItem, CheckInState]]) -> set[int]:
    """Lead ends of runs to the environment of their run where that is being deleted: they are stored there (D23).

    Its name is free, and may be that of a new one. Returns the ids of these environments. One statement, or none.
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


def refuse_as_disabled(item: BatchItem) -> None:
    """Note that the item's monitor is disabled and takes no such message."""
    item.refuse(
        ProblemKind.MONITOR_DISABLED,
        "monitor_slug",
        item.message.slug,
        f"monitor_slug {item.message.slug!r} is disabled and takes no check-ins but the ends of runs that it knows; "
        "enable it to go on.",
    )


def monitor_not_found(message: CheckInMessage | LogMessage) -> Problem:
    """What is wrong with a message whose monitor nobody knows."""
    return Problem(
        ProblemKind.MONITOR_NOT_FOUND,
        "monitor_slug",
        message.raw_slug,
        f"monitor_slug {message.raw_slug!r} is not known in this project; "
        "create the monitor, or send a monitor_config with the check-in.",
    )


def find_monitors(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Return the ids of the monitors with these pairs of project id and slug. One statement."""
    if not keys:
        return {}
    projects, slugs = zip(*sorted(keys), strict=True)
    rows = fetch_rows(
        """
        SELECT m.project_id, m.slug, m.id
          FROM unnest(%s::bigint[], %s::text[]) AS wanted (project_id, slug)
          JOIN monitors_monitor m
            ON m.project_id = wanted.project_id AND m.slug = wanted.slug AND m.status <> 'pending_deletion'
        """,
        [array_literal("bigint", projects), array_literal("text", slugs)],
    )
    return {(project_id, slug): id_ for project_id, slug, id_ in rows}


def _create_missing(items: Sequence[BatchItem], *, now: datetime) -> dict[tuple[int, str], BatchItem | None]:
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
        config = _first_config(item)
        assert config is not None, "only a configuration creates a monitor"
        item.outcome.problems += _ignored(item)
        _merge(new[key], config)
    # In one order, so that two batches that create the same monitors wait for each other instead of deadlocking.
    create_monitors([new[key] for key in sorted(new)])
    return dict.fromkeys(new)


def _refuse_without_time(item: BatchItem, rules: MonitorRules) -> bool:
    """Tell whether the item's crontab has no time in the zone that the monitor keeps: then it changes nothing (D34).

    Its own zone, or UTC, was asked when it was read.
    """
    message, config = item.message, item.config
    if not isinstance(message, CheckInMessage) or config is None or config.timezone is not None:
        return False
    try:
        refuse_without_time(config.applied_to(rules).schedule, now=message.received_at)
    except ScheduleError as error:
        kind, field = ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config.schedule"
        item.outcome.problems.append(dropped_part(kind, field, error.value, error.allowed))
        item.message = msgspec.structs.replace(message, config=None)
        return True
    return False


def _merge(monitor: Monitor, config: Configuration) -> None:
    for column, value in rule_columns(config.applied_to(monitor.rules())).items():
        setattr(monitor, column, value)
    if config.owner is not None:
        monitor.owner = config.owner


def _is_in_force(config: Configuration, monitor: KnownMonitor) -> bool:
    """Tell whether a monitor would stay as it is."""
    return monitor.is_upserting and not config.differs_from(monitor.rules, monitor.owner)


def _change_monitors(items: Sequence[BatchItem], found: _Found) -> tuple[Changes, dict[int, Monitor]]:
    """Merge the configurations that came with the batch into their monitors, where they differ.

    Locks those and the monitors that get new environments, all at once: locked in two steps, the ids would not be in
    order. The second kind makes a simultaneous edit wait, so that it cannot overlook what is being created. They are
    returned too, by id.

    A new run without configuration says that the monitor is no longer configured by its job; the end of a known run
    says nothing, since several clients send the configuration with the start only.
    """
    with_monitor = [(item, monitor) for item in items if (monitor := found.monitors.get(item.key)) is not None]
    new_runs = _new_runs_without_config(with_monitor)
    changing = {
        monitor.id
        for item, monitor in with_monitor
        if id(item) in new_runs or (item.config is not None and _has_news(item.config, monitor))
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
    told: set[int] = set()
    recorded: list[Change] = []
    edits: dict[int, list[Edit]] = {id_: [] for id_ in changed}
    for item, known in with_monitor:
        changing_one = changed.get(known.id)
        if changing_one is not None and item.config is not None and _is_locked(changing_one, locking):
            _refuse_config(item, item.config, changing_one)
            continue
        if known.is_locked and changing_one is None:
            continue  # What it wants was told before.
        if item.config is not None and known.id not in told and not _is_in_force(item.config, known):
            told.add(known.id)
            item.outcome.problems += _ignored(item)
        if changing_one is not None and _refuse_without_time(item, changing_one.rules()):
            continue
        if changing_one is not None and item.config is not None:
            if wanted := item.config.differs_from(changing_one.rules(), changing_one.owner):
                recorded.append(Change(known.id, item.message.received_at, item.message.key_id, wanted))
                earlier = edits[known.id]
                if earlier:
                    earlier[-1].monitor = copy(changing_one)
                earlier.append(Edit(changing_one, item.message.received_at))
                _merge(changing_one, item.config)
                changing_one.refused_changes = None
            changing_one.is_upserting = True
        elif changing_one is not None and id(item) in new_runs:
            changing_one.is_upserting = False
    record_changes(recorded)
    newest = max(item.message.received_at for item in items)
    for id_, one in changed.items():
        edits[id_] = edits[id_] or [Edit(one, newest)]
    return Changes([edit for own in edits.values() for edit in own], before), locked


def _has_news(config: Configuration, known: KnownMonitor) -> bool:
    """Tell whether a configuration changes its monitor, or wants what a locked one has not refused yet (D40)."""
    if _is_in_force(config, known):
        return False
    if not (known.is_locked and known.is_upserting):
        return True
    wanted = config.differs_from(known.rules, known.owner)
    return bool(wanted) and digest(wanted) not in known.refused


def _projects_that_lock(monitors: Iterable[Monitor]) -> set[int]:
    """Return the projects whose monitors refuse configuration unless they say otherwise. One statement, or none."""
    asked = {monitor.project_id for monitor in monitors if monitor.is_config_locked is None}
    return set(Project.objects.filter(id__any_of=asked, is_config_locked=True).values_list("id", flat=True)) & asked


def _is_locked(monitor: Monitor, locking: Collection[int]) -> bool:
    return monitor.project_id in locking if monitor.is_config_locked is None else monitor.is_config_locked


def _refuse_config(item: BatchItem, config: Configuration, monitor: Monitor) -> None:
    """Keep a locked monitor as it is; what the check-in wanted is told once (D40)."""
    monitor.is_upserting = True
    wanted = config.differs_from(monitor.rules(), monitor.owner)
    if wanted and digest(wanted) not in (monitor.refused_changes or ()):
        item.outcome.problems.append(refusal(wanted))
        monitor.refused_changes = remembered(monitor.refused_changes, digest(wanted))


def _new_runs_without_config(items: Iterable[tuple[BatchItem, KnownMonitor]]) -> set[int]:
    """Return `id()`s of the items that begin a new run of a monitor which was configured by its job so far.

    A run whose opening message brings the configuration in the same batch is none of them.
    """
    items = list(items)
    configured = {(item.message.project_id, item.message.check_in_id) for item, _ in items if item.config is not None}
    undecided = {
        id(item): (item.message.project_id, guid)
        for item, monitor in items
        if monitor.is_upserting
        and isinstance(item.message, CheckInMessage)
        and item.message.config is None
        and (guid := item.message.check_in_id) is not None
    }
    if not undecided:
        return set()
    since = min(item.message.received_at for item, _ in items)
    known = load_by_guid(set(undecided.values()) - configured, since=since)
    return {item for item, key in undecided.items() if key not in known and key not in configured}


# --- environments ---------------------------------------------------------------------------------------------------


def _resolve_environments(
    items: Sequence[BatchItem], found: _Found, growing: Mapping[int, Monitor], hints: Hints, *, now: datetime
) -> None:
    """Give each item its environment's id; create missing ones up to the limit.

    Source: docs/reference/behaviour.md, section 6.6.
    """
    missing = {_environment_key(item) for item in items} - found.environments.keys()
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
            if _environment_key(item) in missing:
                first.setdefault(_environment_key(item), item)
        wishes = [account(item.message.project_id, item.message.key_id, Budget.ENVIRONMENTS) for item in first.values()]
        unpaid = {key for key, is_granted in zip(first, grant(wishes, now=now), strict=True) if not is_granted}
        allowed = set()
        for monitor_id, name in sorted(missing - unpaid):
            if counts.get(monitor_id, 0) < settings.ENVIRONMENTS_PER_MONITOR and monitor_id in growing:
                counts[monitor_id] = counts.get(monitor_id, 0) + 1
                allowed.add((monitor_id, name))
        create_environments([(growing[monitor_id], name) for monitor_id, name in allowed], now=now)
        environments = _Found(items, hints).environments
    for item in items:
        item.environment_id = environments.get(_environment_key(item))
        if item.environment_id is None and _environment_key(item) in unpaid:
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


def _environment_key(item: BatchItem) -> tuple[int, str]:
    assert item.monitor is not None, "only items with a monitor have an environment"
    return item.monitor.id, item.message.environment


def lock_batch(items: Sequence[BatchItem], changes: Changes, hints: Hints) -> dict[int, LockedEnvironment]:
    """Lock everything that the batch touches at once, in id order, and apply changed configurations (D10).

    Raises OvertakenError if one of the environments does not take check-ins any more, or is not what the hints said.
    """
    ids = {item.environment_id for item in items if item.environment_id is not None}
    also: set[int] = set()
    if changes.edits:
        also = set(MonitorEnvironment.objects.filter(monitor_id__any_of=changes.before).values_list("id", flat=True))
    since = min((item.message.received_at for item in items if item.environment_id is not None), default=None)
    environments = lock_environments(ids | also, since=since)
    write_changes(changes.edits, before=changes.before, environments=environments.values())
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
    """Tell whether a locked row takes check-ins, and is what a hint said, with the configuration that it had."""
    if environment.monitor_status is not known.status:
        return False
    if not item.is_hinted:
        return True  # Looked up a moment ago: what changed since then might as well have changed after the batch.
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
