"""Queries for earlier failures and durations in stored check-ins, for opening incidents (shell)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from incidents.failures import EarlierFailure, PastRuns
from lib.sql import array_literal, fetch_rows


def load_earlier_failures(wanted: Sequence[tuple[int, int, datetime]]) -> list[EarlierFailure]:
    """Return the newest failures of environments: see `PastRuns`. Index: checkin_failures, in each day from then on."""
    ids, counts, since = zip(*wanted, strict=True)
    rows = fetch_rows(
        EARLIER_FAILURES_SQL,
        [array_literal("bigint", ids), array_literal("integer", counts), array_literal("timestamptz", since)],
    )
    return [EarlierFailure(*row) for row in rows]


EARLIER_FAILURES_SQL = r"""
    SELECT c.monitor_environment_id, c.id, c.guid,
           CASE WHEN c.status <> 'ok' THEN c.status
                -- An error that became ok later counted before, and is one failure (D16).
                WHEN c.limit_broken LIKE '%%\_counted' AND c.failed_at = c.date_updated
                THEN split_part(c.limit_broken, '_', 1)
                ELSE 'error' END,
           c.date_added, c.failed_at, c.expected_time, c.trace_id, c.exit_status,
           CASE c.status WHEN 'ok' THEN c.duration_ms END
      FROM unnest(%s::bigint[], %s::integer[], %s::timestamptz[]) AS opening (monitor_environment_id, length, since)
     CROSS JOIN LATERAL (
           SELECT * FROM checkins_checkin
            WHERE monitor_environment_id = opening.monitor_environment_id AND failed_at IS NOT NULL
              AND date_added >= opening.since
            ORDER BY failed_at DESC, id DESC
            LIMIT opening.length
           ) AS c"""


def load_last_ok_durations(began_at: Mapping[int, datetime]) -> dict[int, int]:
    """Return how long ok runs took: see `PastRuns`. Index: checkin_history, in the one day that holds the run."""
    return dict(
        fetch_rows(
            LAST_OK_SQL,
            [array_literal("bigint", list(began_at)), array_literal("timestamptz", list(began_at.values()))],
        )
    )


LAST_OK_SQL = """
    SELECT known.monitor_environment_id, c.duration_ms
      FROM unnest(%s::bigint[], %s::timestamptz[]) AS known (monitor_environment_id, at)
     CROSS JOIN LATERAL (
           SELECT duration_ms FROM checkins_checkin
            WHERE monitor_environment_id = known.monitor_environment_id AND date_added = known.at
              AND status = 'ok' AND duration_ms IS NOT NULL
            LIMIT 1
           ) AS c"""

PAST_RUNS = PastRuns(load_earlier_failures, load_last_ok_durations)
