"""Removing rows past their retention, in bounded pieces (shell).

Every table that grows has a limit (D42). A piece is one statement, or a few in one transaction, with a limit on its
rows, so that it blocks nobody; a run makes many pieces, up to a limit too, and the next run continues. Rows that
another run is removing are skipped, so runs may overlap.

Retention is counted back from housekeeping's own time (`monitors.housetime`), never from a machine's clock alone:
`time_to_prune`.
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
"""Rows removed in one transaction: short enough not to delay ingest and the clock."""
TIME_LOCK = 7_014_010_002
"""The advisory lock of `time_to_prune`: only one process at a time advances housekeeping's time."""
PIECES_MAX = 200
"""Pieces of one kind in one run: a million rows, more than are written in the ten minutes between two runs."""


def time_to_prune(now: datetime) -> datetime:
    """Advance housekeeping's time, and return the instant from which retention is counted back; never later than `now`.

    The earlier one of `now` and the clock of PostgreSQL counts; if both are wrong, housekeeping's own time limits the
    result (`monitors.housetime`). One transaction of its own. Logs when it finds that the clock has jumped, and when it
    trusts the clock again.
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
    """Return housekeeping's time; None if it has never run."""
    rows = fetch_rows("SELECT reached, looked_at, apart_for FROM monitors_housekeeping", [])
    return HouseTime(*rows[0]) if rows else None


def database_now(now: datetime) -> datetime:
    """Return the time of PostgreSQL's clock; `now` if there is a test clock, which PostgreSQL does not have."""
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
            "the clock shows %s, but housekeeping had reached %s: nothing is removed by this clock until it has run "
            "without a jump for %d days. If the clock is wrong, correct it; no data is lost",
            now.isoformat(timespec="seconds"),
            after.reached.isoformat(timespec="seconds"),
            housetime.BELIEVED_AFTER.days,
        )
    elif was_apart and not apart:
        logger.warning("housekeeping follows the clock again, which shows %s", now.isoformat(timespec="seconds"))


def kept_since(now: datetime, days: int) -> datetime | None:
    """Return the instant before which rows are removed; None if `days` is 0, so that all are stored forever."""
    return now - timedelta(days=days) if days else None


def remove_piece(
    table: str, condition: str, parameters: Sequence[Any], *, key: str = "id", order_by: str, alias: str = "old"
) -> int:
    """Remove up to PIECE_ROWS_MAX rows of a table that nothing refers to; returns how many. One statement.

    `condition` and `order_by` refer to the row as `old`, or as `alias`. Locked rows are left for the next run. All
    texts are constants of the code.
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
    """Repeat a bounded step until it has nothing to do, at most PIECES_MAX times; returns the sum."""
    done = 0
    for _ in range(PIECES_MAX):
        count = step()
        done += count
        if not count:
            break
    return done


def run_steps(steps: Sequence[Callable[[], int]]) -> int:
    """Run each step in pieces; returns the rows removed. A step that fails is logged, and the others still run."""
    done = 0
    for step in steps:
        try:
            done += in_pieces(step)
        except Exception:
            logger.exception("a step of housekeeping failed; the next run tries it again")
    return done
