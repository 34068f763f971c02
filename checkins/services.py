"""Applying a batch of check-in messages: one transaction, and statements that do not grow with the batch (shell).

resolve monitors (creating and updating those that bring a configuration) -> resolve environments (creating new ones)
-> lock the environments in id order -> decide each message in order with pure code -> write in bulk -> count failures
and oks -> store what could not be used. Source: reference section 6.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Count

from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
    MonitorConfig,
    Problem,
    ProblemKind,
    RefusedCheckIn,
)
from checkins.transitions import (
    CheckInState,
    EarlierWord,
    Verdict,
    count_towards_limit,
    decide_checkin,
)
from checkins.writing import (
    ProblemReport,
    insert_attempts,
    insert_checkins,
    load_by_guid,
    load_running,
    record_problems,
    update_checkins,
)
from incidents.services import FailedCheckIn, OkCheckIn, mark_failed, mark_ok
from incidents.thresholds import FailureKind
from monitors.environments import LockedEnvironment, lock_environments, save_environments
from monitors.models import Monitor, MonitorEnvironment
from monitors.services import create_environments, create_monitors, write_changes
from monitors.state import MonitorRules, MonitorStatus

GUID_CONSTRAINT = "checkin_guid_unique_in_project"
CONFLICT_TRIES_MAX = 5
"""Two batches may bring the same new id at the same moment; the second finds it on its next try."""


@dataclass(slots=True)
class Outcome:
    """What became of one message: whether it was stored, the id of its run, and what was wrong with it."""

    accepted: bool = False
    guid: uuid.UUID | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class _Item:
    """One message on its way through the batch."""

    message: CheckInMessage
    outcome: Outcome
    monitor: Monitor | None = None
    environment_id: int | None = None

    @property
    def open(self) -> bool:
        """Still to be decided: nothing has refused it yet."""
        return self.environment_id is not None

    def refuse(self, kind: ProblemKind, field_name: str, value: str, text: str) -> None:
        self.outcome.problems.append(Problem(kind, field_name, value, text))


def receive(messages: Sequence[CheckInMessage | RefusedCheckIn], *, now: datetime) -> list[Outcome]:
    """Apply messages in order and return one outcome for each. Everything is committed when this returns (P1).

    `now` is when the batch is processed; every decision uses the time at which a message was received.
    """
    for tries_left in reversed(range(CONFLICT_TRIES_MAX)):
        try:
            with transaction.atomic():
                return _apply(messages, now=now)
        except IntegrityError as error:
            diagnosis = getattr(error.__cause__, "diag", None)
            if tries_left == 0 or diagnosis is None or diagnosis.constraint_name != GUID_CONSTRAINT:
                raise
    raise AssertionError("the loop returns or raises")


def _apply(messages: Sequence[CheckInMessage | RefusedCheckIn], *, now: datetime) -> list[Outcome]:
    outcomes = [Outcome(problems=list(message.problems)) for message in messages]
    items = [
        _Item(message, outcome)
        for message, outcome in zip(messages, outcomes, strict=True)
        if isinstance(message, CheckInMessage)
    ]
    changed = _resolve_monitors(items, now=now)
    _resolve_environments(items, now=now)
    environments = _lock(items, changed)
    _decide_and_write(items, environments)
    _store_problems(messages, outcomes, items)
    return outcomes


# --- monitors -------------------------------------------------------------------------------------------------------


def _resolve_monitors(items: Sequence[_Item], *, now: datetime) -> dict[int, tuple[MonitorStatus, MonitorRules]]:
    """Find, create or update the monitor of each item; refuse items whose monitor is unknown or disabled.

    Returns the changed monitors with their status and rules as they were. Source: reference sections 6.2 and 6.5.
    """
    monitors = _find_monitors(items)
    missing = [item for item in items if _key(item) not in monitors and item.message.config is not None]
    if missing:
        _create_missing(missing, now=now)
        monitors = _find_monitors(items)
    changed = _update_monitors(items, monitors)
    for item in items:
        message = item.message
        if message.config_problem is not None:
            item.outcome.problems.append(message.config_problem)
        monitor = monitors.get(_key(item))
        if monitor is None:
            if not any(problem.kind is ProblemKind.MONITOR_LIMIT_EXCEEDED for problem in item.outcome.problems):
                item.refuse(
                    ProblemKind.MONITOR_NOT_FOUND,
                    "monitor_slug",
                    message.raw_slug,
                    f"monitor_slug {message.raw_slug!r} is not known in this project; "
                    "create the monitor, or send a monitor_config with the check-in.",
                )
        elif monitor.status != MonitorStatus.ACTIVE:
            item.monitor = monitor
            item.refuse(
                ProblemKind.MONITOR_DISABLED,
                "monitor_slug",
                message.slug,
                f"monitor_slug {message.slug!r} is disabled and takes no check-ins; enable it to go on.",
            )
        else:
            item.monitor = monitor
            item.environment_id = 0
    return changed


def _key(item: _Item) -> tuple[int, str]:
    return item.message.project_id, item.message.slug


def _find_monitors(items: Iterable[_Item]) -> dict[tuple[int, str], Monitor]:
    keys = {_key(item) for item in items}
    found = Monitor.objects.not_deleted().filter(
        project_id__in={project_id for project_id, _ in keys}, slug__in={slug for _, slug in keys}
    )
    return {(monitor.project_id, monitor.slug): monitor for monitor in found}


def _create_missing(items: Sequence[_Item], *, now: datetime) -> None:
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
    create_monitors(list(new.values()))


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


def _merge_all(items: Iterable[_Item], monitors: dict[tuple[int, str], Monitor], new_runs: set[int]) -> None:
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
    items: Sequence[_Item], monitors: dict[tuple[int, str], Monitor]
) -> dict[int, tuple[MonitorStatus, MonitorRules]]:
    """Merge the configurations that came with the batch into their monitors, where they differ.

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
    changing = {key: m for key, m in monitors.items() if _configuration(m) != before[m.id]}
    if not changing:
        return {}
    locked = Monitor.objects.filter(id__in=[monitor.id for monitor in changing.values()]).locked_in_id_order()
    current = {(monitor.project_id, monitor.slug): monitor for monitor in locked}
    as_they_were = {m.id: (MonitorStatus(m.status), m.rules()) for m in current.values()}
    _merge_all(items, current, new_runs)
    monitors.update(current)
    return as_they_were


