"""The rows of the wall (shell). A fixed number of statements for any number of monitors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Case, Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Cast

from checkins.models import RunningCheckIn
from dashboard.pages.mine import is_mine
from dashboard.pages.monitor.state import Situation, State, state_of
from dashboard.pages.wall.filters import Filters
from dashboard.pages.wall.strips import Drawn, late_slot, load_strips
from monitors.models import MonitorEnvironment, Project

SEGMENT = 50
"""Rows that are read at once."""
COLUMNS = (
    "id",
    "status",
    "is_muted",
    "pending_slot",
    "next_checkin",
    "next_checkin_latest",
    "last_checkin",
    "created_at",
    "monitor_id",
    "monitor__slug",
    "monitor__name",
    "monitor__status",
    "monitor__tags",
    "monitor__timezone",
    "monitor__project_id",
    "monitor__project__maintained_until",
    "monitor__project__slug",
    "monitor__project__name",
    "environment__name",
)
GROUPED_BY = {"project": ("monitor__project__name", "monitor__project_id"), "environment": ("environment__name",)}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many environments the filters leave, and how many of these are in which state."""

    all: int
    failing: int
    late: int
    muted: int
    disabled: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row: an environment of a monitor with its state and its strip. `place` is what stands beside its name.

    `heading`: with this row a group begins, of this name.
    """

    id: int
    project: str
    project_name: str
    slug: str
    name: str
    environment: str
    timezone: str
    state: State
    is_muted: bool
    next_checkin: datetime | None
    last_checkin: datetime | None
    strip: str
    place: str
    heading: str = ""


def find_rows(
    projects: QuerySet[Project], filters: Filters, *, now: datetime, person: User | AnonymousUser | None = None
) -> QuerySet[MonitorEnvironment]:
    """Return the environments that the filters leave, unordered. At most one statement, for what is `person`'s."""
    rows = MonitorEnvironment.objects.exclude(status="pending_deletion").filter(monitor__project__in=projects)
    rows = rows.exclude(monitor__status="pending_deletion")
    if filters.search:
        text = filters.search
        rows = rows.filter(
            Q(monitor__slug__icontains=text) | Q(monitor__name__icontains=text) | Q(environment__name__icontains=text)
        )
    if filters.project:
        rows = rows.filter(monitor__project__slug=filters.project)
    if filters.environment:
        rows = rows.filter(environment__name=filters.environment)
    if filters.tag:
        rows = rows.filter(monitor__tags__contains=[filters.tag])
    if filters.owner:
        rows = rows.filter(monitor__owner=filters.owner)
    if filters.is_mine:
        rows = rows.filter(is_mine(person or AnonymousUser()))
    return rows.filter(_condition(filters.state, now)) if filters.state else rows


def _condition(state: str, now: datetime) -> Q:
    active = Q(monitor__status="active")
    late = Q(pending_slot__lte=now, next_checkin_latest__isnull=False)
    match state:
        case "failing":
            return active & Q(status="error")
        case "late":
            return active & late & ~Q(status="error")
        case "running":
            return active & Q(id__in=RunningCheckIn.objects.values("monitor_environment"))
        case "ok":
            return active & Q(status="ok") & ~late
        case "waiting":
            return active & Q(status="active")
        case "disabled":
            return Q(monitor__status="disabled")
        case _:
            return Q(is_muted=True)


def count_rows(rows: QuerySet[MonitorEnvironment], *, now: datetime) -> Counts:
    """Count the rows by their state. One statement."""
    found = rows.aggregate(
        all=Count("id"),
        failing=Count("id", filter=_condition("failing", now)),
        late=Count("id", filter=_condition("late", now)),
        muted=Count("id", filter=_condition("muted", now)),
        disabled=Count("id", filter=_condition("disabled", now)),
    )
    return Counts(**found)


