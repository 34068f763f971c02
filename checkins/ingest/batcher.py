"""The micro-batcher: from single requests to batches in PostgreSQL, or in the spool while that cannot be (shell).

                     PostgreSQL stores them              it does not, or not in time
    enqueue -> queue ---------------------> answers     ------------------------------> spool -> answers
                                                                                          |
                                                                  PostgreSQL <- drained --+

Requests wait in the queue while the batch before theirs is stored; what has arrived by then is the next batch. So an
idle server answers at once, and a busy one stores hundreds of check-ins with a dozen statements.

Two states:
1. direct: batches go to PostgreSQL, one at a time. A batch that PostgreSQL does not store, or not within `patience`,
   goes to the spool, and the state becomes spooling.
2. spooling: batches go to the spool, while another coroutine drains it in order. When it is nearly empty, the queue is
   held until the rest is stored too; then batches go to PostgreSQL again.
If both are unavailable a request gets 503: it was never acknowledged.

All coroutines run on one event loop, so their state needs no locks. Blocking calls run in the threads of
`checkins.ingest.threads`; the transactions of a batch and of the spool are in `checkins.ingest.node`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from checkins import metrics, nodes
from checkins.ingest.heartbeats import send_heartbeats
from checkins.ingest.lanes import Lanes, Waiting
from checkins.ingest.node import Node, Parts
from checkins.ingest.options import Options
from checkins.ingest.orphans import adopt_orphans, announce_neighbours
from checkins.ingest.reception import ReceptionClock
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import LINGERING_SECONDS, open_spool
from checkins.ingest.spooling import Spooling, log_why
from checkins.ingest.threads import Threads, forget_result
from checkins.processing.batch import read
from checkins.processing.finding import Hints
from checkins.processing.reading import BUSY, LIGHT_BYTES_MAX, Reading
from checkins.processing.senders import find_sender, find_senders
from checkins.protocols.request import Answer, IngestRequest
from lib.pg_errors import is_not_now

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How often a connection to a PostgreSQL that is away is tried."""
STOP_SECONDS_MAX = 3.0
"""How long a stop waits for the spool to be drained; the next process drains the rest."""
HEAVY_PATIENCE_SECONDS = 2.0
"""How long heavy requests wait for PostgreSQL to return before they go to the spool."""


