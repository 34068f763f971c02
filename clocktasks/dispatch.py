"""Beat's part: which minutes may be applied, the ledger of them, and which shards have work (shell).

`poll_nodes` returns which minutes may be applied: those whose check-ins are stored (P2). `advance_ledger` writes these
minutes and returns which shards have work. The ledger is in rows, so any number of beats may do this at once, late, or
again (P3).
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from checkins.watermarks import Settled, drop_silent_nodes, stored_until
from clocktasks.clock import (
    ClockTask,
    ShardState,
    TaskKind,
    TickWindow,
    quiet_until,
    tick_window,
)
from clocktasks.ledger import decided_until, finish_ticks, write_ticks
from clocktasks.models import HeldTick, ShardClock
from clocktasks.shards import next_works, shard_states
from lib.sql import plan_for_few_of_many

logger = logging.getLogger(__name__)


def advance_ledger(until: datetime, *, now: datetime) -> list[ClockTask]:
    """Write a tick for every minute after the last one up to `until`, and return the clock tasks worth sending.

    Any number of beats may do this at once, late, or again: the ledger is the same. The first tick ever is `until`.
    Shards with nothing due are moved in one statement. Ticks of the ledger beyond `until` stay allowed.
    The ledger is written in separate transactions, so that no gap is too long.
    """
    write_ticks(until, now=now)
    return _plan_work(now=now)


@transaction.atomic
def _plan_work(*, now: datetime) -> list[ClockTask]:
    decided = decided_until()
    if decided is None:
        return []
    plan_for_few_of_many()
    clocks = _lock_clocks_behind(decided)
    states = shard_states()
    _move_quiet_clocks(clocks, states, until=decided)
    finish_ticks(now=now)
    works = next_works(states, until=decided)
    return [ClockTask(kind, shard, decided) for shard, (_, kind) in works.items()]


def _lock_clocks_behind(until: datetime) -> list[ShardClock]:
    """Lock the clocks that are not at `until` yet, skipping locked ones.

    Call it before reading the work of their shards: a change of the number of shards waits for these locks, or has
    finished, so that the work belongs to the shards of these clocks.
    """
    behind = ShardClock.objects.select_for_update(skip_locked=True).filter(position__lt=until)
    return list(behind.order_by("id"))


def _move_quiet_clocks(clocks: Sequence[ShardClock], states: Mapping[int, ShardState], *, until: datetime) -> None:
    """Move locked clocks to just before the next work of their shards."""
    moves: dict[datetime, list[int]] = {}
    for clock in clocks:
        position = quiet_until(states[clock.shard], TaskKind(clock.kind), until=until)
        if position > clock.position:
            moves.setdefault(position, []).append(clock.id)
    # Nearly all move to the same minute; the few with work ahead share a few minutes.
    for position, ids in moves.items():
        ShardClock.objects.filter(id__any_of=ids).update(position=position)


def poll_nodes(now: datetime) -> tuple[TickWindow, Settled]:
    """Return which minutes may be applied now, and the nodes that this depends on. Drops silent nodes."""
    drop_silent_nodes(now, silent_max=timedelta(seconds=settings.INGEST_NODE_SILENT_SECONDS))
    return may_apply(now)


def may_apply(now: datetime) -> tuple[TickWindow, Settled]:
    """Return which minutes may be applied now, and the nodes that this depends on. Changes nothing."""
    settled = stored_until(now)
    grace = timedelta(seconds=settings.CLOCK_GRACE_SECONDS)
    return tick_window(now, grace=grace, stored_until=settled.until), settled


def record_wait(minute: datetime, settled: Settled, *, now: datetime) -> bool:
    """Record and log that this minute waits, and for which nodes. Returns whether this was the first to do so."""
    reason = "; ".join(
        f"ingest node {node} ({node.id}) has stored its check-ins up to {node.watermark:%H:%M:%S}, has "
        f"{node.spooled_count} in its spool and was last seen at {node.seen_at:%H:%M:%S}"
        for node in settled.live
        if node.watermark < minute
    )
    held, is_first = HeldTick.objects.get_or_create(at=minute, defaults={"noticed_at": now, "reason": reason})
    if is_first:
        logger.warning("the clock waits with %s (UTC): %s", held, reason)
    return is_first
