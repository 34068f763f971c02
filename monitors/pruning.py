"""Removing what is past keeping, in bounded pieces (shell).

Whatever grows has an end (D42). A piece is one statement, or a few in one transaction, with a bound on its rows, so
that nobody waits for it; a run makes many pieces and stops at a bound too, since the next run goes on. Rows that
another run is just removing are skipped, so runs may overlap.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

logger = logging.getLogger(__name__)

PIECE_ROWS_MAX = 5_000
"""Rows removed in one transaction: short enough not to be felt by ingest and the clock."""
PIECES_MAX = 200
"""Pieces of one kind in one run: a million rows, more than comes to be in the ten minutes between two runs."""


def kept_since(now: datetime, days: int) -> datetime | None:
    """Return the instant before which nothing is kept for so many days; None if 0 says that all is kept for ever."""
    return now - timedelta(days=days) if days else None


def remove_piece(table: str, condition: str, parameters: Sequence[Any], *, key: str = "id", order_by: str) -> int:
    """Remove up to PIECE_ROWS_MAX rows of a table that nothing refers to; returns how many. One statement.

    `condition` and `order_by` are about the row `old`. Rows that are locked are left for the next run. All texts are
    constants of the code.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            DELETE FROM {table} WHERE {key} = ANY(ARRAY(
                SELECT {key} FROM {table} AS old WHERE {condition}
                 ORDER BY {order_by} LIMIT %s FOR UPDATE OF old SKIP LOCKED))
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


def keep_house(steps: Sequence[Callable[[], int]]) -> int:
    """Do each step in pieces; returns the rows removed. One that fails is logged, and keeps no other from its work."""
    done = 0
    for step in steps:
        try:
            done += in_pieces(step)
        except Exception:
            logger.exception("a part of housekeeping failed; the next run tries it again")
    return done