# --- environments ---------------------------------------------------------------------------------------------------


def _resolve_environments(items: Sequence[_Item], *, now: datetime) -> None:
    """Give each open item its environment's id; create missing ones up to the limit. Source: reference section 6.6."""
    open_items = [item for item in items if item.open]
    wanted = {_environment_key(item) for item in open_items}
    found = _find_environments(wanted)
    missing = wanted - found.keys()
    if missing:
        monitor_ids = {monitor_id for monitor_id, _ in missing}
        # The lock makes a simultaneous edit wait, so that it cannot overlook an environment that is being created.
        list(Monitor.objects.filter(id__in=monitor_ids).locked_in_id_order().values_list("id"))
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
        create_environments(allowed, now=now)
        found |= _find_environments(allowed)
    for item in open_items:
        item.environment_id = found.get(_environment_key(item))
        if item.environment_id is None:
            item.refuse(
                ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED,
                "environment",
                item.message.environment,
                f"environment {item.message.environment!r} would be one more than the "
                f"{settings.ENVIRONMENTS_PER_MONITOR} that a monitor may have.",
            )


def _environment_key(item: _Item) -> tuple[int, str]:
    assert item.monitor is not None, "open items have a monitor"
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


def _lock(
    items: Sequence[_Item], changed: dict[int, tuple[MonitorStatus, MonitorRules]]
) -> dict[int, LockedEnvironment]:
    """Lock everything that the batch touches at once, in id order, and apply changed configurations (D10)."""
    ids = {item.environment_id for item in items if item.environment_id is not None}
    if not changed:
        return lock_environments(ids)
    also = MonitorEnvironment.objects.filter(monitor_id__in=changed).values_list("id", flat=True)
    lock_environments(ids | set(also))
    monitors = {item.monitor.id: item.monitor for item in items if item.monitor and item.monitor.id in changed}
    received_at = max(item.message.received_at for item in items if item.monitor and item.monitor.id in changed)
    write_changes(list(monitors.values()), before=changed, now=received_at)
    return lock_environments(ids)


# --- check-ins ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Runs:
    """The check-ins that the batch touches: as stored, and as decided so far."""

    by_guid: dict[tuple[int, uuid.UUID], CheckInState]
    running: dict[int, list[CheckInState]]
    new: dict[tuple[int, uuid.UUID], CheckInState] = field(default_factory=dict)
    changed: dict[tuple[int, uuid.UUID], CheckInState] = field(default_factory=dict)

    def find(self, item: _Item) -> CheckInState | None:
        """Return the run that a message is about. Source: reference section 6.3."""
        message = item.message
        if message.check_in_id is not None:
            return self.by_guid.get((message.project_id, message.check_in_id))
        assert item.environment_id is not None, "only open items have runs"
        known = [self.by_guid.get((message.project_id, run.guid), run) for run in self.running[item.environment_id]]
        still_running = [run for run in known if run.status is CheckInStatus.IN_PROGRESS]
        return max(still_running, key=lambda run: run.date_added, default=None)

    def put(self, project_id: int, run: CheckInState) -> None:
        key = project_id, run.guid
        self.by_guid[key] = run
        (self.new if run.id is None else self.changed)[key] = run
        runs = self.running.setdefault(run.environment_id, [])
        if run.id is None and all(other.guid != run.guid for other in runs):
            runs.append(run)