class Batcher:
    """Queues requests on an event loop, and answers each when it is durable."""

    def __init__(self, options: Options, *, utcnow: Callable[[], datetime]) -> None:
        self.options = options
        self._clock = ReceptionClock(utcnow, frozen_after=options.frozen_after)
        self._queue = Lanes()
        self._stored: Sequence[Waiting] = ()  # the batch that is on its way to PostgreSQL or the spool
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._direct = asyncio.Event()
        self._indirect = asyncio.Event()
        self._hold = False
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._read: asyncio.Task[None] | None = None
        self._threads = Threads()
        self._spool: Spool | None = None
        self._node: Node | None = None
        self._hints = Hints()
        self._spooling = Spooling(self._threads, has_seen=self._hints.has_seen)
        self._go(direct=False)

    # --- for the edge

    def stamp(self) -> datetime:
        """Return the reception time of a request: see `ReceptionClock`."""
        return self._clock.stamp()

    def enqueue(self, request: IngestRequest, reply: Callable[[Answer], None]) -> None:
        """Queue a request stamped with nothing awaited in between; `reply` gets its answer, once it is durable."""
        reading = Reading(request)
        queue_bytes_max = self.options.queue_bytes_max
        if (
            self._stopping
            or len(self._queue) >= self.options.queue_max
            or (len(request.body) > LIGHT_BYTES_MAX and self._queue.bytes + len(request.body) > queue_bytes_max)
        ):
            metrics.refused.inc()
            reply(BUSY)
            return
        self._queue.add(Waiting(reading, reply, time.monotonic()))
        self._wake.set()

    async def knows(self, request: IngestRequest) -> bool | None:
        """Return whether a request's sender is known, without its body; None while PostgreSQL is away."""
        sender = Reading(request).sender
        if sender is None:
            return False
        if self._hints.has_seen(sender):
            return True
        if not self.is_direct:
            return None
        asking = self._threads.in_database(lambda: find_sender(request, self._hints))
        asking.add_done_callback(forget_result)
        done, _ = await asyncio.wait([asking], timeout=self.options.patience)
        return asking.result() is not None if done and asking.exception() is None else None

    @property
    def spooled_count(self) -> int:
        """Requests in the spool."""
        return 0 if self._spool is None else self._spool.count

    @property
    def spool_bytes(self) -> int:
        """Size of the spool."""
        return 0 if self._spool is None else self._spool.bytes

    @property
    def is_refusing(self) -> bool:
        """Whether the spool refused a request recently, and nothing goes to PostgreSQL."""
        return not self.is_direct and self._spooling.is_refusing

    @property
    def is_direct(self) -> bool:
        """Whether batches go to PostgreSQL; else to the spool."""
        return self._direct.is_set()

    async def start(self) -> None:
        """Open the spool and register the node; if PostgreSQL is away, start with the spool alone.

        Raises SpoolError if there is no spool to be had.
        """
        self._spool = await self._threads.on_disk(
            lambda: open_spool(
                self.options.spool_directory, bytes_max=self.options.spool_bytes_max, wait_seconds=LINGERING_SECONDS
            )
        )
        announce = partial(announce_neighbours, self.options.spool_directory, self._spool.node_id)
        self._node = Node(self._spool, spool_lock=self._threads.spool_lock, hints=self._hints, announce=announce)
        bind_node = partial(structlog.contextvars.bind_contextvars, node=str(self.node_id))
        bind_node()
        await self._threads.in_all(bind_node)
        registering = self._threads.in_database(self._registering())
        registering.add_done_callback(forget_result)
        await asyncio.wait([registering], timeout=self.options.patience)
        if self._node.is_registered:
            self._go(direct=not self._spool.count)
        else:
            logger.warning(
                "PostgreSQL (DATABASE_URL) is away: %s; check-ins go to the spool in %s until it is back",
                _describe_outage(registering, self.options.patience),
                self.options.spool_directory,
            )
        self._tasks = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in (
                ("serve", self._serve()),
                ("drain", self._drain()),
                ("beat", send_heartbeats(self._threads, self._clock, heartbeat=self._heartbeat)),
                ("orphans", self._adopting()),
            )
        ]

    async def stop(self) -> None:
        """Answer queued requests, drain the spool if that is quick, and deregister the node."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                while self._queue or self._stored or not self.is_direct:
                    await self._direct.wait()
                    await self._idle.wait()
                    await asyncio.sleep(0.001)
        self._stopping = True
        tasks = [*self._tasks, *([] if self._read is None else [self._read])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse((*self._stored, *self._queue))
        if self.spooled_count:
            logger.warning(
                "%d requests stay in the spool in %s: acknowledged, not stored yet. The next start stores them",
                self.spooled_count,
                self.options.spool_directory,
            )
        # A heartbeat that is still in flight could report entries in the spool.
        await self._threads.end_beat(STOP_SECONDS_MAX)
        node = self._node
        if node is not None and node.is_registered and not self.spooled_count:
            with suppress(Exception):
                await asyncio.wait_for(self._threads.in_database(partial(node.leave, self.stamp())), STOP_SECONDS_MAX)
        await self._threads.end_database(STOP_SECONDS_MAX)
        if self._spool is not None:
            await self._threads.on_disk(self._spool.close)
        self._threads.shutdown()

    # --- the two states

    async def _serve(self) -> None:
        """Move the queue, a batch at a time, to PostgreSQL or the spool."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._hold:
                since = self._queue.light_since
                if self.is_direct and since is not None and time.monotonic() - since > self.options.patience:
                    logger.warning("check-ins wait for more than %s s: they go to the spool", self.options.patience)
                    self._go(direct=False)
                try:
                    if self.is_direct:
                        self._begin_reading()
                        batch = self._next_batch(self.options.batch_max, read_only=True)
                        if not batch:
                            self._end_batch()
                            break  # When the heavy ones are read, that wakes this.
                        await self._store(batch)
                    else:
                        await self._spool_next()
                except Exception:
                    logger.exception("a batch could be neither stored nor spooled, and is refused")
                    self._refuse(self._stored)
                    self._end_batch()

    def _begin_reading(self) -> None:
        """Have the heavy requests that come next read, unless some are being read."""
        if self._read is None or self._read.done():
            heavy = self._queue.unread()
            if heavy:
                self._read = asyncio.create_task(self._read_heavy([one.reading for one in heavy]))

    async def _read_heavy(self, readings: Sequence[Reading]) -> None:
        """Read heavy requests beside the batches: it may need a second, and other requests do not wait for it."""
        finding = self._threads.in_database(partial(find_senders, readings, hints=self._hints))
        finding.add_done_callback(forget_result)
        try:
            known = await asyncio.wait_for(asyncio.shield(finding), self.options.patience)
            reading = partial(read, readings, known, hints=self._hints)
            await self._threads.in_reading(reading)
        except Exception as error:  # noqa: BLE001 - the spool knows what to do with what cannot be read (D36)
            if self.is_direct:
                self._go(direct=False)
                log_why(None if isinstance(error, TimeoutError) else error, patience=self.options.patience)
        finally:
            self._wake.set()

    async def _spool_next(self) -> None:
        """Spool what is queued; heavy requests only if PostgreSQL stays away.

        Usually a heavy request caused the delay, and the entries behind it in the spool would wait for all of them.
        """
        since = self._queue.heavy_since
        light_only = since is not None and time.monotonic() - since < HEAVY_PATIENCE_SECONDS
        batch = self._next_batch(10 * self.options.batch_max, light_only=light_only)
        await self._keep_in_spool([(one, [(one.reading.part(len(one.reading.outcomes)), None)]) for one in batch])
        if light_only and not batch:
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        """Return when a request is queued, when batches go to PostgreSQL again, or after a moment."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._wake, self._direct)]
        await asyncio.wait(waits, timeout=self.options.patience / 5, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._wake.clear()

    def _next_batch(self, count_max: int, *, light_only: bool = False, read_only: bool = False) -> list[Waiting]:
        batch = self._queue.next(count_max, light_only=light_only, read_only=read_only)
        self._stored = batch
        self._idle.clear()
        return batch

    def _refuse(self, batch: Iterable[Waiting]) -> None:
        for one in batch:
            metrics.refused.inc()
            one.reply(BUSY)

    def _end_batch(self) -> None:
        self._stored = ()
        self._idle.set()

    def _go(self, *, direct: bool) -> None:
        """Change the state."""
        set_one, clear_one = (self._direct, self._indirect) if direct else (self._indirect, self._direct)
        set_one.set()
        clear_one.clear()

    async def _store(self, batch: Sequence[Waiting]) -> None:
        """Commit a batch in PostgreSQL and answer it; if that fails or is too slow, use the spool.

        The next batch gets what does not fit, including the rest of a request that stands for many check-ins. The
        database thread is called once: each way there and back waits for a turn of this busy loop.
        """
        started = time.monotonic()
        node = self._open_node()
        storing = node.begin([one.reading for one in batch])
        future = self._threads.in_database(
            partial(
                node.store,
                storing,
                watermark=self._floor(without=batch),
                now=self.stamp(),
                listening_since=self._clock.listening_since,
            )
        )
        await asyncio.wait([future], timeout=self.options.patience)
        is_over = future.done()
        waited = started - min(one.since for one in batch)
        metrics.observe_batch(len(storing.shares) or len(batch), waited=waited, seconds=time.monotonic() - started)
        if is_over and future.exception() is None:
            answers = future.result()
            metrics.stored.inc(len(answers))
            self._queue.put_back(batch[len(answers) :])
            for one, answer in zip(batch, answers, strict=False):
                one.reply(answer)
            self._end_batch()
            return
        self._go(direct=False)
        log_why(future.exception() if is_over else None, patience=self.options.patience)
        in_doubt = node.give_up(storing)
        if not is_over:
            future.add_done_callback(forget_result)
        await self._keep_in_spool(list(zip(batch, storing.spool_parts(in_doubt), strict=True)))

    async def _keep_in_spool(self, entries: Sequence[tuple[Waiting, Parts]]) -> None:
        """Answer requests as soon as the spool has them on disk; refuse them if it has no room.

        A few heavy ones at a time, so that requests before them do not wait for them.
        """
        while entries:
            count = await self._spooling.store(self._open_spool(), entries)
            entries = entries[count:]
            self._stored = [one for one, _ in entries]
        self._end_batch()

    async def _drain(self) -> None:
        """While spooling: bring the spool into PostgreSQL, and when it is empty, go back to storing directly."""
        while True:
            await self._indirect.wait()
            try:
                node = self._open_node()
                if not node.is_registered:
                    await self._threads.in_database(self._registering())
                # A batch that was given up has to be in the spool first: `settle` checks once which batches were
                # committed, and a batch spooled later would miss that check.
                await self._idle.wait()
                await self._threads.in_database(partial(node.settle, self.stamp()))
                while self.spooled_count > self.options.batch_max:
                    await self._threads.in_database(self._draining(node))
                await self._hand_over()
            except (asyncio.CancelledError, SystemExit):
                raise
            except BaseException as error:
                self._hold = False
                self._wake.set()
                if not is_not_now(error):
                    logger.error("the spool cannot be drained", exc_info=error)
                if isinstance(error, nodes.UnknownNodeError):
                    self._open_node().is_registered = False
                await asyncio.sleep(RETRY_SECONDS)

    async def _hand_over(self) -> None:
        """Hold the queue, store the rest of the spool, then send the queue to PostgreSQL."""
        self._hold = True
        started = time.monotonic()
        await self._idle.wait()  # Requests on their way to the spool come before queued ones.
        while self.spooled_count:
            draining = self._threads.in_database(self._draining(self._open_node()))
            held_max = self.options.patience / 2 - (time.monotonic() - started)
            done, _ = await asyncio.wait([draining], timeout=max(held_max, 0))
            if not done:
                self._hold = False  # The hold is limited: go on spooling.
                self._wake.set()
            await draining
            if not done:
                return
        logger.warning("PostgreSQL is back; all of the spool is stored")
        self._go(direct=True)
        self._hold = False
        self._wake.set()

    def _heartbeat(self) -> Callable[[], None] | None:
        """Return the call that sends a heartbeat, or None; requests in flight, queued or spooled hold its watermark."""
        node = self._open_node()
        if not node.is_registered:
            return None
        return partial(
            node.beat,
            watermark=self._floor(),
            now=self.stamp(),
            spooled_count=self.spooled_count,
            listening_since=self._clock.listening_since,
        )

    def _floor(self, *, without: Sequence[Waiting] = ()) -> datetime:
        """Return the highest safe watermark, as if the batch `without` were stored already."""
        waiting = [] if self._queue.oldest_received_at is None else [self._queue.oldest_received_at]
        if self._stored and self._stored is not without:
            waiting += [one.reading.request.received_at for one in self._stored]
        return self._open_node().floor(self.stamp(), waiting)

    def _registering(self) -> Callable[[], None]:
        node = self._open_node()
        return partial(node.register, self._floor(), self.stamp(), listening_since=self._clock.listening_since)

    def _draining(self, node: Node) -> Callable[[], None]:
        return partial(node.drain, self.stamp(), count_max=self.options.batch_max)

    def _adopting(self) -> Coroutine[None, None, None]:
        return adopt_orphans(
            self._threads,
            directory=self.options.spool_directory,
            bytes_max=self.options.spool_bytes_max,
            batch_max=self.options.batch_max,
            hints=self._hints,
            stamp=self.stamp,
            is_direct=lambda: self.is_direct,
        )

    def _open_spool(self) -> Spool:
        assert self._spool is not None, "the spool is opened at the start"
        return self._spool

    def _open_node(self) -> Node:
        assert self._node is not None, "its spool is opened at the start"
        return self._node

    @property
    def node_id(self) -> uuid.UUID:
        """The id of this process as a node, from its spool."""
        return self._open_node().id


def _describe_outage(registering: "asyncio.Future[Any]", patience: float) -> str:
    """Return in one line why the process could not be registered at its start."""
    error = registering.exception() if registering.done() and not registering.cancelled() else None
    if error is None:
        return f"it has not answered for {patience:g} s"
    return str(error).strip().partition("\n")[0] or type(error).__name__
