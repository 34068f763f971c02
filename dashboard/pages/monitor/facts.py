"""What the page of a monitor shows (shell). A fixed number of statements, whatever the history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Case, QuerySet, When

from checkins.models import CheckIn, RunningCheckIn
from dashboard.durations import Measured
from dashboard.pages.monitor.clock_changes import ClockChange, clock_changes
from dashboard.pages.monitor.state import Situation, State, state_of
from dashboard.runs import checkins_of, exit_status_of, slot_of
from dashboard.sentences import sentence
from incidents.models import Incident
from monitors.limits import percentile
from monitors.models import Monitor, MonitorEnvironment
from monitors.schedule import anchor_for, next_slots, why_unreadable

RUNS_SHOWN = 25
INCIDENTS_SHOWN = 10
ENVIRONMENTS_SHOWN = 100
NEXT_SHOWN = 10
CHANGES_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Run:
    """A run, with what the table shows of it."""

    checkin: CheckIn
    status: str
    slot: datetime | None
    delay: timedelta | None
    duration: timedelta | None
    share: int
    exit_status: int | None


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the newest runs took, in milliseconds."""

    count: int
    median: int | None
    p95: int | None
    p99: int | None
    longest: int | None
    delay_median: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One environment of a monitor as its page shows it. `incident` is the open one, and `reason` its sentence."""

    environment: MonitorEnvironment
    state: State
    running_since: datetime | None
    incident: Incident | None
    reason: str


def load_environments(monitor: Monitor) -> Sequence[MonitorEnvironment]:
    """Return the first environments of a monitor, failing ones first. One statement."""
    is_well = Case(When(status="error", then=0), default=1)
    return list(_environments(monitor).order_by(is_well, "environment__name")[:ENVIRONMENTS_SHOWN])


def choose(monitor: Monitor, environments: Sequence[MonitorEnvironment], name: str) -> MonitorEnvironment | None:
    """Return the environment that was asked for, or the first one; None if there is none, or none of that name.

    One that is not among the first ones costs a statement.
    """
    if not name:
        return environments[0] if environments else None
    found = next((row for row in environments if row.environment.name == name), None)
    if found is None and len(environments) >= ENVIRONMENTS_SHOWN:
        found = _environments(monitor).filter(environment__name=name).first()
    return found


def _environments(monitor: Monitor) -> QuerySet[MonitorEnvironment]:
    rows = monitor.monitor_environments.exclude(status="pending_deletion")
    return rows.select_related("environment", "monitor")


def load_shown(environment: MonitorEnvironment, *, now: datetime, language: str) -> Shown:
    """Return what the page says about an environment. Three statements."""
    running = RunningCheckIn.objects.filter(monitor_environment=environment).order_by("-date_added").first()
    since = None if running is None else running.date_added
    incident = Incident.objects.filter(monitor_environment=environment, resolved_at__isnull=True).first()
    reason = ""
    if incident is not None:
        incident.monitor_environment = environment
        newest = incident.occurrences.order_by("-number").values_list("explanation", flat=True).first()
        reason = sentence(incident, newest or {}, language=language)
    situation = Situation(
        is_disabled=environment.monitor.status == "disabled",
        status=environment.status,
        pending_slot=environment.pending_slot,
        deadline=environment.next_checkin_latest,
        is_running=running is not None,
    )
    return Shown(environment, state_of(situation, now=now), since, incident, reason)


def load_runs(environment: MonitorEnvironment, before: int = 0) -> list[Run]:
    """Return the newest runs of an environment, or those `before` one of its check-ins. At most two statements."""
    checkins = checkins_of(environment, RUNS_SHOWN, before=before)
    longest = max((row.duration_ms or 0 for row in checkins), default=0)
    return [describe_run(row, longest=longest) for row in checkins]


def describe_run(checkin: Any, *, longest: int = 0) -> Run:
    """Return what is shown of a run; `share` is its part of the longest duration (ms), in per cent."""
    slot = slot_of(checkin)
    is_run = checkin.status not in ("missed", "unknown")
    return Run(
        checkin=checkin,
        status="running" if checkin.status == "in_progress" else checkin.status,
        slot=slot,
        delay=checkin.date_added - slot if slot is not None and is_run else None,
        duration=None if checkin.duration_ms is None else timedelta(milliseconds=checkin.duration_ms),
        share=0 if not longest or checkin.duration_ms is None else round(100 * checkin.duration_ms / longest),
        exit_status=exit_status_of(checkin),
    )


def describe_durations(measured: Measured) -> Durations | None:
    """Return how long the newest runs took; None if none is known."""
    values = measured.durations_ms
    if not values:
        return None
    median, p95, p99 = (percentile(values, percent) for percent in (50, 95, 99))
    return Durations(len(values), median, p95, p99, max(values), percentile(measured.delays_ms, 50))


def load_incidents(environment: MonitorEnvironment) -> Sequence[Incident]:
    """Return the newest incidents of an environment. One statement."""
    return list(Incident.objects.filter(monitor_environment=environment).order_by("-id")[:INCIDENTS_SHOWN])


def next_times(monitor: Monitor, *, now: datetime) -> tuple[Sequence[datetime], Sequence[ClockChange]]:
    """Return the next times of a monitor's schedule, and the next changes of the clocks of its zone."""
    schedule = monitor.schedule()
    if why_unreadable(schedule):
        return (), ()
    changes = islice(clock_changes(ZoneInfo(schedule.timezone), now=now), CHANGES_SHOWN)
    return tuple(next_slots(schedule, now, anchor_for(schedule, now), NEXT_SHOWN)), tuple(changes)
