"""Letting a scenario happen: the real processing and clock code on PostgreSQL, with time from the story (shell).

Check-ins take the way of every message (`checkins.protocols.fields`, then `checkins.processing.apply.receive`), edits
that of the admin (`checkins.editing`), and ticks that of the workers: the ledger first, then every clock task that it
or another task asks for. Only the clock that is read at the edges, and Celery between them, are replaced by a loop.
"""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Q, Sum
from msgspec import UNSET

from checkins.editing import update_monitor
from checkins.maintenance import change_tags, end_window, next_minute, plan_window
from checkins.messages import Message, Source
from checkins.models import CheckIn, ListeningSpan
from checkins.processing.apply import receive
from checkins.processing.retry import settle_parked
from checkins.protocols.fields import parse_checkin
from clocktasks.clock import MINUTE, whole_minute
from clocktasks.dispatch import advance_ledger
from clocktasks.exceptions import ClockError
from clocktasks.ledger import finish_ticks, write_ticks
from clocktasks.messages import decode_clock_task, encode_clock_task
from clocktasks.models import Tick
from clocktasks.playback.compare import Difference, ScenarioResult, compare
from clocktasks.playback.scenario import (
    CheckInEvent,
    CheckInRow,
    DeafEvent,
    EndMaintenanceEvent,
    Expectation,
    MaintenanceEvent,
    MonitorSetup,
    Scenario,
    SetEvent,
    TickEvent,
    VolumeSpan,
    turns,
)
from clocktasks.shards import process_clock_task
from incidents.models import Incident
from monitors.configuration import SCHEDULE_COLUMNS
from monitors.models import Environment, MaintenanceWindow, Monitor, MonitorEnvironment, Project
from monitors.schedule import Schedule, ScheduleError, refuse_without_time
from monitors.services import create_environments, create_monitor, set_monitors_muted

RUN_NAMESPACE = uuid.UUID("3d3f2b2e-5c5c-4b0e-8d6e-1f0a7c9e4b21")
ZERO_ID = "0" * 32
NODE_ID = uuid.UUID("6c6f9c1b-2c6b-4f1f-9d0e-4f5f6f6a2b11")
NONE = (0, 0, 0)
"""Open incidents, resolved ones and occurrences of an environment that has none."""
ALWAYS = ListeningSpan(since=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(2200, 1, 1, tzinfo=UTC))


class ImpossibleEventError(ClockError):
    """An event of the scenario cannot happen; the message says why."""


def run_scenario(scenario: Scenario) -> ScenarioResult:
    """Let the events happen in order and compare after each one that the scenario says something about.

    Needs empty tables, and leaves behind what happened. Raises whatever the code that is simulated raises.
    """
    begin = scenario.events[0].at.astimezone(UTC)
    _number_monitors_from_one()
    project = Project.objects.create(name="Simulation", slug="simulation", created_at=begin)
    _listen(scenario)
    # The ledger begins with the minute of the first event, so that the first tick makes up for the minutes since.
    _tick(begin, scenario)
    differences = []
    for monitor in scenario.monitors:
        try:
            _create(monitor, project_id=project.id, now=begin)
        except ImpossibleEventError as error:
            differences.append(Difference(message=f"monitor {monitor.slug!r}: {error}", key="monitors"))
    for turn in turns(scenario):
        number = turn[-1]
        try:
            _happen(turn, scenario, project_id=project.id)
        except ImpossibleEventError as error:
            differences.append(Difference(message=str(error), key="events", after_event=number))
        expected = [expectation for expectation in scenario.expect if expectation.after_event == number]
        if expected:
            state = observe(number)
            differences += [difference for each in expected for difference in compare(each, state)]
    state = observe(len(scenario.events) - 1)
    return ScenarioResult(name=scenario.name, passed=not differences, differences=differences, state=state)


def _number_monitors_from_one() -> None:
    # Shards follow from ids, and what two shards write at one tick is listed in their order: it must not depend on
    # what ran before.
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1, false)", [Monitor._meta.db_table])


@transaction.atomic
def _create(setup: MonitorSetup, *, project_id: int, now: datetime) -> None:
    monitor = Monitor(
        project_id=project_id,
        slug=setup.slug,
        name=setup.slug,
        is_muted=setup.is_muted is True,
        tags=[] if setup.tags is UNSET else setup.tags,
        created_at=now,
        **setup.columns(),
    )
    _refuse_without_time(monitor, {}, now=now)
    create_monitor(monitor)
    create_environments([(monitor, name) for name in setup.environments], now=now)


