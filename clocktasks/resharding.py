"""Changing the number of shards while everything runs: one transaction (shell).

    beats and workers                         the change
    -----------------                         ----------
    SKIP LOCKED at the shard's gate           1. the number of shards: no environments are created meanwhile
    wait for nothing, come again with         2. every shard's gate, then all other clock rows: no tick is applied
    the next tick                             3. every shard to the newest decided tick: all stand at the same position
    ingest                                    4. the environments that move, in id order, and their runs in progress
    ------                                    5. new clocks for the new shards, at that position
    waits for a row of 1 or 4, as for any     6. the new number
    other transaction; then spools

A tick is applied once (P4): what was due at or before the common position is applied in the old shards, all that comes
later in the new ones, and a row is in one shard at a time. Messages about old shards are hints that find another shard
of that number, or none. Rows of finished check-ins keep their old shard: it is not read any more.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from clocktasks.clock import TaskKind
from clocktasks.exceptions import ShardCountError
from clocktasks.ledger import decided_until
from clocktasks.models import ShardClock
from clocktasks.shards import apply_ticks
from lib.sql import fetch_rows
from monitors.models import ShardLayout
from monitors.shard_count import lock_shard_count, shard_count
from monitors.sharding import SHARDS_MAX

logger = logging.getLogger(__name__)

MOVED_ROWS_MAX = 10_000
"""Environments moved by one statement, so that progress can be shown. All of them are one transaction."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class ShardChange:
    """What a change did. `position` is the tick at which all shards stood (None: the clock has never ticked).

    `waited_seconds` passed until no worker was active, `locked_seconds` from then until the commit: no tick was applied
    in that time.
    """

    before: int
    after: int
    position: datetime | None
    environment_count: int
    run_count: int
    waited_seconds: float
    locked_seconds: float


def change_shards(count: int, *, report: Progress) -> ShardChange:
    """Spread all monitors over `count` shards. Raises ShardCountError if there cannot be so many.

    Waits for workers that are in the middle of a tick. Interrupted at any time, nothing has changed.
    """
    if not 1 <= count <= SHARDS_MAX:
        raise ShardCountError(f"{count} is not a number of shards from 1 to {SHARDS_MAX}.")
    _catch_up(report)  # Each tick in a transaction of its own: afterwards there is little left to do under the locks.
    began_at = time.monotonic()
    with transaction.atomic():
        before = lock_shard_count()
        report("waiting for workers", 0, 1)
        _lock_clocks()
        locked_at = time.monotonic()
        position = None
        environments = runs = 0
        if count != before:
            position = _common_position(report)
            environments = _move_environments(count, report)
            report("moving runs in progress", 0, 1)
            runs = _move_runs(count)
            if position is not None:
                _replace_clocks(count, position)
            ShardLayout.objects.update(count=count)
    change = ShardChange(
        before=before,
        after=count,
        position=position,
        environment_count=environments,
        run_count=runs,
        waited_seconds=locked_at - began_at,
        locked_seconds=time.monotonic() - locked_at,
    )
    if count != before:
        logger.info(
            "there are %d shards now instead of %d; no tick was applied for %.1f s",
            count,
            before,
            change.locked_seconds,
        )
    return change


def _lock_clocks() -> None:
    """Keep workers and beats away from all clocks. Gates first: a worker takes its shard's other clocks after that."""
    fetch_rows("SELECT FROM clocktasks_shardclock WHERE kind = %s ORDER BY shard FOR UPDATE", [TaskKind.MISSED.value])
    fetch_rows("SELECT FROM clocktasks_shardclock ORDER BY id FOR UPDATE", [])


def _catch_up(report: Progress) -> datetime | None:
    """Apply every decided tick in every shard, and return the last one of them."""
    until = decided_until()
    if until is not None:
        count = shard_count()
        for shard in range(count):
            report("applying what is due", shard, count)
            for _ in apply_ticks(shard, until=until):
                pass
    return until


def _common_position(report: Progress) -> datetime | None:
    """Bring all shards, whose clocks are locked, to the same position, and return it (None: there are no clocks)."""
    until = _catch_up(report)
    positions = list(ShardClock.objects.order_by("position").values_list("position", flat=True).distinct())
    assert positions in ([], [until]), f"shards stand apart after {until}: {positions}"
    return positions[0] if positions else None


def _move_environments(count: int, report: Progress) -> int:
    """Give environments their new shard, locking those that change in id order. Returns how many there were."""
    ((total,),) = fetch_rows(
        "SELECT count(*) FROM monitors_monitorenvironment WHERE shard <> monitor_id %% %s", [count]
    )
    moved, last = 0, 0
    while True:
        report("moving environments", moved, total)
        ((rows, newest),) = fetch_rows(
            """
            WITH moving AS MATERIALIZED (
                 SELECT id FROM monitors_monitorenvironment
                  WHERE id > %(last)s AND shard <> monitor_id %% %(count)s
                  ORDER BY id LIMIT %(rows_max)s FOR NO KEY UPDATE),
            moved AS (
                 UPDATE monitors_monitorenvironment AS environment SET shard = monitor_id %% %(count)s
                   FROM moving WHERE environment.id = moving.id RETURNING environment.id)
            SELECT count(*), max(id) FROM moved
            """,
            {"last": last, "count": count, "rows_max": MOVED_ROWS_MAX},
        )
        if not rows:
            return moved
        moved, last = moved + rows, newest


def _move_runs(count: int) -> int:
    """Give runs in progress the shard of their environments, which are locked. Returns how many there were.

    A statement of its own: it sees the runs of batches that `_move_environments` has waited for. Index:
    checkin_deadline, which holds nothing but runs in progress.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE checkins_checkin AS run SET shard = environment.shard
              FROM checkins_runningcheckin AS running
              JOIN monitors_monitorenvironment AS environment ON environment.id = running.monitor_environment_id
             WHERE run.id = running.checkin_id AND run.date_added = running.date_added
               AND running.shard <> environment.shard
            """,
            {"count": count},
        )
        return int(cursor.rowcount)


def _replace_clocks(count: int, position: datetime) -> None:
    """Have a clock at the common position for each kind in each of `count` shards, and no other clocks.

    New rows for all: a worker that knows a clock by its old row does not move the new one.
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM clocktasks_shardclock")
        cursor.execute(
            """
            INSERT INTO clocktasks_shardclock (shard, kind, position)
            SELECT shard, kind, %s FROM generate_series(0, %s) AS shard, unnest(%s::text[]) AS kind
            """,
            [position, count - 1, [kind.value for kind in TaskKind]],
        )