def in_order(rows: QuerySet[MonitorEnvironment], filters: Filters, *, now: datetime) -> QuerySet[MonitorEnvironment]:
    """Return rows with what is worst first, then by name; in groups if that was asked for."""
    rank = Case(
        When(_condition("disabled", now), then=Value(5)),
        When(status="error", is_muted=False, then=Value(0)),
        When(_condition("late", now) & Q(is_muted=False), then=Value(1)),
        When(status="error", then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )
    return rows.order_by(*GROUPED_BY.get(filters.group, ()), rank, F("monitor__name"), F("environment__name"), F("id"))


def slice_in_order(
    rows: QuerySet[MonitorEnvironment], filters: Filters, *, begin: int = 0, end: int, now: datetime
) -> QuerySet[MonitorEnvironment]:
    """Return the rows between two numbers in the order of the wall.

    The ids are found first, in the same statement: PostgreSQL would sort all rows with all their columns otherwise,
    which takes nearly three times as long among 100,000, on the disk.
    """
    ids = in_order(rows, filters, now=now).values("id")[begin:end]
    return in_order(MonitorEnvironment.objects.filter(id__in=ids), filters, now=now)


def load_rows_from(
    rows: QuerySet[MonitorEnvironment], filters: Filters, *, begin: int, segments: int = 1, now: datetime
) -> list[Row]:
    """Return the rows of some segments, from the row with the number `begin` on, with headings. Two statements."""
    if not segments:
        return []
    before = 1 if filters.group and begin else 0
    shown = slice_in_order(rows, filters, begin=begin - before, end=begin + segments * SEGMENT, now=now)
    return with_headings(load_rows(shown, filters, now=now), filters.group)[before:]


def with_headings(rows: Sequence[Row], group: str) -> list[Row]:
    """Return rows, those with a heading with which another group begins (pure)."""
    if not group:
        return list(rows)
    names = [(row.project, row.project_name) if group == "project" else (row.environment,) * 2 for row in rows]
    return [
        row if number and names[number - 1] == name else replace(row, heading=name[1])
        for number, (row, name) in enumerate(zip(rows, names, strict=True))
    ]


def load_rows(rows: QuerySet[MonitorEnvironment], filters: Filters, *, now: datetime) -> list[Row]:
    """Return rows with their strips. Two statements, and one more where there are maintenance windows."""
    running = RunningCheckIn.objects.filter(monitor_environment=OuterRef("pk"))
    rows = rows.annotate(is_running=Exists(running), former_tags=Cast("monitor__former_tags", TextField()))
    found = list(rows.values_list(*COLUMNS, "is_running", "former_tags", named=True))
    strips = load_strips([_drawn(row, now=now) for row in found], filters.range, now=now)
    return [_row(row, filters, strips[row.id], now=now) for row in found]


def _drawn(row: Any, *, now: datetime) -> Drawn:
    return Drawn(
        id=row.id,
        monitor_id=row.monitor_id,
        project_id=row.monitor__project_id,
        environment=row.environment__name,
        created_at=row.created_at,
        maintained_until=row.monitor__project__maintained_until,
        late_slot=late_slot(row.monitor__status, row.pending_slot, row.next_checkin_latest, now=now),
        is_running=row.is_running,
        tags=(row.monitor_id, row.monitor__tags, row.former_tags),
    )


def _row(row: Any, filters: Filters, drawn: str, *, now: datetime) -> Row:
    situation = Situation(
        is_disabled=row.monitor__status == "disabled",
        status=row.status,
        pending_slot=row.pending_slot,
        deadline=row.next_checkin_latest,
        is_running=row.is_running,
    )
    return Row(
        id=row.id,
        project=row.monitor__project__slug,
        project_name=row.monitor__project__name,
        slug=row.monitor__slug,
        name=row.monitor__name,
        environment=row.environment__name,
        timezone=row.monitor__timezone,
        state=state_of(situation, now=now),
        is_muted=row.is_muted,
        next_checkin=row.next_checkin,
        last_checkin=row.last_checkin,
        strip=drawn,
        place=row.monitor__project__name if filters.group == "environment" else row.environment__name,
    )