def _refuse_without_time(monitor: Monitor, changes: Mapping[str, Any], *, now: datetime) -> None:
    """Raise ImpossibleEventError where a form would refuse the schedule: it has no time in ten years (D34)."""
    columns = {name: changes.get(name, getattr(monitor, name)) for name in SCHEDULE_COLUMNS}
    try:
        refuse_without_time(Schedule(**columns), now=now)
    except ScheduleError as error:
        raise ImpossibleEventError(str(error)) from None


def _listen(scenario: Scenario) -> None:
    """Have somebody listen at all times but those that the story calls deaf (D2)."""
    since = ALWAYS.since
    spans = []
    deaf = [event for event in scenario.events if isinstance(event, DeafEvent)]
    for event in sorted(deaf, key=lambda event: event.at):
        spans.append((since, max(since, event.since.astimezone(UTC))))
        since = max(since, event.until.astimezone(UTC))
    spans.append((since, ALWAYS.until))
    ListeningSpan.objects.bulk_create(
        ListeningSpan(node_id=NODE_ID, since=begin, until=end) for begin, end in spans if begin < end
    )


def _happen(turn: Sequence[int], scenario: Scenario, *, project_id: int) -> None:
    """Let events happen that happen together: most are alone."""
    settle_parked(now=scenario.events[turn[0]].at.astimezone(UTC))
    last = scenario.events[turn[-1]]
    now = last.at.astimezone(UTC)
    match last:
        case CheckInEvent() | TickEvent():
            _receive_and_tick(turn, scenario, project_id=project_id)
        case SetEvent():
            _edit(last, project_id=project_id, now=now)
        case MaintenanceEvent():
            _plan(last, project_id=project_id, now=now)
        case EndMaintenanceEvent():
            for window in MaintenanceWindow.objects.filter(project_id=project_id, name=last.name).order_by("id"):
                end_window(window.id, now=now)


def _receive_and_tick(turn: Sequence[int], scenario: Scenario, *, project_id: int) -> None:
    """Receive check-ins, and then let the clock come to the last of the ticks among them."""
    received = [(number, event) for number in turn if isinstance(event := scenario.events[number], CheckInEvent)]
    ticks = [event.at for number in turn if isinstance(event := scenario.events[number], TickEvent)]
    if received:
        messages = [_message(event, number, project_id=project_id) for number, event in received]
        receive(messages, now=received[-1][1].at.astimezone(UTC))
    if ticks:
        _tick(ticks[-1].astimezone(UTC), scenario)


def _message(event: CheckInEvent, number: int, *, project_id: int) -> Message:
    if event.check_in_id == "zero":
        check_in_id = ZERO_ID
    elif event.check_in_id is None:
        check_in_id = uuid.uuid5(RUN_NAMESPACE, f"event {number}").hex
    else:
        check_in_id = uuid.uuid5(RUN_NAMESPACE, f"named {event.check_in_id}").hex
    payload = {
        "monitor_slug": event.monitor,
        "status": event.status,
        "check_in_id": check_in_id,
        "environment": event.environment,
        "duration": event.duration,
        "monitor_config": event.monitor_config,
    }
    payload = {key: value for key, value in payload.items() if value is not UNSET}
    received_at = event.at.astimezone(UTC)
    return parse_checkin(payload, project_id=project_id, received_at=received_at, source=Source.SIMULATION)


def _edit(event: SetEvent, *, project_id: int, now: datetime) -> None:
    monitor = Monitor.objects.filter(project_id=project_id, slug=event.monitor).first()
    if monitor is None:
        raise ImpossibleEventError(f"set: there is no monitor {event.monitor!r} at that time")
    if changes := event.columns():
        _refuse_without_time(monitor, changes, now=now)
        update_monitor(monitor.id, changes, now=now)
    if isinstance(event.is_muted, bool):
        set_monitors_muted([monitor.id], event.is_muted)
    if isinstance(event.tags, list):
        change_tags(monitor.id, event.tags, now=now)


def _plan(event: MaintenanceEvent, *, project_id: int, now: datetime) -> None:
    window = MaintenanceWindow(project_id=project_id, **event.columns())
    if event.monitor is not UNSET:
        window.monitor = Monitor.objects.filter(project_id=project_id, slug=event.monitor).first()
        if window.monitor is None:
            raise ImpossibleEventError(f"maintenance: there is no monitor {event.monitor!r} at that time")
    if event.environment is not UNSET:
        window.environment, _ = Environment.objects.get_or_create(project_id=project_id, name=event.environment)
    if window.ends_at is not None and window.ends_at <= max(window.starts_at, next_minute(now)):
        raise ImpossibleEventError(f"maintenance: the window {event.name!r} would be over before it begins")
    plan_window(window, now=now)


