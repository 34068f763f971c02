"""The micro-batcher: from single requests to batches in PostgreSQL, or in the spool while that cannot be (shell).

                     PostgreSQL takes them               it does not, or not soon enough
    submit -> queue ----------------------> answers     ------------------------------> spool -> answers
                                                                                          |
                                                                  PostgreSQL <- drained --+

Requests wait in the queue while the batch before theirs is stored; what has arrived by then is the next batch. So an
idle server answers at once, and a busy one stores hundreds of check-ins with a dozen statements.

Two states:
1. direct: batches go to PostgreSQL, one at a time. A batch that PostgreSQL does not take, or has not taken after
   `patience`, goes to the spool, and the state with it.
2. spooling: batches go to the spool, while another coroutine drains it in order. When next to nothing is left, the
   queue is held until that is stored too; then batches go to PostgreSQL again.
What neither can take is refused with 503: nobody was told that it is safe.

All coroutines run on one event loop, so their state needs no locks. Everything that waits for PostgreSQL runs in one
thread, everything that waits for the spool's disk in another; what is heavy to read is read in a third. Signs of life
have a thread and a connection of their own: a batch that takes minutes must not look like a process that is gone.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from checkins import metrics, nodes
from checkins.ingest.lanes import Lanes, Waiting
from checkins.ingest.node import Node, Parts
from checkins.ingest.reading import BUSY, LIGHT_BYTES_MAX, NO_ROOM, Reading, answer_some
from checkins.ingest.spool import Spool, SpoolFullError
from checkins.processing.batch import read
from checkins.processing.resolving import Hints
from checkins.processing.senders import find_sender, find_senders
from checkins.protocols.request import Answer, IngestRequest
from lib.pg_errors import StatementError, is_not_now, use_connection
from lib.wallclock import utcnow

logger = logging.getLogger(__name__)

T = TypeVar("T")
BEAT_SECONDS = 1.0
"""A watermark is at most this old when there is nothing to store; the clock waits for it after each minute."""
RETRY_SECONDS = 0.5
"""How often a PostgreSQL that is away is asked again."""
ORPHANS_SECONDS = 10.0
"""How often spools of processes that died are looked for."""
STOP_SECONDS_MAX = 3.0
"""How long a stop waits for PostgreSQL to take what is left in the spool; the next process goes on with it."""
SESSION = """
    SET lock_timeout = '2s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s';
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off
"""
"""A batch that waits for longer is in the spool already. It must not hold locks for ever.

Plans are kept: PostgreSQL thinks one for all days dearer than a new one for the few that a batch looks into, and would
plan each statement anew each time. A kept plan was made while the coming days were empty, where reading all of a table
is the quickest; it would do so still when the day has a million check-ins.
"""
HEAVY_PATIENCE_SECONDS = 2.0
"""How long heavy requests wait for PostgreSQL to take batches again before they go to the spool."""
FROZEN_AFTER = timedelta(seconds=10)
"""A process that looks at its clock every second and finds more than this gone was stopped, or its machine slept."""
REFUSING_SECONDS = 30.0
"""How long a refusal counts as "is refusing": by then somebody may have made room, and the next request tells."""
PREPARE_AFTER = 5
"""How often a statement is planned anew before its plan is kept."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the batcher. Seconds and bytes; counts are requests."""

    spool_directory: Path
    spool_bytes_max: int
    batch_max: int = 500
    patience: float = 0.5
    queue_max: int = 50_000
    queue_bytes_max: int = 32 << 20
    frozen_after: timedelta = FROZEN_AFTER


def make_batcher() -> "Batcher":
    """Return a batcher with the bounds of the settings."""
    return Batcher(
        Options(
            spool_directory=settings.SPOOL_DIRECTORY,
            spool_bytes_max=settings.SPOOL_BYTES_MAX,
            batch_max=settings.INGEST_BATCH_MAX,
            patience=settings.INGEST_PATIENCE_SECONDS,
            queue_max=settings.INGEST_QUEUE_MAX,
            queue_bytes_max=settings.INGEST_QUEUE_BYTES_MAX,
            frozen_after=FROZEN_AFTER * (settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1),
        ),
        utcnow=utcnow,
    )


