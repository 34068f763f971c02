"""Reading the facts of a weekly report (shell). A handful of statements for a project of any size.

Runs come from the counts by hour (`RunHour`), never from the check-ins themselves.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse

from dashboard.report.facts import Broken, Listed, Noisy, Open, ReportFacts, Runs, Silent, Slow
from dashboard.report.weeks import WEEK, Week
from incidents.notifications.channels.wording import one_line
from lib.sql import fetch_rows
from monitors.models import Project

ROWS_MAX = 5
"""How many are listed of what is a matter of degree."""
NAMES_MAX = 10
"""How many are listed of what somebody has to check."""


def read_facts(project: Project, week: Week, *, timezone: str, now: datetime) -> ReportFacts:
    """Read what a week of a project was like. `now`: what is open, and what fails, is so now."""
    ids = [id_ for (id_,) in fetch_rows(_ENVIRONMENTS_SQL, [project.pk])]
    span = {"project": project.pk, "ids": ids, "start": week.starts_at, "end": week.ends_at}
    rows = fetch_rows(_RUNS_SQL, {**span, "before": week.starts_at - WEEK, "count": ROWS_MAX})
    [opened] = fetch_rows(_OPENED_SQL, span)
    open_now = fetch_rows(_OPEN_SQL, {**span, "count": NAMES_MAX})
    silent = fetch_rows(_SILENT_SQL, {**span, "count": NAMES_MAX})
    never = fetch_rows(_NEVER_SQL, {**span, "count": NAMES_MAX})
    return ReportFacts(
        project=one_line(project.name),
        slug=one_line(project.slug),
        starts_at=week.starts_at,
        ends_at=week.ends_at,
        timezone=timezone,
        runs=_runs(rows, "runs"),
        before=_runs(rows, "before"),
        opened=opened[0],
        open_now=tuple(Open(_name(*names), since) for *names, since, _ in open_now),
        open_now_count=_total(open_now),
        slowest=tuple(
            Slow(_name(*names), timedelta(milliseconds=longest), timedelta(milliseconds=mean))
            for what, *names, longest, mean, _, _, _ in rows
            if what == "slowest"
        ),
        noisiest=tuple(
            Noisy(_name(*names), opened, failed)
            for *names, opened, failed in fetch_rows(_NOISIEST_SQL, {**span, "count": ROWS_MAX})
        ),
        silent=tuple(Silent(_name(*names), at) for *names, at, _ in silent),
        silent_count=_total(silent),
        never=Listed(tuple(_name(*names) for *names, _ in never), max(_total(never) - len(never), 0)),
        channels=tuple(
            Broken(one_line(name), failed, is_open)
            for name, failed, is_open in fetch_rows(_CHANNELS_SQL, {**span, "now": now, "count": NAMES_MAX})
        ),
        url=_url(project),
    )


def _runs(rows: list[tuple[Any, ...]], what: str) -> Runs:
    [counts] = [row[3:] for row in rows if row[0] == what]
    return Runs(*(count or 0 for count in counts))


def _name(monitor: str, environment: str) -> str:
    return f"{one_line(monitor)} ({one_line(environment)})" if environment else one_line(monitor)


def _total(rows: list[tuple[Any, ...]]) -> int:
    """Return how many there are besides those that were listed: the last column, the same in each row."""
    return rows[0][-1] if rows else 0


def _url(project: Project) -> str:
    return f"{settings.PUBLIC_URL}{reverse('wall')}?project={project.slug}" if settings.PUBLIC_URL else ""


_ENVIRONMENTS_SQL = """
    SELECT me.id FROM monitors_monitor AS m JOIN monitors_monitorenvironment AS me ON me.monitor_id = m.id
     WHERE m.project_id = %s AND m.status <> 'pending_deletion' AND me.status <> 'pending_deletion'
     ORDER BY me.id
"""
_RUNS_SQL = """
    WITH hours AS MATERIALIZED (
         SELECT r.*, r.hour >= date_trunc('hour', %(start)s::timestamptz) AS is_now
           FROM generate_series(date_trunc('hour', %(before)s::timestamptz),
                                date_trunc('hour', %(end)s::timestamptz) - interval '1 hour',
                                interval '1 hour') AS h (hour)
           JOIN checkins_runhour AS r ON r.hour = h.hour AND r.monitor_environment_id = ANY(%(ids)s)),
         slowest AS (
         SELECT monitor_environment_id, max(duration_max_ms) AS longest,
                (sum(duration_sum_ms) / sum(durations))::bigint AS mean
           FROM hours WHERE is_now AND durations > 0
          GROUP BY monitor_environment_id ORDER BY longest DESC, monitor_environment_id LIMIT %(count)s)
    SELECT 'runs', '', '', sum(ok), sum(error), sum(missed), sum(timeout), sum(unknown) FROM hours WHERE is_now
     UNION ALL
    SELECT 'before', '', '', sum(ok), sum(error), sum(missed), sum(timeout), sum(unknown) FROM hours WHERE NOT is_now
     UNION ALL
    (SELECT 'slowest', coalesce(nullif(m.name, ''), m.slug), e.name, s.longest, s.mean, 0, 0, 0
       FROM slowest AS s
       JOIN monitors_monitorenvironment AS me ON me.id = s.monitor_environment_id
       JOIN monitors_monitor AS m ON m.id = me.monitor_id
       JOIN monitors_environment AS e ON e.id = me.environment_id
      ORDER BY s.longest DESC, me.id)
