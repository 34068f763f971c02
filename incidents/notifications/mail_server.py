"""Whether the mail server can be used, as the e-mail channels show it (shell).

All mails go to one server, so whoever cannot reach it, or cannot log in, has learned that of every e-mail channel. They
have the columns of a breaker (`breaker`), by which people are told over another channel (`fallback`) and pages show
that they fail. Their mails are tried as before: each address has its own attempts.
"""

from collections.abc import Collection
from datetime import datetime

from django.db import connection

from incidents.models.channels import EMAIL
from incidents.notifications.attempts import ERROR_LENGTH_MAX
from incidents.notifications.breaker import OVER


def record_reached(channel_ids: Collection[int], *, now: datetime) -> None:
    """Record that the mail server has accepted mails of these channels, so that it works for all. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_REACHED_SQL, {"email": EMAIL, "delivered": sorted(channel_ids), "now": now})


def record_unreachable(error: str, *, now: datetime) -> None:
    """Record that the mail server cannot be used, in each e-mail channel with a mail that is due. One statement.

    It counts as failing after a minute: a server that restarts is back by then.
    """
    parameters: dict[str, str | datetime] = {
        "email": EMAIL,
        "error": error[:ERROR_LENGTH_MAX],
        "now": now,
        "before": now - OVER,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNREACHABLE_SQL, parameters)


_REACHED_SQL = """
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
"""Index: message_due_in_channel. It is open since it began to fail, so that people are told five minutes after that."""
