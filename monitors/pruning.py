"""Removing what is past keeping, in bounded pieces (shell).

Whatever grows has an end (D42). A piece is one statement, or a few in one transaction, with a bound on its rows, so
that nobody waits for it; a run makes many pieces and stops at a bound too, since the next run goes on. Rows that
another run is just removing are skipped, so runs may overlap.

What is past keeping is counted back from housekeeping's own time (`monitors.housetime`), never from what a machine's
clock says alone: `time_to_prune`.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from lib.sql import fetch_rows
from monitors import housetime
from monitors.housetime import HouseTime

logger = logging.getLogger(__name__)

PIECE_ROWS_MAX = 5_000
"""Rows removed in one transaction: short enough not to be felt by ingest and the clock."""
TIME_LOCK = 7_014_010_002
"""Who looks at the clock for housekeeping holds this advisory lock: looks follow one another."""
PIECES_MAX = 200
"""Pieces of one kind in one run: a million rows, more than comes to be in the ten minutes between two runs."""


def time_to_prune(now: datetime) -> datetime:
    """Look at the clock, and return the instant that retention is counted back from; it is never later than `now`.

    The clock of PostgreSQL has to agree that it is as late as that; if both are wrong, housekeeping's own time holds
    (`monitors.housetime`). One transaction of its own. Says in the log that the clock has jumped, when it sees it, and
    when it believes it.
    """
    now = min(now, database_now(now))
    with transaction.atomic():
        fetch_rows("SELECT pg_advisory_xact_lock(%s)", [TIME_LOCK])
        before = house_time()
        after = housetime.advance(before, now)
        fetch_rows(
            """
            INSERT INTO monitors_housekeeping (id, reached, looked_at, apart_for) VALUES (1, %s, %s, %s)
                ON CONFLICT (id) DO UPDATE
               SET reached = excluded.reached, looked_at = excluded.looked_at, apart_for = excluded.apart_for
            RETURNING id
            """,
            [after.reached, after.looked_at, after.apart_for],
        )
    _log_jump(before, after, now)
    return after.removes_until(now)


def house_time() -> HouseTime | None:
    """Return how far housekeeping has come; None if it has never looked."""
    rows = fetch_rows("SELECT reached, looked_at, apart_for FROM monitors_housekeeping", [])
    return HouseTime(*rows[0]) if rows else None


def database_now(now: datetime) -> datetime:
    """Return what PostgreSQL's clock says; `now` if there is a test clock, of which PostgreSQL does not know."""
    if settings.TEST_CLOCK:
        return now
    ((database_now,),) = fetch_rows("SELECT clock_timestamp()", [])
    result: datetime = database_now
    return result


def _log_jump(before: HouseTime | None, after: HouseTime, now: datetime) -> None:
    was_apart = timedelta() if before is None else before.apart(before.looked_at)
    apart = after.apart(now)
    if apart and not was_apart:
        logger.error(
            "the clock says %s, and housekeeping had come to %s: nothing is removed by this clock until it has gone on "
            "without a jump for %d days. If it is wrong, set it right; nothing is lost",
            now.isoformat(timespec="seconds"),
            after.reached.isoformat(timespec="seconds"),
            housetime.BELIEVED_AFTER.days,
        )
    elif was_apart and not apart:
        logger.warning("housekeeping goes by the clock again, which says %s", now.isoformat(timespec="seconds"))


def kept_since(now: datetime, days: int) -> datetime | None:
    """Return the instant before which nothing is kept for so many days; None if 0 says that all is kept for ever."""
    return now - timedelta(days=days) if days else None


def remove_piece(
    table: str, condition: str, parameters: Sequence[Any], *, key: str = "id", order_by: str, alias: str = "old"
) -> int:
    """Remove up to PIECE_ROWS_MAX rows of a table that nothing refers to; returns how many. One statement.

    `condition` and `order_by` are about the row `old`, or as `alias` calls it. Rows that are locked are left for the
    next run. All texts are constants of the code.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            DELETE FROM {table} WHERE {key} = ANY(ARRAY(
                SELECT {key} FROM {table} AS {alias} WHERE {condition}
                 ORDER BY {order_by} LIMIT %s FOR UPDATE OF {alias} SKIP LOCKED))
            """,  # noqa: S608 - names come from constants
            [*parameters, PIECE_ROWS_MAX],
        )
        return int(cursor.rowcount)


def in_pieces(step: Callable[[], int]) -> int:
    """Repeat a bounded step until it finds nothing more to do, at most PIECES_MAX times; returns the sum."""
    done = 0
    for _ in range(PIECES_MAX):
        count = step()
        done += count
        if not count:
            break
    return done


def run_steps(steps: Sequence[Callable[[], int]]) -> int:
    """Do each step in pieces; returns the rows removed. One that fails is logged, and keeps no other from its work."""
    done = 0
    for step in steps:
        try:
            done += in_pieces(step)
        except Exception:
            logger.exception("a part of housekeeping failed; the next run tries it again")
    return done
