"""The rows behind the benchmarks of pages: monitors, their environments, check-ins and incidents, in pieces.

Whoever waits for them sees how far it is. A piece is one statement, so that no number of rows needs much memory.
"""

from datetime import datetime

import psycopg
from rich.console import Console
from rich.progress import Progress

NEWEST = "2026-01-05T10:00:00Z"
"""The start of the newest check-in; the others lie in the 30 days before it."""
MONITORS_AT_ONCE = 4_000
CHECKINS_AT_ONCE = 50_000

SEED_ENVIRONMENTS = """
    INSERT INTO monitors_environment (project_id, name)
    SELECT p.id, places.name FROM monitors_project p, (VALUES ('production'), ('staging')) AS places (name);

    INSERT INTO monitors_ingestkey (project_id, public_key, label, is_active, created_at)
    SELECT id, md5(id::text), 'default', true, created_at FROM monitors_project;

    INSERT INTO monitors_monitorenvironment (
        monitor_id, environment_id, status, is_muted, shard, last_checkin, last_ok_at,
        pending_slot, next_checkin, next_checkin_latest, failure_streak, failure_streak_started_at, ok_streak,
        limit_count, created_at)
    SELECT m.id, e.id, CASE WHEN m.id %% 40 = 0 THEN 'error' ELSE 'ok' END, m.id %% 97 = 0, m.id %% 16,
           at, at, at + interval '1 hour', at + interval '1 hour', at + interval '65 minutes',
           CASE WHEN m.id %% 40 = 0 THEN 2 ELSE 0 END, CASE WHEN m.id %% 40 = 0 THEN at END,
           CASE WHEN m.id %% 40 = 0 THEN 0 ELSE 7 END, 0, at - interval '30 days'
      FROM monitors_monitor m
      JOIN monitors_environment e ON e.project_id = m.project_id AND (e.name = 'production' OR m.id %% 5 = 0),
           LATERAL (SELECT %(newest)s::timestamptz - m.id %% 3600 * interval '1 second' AS at) t
     ORDER BY m.id, e.id;
"""
NUMBER_ENVIRONMENTS = """
    CREATE TEMPORARY TABLE numbered AS
    SELECT row_number() OVER (ORDER BY me.id) - 1 AS n, me.id, me.monitor_id, me.shard, m.project_id, m.config_id
      FROM monitors_monitorenvironment me JOIN monitors_monitor m ON m.id = me.monitor_id;
    CREATE UNIQUE INDEX ON numbered (n);
    ANALYZE numbered;
"""
# A tenth of all check-ins belongs to one busy environment; the others are spread evenly.
SEED_CHECKINS = """
    INSERT INTO checkins_checkin (
        guid, project_id, monitor_environment_id, shard, status, date_added, date_updated,
        date_in_progress, expected_time, timeout_at, duration_ms, source, config_id, failed_at)
    SELECT gen_random_uuid(), e.project_id, e.id, e.shard, status, at, at + interval '2 seconds', at,
           at, CASE WHEN status = 'in_progress' THEN at + interval '30 minutes' END,
           CASE WHEN status IN ('ok', 'error') THEN 1000 + i %% 9000 END,
           CASE WHEN status = 'missed' THEN 'clock' ELSE 'sentry_envelope' END, e.config_id,
           CASE WHEN status IN ('error', 'missed', 'timeout') THEN at END
      FROM generate_series(%(first)s, %(last)s) AS i
      CROSS JOIN LATERAL (SELECT %(newest)s::timestamptz - (%(checkins)s - i) * interval '30 days' / %(checkins)s AS at,
                                 CASE WHEN i > %(checkins)s - 500 AND i %% 2 = 0 THEN 'in_progress'
                                      WHEN i %% 61 = 0 THEN 'missed'
                                      WHEN i %% 97 = 0 THEN 'error'
                                      WHEN i %% 211 = 0 THEN 'timeout'
                                      ELSE 'ok' END AS status) s
      JOIN numbered e ON e.n = CASE WHEN i %% 10 = 0 THEN 0 ELSE i %% %(environments)s END
     ORDER BY i;
"""
SEED_FAILURES = """
    INSERT INTO incidents_issue (
        project_id, monitor_environment_id, fingerprint, title, status, first_seen_at, last_seen_at, occurrence_count,
        regression_count, resolved_at, resolved_by)
    SELECT m.project_id, me.id, 'crons:' || me.id, 'Job failing: ' || m.name,
           CASE WHEN me.status = 'error' THEN 'unresolved' WHEN me.id %% 11 = 0 THEN 'archived' ELSE 'resolved' END,
           me.created_at, me.last_checkin, 12, 3,
           CASE WHEN me.status <> 'error' AND me.id %% 11 <> 0 THEN me.last_checkin END,
           CASE WHEN me.status <> 'error' AND me.id %% 11 <> 0 THEN 'recovery' END
      FROM monitors_monitorenvironment me JOIN monitors_monitor m ON m.id = me.monitor_id
     WHERE me.status = 'error' OR me.id %% 2 = 0;

    INSERT INTO incidents_incident (
        guid, monitor_environment_id, issue_id, starting_checkin_id, started_at, opened_at, resolving_checkin_id,
        resolved_at, occurrence_count)
    SELECT gen_random_uuid(), i.monitor_environment_id, i.id, i.id * 100 + n, at, at,
           CASE WHEN i.status = 'unresolved' AND n = 0 THEN NULL ELSE i.id * 100 + n + 1 END,
           CASE WHEN i.status = 'unresolved' AND n = 0 THEN NULL ELSE at + interval '30 minutes' END, 3
      FROM incidents_issue i, generate_series(0, 3) AS n,
           LATERAL (SELECT i.last_seen_at - n * interval '5 days' AS at) t
     ORDER BY at;

    INSERT INTO incidents_occurrence (
        issue_id, incident_id, number, checkin_id, title, subtitle, failure_reason, environment, detected_at,
        occurred_at, run_checkin_guids, explanation)
    SELECT i.issue_id, i.id, n + 1, i.starting_checkin_id + n, 'Job failing: a job',
           'No check-in came in time.', 'No check-in came in time', 'production',
           i.opened_at, i.started_at, ARRAY[gen_random_uuid()],
           jsonb_build_object('kind', 'missed', 'timezone', 'Europe/Vienna', 'schedule', 'Every 5 minutes',
                              'expected_at', '2026-01-05T09:00:00Z', 'failure_threshold', 1, 'failure_streak', 1)
      FROM incidents_incident i, generate_series(0, CASE WHEN i.id %% 500 = 0 THEN 400 ELSE 2 END) AS n;

    INSERT INTO incidents_notification (
        incident_id, transition, channel, created_at, addressed_at, sent_at)
    SELECT id, 'opened', 'email', opened_at, opened_at, opened_at FROM incidents_incident;

    INSERT INTO incidents_message (
        incident_id, kind, recipient, idempotency_key, subject, body, created_at, due_at, attempt_count, status,
        finished_at, last_error)
    SELECT id, 'opened', 'oncall@example.com', gen_random_uuid(), 'Missed: a job', 'Nothing came.', opened_at,
           opened_at, 1, 'sent', opened_at, ''
      FROM incidents_incident;

    INSERT INTO checkins_processingerror (
        project_id, monitor_id, kind, slug, environment, field, value, message, source, minute, first_received_at,
        last_received_at, count, payload)
    SELECT m.project_id, m.id, CASE WHEN n %% 2 = 0 THEN 'MONITOR_DISABLED' ELSE 'CHECKIN_FINISHED' END, m.slug,
           'production', '', '', 'It could not be used.', 'sentry_envelope', at, at, at, 3, '{"status": "ok"}'
      FROM monitors_monitor m, generate_series(1, 3) AS n,
           LATERAL (SELECT date_trunc('minute', %(newest)s::timestamptz) - n * interval '1 day'
                           - m.id %% 1440 * interval '1 minute' AS at) t;

    INSERT INTO clocktasks_tick (at, dispatched_at, decided_at, finished_at, is_listened, volume, deviation_percent,
                                 volume_class, decision, missed_count, timeout_count, unknown_count)
    SELECT at, at, at, at + interval '1 second', true, 1000, 2.5, 'normal', 'normal', 3, 1, 0
      FROM generate_series(%(newest)s::timestamptz - interval '30 days', %(newest)s, interval '1 minute') AS at;

    INSERT INTO clocktasks_appliedtick (shard, kind, tick, marked_count)
    SELECT shard, 'missed', at, 2 FROM clocktasks_tick, generate_series(0, 15, 8) AS shard;

    INSERT INTO clocktasks_shardclock (shard, kind, position)
    SELECT shard, kind, %(newest)s
      FROM generate_series(0, 15) AS shard, unnest(ARRAY['missed', 'timeout', 'unknown']) AS kind;
"""