def _tick(now: datetime, scenario: Scenario) -> None:
    """Let the clock reach this minute: what beat does, and then what workers do until nobody has anything left."""
    tick = whole_minute(now)
    _write_ledger(tick, scenario, now=now)
    tasks = sorted(advance_ledger(tick, now=now), key=lambda task: task.shard)
    waiting = deque(encode_clock_task(task) for task in tasks)
    while waiting:
        task = decode_clock_task(waiting.popleft())
        result = process_clock_task(task)
        if result.wake is not None and result.wake.kind is not task.kind:
            waiting.append(encode_clock_task(result.wake))
    finish_ticks(now=now)


def _write_ledger(until: datetime, scenario: Scenario, *, now: datetime) -> None:
    """Write the ledger up to `until`. Minutes in a row about which nothing is to be said are one row: years take no
    longer than days. What is due in them is applied at its own tick all the same.
    """
    newest = Tick.objects.order_by("-at").values_list("at", flat=True).first()
    for begin, end in _stated_minutes(scenario):
        if newest is not None and newest < min(begin, until):
            _write_quiet(newest, min(begin, until), now=now)
            newest = min(begin, until)
        if newest is None or newest < min(end, until):
            # A story has too few check-ins to decide anything from: it says what was decided.
            newest = until if newest is None else min(end, until)
            write_ticks(newest, now=now, decide_as=scenario.decision_at)
    if newest is None:
        write_ticks(until, now=now, decide_as=scenario.decision_at)
    elif newest < until:
        _write_quiet(newest, until, now=now)


def _stated_minutes(scenario: Scenario) -> list[tuple[datetime, datetime]]:
    """Return, in order, from when to when a story says something about minutes: nobody listens, or what is decided.

    They end when a decision that is pending then is one (D4).
    """
    stated = [
        (one.since, one.until)
        for one in (*scenario.events, *scenario.volume)
        if isinstance(one, DeafEvent | VolumeSpan)
    ]
    after = (settings.VOLUME_RULES.decision_window + 1) * MINUTE
    return sorted(
        (whole_minute(since.astimezone(UTC)) - MINUTE, whole_minute(until.astimezone(UTC)) + after)
        for since, until in stated
    )


def _write_quiet(after: datetime, until: datetime, *, now: datetime) -> None:
    Tick.objects.create(at=until, covers_from=after, dispatched_at=now, decided_at=now, volume=0)


# --- looking --------------------------------------------------------------------------------------------------------


def observe(after_event: int) -> Expectation:
    """Return what the tables hold, in the shape of an expectation with every key."""
    checkins = CheckIn.objects.order_by("date_added", "id").values_list(
        "monitor_environment__monitor__slug",
        "monitor_environment__environment__name",
        "status",
        "expected_time",
        "date_added",
        "duration_ms",
        "unknown_because",
        "limit_broken",
    )
    environments = {
        f"{row.monitor.slug}/{row.environment.name}": row
        for row in MonitorEnvironment.objects.exclude(status="pending_deletion")
        .select_related("monitor", "environment")
        .order_by("monitor__slug", "environment__name")
    }
    incidents = (
        Incident.objects.order_by()
        .values_list("monitor_environment_id")
        .annotate(
            open=Count("id", filter=Q(resolved_at__isnull=True)),
            resolved=Count("id", filter=Q(resolved_at__isnull=False)),
            counted=Sum("occurrence_count"),
        )
    )
    counts = {row[0]: row[1:] for row in incidents}
    return Expectation(
        after_event=after_event,
        checkins=[
            CheckInRow(
                monitor=slug,
                environment=environment,
                status=status,
                expected_time=expected_time,
                date_added=date_added,
                duration_ms=duration_ms,
                unknown_because=because,
                limit_broken=limit,
            )
            for slug, environment, status, expected_time, date_added, duration_ms, because, limit in checkins
        ],
        environment_status={name: row.status for name, row in environments.items()},
        next_checkin={name: row.next_checkin for name, row in environments.items()},
        next_checkin_latest={name: row.next_checkin_latest for name, row in environments.items()},
        open_incidents={name: counts.get(row.id, NONE)[0] for name, row in environments.items()},
        resolved_incidents={name: counts.get(row.id, NONE)[1] for name, row in environments.items()},
        occurrences={name: counts.get(row.id, NONE)[2] for name, row in environments.items()},
    )


# --- a place of its own ---------------------------------------------------------------------------------------------
