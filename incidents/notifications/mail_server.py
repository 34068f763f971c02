"""Whether the mail server can be used, as the e-mail channels show it (shell).

All mails go to one server, so whoever cannot reach it, or cannot log in, has learned that of every e-mail channel. They
have the columns of a breaker (`breaker`), by which people are notified over another channel (`fallback`) and pages show
that they fail. Their mails are tried as before: each address has its own attempts. Mails to ALERT_EMAIL_TO have no
channel; for them there is one row as long as it lasts (`MailOutage`).
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import connection

from incidents.models.channels import EMAIL
from incidents.notifications.attempts import ERROR_LENGTH_MAX
from incidents.notifications.breaker import OVER

UNKNOWN_AFTER = timedelta(hours=2)
"""A mail that waits is tried more often than that."""


def record_reached(channel_ids: Collection[int], *, now: datetime) -> None:
    """Record that the mail server has accepted mails of these channels, so that it works for all. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_REACHED_SQL, {"email": EMAIL, "delivered": sorted(channel_ids), "now": now})


def record_unreachable(error: str, *, now: datetime) -> None:
    """Record that the mail server cannot be used: in each e-mail channel with a mail that is due, and for the others.

    A channel counts as failing after a minute: a server that restarts is back by then.
    """
    parameters: dict[str, str | datetime] = {
        "email": EMAIL,
        "error": error[:ERROR_LENGTH_MAX],
        "now": now,
        "before": now - OVER,
        "over": now - UNKNOWN_AFTER,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNREACHABLE_SQL, parameters)
        cursor.execute(_OUTAGE_SQL, parameters)


_REACHED_SQL = """
    WITH over AS (DELETE FROM incidents_mailoutage)
    UPDATE incidents_channel
       SET failure_count = 0, failing_since = NULL, open_since = NULL, probe_at = NULL, last_error = '',
           delivered_at = CASE WHEN id = ANY(%(delivered)s) THEN %(now)s ELSE delivered_at END
     WHERE id = ANY (ARRAY (
           SELECT id FROM incidents_channel
            WHERE kind = %(email)s AND (failing_since IS NOT NULL OR id = ANY(%(delivered)s))
            ORDER BY id FOR NO KEY UPDATE))
"""
_UNREACHABLE_SQL = """
    UPDATE incidents_channel
       SET failure_count = failure_count + 1, last_error = %(error)s,
           failing_since = coalesce(failing_since, %(now)s),
           open_since = coalesce(open_since, CASE WHEN failing_since <= %(before)s THEN failing_since END),
           probe_at = coalesce(probe_at, CASE WHEN failing_since <= %(before)s THEN %(now)s END)
     WHERE id = ANY (ARRAY (
           SELECT c.id FROM incidents_channel AS c
            WHERE c.kind = %(email)s AND c.removed_at IS NULL
              AND EXISTS (SELECT FROM incidents_message AS m
                           WHERE m.channel_id = c.id AND m.status = 'waiting'
                             AND (m.due_at <= %(now)s OR m.attempt_count > 0))
            ORDER BY c.id FOR NO KEY UPDATE))
"""
"""Index: message_due_in_channel. It is open since it began to fail: people are notified five minutes after that."""
_OUTAGE_SQL = """
    INSERT INTO incidents_mailoutage AS known (id, began_at, failed_at, last_error, told_projects)
    SELECT 1, %(now)s, %(now)s, %(error)s, '[]'
     WHERE EXISTS (SELECT FROM incidents_message AS m
                    WHERE m.channel_id IS NULL AND m.status = 'waiting'
                      AND (m.due_at <= %(now)s OR m.attempt_count > 0))
        ON CONFLICT (id) DO UPDATE
       SET failed_at = excluded.failed_at, last_error = excluded.last_error,
           began_at = CASE WHEN known.failed_at < %(over)s THEN excluded.began_at ELSE known.began_at END,
           told_projects = CASE WHEN known.failed_at < %(over)s THEN '[]' ELSE known.told_projects END
"""
"""Index: message_due. Nobody knows when an outage ended in which all mails were given up."""
