"""When delivery has something to do next, by the rows."""

from datetime import datetime

from django.db import connection

_NEXT_SQL = """
    SELECT least(
        (SELECT min(greatest(n.held_until, %(now)s)) FROM incidents_notification AS n
          WHERE n.addressed_at IS NULL AND n.nobody_since IS NULL AND NOT EXISTS (
                SELECT FROM incidents_notification AS earlier
                 WHERE earlier.incident_id = n.incident_id AND earlier.id < n.id AND earlier.addressed_at IS NULL)),
        (SELECT min(greatest(m.due_at, m.claimed_until, c.slow_until, c.probe_at, c.paced_until, busy.until))
           FROM incidents_message AS m
           LEFT JOIN incidents_channel AS c ON c.id = m.channel_id
           LEFT JOIN (SELECT channel_id, max(claimed_until) AS until FROM incidents_message
                       WHERE status = 'waiting' GROUP BY channel_id) AS busy
             ON busy.channel_id = c.id AND c.kind <> 'email'
          WHERE m.status = 'waiting' AND NOT EXISTS (
                SELECT FROM incidents_message AS earlier
                 WHERE (earlier.storm_id = m.storm_id
                        OR earlier.incident_id = m.incident_id AND earlier.recipient = m.recipient)
                   AND earlier.status = 'waiting' AND earlier.id < m.id)))
"""


def next_work_at(now: datetime) -> datetime | None:
    """Return the first instant at which a notification or a message is due; None if nothing waits."""
    with connection.cursor() as cursor:
        cursor.execute(_NEXT_SQL, {"now": now})
        [(at,)] = cursor.fetchall()
    found: datetime | None = at
    return found
