"""Spools of other processes: the clock waits for them, and those of processes that are gone are drained (shell)."""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from checkins import nodes
from checkins.ingest.neighbours import opened_spools
from checkins.ingest.node import Node
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_orphan
from checkins.ingest.threads import Threads
from checkins.processing.finding import Hints
from lib.pg_errors import is_not_now

logger = logging.getLogger(__name__)

ORPHANS_SECONDS = 10.0
"""How often the directory is searched for spools of processes that are gone."""


def announce_neighbours(directory: Path, own: UUID) -> None:
    """Register the nodes of all opened spools but one's own that the clock does not wait for."""
    others = opened_spools(directory)
    others.pop(own, None)
    if others:
        nodes.announce(others)


async def adopt_orphans(
    threads: Threads,
    *,
    directory: Path,
    bytes_max: int,
    batch_max: int,
    hints: Hints,
    stamp: Callable[[], datetime],
    is_direct: Callable[[], bool],
) -> None:
    """Drain the spools of processes that are gone, a batch at a time, while this process has nothing spooled.

    Also deregister nodes with an empty spool: the clock would wait for them until they are dropped. Never returns.
    """
    while True:
        await asyncio.sleep(ORPHANS_SECONDS)
        try:
            while is_direct():
                live = await threads.in_database(nodes.live_ids)
                orphan = await threads.on_disk(partial(_open, directory, bytes_max, live))
                if orphan is None:
                    break
                await _drain(orphan, threads, batch_max=batch_max, hints=hints, stamp=stamp)
        except (asyncio.CancelledError, SystemExit):
            raise
        except BaseException as error:
            if not is_not_now(error):
                logger.error("the spool of another process cannot be drained", exc_info=error)


async def _drain(
    orphan: Spool, threads: Threads, *, batch_max: int, hints: Hints, stamp: Callable[[], datetime]
) -> None:
    logger.warning(
        "taking over %d requests in the spool of node %s, whose process is gone", orphan.count, orphan.node_id
    )
    node = Node(orphan, spool_lock=threads.spool_lock, hints=hints)
    try:
        await threads.in_database(partial(node.adopt, stamp()))
        while orphan.count:
            await threads.in_database(partial(node.drain, stamp(), count_max=batch_max))
        await threads.in_database(partial(node.leave, stamp()))
    finally:
        await threads.on_disk(orphan.close)


def _open(directory: Path, bytes_max: int, live: Collection[UUID]) -> Spool | None:
    return open_orphan(directory, bytes_max=bytes_max, waited_for=live)
