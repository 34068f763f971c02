"""A node: its transactions in PostgreSQL, and the spool entries that belong to them (shell).

    register -> [ store | settle -> drain, drain, ... | beat ]... -> leave
    adopt    -> [ drain ]... -> leave                                   for the spool of a process that is gone

The guarantees of a node are in `checkins.nodes`; this module has the order of the calls, and the state of the spool at
each step. It has no thread, no event loop and no clock: the caller decides when, in which thread, and what happens when
PostgreSQL does not answer. So the simulation calls these same functions, in every order.

Batches have numbers, and the row of the node says which one is committed. A batch whose COMMIT was not answered is *in
doubt*: its requests are in the spool with its number, until `settle` reads from the row whether it is committed. No
other batch may be committed before that (`fence`).
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from itertools import zip_longest
from typing import Protocol

from django.db import transaction

from checkins import nodes
from checkins.exceptions import CheckInsError, SpoolError
from checkins.ingest.spool_entries import ALONE_AFTER_FAILURES, SpoolEntry
from checkins.processing.apply import was_overtaken
from checkins.processing.batch import prepare, share_out, store_unread, take
from checkins.processing.finding import Hints
from checkins.processing.reading import Reading
from checkins.protocols.request import Answer, IngestRequest
from lib.pg_errors import is_not_now, is_suspicious

logger = logging.getLogger(__name__)

Parts = Sequence[tuple[IngestRequest, int | None]]
"""A request, or parts of it, each with the number of the batch in which it may be committed already, if any."""


class NodeSpool(Protocol):
    """What a node needs of its spool: see `checkins.ingest.spool.Spool`."""

    @property
    def node_id(self) -> uuid.UUID:
        """The id of the node that this spool belongs to."""

    @property
    def count(self) -> int:
        """Entries that wait."""

    @property
    def oldest_received_at(self) -> datetime | None:
        """The oldest reception time of an entry, or of what was lost."""

    @property
    def newest_batch(self) -> int | None:
        """The highest number of a batch in doubt."""

    @property
    def lost(self) -> Sequence[tuple[datetime, datetime]]:
        """Between which reception times entries were lost that PostgreSQL does not know of yet."""

    def first(self, count_max: int) -> list[SpoolEntry]:
        """Return the oldest entries."""

    def forget(self, until_seq: int) -> None:
        """Remove the entries up to this number."""

    def settle(self, committed_batch: int) -> None:
        """Remove what was in doubt up to this batch; the rest is in doubt no more."""

    def begin(self, entries: Sequence[SpoolEntry]) -> None:
        """Note that these entries are being tried."""

    def end(self, entries: Sequence[SpoolEntry], *, failures: int = 0) -> None:
        """Note that the try is over, and how often it failed in a way that the entries may have brought about."""

    def set_aside(self, damaged: Sequence[tuple[int, str]]) -> None:
        """Move entries, each with a reason, to where they are not tried again."""

    def forget_losses(self, lost: Sequence[tuple[datetime, datetime]]) -> None:
        """Note that PostgreSQL knows of these losses."""


class GivenUpError(CheckInsError):
    """The process ended, or the connection broke, each time that this request was to be stored."""

    def __init__(self, tries: int) -> None:
        super().__init__(f"it was tried {tries} times, and each time the process or its connection was gone")


class AbandonedError(nodes.NodeError):
    """The batch took too long and is in the spool: it must not be committed any more."""


class Batch:
    """Requests on their way to PostgreSQL. Either the transaction claims them, or the caller abandons them.

    `begins` is how many messages of each request earlier batches stored, `shares` how many this batch stores of each,
    from the first request on; empty until that is known. The next batch gets the rest.
    """

    def __init__(self, number: int, readings: Sequence[Reading]) -> None:
        self.number = number
        self.readings = readings
        self.begins = [len(reading.outcomes) for reading in readings]
        self.shares: Sequence[int] = ()
        self.is_abandoned = False
        self._lock = threading.Lock()
        self._is_claimed = False

    def claim(self) -> None:
        """Called by the transaction right before its COMMIT. Raises AbandonedError."""
        with self._lock:
            if self.is_abandoned:
                raise AbandonedError
            self._is_claimed = True

    def abandon(self) -> bool:
        """Called when patience ran out; returns whether the batch is certain not to be committed."""
        with self._lock:
            self.is_abandoned = True
            return not self._is_claimed

    def spool_parts(self, in_doubt: Sequence[int]) -> list[Parts]:
        """Return the parts of each request to spool; `in_doubt` is what `Node.give_up` returned."""
        return [
            _parts(reading, begin, share, self.number)
            for reading, begin, share in zip_longest(self.readings, self.begins, in_doubt)
        ]


class Node:
    """The node of one spool. Calls that reach PostgreSQL come from one thread at a time, except `beat`.

    `spool_lock` is held for each use of the spool, and by those who append to it. `claimed` is called with the requests
    that a transaction stores, before its last statement. `announce` is called before the watermark may move past what
    nodes beside this one have acknowledged while PostgreSQL was away (`checkins.ingest.neighbours`).
    """

    def __init__(
        self,
        spool: NodeSpool,
        *,
        spool_lock: AbstractContextManager[object],
        hints: Hints,
        claimed: Callable[[Iterable[IngestRequest]], None] = lambda _: None,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self.spool = spool
        self.is_registered = False
        self._spool_lock = spool_lock
        self._hints = hints
        self._claimed = claimed
        self._announce = announce
        self._number = 0
        self._fence: int | None = None

    @property
    def id(self) -> uuid.UUID:
        """The node's id, from its spool."""
        return self.spool.node_id

    def floor(self, now: datetime, waiting: Iterable[datetime]) -> datetime:
        """Return the highest safe watermark: nothing received before it is waiting (these reception times) or spooled.

        Requests of a batch are covered by its own transaction, and do not count as waiting.
        """
        oldest = self.spool.oldest_received_at
        return min([now, *waiting, *([] if oldest is None else [oldest])])

    # --- its own row

    def register(self, watermark: datetime, now: datetime, *, listening_since: datetime) -> None:
        """Register the node, and forget the entries that its former process stored but did not forget."""
        self._announce()
        self._report_losses()  # The row of the former process holds the clock; that of this one may not.
        registration = self._enter(watermark, now, listening_since=listening_since)
        self._number = max(self._number, registration.batch)
        self.is_registered = True

    def adopt(self, now: datetime) -> None:
        """Register the node of a process that is gone, to drain its spool."""
        self._report_losses()
        registration = self._enter(now, now, listening_since=now)
        # Registering waited for the transactions of the process: what is not committed now never will be.
        with self._spool_lock:
            if self.spool.newest_batch is not None:
                self.spool.settle(registration.batch)

    def beat(self, *, watermark: datetime, now: datetime, spooled_count: int, listening_since: datetime) -> None:
        """Send a heartbeat with the watermark."""
        self._announce()
        nodes.beat(self.id, watermark=watermark, now=now, spooled_count=spooled_count, listening_since=listening_since)
        self._report_losses()

    def leave(self, now: datetime) -> None:
        """Deregister a node whose spool is empty: the clock waits for it no longer."""
        self._report_losses()
        nodes.beat(self.id, watermark=now, now=now, spooled_count=0)
        nodes.deregister(self.id, now=now)

    def _enter(self, watermark: datetime, now: datetime, *, listening_since: datetime) -> nodes.Registration:
        registration = nodes.register_node(
            self.id,
            watermark=min(watermark, self.spool.oldest_received_at or watermark),
            now=now,
            host=socket.gethostname(),
            pid=os.getpid(),
            listening_since=listening_since,
        )
        with self._spool_lock:
            self.spool.forget(registration.spool_position)
        return registration

    def _report_losses(self) -> None:
        """Record in PostgreSQL when a damaged spool lost entries: until then that holds the watermark (D43)."""
        lost = self.spool.lost
        if lost:
            nodes.record_losses(self.id, lost)
            with self._spool_lock:
                self.spool.forget_losses(lost)

    # --- batches

    def begin(self, readings: Sequence[Reading]) -> Batch:
        """Number a batch."""
        self._number += 1
        return Batch(self._number, readings)

    def store(self, batch: Batch, *, watermark: datetime, now: datetime, listening_since: datetime) -> list[Answer]:
        """Commit a batch, and return the answers to its first requests: those that it stored completely.

        `watermark` is the node's floor without this batch. Raises AbandonedError if it was given up before its COMMIT.
        """
        readings = prepare(batch.readings, hints=self._hints)
        if batch.is_abandoned:
            raise AbandonedError
        batch.shares = shares = share_out(readings, hints=self._hints)
        readings = readings[: len(shares)]
        is_whole = shares[-1] == len(readings[-1].rest)
        left = batch.readings[len(shares) if is_whole else len(shares) - 1 :]
        watermark = min([watermark, *(one.request.received_at for one in left)])

        def commit(volume: Mapping[datetime, int]) -> None:
            batch.claim()
            self._claimed(reading.request for reading in readings)
            nodes.advance(
                self.id,
                batch=batch.number,
                watermark=watermark,
                now=now,
                spooled_count=self.spool.count,
                listening_since=listening_since,
                volume=volume,
            )

        return take(readings, now=now, before_commit=commit, hints=self._hints, shares=shares)

    def give_up(self, batch: Batch) -> Sequence[int]:
        """Give up a batch that failed or is too slow; returns how many messages of each request are in doubt.

        None are if it is certain not to be committed. A heavy batch goes on while its requests are in the spool, since
        starting again would cost as much once more; unless it is still being read, when its contents are not known.
        """
        continues = batch.readings[0].is_heavy and len(batch.shares) > 0
        if not continues and batch.abandon():
            return ()
        self._fence = batch.number
        return batch.shares

    def settle(self, now: datetime) -> None:
        """Find out which batches in doubt are committed, and make sure that the others never will be.

        Called before the spool is drained, when PostgreSQL is back.
        """
        self._announce()
        if self.spool.newest_batch is None and self._fence is None:
            return
        with transaction.atomic():
            node = nodes.lock_node(self.id)
            with self._spool_lock:
                if self.spool.newest_batch is not None:
                    self.spool.settle(node.batch)
            if self._fence is not None and node.batch < self._fence:
                # The transaction that was given up may still be on its way, in a thread that waits for PostgreSQL.
                nodes.advance(
                    self.id,
                    batch=self._fence,
                    watermark=node.watermark,
                    now=now,
                    spooled_count=self.spool.count,
                )
        self._fence = None

    # --- the spool

    def drain(self, now: datetime, *, count_max: int) -> None:
        """Store the oldest requests of the spool. Requests that PostgreSQL always refuses are stored as failed.

        The spool notes the try before it begins, and its result: a request may kill the process that reads it (D36).
        """
        with self._spool_lock:
            entries = self.spool.first(count_max)
            if not entries:
                return
            self.spool.begin(entries)
        failures = 0
        try:
            if entries[0].is_given_up:
                self._keep_as_failed(entries[0], GivenUpError(entries[0].tries), now)
            else:
                self._drain_entries(entries, now)
        except (nodes.NodeError, SpoolError):
            raise
        except Exception as error:
            if is_not_now(error) or was_overtaken(error):
                failures = int(is_suspicious(error) or was_overtaken(error))
                raise
            if len(entries) == 1:
                logger.exception("a request in the spool cannot be stored")
                self._keep_as_failed(entries[0], error, now)
            else:
                logger.warning("requests of the spool failed, and are stored one by one", exc_info=error)
                failures = ALONE_AFTER_FAILURES
        finally:
            with self._spool_lock:
                self.spool.end(entries, failures=failures)

    def _drain_entries(self, entries: Sequence[SpoolEntry], now: datetime) -> None:
        """Store entries and forget them, without those that an earlier try committed and could not forget.

        (The spool may have grown since that try, so more of it may be read now.)
        """
        readings = prepare([entry.request for entry in entries], hints=self._hints)
        entries = entries[: len(readings)]
        with transaction.atomic():
            committed = nodes.lock_node(self.id).spool_position
            if committed < entries[-1].seq:
                new = [reading for entry, reading in zip(entries, readings, strict=True) if entry.seq > committed]
                requests = [reading.request for reading in new]
                take(new, now=now, before_commit=partial(self._advance, entries, requests, now), hints=self._hints)
        with self._spool_lock:
            self.spool.forget(entries[-1].seq)

    def _keep_as_failed(self, entry: SpoolEntry, error: Exception, now: datetime) -> None:
        """Store a request as failed (D14) without decoding it; if even that fails, set it aside."""
        try:
            with transaction.atomic():
                committed = nodes.lock_node(self.id).spool_position
                if committed < entry.seq:
                    is_kept = store_unread(entry.request, error)
                    self._advance([entry], [entry.request], now, {})
                    if not is_kept:
                        logger.error("entry %d of the spool of node %s is from an unknown sender", entry.seq, self.id)
            with self._spool_lock:
                self.spool.forget(entry.seq)
        except (nodes.NodeError, SpoolError):
            raise
        except Exception as failure:
            if is_not_now(failure):
                raise
            with self._spool_lock:
                self.spool.set_aside([(entry.seq, str(failure))])

    def _advance(
        self,
        entries: Sequence[SpoolEntry],
        requests: Sequence[IngestRequest],
        now: datetime,
        volume: Mapping[datetime, int],
    ) -> None:
        self._claimed(requests)
        nodes.advance(
            self.id,
            batch=None,
            spool_position=entries[-1].seq,
            watermark=self.spool.oldest_received_at or now,
            now=now,
            spooled_count=self.spool.count - len(entries),
            volume=volume,
        )


def _parts(reading: Reading, begin: int, share: int | None, number: int) -> Parts:
    """Return the parts to spool of a request whose first `begin` messages are stored.

    The next `share` may be stored too, by the batch of that number; None if that batch had nothing of the request.
    """
    if share is None:
        return [(reading.part(begin), None)]
    if begin + share == len(reading.messages):
        return [(reading.part(begin), number)]
    return [(reading.part(begin, begin + share), number), (reading.part(begin + share), None)]