"""
"""Hour by hour, so that the rows of other projects are not read. Index: the primary key of the counts."""
_OPENED_SQL = """
    SELECT count(*) FROM incidents_incident
     WHERE opened_at >= %(start)s AND opened_at < %(end)s AND monitor_environment_id = ANY(%(ids)s)
"""
"""Index: incident_newest."""
_NAMED = """
      JOIN monitors_monitorenvironment AS me ON me.id = {id}
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      JOIN monitors_environment AS e ON e.id = me.environment_id
"""
_NOISIEST_SQL = f"""
    WITH noisy AS (
         SELECT monitor_environment_id AS id, count(*) AS opened FROM incidents_incident
          WHERE opened_at >= %(start)s AND opened_at < %(end)s AND monitor_environment_id = ANY(%(ids)s)
          GROUP BY monitor_environment_id ORDER BY opened DESC, id LIMIT %(count)s)
    SELECT coalesce(nullif(m.name, ''), m.slug), e.name, noisy.opened,
           coalesce((SELECT sum(r.error + r.missed + r.timeout) FROM checkins_runhour AS r
                      WHERE r.monitor_environment_id = noisy.id AND r.hour >= date_trunc('hour', %(start)s::timestamptz)
                        AND r.hour < date_trunc('hour', %(end)s::timestamptz)), 0)
      FROM noisy {_NAMED.format(id="noisy.id")}
     ORDER BY noisy.opened DESC, noisy.id
"""  # noqa: S608
_OPEN_SQL = f"""
    SELECT coalesce(nullif(m.name, ''), m.slug), e.name, i.started_at, count(*) OVER ()
      FROM incidents_incident AS i {_NAMED.format(id="i.monitor_environment_id")}
     WHERE i.resolved_at IS NULL AND i.monitor_environment_id = ANY(%(ids)s)
     ORDER BY i.started_at, i.id LIMIT %(count)s
"""  # noqa: S608
"""Index: incident_one_open_per_monitor_environment."""
_SILENT_SQL = """
    SELECT coalesce(nullif(m.name, ''), m.slug), e.name, me.last_checkin, count(*) OVER ()
      FROM monitors_monitor AS m
      JOIN monitors_monitorenvironment AS me ON me.monitor_id = m.id AND me.status <> 'pending_deletion'
      JOIN monitors_environment AS e ON e.id = me.environment_id
     WHERE m.project_id = %(project)s AND m.status = 'active' AND me.last_checkin < %(start)s
       AND me.next_checkin < %(end)s
     ORDER BY me.last_checkin, me.id LIMIT %(count)s
"""
"""Who is expected once a year is not silent in a week."""
_NEVER_SQL = """
    SELECT coalesce(nullif(m.name, ''), m.slug), coalesce(e.name, ''), count(*) OVER ()
      FROM monitors_monitor AS m
      LEFT JOIN monitors_monitorenvironment AS me ON me.monitor_id = m.id AND me.status <> 'pending_deletion'
      LEFT JOIN monitors_environment AS e ON e.id = me.environment_id
     WHERE m.project_id = %(project)s AND m.status = 'active' AND m.created_at < %(end)s AND me.last_checkin IS NULL
     ORDER BY 1, 2, m.id LIMIT %(count)s
"""
_CHANNELS_SQL = """
    SELECT c.name, coalesce(given_up.count, 0), c.open_since IS NOT NULL AND c.is_enabled
      FROM incidents_channel AS c
      LEFT JOIN (SELECT channel_id, count(*) FROM incidents_message
                  WHERE status = 'failed' AND finished_at >= %(start)s AND finished_at < least(%(end)s, %(now)s)
                    AND channel_id IN (SELECT id FROM incidents_channel WHERE project_id = %(project)s)
                  GROUP BY channel_id) AS given_up ON given_up.channel_id = c.id
     WHERE c.project_id = %(project)s AND c.removed_at IS NULL
       AND (given_up.count > 0 OR (c.open_since IS NOT NULL AND c.is_enabled))
     ORDER BY 2 DESC, c.id LIMIT %(count)s
"""
"""Index: message_finished."""
