"""What a link shows (shell): a fixed number of statements, and a bound on all that is returned.

Nothing is read that strangers must not see: of a monitor its name and its state, of an incident when it was, of a
maintenance window its name and when it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from checkins.maintenance import not_ended
from clocktasks.models import Tick
from dashboard.models import ShareLink
from dashboard.shared.badge import Standing
from dashboard.shared.history import DAYS, History, first_day, history
from lib.sql import array_literal, fetch_rows
from monitors.maintenance import occurrences
from monitors.models import MaintenanceWindow

MONITORS_SHOWN = 100
INCIDENTS_SHOWN = 20
INCIDENT_DAYS = 14
WINDOWS_SHOWN = 10
WINDOW_DAYS = 30
CLOCK_LATE = timedelta(minutes=5)
"""When the newest finished tick is older, a page says that it may be out of date."""


@dataclass(frozen=True, slots=True)
class Component:
    """A monitor on a status page, in all environments that the page is about."""

    id: int
    name: str
    state: str
    history: History


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident, as strangers may know it."""

    monitor: str
    started_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Planned:
    """An occurrence of a maintenance window."""

    name: str
    starts_at: datetime
    ends_at: datetime
    is_now: bool


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """Everything on a status page."""

    standing: Standing
    components: Sequence[Component]
    troubles: Sequence[Trouble]
    planned: Sequence[Planned]
    clock_at: datetime | None
    is_current: bool


def find_link(kind: ShareLink.Kind, address: str) -> ShareLink | None:
    """Return the link with this address, with its project and monitor; None for any other address. One statement."""
    if "\x00" in address:
        return None
    links = ShareLink.objects.select_related("project", "monitor").filter(kind=kind, address=address)
    return links.exclude(monitor__status="pending_deletion").first()


def load_standing(link: ShareLink, *, now: datetime) -> Standing:
    """Return how many monitors are in which state. Two statements."""
    return _standing(_rows(link, _maintained_now(_windows(link, now), now), limit=1))


def load_status(link: ShareLink, *, now: datetime) -> StatusFacts:
    """Return what a status page shows. Five statements."""
    windows = _windows(link, now)
    rows = _rows(link, _maintained_now(windows, now), limit=MONITORS_SHOWN)
    failed = _failed_seconds([row[0] for row in rows], link.environment, now=now)
    clock_at, is_current = newest_check(now)
    return StatusFacts(
        standing=_standing(rows),
        components=[_component(row, failed.get(row[0], {}), now=now) for row in rows],
        troubles=_troubles(link, now=now),
        planned=_planned(windows, now=now),
        clock_at=clock_at,
        is_current=is_current,
    )


def newest_check(now: datetime) -> tuple[datetime | None, bool]:
    """Return the newest minute that the clock has judged, and whether it is of now. One statement."""
    at = Tick.objects.filter(finished_at__isnull=False).order_by("-at").values_list("at", flat=True).first()
    return at, at is not None and now - at < CLOCK_LATE


def _component(row: tuple[Any, ...], seconds: dict[int, float], *, now: datetime) -> Component:
    id_, name, created_at, is_failing, is_maintained, has_reported = row[:6]
    state = "error" if is_failing else "maintenance" if is_maintained else "ok" if has_reported else "active"
    return Component(id_, name, state, history(seconds, begins_at=created_at if has_reported else None, now=now))


def _standing(rows: Sequence[tuple[Any, ...]]) -> Standing:
    return Standing(*rows[0][6:]) if rows else Standing(0)


def _scope(link: ShareLink) -> dict[str, Any]:
    return {
        "project": link.project_id,
        "monitor": link.monitor_id,
        "tags": array_literal("text", link.tags),
        "environment": link.environment,
    }


_IN_SCOPE = """
    m.project_id = %(project)s AND m.status = 'active'
    AND (%(monitor)s::bigint IS NULL OR m.id = %(monitor)s::bigint)
    AND (%(tags)s::text[] = '{}' OR m.tags::text[] && %(tags)s::text[])
"""
_ENVIRONMENTS = """
    (monitors_monitorenvironment AS me JOIN monitors_environment AS e
      ON e.id = me.environment_id AND (%(environment)s = '' OR e.name = %(environment)s))
      ON me.monitor_id = m.id AND me.status <> 'pending_deletion'
"""
_ROWS_SQL = f"""
    WITH environments AS (
         SELECT m.id, m.name, m.created_at, me.status = 'error' AS fails, me.last_checkin IS NOT NULL AS has_reported,
                EXISTS (SELECT FROM monitors_maintenancewindow AS w
                         WHERE w.id = ANY(%(windows)s::bigint[])
                           AND (w.monitor_id = m.id OR w.monitor_id IS NULL AND (w.tag = '' OR w.tag = ANY(m.tags)))
                           AND (w.environment_id IS NULL OR w.environment_id = me.environment_id)) AS is_maintained
           FROM monitors_monitor AS m LEFT JOIN {_ENVIRONMENTS}
          WHERE {_IN_SCOPE} AND (%(environment)s = '' OR me.id IS NOT NULL)),
         monitors AS (
         SELECT id, name, created_at, coalesce(bool_or(fails AND NOT is_maintained), false) AS failing,
                bool_or(is_maintained) AS maintained, bool_or(has_reported) AS reported
           FROM environments GROUP BY id, name, created_at)
    SELECT id, name, created_at, failing, maintained, reported, count(*) OVER (),
           count(*) FILTER (WHERE failing) OVER (), count(*) FILTER (WHERE maintained AND NOT failing) OVER (),
           count(*) FILTER (WHERE NOT (failing OR maintained OR reported)) OVER ()
      FROM monitors ORDER BY failing DESC, name, id LIMIT %(limit)s
"""  # noqa: S608 - of constants
"""Monitors in scope, what fails first, each with the counts of all. Index: monitor_slug_unique_in_project."""


