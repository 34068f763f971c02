"""Environments that flap: their runs are read, and the times in which they flapped are written (shell).

The statements of a set of environments do not depend on its size.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from django.db import connection

from incidents.notifications.flapping import RUNS, History
from incidents.notifications.holds import FLAPS
from incidents.notifications.last_runs import HISTORIES_SQL
from lib.sql import array_literal, fetch_rows, insert_rows

LOOKED_BACK = timedelta(days=100)
"""Older runs are of no interest: by then check-ins are removed."""


def load_histories(environment_ids: Collection[int], *, now: datetime) -> dict[int, History]:
    """Return the last finished runs of environments, and how many incidents each had within a day. One statement."""
    parameters = {
        "ids": array_literal("bigint", sorted(environment_ids)),
        "since": now - LOOKED_BACK,
        "yesterday": now - timedelta(days=1),
        "runs": RUNS,
    }
    return {
        id_: History(failed=failed or (), began=began or (), openings=openings)
        for id_, failed, began, openings in fetch_rows(HISTORIES_SQL, parameters)
    }


def begin(found: Iterable[tuple[int, int, History]], *, now: datetime) -> None:
    """Record that environments flap since now, each with the incident by which people are notified of it."""
    rows = [
        (environment_id, incident_id, now, history.changes, len(history.failed), history.openings)
        for environment_id, incident_id, history in found
    ]
    types = {
        "monitor_environment_id": "bigint",
        "incident_id": "bigint",
        "started_at": "timestamptz",
        "change_count": "smallint",
        "run_count": "smallint",
        "opening_count": "integer",
    }
    if rows:
        insert_rows("incidents_flapping", types, rows, on_conflict="ON CONFLICT DO NOTHING")


def end(environment_ids: Collection[int], *, now: datetime) -> None:
    """Record that environments have settled, and let the end of the incident go by which people know of it."""
    if environment_ids:
        with connection.cursor() as cursor:
            cursor.execute(_END_SQL, [now, sorted(environment_ids), now, FLAPS])


_END_SQL = """
    WITH ended AS (
         UPDATE incidents_flapping SET ended_at = %s WHERE monitor_environment_id = ANY(%s) AND ended_at IS NULL
         RETURNING incident_id)
    UPDATE incidents_notification AS n SET held_until = %s
      FROM ended WHERE n.incident_id = ended.incident_id AND n.addressed_at IS NULL AND n.held_by = %s
"""


def find_held_ends(incident_ids: Collection[int]) -> Mapping[int, int]:
    """Return those of these incidents whose end waits until their environments have settled, with the environments."""
    rows = fetch_rows(
        "SELECT incident_id, monitor_environment_id FROM incidents_flapping "
        "WHERE incident_id = ANY(%s::bigint[]) AND ended_at IS NULL",
        [array_literal("bigint", sorted(incident_ids))],
    )
    return dict(rows)