def _decide_and_write(items: Sequence[_Item], environments: dict[int, LockedEnvironment]) -> None:
    open_items = [item for item in items if item.environment_id in environments]
    named = {(i.message.project_id, i.message.check_in_id) for i in open_items if i.message.check_in_id is not None}
    unnamed = [item.environment_id for item in open_items if item.message.check_in_id is None and item.environment_id]
    running: dict[int, list[CheckInState]] = {id_: [] for id_ in environments}
    for run in load_running(set(unnamed), each_max=len(unnamed)):
        running[run.environment_id].append(run)
    runs = _Runs(by_guid=load_by_guid(named), running=running)

    verdicts: list[tuple[Verdict, LockedEnvironment, CheckInState, datetime]] = []
    earlier_words: list[tuple[tuple[int, uuid.UUID], EarlierWord]] = []
    for item in open_items:
        assert item.environment_id is not None
        environment = environments[item.environment_id]
        message = item.message
        counted = count_towards_limit(
            environment.state, received_at=message.received_at, per_minute_max=settings.CHECKINS_PER_MINUTE
        )
        if counted is None:
            item.refuse(
                ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED,
                "",
                "",
                f"environment {message.environment!r} of monitor {message.slug!r} sent more than "
                f"{settings.CHECKINS_PER_MINUTE} check-ins in one minute; the rest of that minute was dropped.",
            )
            continue
        effect = decide_checkin(
            message,
            existing=runs.find(item),
            new_guid=message.check_in_id or uuid.uuid4(),
            environment_id=environment.id,
            environment=counted,
            rules=environment.rules,
            early_tolerance=timedelta(seconds=settings.EARLY_CHECKIN_SECONDS),
        )
        environment.state = effect.environment
        if effect.problem is not None:
            item.outcome.problems.append(effect.problem)
            continue
        item.outcome.accepted = True
        item.outcome.guid = message.check_in_id
        if effect.checkin is None:
            continue
        item.outcome.guid = effect.checkin.guid
        runs.put(message.project_id, effect.checkin)
        if effect.earlier_word is not None:
            earlier_words.append(((message.project_id, effect.checkin.guid), effect.earlier_word))
        if effect.verdict is not Verdict.NOTHING:
            verdicts.append((effect.verdict, environment, effect.checkin, message.received_at))
    _write(runs, verdicts, earlier_words, environments)


def _write(
    runs: _Runs,
    verdicts: Sequence[tuple[Verdict, LockedEnvironment, CheckInState, datetime]],
    earlier_words: Sequence[tuple[tuple[int, uuid.UUID], EarlierWord]],
    environments: dict[int, LockedEnvironment],
) -> None:
    ids = insert_checkins((environments[run.environment_id], run) for run in runs.new.values())
    update_checkins(runs.changed.values())
    stored = {
        **{key: ids[run.environment_id, run.guid] for key, run in runs.new.items()},
        **{key: run.id for key, run in runs.changed.items() if run.id is not None},
    }
    insert_attempts((stored[key], word) for key, word in earlier_words)
    _count(verdicts, stored)
    save_environments(environments.values())


def _count(
    verdicts: Sequence[tuple[Verdict, LockedEnvironment, CheckInState, datetime]],
    stored: dict[tuple[int, uuid.UUID], int],
) -> None:
    """Count failures and oks. Each environment's come in order; different environments are counted together.

    A round takes from every environment its next verdicts of one kind, so that one environment that fails and recovers
    within a batch costs more statements, and a thousand different ones do not.
    """
    queues: dict[int, list[list[tuple[Verdict, LockedEnvironment, CheckInState, datetime]]]] = {}
    by_environment: dict[int, list[tuple[Verdict, LockedEnvironment, CheckInState, datetime]]] = {}
    for verdict in verdicts:
        by_environment.setdefault(verdict[1].id, []).append(verdict)
    for environment_id, own in by_environment.items():
        queues[environment_id] = [list(group) for _, group in groupby(own, key=lambda verdict: verdict[0])]
    while queues:
        current = [entry for groups in queues.values() for entry in groups[0]]
        queues = {environment_id: groups[1:] for environment_id, groups in queues.items() if len(groups) > 1}
        mark_failed(
            [
                FailedCheckIn(
                    environment=environment,
                    id=stored[environment.project_id, run.guid],
                    guid=run.guid,
                    kind=FailureKind.ERROR,
                    started_at=run.date_added,
                    failed_at=received_at,
                    expected_time=run.expected_time,
                    received_at=received_at,
                    trace_id=run.trace_id,
                )
                for verdict, environment, run, received_at in current
                if verdict is Verdict.FAILED
            ]
        )
        mark_ok(
            [
                OkCheckIn(
                    environment=environment,
                    id=stored[environment.project_id, run.guid],
                    started_at=run.date_added,
                    received_at=received_at,
                )
                for verdict, environment, run, received_at in current
                if verdict is Verdict.OK
            ]
        )


# --- processing errors ----------------------------------------------------------------------------------------------


def _store_problems(
    messages: Sequence[CheckInMessage | RefusedCheckIn], outcomes: Sequence[Outcome], items: Sequence[_Item]
) -> None:
    monitors = {id(item.outcome): item.monitor for item in items}
    record_problems(
        ProblemReport(
            project_id=message.project_id,
            monitor_id=None if monitor is None else monitor.id,
            slug=message.slug,
            environment=message.environment,
            source=message.source,
            received_at=message.received_at,
            problem=problem,
            payload=message.payload,
        )
        for message, outcome in zip(messages, outcomes, strict=True)
        for monitor in (monitors.get(id(outcome)),)
        for problem in outcome.problems
    )