class Batcher:
    """Takes requests on an event loop, and answers each when it is durable."""

    def __init__(self, options: Options, *, utcnow: Callable[[], datetime]) -> None:
        self.options = options
        self._utcnow = utcnow
        self._queue = Lanes()
        self._stored: Sequence[Waiting] = ()  # the batch that is on its way to PostgreSQL or the spool
        self._newest = self._listening_since = utcnow()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._direct = asyncio.Event()
        self._indirect = asyncio.Event()
        self._hold = False
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._read: asyncio.Task[None] | None = None
        self._database = ThreadPoolExecutor(1, thread_name_prefix="ingest-database")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="ingest-spool")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="ingest-reading")
        self._pulse = ThreadPoolExecutor(1, thread_name_prefix="ingest-beat")
        self._spool_lock = threading.Lock()
        self._spool: Spool | None = None
        self._node: Node | None = None
        self._session = threading.local()
        self._hints = Hints()
        self._refused_count = 0
        self._refused_at = -REFUSING_SECONDS
        self._go(direct=False)

    # --- for the edge

    def stamp(self) -> datetime:
        """Return the reception time of a request: now, but never before that of an earlier one.

        (Unless the machine's clock was wrong, and is set back by more than a moment.)
        """
        now = self._utcnow()
        if self._newest - now > self.options.frozen_after:
            logger.error(
                "the clock of this machine was set back from %s to %s: check-ins are stamped by it from here on",
                self._newest.isoformat(timespec="seconds"),
                now.isoformat(timespec="seconds"),
            )
            self._newest = self._listening_since = now
        elif now - self._newest > self.options.frozen_after:
            # Nobody ran here meanwhile: the process was stopped, or its machine slept. That was no listening.
            self._listening_since = now
        self._newest = max(self._newest, now)
        return self._newest

    def submit(self, request: IngestRequest) -> "asyncio.Future[Answer]":
        """Queue a request that was stamped with nothing awaited in between; its answer comes when it is durable."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> None:
            if not future.done():  # Its client may be gone.
                future.set_result(answer)

        self.enqueue(request, reply)
        return future

    def enqueue(self, request: IngestRequest, reply: Callable[[Answer], None]) -> None:
        """As `submit`, for a caller that has a way of its own to pass the answer on."""
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
        """Tell whether a request's sender is known; None if nobody can say. What is in its body is not looked at."""
        sender = Reading(request).sender
        if sender is None:
            return False
        if self._hints.has_heard(sender):
            return True
        if not self.is_direct:
            return None
        asking = self._in_database(lambda: find_sender(request, self._hints))
        asking.add_done_callback(_forget_result)
        done, _ = await asyncio.wait([asking], timeout=self.options.patience)
        return asking.result() if done and asking.exception() is None else None

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
        """Whether the spool could not take a request a moment ago, and nothing goes to PostgreSQL."""
        return not self.is_direct and time.monotonic() - self._refused_at < REFUSING_SECONDS

    @property
    def is_direct(self) -> bool:
        """Whether batches go to PostgreSQL; else to the spool."""
        return self._direct.is_set()

    async def start(self) -> None:
        """Open the spool and register the node; if PostgreSQL is away, start with the spool alone.

        Raises SpoolError if there is no spool to be had.
        """
        self._spool = await self._on_disk(
            lambda: Spool.open(self.options.spool_directory, bytes_max=self.options.spool_bytes_max)
        )
        self._node = Node(self._spool, spool_lock=self._spool_lock, hints=self._hints)
        # Threads have contexts of their own.
        bind_node = partial(structlog.contextvars.bind_contextvars, node=str(self.node_id))
        bind_node()
        pulse = asyncio.get_running_loop().run_in_executor(self._pulse, bind_node)
        await asyncio.gather(self._in_thread(bind_node), self._on_disk(bind_node), pulse)
        registering = self._in_database(self._registering())
        registering.add_done_callback(_forget_result)
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
                ("beat", self._beat()),
                ("orphans", self._adopt_orphans()),
            )
        ]

    async def stop(self) -> None:
        """Answer what waits, drain the spool if that is quick, and take leave of the clock."""
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
        # A sign of life that is still on its way could say that something waits in the spool.
        resting = asyncio.get_running_loop().run_in_executor(self._pulse, lambda: connection.close())
        resting.add_done_callback(_forget_result)
        await asyncio.wait([resting], timeout=STOP_SECONDS_MAX)
        self._pulse.shutdown(wait=False)
        node = self._node
        if node is not None and node.is_registered and not self.spooled_count:
            with suppress(Exception):
                await asyncio.wait_for(self._in_database(partial(node.leave, self.stamp())), STOP_SECONDS_MAX)
        # Whatever still uses the spool in that thread ends before this, unless it hangs.
        closing = self._in_thread(lambda: connection.close())
        closing.add_done_callback(_forget_result)
        await asyncio.wait([closing], timeout=STOP_SECONDS_MAX)
        if self._spool is not None:
            await self._on_disk(self._spool.close)
        self._database.shutdown(wait=False)
        self._disk.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    # --- the two states

    async def _serve(self) -> None:
        """Take what is in the queue, a batch at a time, to where the state says."""
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
                    logger.exception("a batch could be neither stored nor kept, and is refused")
                    self._refuse(self._stored)
                    self._end_batch()

    def _begin_reading(self) -> None:
        """Have the heavy requests that come next read, unless some are being read."""
        if self._read is None or self._read.done():
            heavy = self._queue.unread()
            if heavy:
                self._read = asyncio.create_task(self._read_heavy([one.reading for one in heavy]))

    async def _read_heavy(self, readings: Sequence[Reading]) -> None:
        """Read requests beside the batches: it may take a second, for which nobody else waits."""
        finding = self._in_database(partial(find_senders, readings, hints=self._hints))
        finding.add_done_callback(_forget_result)
        try:
            known = await asyncio.wait_for(asyncio.shield(finding), self.options.patience)
            reading = partial(read, readings, known, hints=self._hints)
            await asyncio.get_running_loop().run_in_executor(self._reading, reading)
        except Exception as error:  # noqa: BLE001 - the spool knows what to do with what cannot be read (D36)
            if self.is_direct:
                self._go(direct=False)
                self._say_why(None if isinstance(error, TimeoutError) else error)
        finally:
            self._wake.set()

    async def _spool_next(self) -> None:
        """Keep what waits in the spool, heavy requests only if PostgreSQL stays away.

        Most often it was one of them that took long, and what follows it in the spool would wait for all of them.
        """
        since = self._queue.heavy_since
        light_only = since is not None and time.monotonic() - since < HEAVY_PATIENCE_SECONDS
        batch = self._next_batch(10 * self.options.batch_max, light_only=light_only)
        await self._keep_in_spool([(one, [(one.reading.part(len(one.reading.outcomes)), None)]) for one in batch])
        if light_only and not batch:
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        """Return when something comes into the queue, batches go to PostgreSQL again, or after a moment."""
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
        """Have a batch committed in PostgreSQL and answer it; if that fails or takes too long, use the spool.

        What it has no room for is left to the next one, also the rest of a request that stands for many check-ins. All
        of it is one call of the other thread: each way there and back waits for a turn of this one, which is busy with
        requests.
        """
        started = time.monotonic()
        node = self._open_node()
        storing = node.begin([one.reading for one in batch])
        future = self._in_database(
            partial(
                node.store,
                storing,
                watermark=self._floor(without=batch),
                now=self.stamp(),
                listening_since=self._listening_since,
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
        self._say_why(future.exception() if is_over else None)
        in_doubt = node.give_up(storing)
        if not is_over:
            future.add_done_callback(_forget_result)
        await self._keep_in_spool(list(zip(batch, storing.spool_parts(in_doubt), strict=True)))

    def _say_why(self, error: BaseException | None) -> None:
        """Log why check-ins go to the spool from now on."""
        if error is None:
            logger.warning("PostgreSQL takes more than %s s: check-ins go to the spool", self.options.patience)
        elif is_not_now(error) or isinstance(error, nodes.NodeError):
            logger.warning("PostgreSQL does not take check-ins, they go to the spool: %s", error)
        else:
            logger.error("a batch failed in a way that no single check-in explains", exc_info=error)

    async def _keep_in_spool(self, entries: Sequence[tuple[Waiting, Parts]]) -> None:
        """Answer requests as soon as the spool has them on its disk; if that cannot be, refuse them.

        Heavy ones a few at a time, so that those before them do not wait for them.
        """
        while entries:
            readings = [one.reading for one, _ in entries]
            said = await asyncio.get_running_loop().run_in_executor(
                self._disk, partial(answer_some, readings, self._hints.has_heard)
            )
            await self._keep_some_in_spool(entries[: len(said)], said)
            entries = entries[len(said) :]
            self._stored = [one for one, _ in entries]
        self._end_batch()

    async def _keep_some_in_spool(
        self, entries: Sequence[tuple[Waiting, Parts]], said: Sequence[tuple[bool, Answer]]
    ) -> None:
        answers = [answer for _, answer in said]
        kept = [part for (_, parts), (is_kept, _) in zip(entries, said, strict=True) if is_kept for part in parts]
        try:
            await self._on_disk(lambda: self._open_spool().append(kept))
            self._refused_count = 0
            metrics.spooled.inc(len(kept))
        except SpoolFullError as error:
            if not self._refused_count:  # And not for each of the batches that follow.
                logger.error("check-ins are refused from now on: %s", error)
            self._refused_count += len(kept)
            self._refused_at = time.monotonic()
            metrics.refused.inc(len(kept))
            answers = [NO_ROOM] * len(answers)
        for (one, _), answer in zip(entries, answers, strict=True):
            one.reply(answer)

    async def _drain(self) -> None:
        """While spooling: bring the spool into PostgreSQL, and when it is empty, go back to storing directly."""
        while True:
            await self._indirect.wait()
            try:
                node = self._open_node()
                if not node.is_registered:
                    await self._in_database(self._registering())
                # A batch that was given up has to be in the spool first: whether it was committed is asked once, and
                # for what comes after that the answer would be wrong.
                await self._idle.wait()
                await self._in_database(partial(node.settle, self.stamp()))
                while self.spooled_count > self.options.batch_max:
                    await self._in_database(self._draining(node))
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
        """Hold the queue, store the rest of the spool, and then let the queue go to PostgreSQL."""
        self._hold = True
        started = time.monotonic()
        await self._idle.wait()  # What is on its way to the spool comes before what is in the queue.
        while self.spooled_count:
            draining = self._in_database(self._draining(self._open_node()))
            held_max = self.options.patience / 2 - (time.monotonic() - started)
            done, _ = await asyncio.wait([draining], timeout=max(held_max, 0))
            if not done:
                self._hold = False  # Nobody waits for longer than this: on with the spool.
                self._wake.set()
            await draining
            if not done:
                return
        logger.warning("PostgreSQL takes check-ins again; all of the spool is stored")
        self._go(direct=True)
        self._hold = False
        self._wake.set()

    async def _beat(self) -> None:
        """Move the watermark on when no batch does, above all right after each minute, for which the clock waits.

        What is on its way, in the queue or in the spool holds it; that the process is there is said all the same.
        """
        while True:
            now = self._utcnow()
            to_minute = 60 - (now.second + now.microsecond / 1e6) + 0.01
            await asyncio.sleep(min(BEAT_SECONDS, to_minute))
            node = self._open_node()
            if not node.is_registered:
                continue
            with suppress(Exception):
                await self._stamped_while(
                    partial(
                        node.beat,
                        watermark=self._floor(),
                        now=self.stamp(),
                        spooled_count=self.spooled_count,
                        listening_since=self._listening_since,
                    )
                )

    async def _stamped_while(self, call: Callable[[], T]) -> None:
        """Make a call of a beat, and know meanwhile that this process runs: how long PostgreSQL takes is no matter.

        Without that, a PostgreSQL that is silent for long would make a process that listens look like a frozen one.
        """
        calling = asyncio.get_running_loop().run_in_executor(self._pulse, lambda: self._with_connection(call))
        calling.add_done_callback(_forget_result)
        while not calling.done():
            await asyncio.wait([calling], timeout=BEAT_SECONDS)
            self.stamp()

    async def _adopt_orphans(self) -> None:
        """Drain the spools of processes that died, a batch at a time, while this one has nothing spooled itself.

        Also take leave for one that died with nothing in its spool: the clock would wait for it until it is dropped.
        """
        while True:
            await asyncio.sleep(ORPHANS_SECONDS)
            try:
                while self.is_direct:
                    live = await self._in_database(nodes.live_ids)
                    orphan = await self._on_disk(partial(self._open_orphan, live))
                    if orphan is None:
                        break
                    await self._drain_orphan(orphan)
            except (asyncio.CancelledError, SystemExit):
                raise
            except BaseException as error:
                if not is_not_now(error):
                    logger.error("a spool that another process left cannot be drained", exc_info=error)

    async def _drain_orphan(self, orphan: Spool) -> None:
        logger.warning(
            "taking over %d requests in the spool of node %s, whose process is gone", orphan.count, orphan.node_id
        )
        node = Node(orphan, spool_lock=self._spool_lock, hints=self._hints)
        try:
            await self._in_database(partial(node.adopt, self.stamp()))
            while orphan.count:
                await self._in_database(self._draining(node))
            await self._in_database(partial(node.leave, self.stamp()))
        finally:
            await self._on_disk(orphan.close)

    def _floor(self, *, without: Sequence[Waiting] = ()) -> datetime:
        """Return what the watermark may be once the batch `without` is stored, besides all that is stored now."""
        waiting = [] if self._queue.oldest_received_at is None else [self._queue.oldest_received_at]
        if self._stored and self._stored is not without:
            waiting += [one.reading.request.received_at for one in self._stored]
        return self._open_node().floor(self.stamp(), waiting)

    def _registering(self) -> Callable[[], None]:
        node = self._open_node()
        return partial(node.register, self._floor(), self.stamp(), listening_since=self._listening_since)

    def _draining(self, node: Node) -> Callable[[], None]:
        return partial(node.drain, self.stamp(), count_max=self.options.batch_max)

    # --- in the threads

    def _in_database(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return self._in_thread(lambda: self._with_connection(call))

    def _in_thread(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._database, call)

    def _with_connection(self, call: Callable[[], T]) -> T:
        """Make a call with a connection that works and has our bounds; throw the connection away if it does not."""
        try:
            use_connection()
            if getattr(self._session, "connection", None) is not connection.connection:
                with connection.cursor() as cursor:
                    cursor.execute(SESSION)
                # The statements of a batch are few and always the same: planned once, not a thousand times a minute,
                # which took a quarter of the database's time and more. Only here, where statements go by unique keys:
                # a plan that was kept for an empty table ran for eight minutes, and on, when the table was full. A
                # pooler in between has to know prepared statements, as PgBouncer does since 1.21.
                connection.connection.prepare_threshold = PREPARE_AFTER
                self._session.connection = connection.connection
            return call()
        except BaseException as error:
            if is_not_now(error):
                with suppress(Exception):
                    connection.close()
            elif isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", None) is None:
                # Elsewhere nobody can see any more that the connection is sound.
                raise StatementError(str(error)) from error
            raise

    def _on_disk(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._disk, lambda: self._with_spool(call))

    def _with_spool(self, call: Callable[[], T]) -> T:
        with self._spool_lock:
            return call()

    def _open_orphan(self, live: Collection[uuid.UUID]) -> Spool | None:
        directory, bytes_max = self.options.spool_directory, self.options.spool_bytes_max
        return Spool.open_orphan(directory, bytes_max=bytes_max, waited_for=live)

    def _open_spool(self) -> Spool:
        assert self._spool is not None, "the spool is opened at the start"
        return self._spool

    def _open_node(self) -> Node:
        assert self._node is not None, "its spool is opened at the start"
        return self._node

    @property
    def node_id(self) -> uuid.UUID:
        """The node that this process is, as its spool says."""
        return self._open_node().id


def _describe_outage(registering: "asyncio.Future[Any]", patience: float) -> str:
    """Say in one line why a process could not be registered at its start."""
    error = registering.exception() if registering.done() and not registering.cancelled() else None
    if error is None:
        return f"it has not answered for {patience:g} s"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _forget_result(future: "asyncio.Future[Any]") -> None:
    """What a call that nobody waits for any more ends with is of no interest; asyncio would log it as an error.

    A batch that was given up cannot have been committed, or `_settle` asks; a registration is tried again.
    """
    if not future.cancelled():
        future.exception()
    if not future.cancelled():
        future.exception()