def _rows(link: ShareLink, windows: Sequence[int], *, limit: int) -> list[tuple[Any, ...]]:
    return fetch_rows(_ROWS_SQL, _scope(link) | {"windows": array_literal("bigint", windows), "limit": limit})


_FAILED_SQL = """
    WITH spans AS (
         SELECT me.monitor_id, unnest(range_agg(tstzrange(greatest(i.started_at, %(since)s),
                                                          coalesce(i.resolved_at, %(now)s)))) AS span
           FROM monitors_monitorenvironment AS me
           JOIN monitors_environment AS e ON e.id = me.environment_id
           JOIN incidents_incident AS i ON i.monitor_environment_id = me.id
          WHERE me.monitor_id = ANY(%(ids)s::bigint[]) AND me.status <> 'pending_deletion'
            AND (%(environment)s = '' OR e.name = %(environment)s)
            AND coalesce(i.resolved_at, %(now)s) > greatest(i.started_at, %(since)s)
          GROUP BY me.monitor_id)
    SELECT monitor_id, day,
           sum(extract(epoch FROM least(upper(span), %(since)s + (day + 1) * interval '24 hours')
                                - greatest(lower(span), %(since)s + day * interval '24 hours')))::float
      FROM spans CROSS JOIN LATERAL generate_series(
           floor(extract(epoch FROM lower(span) - %(since)s) / 86400)::integer,
           least(floor(extract(epoch FROM upper(span) - %(since)s) / 86400)::integer, %(days)s - 1)) AS day
     GROUP BY 1, 2
"""
"""How many seconds of each day had an incident, in whatever environment. Index: that of incidents by environment."""


def _failed_seconds(ids: Sequence[int], environment: str, *, now: datetime) -> dict[int, dict[int, float]]:
    parameters = {
        "ids": array_literal("bigint", ids),
        "environment": environment,
        "since": first_day(now),
        "now": now,
        "days": DAYS,
    }
    found: dict[int, dict[int, float]] = {}
    for id_, day, seconds in fetch_rows(_FAILED_SQL, parameters):
        found.setdefault(id_, {})[day] = seconds
    return found


_TROUBLES_SQL = f"""
    SELECT m.name, i.started_at, i.resolved_at
      FROM monitors_monitor AS m JOIN {_ENVIRONMENTS}
      JOIN incidents_incident AS i ON i.monitor_environment_id = me.id
     WHERE {_IN_SCOPE} AND (i.resolved_at IS NULL OR i.opened_at >= %(since)s)
     ORDER BY i.resolved_at IS NOT NULL, i.started_at DESC, i.id LIMIT %(limit)s
"""  # noqa: S608 - of constants
"""Open incidents, then those of the last days, newest first. Indexes: those of incidents by environment."""


def _troubles(link: ShareLink, *, now: datetime) -> list[Trouble]:
    since = now - timedelta(days=INCIDENT_DAYS)
    rows = fetch_rows(_TROUBLES_SQL, _scope(link) | {"since": since, "limit": INCIDENTS_SHOWN})
    return [Trouble(*row) for row in rows]


def _windows(link: ShareLink, now: datetime) -> list[MaintenanceWindow]:
    """Return the windows that have to do with what a link is about and have not ended. One statement.

    `MAINTENANCE_WINDOWS_MAX` bounds their number.
    """
    windows = MaintenanceWindow.objects.filter(not_ended(now), project_id=link.project_id)
    if link.monitor is not None:
        own = Q(monitor=link.monitor) | Q(monitor__isnull=True, tag__any_of=["", *link.monitor.tags])
        windows = windows.filter(own)
    elif link.tags:
        windows = windows.filter(
            Q(monitor__tags__overlap=link.tags) | Q(monitor__isnull=True, tag__any_of=["", *link.tags])
        )
    if link.environment:
        windows = windows.filter(Q(environment__isnull=True) | Q(environment__name=link.environment))
    return list(windows)


def _maintained_now(windows: Sequence[MaintenanceWindow], now: datetime) -> list[int]:
    return [row.pk for row in windows if row.window().end_at(now) is not None]


def _planned(windows: Sequence[MaintenanceWindow], *, now: datetime) -> list[Planned]:
    until = now + timedelta(days=WINDOW_DAYS)
    found = []
    for row in windows:
        # The next one of each: a window each night would hide all others.
        span = next(occurrences(row.window(), now), None)
        if span is not None and span[0] < until:
            found.append(Planned(row.name, *span, is_now=span[0] <= now))
    return sorted(found, key=lambda one: one.starts_at)[:WINDOWS_SHOWN]
