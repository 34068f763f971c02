"""How far the database has come, as a short text that changes when something that pages show has changed (shell)."""

from lib.sql import fetch_rows

_SQL = """
    SELECT coalesce((SELECT extract(epoch FROM at)::bigint FROM clocktasks_tick
                      WHERE finished_at IS NOT NULL ORDER BY at DESC LIMIT 1), 0),
           coalesce((SELECT max(id) FROM incidents_notification), 0),
           coalesce((SELECT max(id) FROM audit_entry), 0)
"""


def read_mark() -> str:
    """Return the newest finished tick, the newest change of an incident, and the newest change by a person."""
    ((tick, notification, entry),) = fetch_rows(_SQL, [])
    return f"{tick}-{notification}-{entry}"