def seed(monitors: int, checkins: int, *, console: Console, newest: str = NEWEST) -> None:
    """Fill the database with rows up to `newest`, and show how far it is."""
    with Progress(console=console) as progress:
        task = progress.add_task("Monitors", total=monitors)
        for first in range(0, monitors, MONITORS_AT_ONCE):
            count = min(MONITORS_AT_ONCE, monitors - first)
            _create_monitors(first, count, now=datetime.fromisoformat(newest))
            progress.advance(task, count)
        _seed_rows(checkins, newest, progress)


def _create_monitors(first: int, count: int, *, now: datetime) -> None:
    from monitors.models import Monitor, Project
    from monitors.services import create_monitors

    if not first:
        Project.objects.bulk_create(
            [Project(name=f"Project {n}", slug=f"project-{n}", created_at=now) for n in range(20)]
        )
    projects = list(Project.objects.order_by("id"))
    zones = ("UTC", "Europe/Vienna", "America/New_York", "Asia/Kathmandu")
    create_monitors(
        [
            Monitor(
                project=projects[n % len(projects)],
                slug=f"job-{n:06}",
                name=f"Job number {n}",
                status="disabled" if n % 200 == 7 else "active",
                schedule_type="interval" if n % 3 == 0 else "crontab",
                crontab=None if n % 3 == 0 else f"{n % 60} */{1 + n % 12} * * *",
                interval=15 if n % 3 == 0 else None,
                interval_unit="minute" if n % 3 == 0 else None,
                timezone=zones[n % len(zones)],
                owner=f"team:team-{n % 30}",
                created_at=now,
            )
            for n in range(first, first + count)
        ]
    )


def _seed_rows(checkins: int, newest: str, progress: Progress) -> None:
    from django.db import connection

    connection.ensure_connection()
    # A script of several statements cannot be prepared by the server, so its values are put in here.
    with psycopg.ClientCursor(connection.connection) as cursor:
        task = progress.add_task("Environments", total=1)
        cursor.execute(SEED_ENVIRONMENTS, {"newest": newest})
        cursor.execute(NUMBER_ENVIRONMENTS)
        [environments] = cursor.execute("SELECT count(*) FROM numbered").fetchone() or [0]
        progress.advance(task)
        task = progress.add_task("Check-ins", total=checkins)
        values = {"newest": newest, "checkins": checkins, "environments": environments}
        for first in range(1, checkins + 1, CHECKINS_AT_ONCE):
            last = min(first + CHECKINS_AT_ONCE - 1, checkins)
            cursor.execute(SEED_CHECKINS, {**values, "first": first, "last": last})
            progress.advance(task, last - first + 1)
        task = progress.add_task("Incidents", total=1)
        cursor.execute(SEED_FAILURES, {"newest": newest})
        cursor.execute("VACUUM ANALYZE")
        progress.advance(task)
