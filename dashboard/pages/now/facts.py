"""What needs a person, and what is being waited for (shell). Six statements at most, whatever there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, When

from checkins.models import RecentRuns, RunningCheckIn
from dashboard.pages.incident.facts import is_acknowledged
from dashboard.pages.mine import is_mine
from dashboard.pages.now.runs import is_long
from dashboard.sentences import sentence
from dashboard.standing import why_of
from incidents.models import Incident, Occurrence
from monitors.limits import percentile
from monitors.models import MonitorEnvironment, Project

INCIDENTS_SHOWN = 50
LATE_SHOWN = 20
RUNNING_READ = 500
"""Of the runs in progress, those that began first: among these the long ones are searched."""
LONG_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Open:
    """An open incident, with the sentence that says why."""

    incident: Incident
    environment: MonitorEnvironment
    reason: str
    why: str
    is_acknowledged: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """How many incidents are open, and how many of these need nobody now: by hand, or because they are quiet."""

    open: int
    acknowledged: int
    quiet: int

    @property
    def waiting(self) -> int:
        """How many nobody looks after yet."""
        return self.open - self.acknowledged


@dataclass(frozen=True, slots=True)
class Running:
    """A run in progress that takes longer than usual."""

    environment: MonitorEnvironment
    since: datetime
    timeout_at: datetime
    usual: timedelta | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What Now is about: the projects that a person may see, or of these only the person's own monitors."""

    projects: QuerySet[Project]
    person: User | AnonymousUser | None = None

    def condition(self, path: str = "") -> Q:
        """Return the condition on a monitor environment, or on what leads to one by `path`."""
        found = Q(**{f"{path}monitor__status": "active", f"{path}monitor__project__in": self.projects})
        return found if self.person is None else found & is_mine(self.person, path)


def _open(scope: Scope) -> QuerySet[Incident]:
    return Incident.objects.filter(
        scope.condition("monitor_environment__"), resolved_at__isnull=True, monitor_environment__status="error"
    )


def _is_quiet(now: datetime) -> Q:
    """Incidents of which a person has said that nobody is to be notified."""
    return (
        Q(monitor_environment__is_muted=True)
        | Q(monitor_environment__monitor__snoozed_until__gt=now)
        | Q(issue__status="archived")
    )


def _is_acknowledged(now: datetime) -> Q:
    return Q(acknowledged_at__isnull=False) & (Q(acknowledged_until__isnull=True) | Q(acknowledged_until__gt=now))


def count_open(scope: Scope, *, now: datetime) -> Counts:
    """Count the open incidents. One statement."""
    quiet, acknowledged = _is_quiet(now), _is_acknowledged(now)
    found = _open(scope).aggregate(
        open=Count("id", filter=~quiet),
        acknowledged=Count("id", filter=~quiet & acknowledged),
        quiet=Count("id", filter=quiet),
    )
    return Counts(**found)


def load_open(scope: Scope, *, now: datetime, language: str) -> list[Open]:
    """Return the open incidents that need a person: what nobody has acknowledged first, then oldest first."""
    newest = Occurrence.objects.filter(incident=OuterRef("pk")).order_by("-number")
    related = ("monitor_environment__monitor__project", "monitor_environment__environment", "issue__assignee__user")
    acknowledged = _is_acknowledged(now)
    rows = (
        _open(scope)
        .exclude(_is_quiet(now))
        .select_related(*related)
        .annotate(explanation=Subquery(newest.values("explanation")[:1]))
        .order_by(Case(When(acknowledged, then=1), default=0), "started_at", "id")[:INCIDENTS_SHOWN]
    )
    return [
        Open(
            row,
            row.monitor_environment,
            sentence(row, row.explanation or {}, language=language),
            why_of(row.explanation or {}),
            is_acknowledged(row, now=now),
        )
        for row in rows
    ]


def load_late(scope: Scope, *, now: datetime) -> Sequence[MonitorEnvironment]:
    """Return the environments whose check-in is expected and has not come, but those that fail. One statement."""
    rows = MonitorEnvironment.objects.filter(
        scope.condition(), pending_slot__lte=now, next_checkin_latest__isnull=False
    )
    rows = rows.exclude(status__in=["pending_deletion", "error"])
    related = ("monitor__project", "environment")
    return list(rows.select_related(*related).order_by(F("next_checkin_latest"), "id")[:LATE_SHOWN])


def load_long_runs(scope: Scope, *, now: datetime) -> list[Running]:
    """Return runs in progress that take longer than usual, those that began first. Three statements at most.

    Of most of the runs that are read only three values are needed: whole rows took a third of the page's time.
    """
    running = RunningCheckIn.objects.filter(scope.condition("monitor_environment__")).order_by("date_added")
    runs = list(running.values_list("monitor_environment_id", "date_added", "timeout_at")[:RUNNING_READ])
    recent = RecentRuns.objects.filter(pk__any_of=[id_ for id_, _, _ in runs])
    durations = dict(recent.values_list("pk", "durations_ms"))
    long = [
        (id_, since, timeout_at)
        for id_, since, timeout_at in runs
        if is_long(now - since, limit=timeout_at - since, durations_ms=durations.get(id_, []))
    ][:LONG_SHOWN]
    related = ("monitor__project", "environment")
    environments = MonitorEnvironment.objects.select_related(*related).in_bulk({id_ for id_, _, _ in long})
    return [
        Running(environments[id_], since, timeout_at, _usual(durations.get(id_, [])))
        for id_, since, timeout_at in long
        if id_ in environments
    ]


def _usual(durations_ms: Sequence[int]) -> timedelta | None:
    median = percentile(durations_ms, 50)
    return None if median is None else timedelta(milliseconds=median)
