"""What a drill of the clock left in its database."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

FACTS = {
    "environments": """
        SELECT e.id, m.slug, e.status, e.is_muted
          FROM monitors_monitorenvironment AS e JOIN monitors_monitor AS m ON m.id = e.monitor_id
    """,
    "checkins": """
        SELECT id, guid, monitor_environment_id AS environment, status, source, date_added, date_updated,
               date_in_progress, coalesce(received_at, date_added) AS received_at, failed_at, finished_status,
               finished_at
          FROM checkins_checkin ORDER BY id
    """,
    "incidents": """
        SELECT id, monitor_environment_id AS environment, issue_id, opened_at, started_at, resolved_at,
               resolving_checkin_id, occurrence_count
          FROM incidents_incident ORDER BY id
    """,
    "issues": """
        SELECT id, monitor_environment_id AS environment, status, occurrence_count, regression_count
          FROM incidents_issue
    """,
    "occurrences": "SELECT incident_id, issue_id, checkin_id FROM incidents_occurrence ORDER BY id",
    # Jobs that break at random flap: what is held back then, or withdrawn, is told later or to nobody.
    "notifications": """
        SELECT incident_id, transition, channel,
               sent_at IS NOT NULL OR nobody_since IS NOT NULL OR (held_by <> '' AND addressed_at IS NULL) AS is_told
          FROM incidents_notification
    """,
    "ticks": "SELECT * FROM clocktasks_tick ORDER BY at",
    "positions": "SELECT DISTINCT position FROM clocktasks_shardclock",
    "applied": "SELECT kind, tick, sum(marked_count)::integer AS marked FROM clocktasks_appliedtick GROUP BY 1, 2",
}

Facts = Mapping[str, Sequence[Any]]


def load_facts(connection: psycopg.Connection[Any]) -> Facts:
    """Read everything: in a transaction, as it is at one moment."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return {name: cursor.execute(sql.encode()).fetchall() for name, sql in FACTS.items()}


def read_facts(database_url: str) -> Facts:
    """Read everything in a database, as it is at one moment."""
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return load_facts(connection)
