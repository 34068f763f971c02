"""A machine whose clock ran ahead and is right again: undoing what was done for times still to come (shell).

While it was ahead the ledger was written up to that time, and shards and slot pointers with it. Without this the clock
would stand until that time comes. Check-ins received meanwhile keep the time that they got: they are acknowledged (P1).
"""

import logging
from datetime import datetime, timedelta

from django.db import connection, transaction
from msgspec.structs import replace

from clocktasks.ledger import LEDGER_LOCK
from clocktasks.models import HeldTick
from lib.sql import fetch_rows
from monitors.expectation import expect_from_now
from monitors.hot_rows import lock_environments, save_environments
from monitors.housetime import SET_BACK_AFTER
from monitors.pruning import database_now, house_time
from monitors.state import EnvironmentState

logger = logging.getLogger(__name__)

AHEAD_MAX = timedelta(minutes=10)
"""How far the ledger may be ahead of now: clocks of hosts differ by seconds, and a clock that stands for ten minutes
catches up by itself."""
CHUNK = 5_000
REMEMBERED = ("last_checkin", "last_ok_at", "last_ok_received_at", "failure_streak_started_at")
"""Instants of the past in an environment's state: never after now."""


def take_back_future(now: datetime) -> timedelta | None:
    """Undo what the clock did for a time still to come; returns how far it was ahead, None if it was not.

    The clock of PostgreSQL has to agree that this time is still to come: one worker whose own clock is behind changes
    nothing. If both are far behind the time that housekeeping has come to, it is this clock that is wrong, unless it
    goes on for an hour (`monitors.housetime`): the ledger waits. One transaction. Logs what happened.
    """
    newest, newest_wait = _newest()
    if newest_wait is not None and newest_wait > now:
        _forget_waits(now)
    if newest is None or newest - now <= AHEAD_MAX or newest - database_now(now) <= AHEAD_MAX:
        return None
    house = house_time()
    if house is not None and house.apart(now) < timedelta() and house.apart_for < SET_BACK_AFTER:
        logger.error(
            "the clock is at %s, and housekeeping had come to %s: nothing is judged or taken back until the "
            "clock is right, or has gone on without a jump for an hour",
            now.isoformat(timespec="seconds"),
            house.reached.isoformat(timespec="seconds"),
        )
        return None
    with transaction.atomic():
        fetch_rows("SELECT pg_advisory_xact_lock(%s)", [LEDGER_LOCK])
        newest, _ = _newest()
        if newest is None or newest - now <= AHEAD_MAX:
            return None  # Another worker was faster.
        fetch_rows("SELECT FROM clocktasks_shardclock ORDER BY id FOR UPDATE", [])
        ticks = _forget_future(now)
        environments = _expect_again(now)
    logger.error(
        "the ledger was at %s, which is still to come: the clock of this machine was wrong and is set back. "
        "Taken back: %d ticks after %s and what %d monitor environments expected, which is counted from now on. "
        "Check-ins that were received meanwhile keep the time that they got",
        newest.isoformat(),
        ticks,
        now.isoformat(timespec="seconds"),
        environments,
    )
    return newest - now


def _newest() -> tuple[datetime | None, datetime | None]:
    """Return the newest minute of the ledger, and the newest that waited."""
    (row,) = fetch_rows("SELECT (SELECT max(at) FROM clocktasks_tick), (SELECT max(at) FROM clocktasks_heldtick)", [])
    newest, newest_wait = row
    return newest, newest_wait


def _forget_waits(now: datetime) -> None:
    """Remove the records of waits for minutes still to come: with one, nobody would poll when such a minute waits."""
    HeldTick.objects.filter(at__gt=max(now, database_now(now))).delete()


def _forget_future(now: datetime) -> int:
    """Remove ticks after `now`, and the records that they were applied; returns how many there were.

    A row that stands for many minutes ends where it is now. Unknown slots go with their ticks: they have not been yet.
    """
    minute = now.replace(second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checkins_listeningspan SET until = %(now)s WHERE until > %(now)s AND since < %(now)s", {"now": now}
        )
        cursor.execute("DELETE FROM checkins_minutevolume WHERE minute > %s", [minute])
        cursor.execute("DELETE FROM clocktasks_heldtick WHERE at > %s", [minute])
        cursor.execute("DELETE FROM clocktasks_appliedtick WHERE tick > %s", [minute])
        cursor.execute("DELETE FROM clocktasks_clockincident WHERE started_at >= %s", [minute])
        cursor.execute(
            """
            UPDATE clocktasks_clockincident
               SET ended_at = %(minute)s, summarised_at = NULL, unknown_count = NULL, environment_count = NULL
             WHERE ended_at IS NULL OR ended_at > %(minute)s
            """,
            {"minute": minute},
        )
        cursor.execute(
            """
            DELETE FROM checkins_checkin
             WHERE date_added > %s AND source = 'clock' AND status = 'unknown'
            """,
            [now],
        )
        cursor.execute(
            """
            WITH gone AS (DELETE FROM clocktasks_tick WHERE at > %(minute)s RETURNING *),
                 cut AS (
                     INSERT INTO clocktasks_tick (at, covers_from, dispatched_at, decided_at, finished_at, is_listened,
                            volume_class, decision, missed_count, timeout_count, unknown_count)
                     SELECT %(minute)s, covers_from, %(now)s, %(now)s, %(now)s, is_listened,
                            'normal', 'normal', missed_count, timeout_count, unknown_count
                       FROM gone WHERE covers_from < %(minute)s)
            SELECT count(*) FROM gone
            """,
            {"minute": minute, "now": now},
        )
        (count,) = cursor.fetchone()
        cursor.execute("SELECT max(at) FROM clocktasks_tick")
        (newest,) = cursor.fetchone()
        if newest is None:  # The ledger began in that time: it begins anew.
            cursor.execute("DELETE FROM clocktasks_shardclock")
        else:
            cursor.execute("UPDATE clocktasks_shardclock SET position = %s WHERE position > %s", [newest, newest])
    return int(count)


def _expect_again(now: datetime) -> int:
    """Count what is expected from now where it lies beyond the next slot; returns in how many environments.

    Holds a chunk in memory at a time. Locks environments in id order.
    """
    changed = 0
    last = 0
    while rows := fetch_rows(
        """
        SELECT id FROM monitors_monitorenvironment WHERE id > %s AND next_checkin_latest IS NOT NULL
         ORDER BY id LIMIT %s
        """,
        [last, CHUNK],
    ):
        ids = [id_ for (id_,) in rows]
        last = ids[-1]
        environments = lock_environments(ids)
        moved = []
        for environment in environments.values():
            state = _remembered_until(environment.state, now)
            expected = expect_from_now(state, environment.rules, now=now)
            if expected.pending_slot is None or state.pending_slot is None:
                continue
            if state.pending_slot > expected.pending_slot:
                state = expected
            if state != environment.state:
                environment.state = state
                moved.append(environment)
        save_environments(moved)
        changed += len(moved)
    return changed


def _remembered_until(state: EnvironmentState, now: datetime) -> EnvironmentState:
    """Return the state without memories of what is still to come: an ok of then would excuse all failures till then."""
    later = {name: now for name in REMEMBERED if (at := getattr(state, name, None)) is not None and at > now}
    return replace(state, **later) if later else state
