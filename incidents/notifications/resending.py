"""Sending messages again, or now, because a person says so (shell)."""

from collections.abc import Collection

from django.db import connection, transaction

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.notifications.wake import wake_after_commit

SENT_AT_ONCE_MAX = 1_000


@transaction.atomic
def send_now(message_ids: Collection[int], *, by: Actor) -> int:
    """Make messages that wait or were given up due now, with all their attempts and a day of time; returns how many.

    With a message come the later ones of the same incident or storm and recipient that were given up, so that an end
    follows its beginning. One that a later message has overtaken is left: a pager would open an alert that nobody
    closes. So are those that were sent, and those that a worker is sending.
    """
    ids = sorted(message_ids)[:SENT_AT_ONCE_MAX]
    with connection.cursor() as cursor:
        cursor.execute(_SEND_NOW_SQL, {"ids": ids, "now": by.at})
        sent = cursor.fetchall()
    record(
        [
            Entry("message", id_, f"{kind} to {recipient}", "sent again", project)
            for id_, kind, recipient, project in sent
        ],
        by=by,
    )
    if sent:
        wake_after_commit()
    return len(sent)


_SEND_NOW_SQL = """
    WITH chosen AS (
         SELECT m.id, m.incident_id, m.storm_id, m.recipient FROM incidents_message AS m
          WHERE m.id = ANY(%(ids)s) AND m.status IN ('waiting', 'failed')
            AND NOT EXISTS (SELECT FROM incidents_message AS later
                             WHERE (later.incident_id = m.incident_id OR later.storm_id = m.storm_id)
                               AND later.recipient = m.recipient AND later.id > m.id
                               AND later.status IN ('sent', 'folded')))
    UPDATE incidents_message AS m
       SET status = 'waiting', due_at = %(now)s, created_at = %(now)s, attempt_count = 0, finished_at = NULL,
           fallback_at = NULL
     WHERE m.id = ANY (ARRAY (
           SELECT again.id FROM incidents_message AS again
            WHERE (again.id IN (SELECT id FROM chosen)
                   OR (again.status = 'failed' AND EXISTS (
                       SELECT FROM chosen AS c
                        WHERE (c.incident_id = again.incident_id OR c.storm_id = again.storm_id)
                          AND c.recipient = again.recipient AND again.id > c.id)))
              AND (again.claimed_until IS NULL OR again.claimed_until <= %(now)s)
            ORDER BY again.id
              FOR UPDATE))
    RETURNING m.id, m.kind, m.recipient,
              coalesce((SELECT project_id FROM incidents_storm WHERE id = m.storm_id),
                       (SELECT o.project_id FROM incidents_incident AS i
                          JOIN monitors_monitorenvironment AS e ON e.id = i.monitor_environment_id
                          JOIN monitors_monitor AS o ON o.id = e.monitor_id WHERE i.id = m.incident_id))
"""
"""Indexes: the primary key, message_once_per_recipient_kind_and_number."""
