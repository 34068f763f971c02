"""Ingest: what clients send, and the processes that receive it and have their nodes store it."""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from django.db import connection

from checkins import nodes
from checkins.ingest.node import Node, Parts
from checkins.ingest.spool_entries import SpoolEntry
from checkins.processing.finding import Hints
from checkins.processing.reading import Reading
from checkins.protocols.request import IngestRequest
from drills.oracle.rules import MINUTE
from drills.simulation.interleaving import Actor
from drills.simulation.rules import CONFIG_KEYS, KEY, START, Changes, Job, crontab
from lib.pg_errors import is_not_now

if TYPE_CHECKING:
    from drills.simulation.world import World


@dataclass(eq=False)
class Word:
    """One message of a client, as often as it is sent: each time that it is received is a `Copy`.

    `config` is what the job wants of its monitor.
    """

    job: Job
    run: uuid.UUID
    status: str
    config: Changes | None = None
    is_answered: bool = False


@dataclass(eq=False)
class Copy:
    """A message that a node received, and when.

    `announced_at` is when its node has first registered, if that was later: until then the clock cannot wait for it.
    """

    word: Word
    request: IngestRequest
    announced_at: datetime | None = None

    @property
    def at(self) -> datetime:
        """When it was received."""
        return self.request.received_at


@dataclass(eq=False)
class Foreign:
    """A message of a neighbour that a node received. Nobody waits for its answer."""

    request: IngestRequest

    @property
    def at(self) -> datetime:
        """When it was received."""
        return self.request.received_at


def own(messages: Iterable[Copy | Foreign]) -> list[Copy]:
    """Return those of the jobs."""
    return [message for message in messages if isinstance(message, Copy)]


class ListedSpool:
    """A spool as a node needs it, in a list that outlives the process: whoever asks for the disk is told at once.

    It counts no deaths: no request is to blame for those of a simulation.
    """

    def __init__(self, node_id: uuid.UUID) -> None:
        self.node_id = node_id
        self.entries: list[SpoolEntry] = []
        self.lost: tuple[tuple[datetime, datetime], ...] = ()
        self._numbers = count(1)

    @property
    def count(self) -> int:
        """Entries that wait."""
        return len(self.entries)

    @property
    def oldest_received_at(self) -> datetime | None:
        """The oldest reception time of an entry."""
        return min((entry.request.received_at for entry in self.entries), default=None)

    @property
    def newest_batch(self) -> int | None:
        """The highest number of a batch in doubt."""
        return max((entry.batch for entry in self.entries if entry.batch is not None), default=None)

    def append(self, entries: Iterable[tuple[IngestRequest, int | None]]) -> None:
        """Store requests behind all others, each with the number of the batch that may hold it."""
        self.entries += [SpoolEntry(next(self._numbers), batch, request) for request, batch in entries]

    def first(self, count_max: int) -> list[SpoolEntry]:
        """Return the oldest entries."""
        return self.entries[:count_max]

    def forget(self, until_seq: int) -> None:
        """Remove the entries up to this number."""
        self.entries = [entry for entry in self.entries if entry.seq > until_seq]

    def settle(self, committed_batch: int) -> None:
        """Remove what was in doubt up to this batch; the rest is in doubt no more."""
        kept = [entry for entry in self.entries if entry.batch is None or entry.batch > committed_batch]
        self.entries = [replace(entry, batch=None) for entry in kept]

    def begin(self, entries: Sequence[SpoolEntry]) -> None:
        """A try begins."""

    def end(self, entries: Sequence[SpoolEntry], *, failures: int = 0) -> None:
        """A try is over."""

    def set_aside(self, damaged: Sequence[tuple[int, str]]) -> None:
        """Nothing that is sent here is such."""
        raise AssertionError(f"entries are set aside: {damaged}")

    def forget_losses(self, lost: Sequence[tuple[datetime, datetime]]) -> None:
        """Nothing is lost here."""


def request_of(word: Word, at: datetime) -> IngestRequest:
    """A request as a client sends it, received at `at`."""
    path = f"/api/1/cron/{word.job.slug}/{KEY}/"
    said = {"status": word.status, "check_in_id": word.run.hex, "environment": word.job.environment}
    if word.config is None:
        query = "&".join(f"{name}={value}" for name, value in said.items())
        return IngestRequest(method="GET", path=path, query=query, headers={}, body=b"", body_bytes=0, received_at=at)
    changes = dict(word.config)
    config: dict[str, object] = {CONFIG_KEYS[name]: value for name, value in changes.items() if name != "every"}
    config["schedule"] = {"type": "crontab", "value": crontab(changes["every"])}
    body = json.dumps({**said, "monitor_config": config}).encode()
    headers = {"content-type": "application/json"}
    return IngestRequest(
        method="POST", path=path, query="", headers=headers, body=body, body_bytes=len(body), received_at=at
    )


class Process:
    """An ingest process: its requests and its node, as the micro-batcher has them, and what it does next.

    Everything towards PostgreSQL is the product's own `Node`. Here is only what the event loop decides: what goes
    where, and when.
    """

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.name = f"node {number}"
        self.number = number
        self.spool = ListedSpool(uuid.UUID(int=number + 1))
        self.copies: dict[int, Copy] = {}
        self.actor: Actor | None = None
        self.is_up = False
        self.stamped = START
        self.away_until = START
        self.unannounced: list[Copy] | None = []
        """What was received before the node has a row; None once it has one, which outlives the process."""
        self.start()

    def start(self) -> None:
        """Begin a process: it has the spool of the one before and nothing else."""
        self.is_up = True
        self.since = self.world.now
        self.memory: list[Copy | Foreign] = []
        self.batch_in_hand: list[Copy | Foreign] = []
        self.node = Node(self.spool, spool_lock=nullcontext(), hints=Hints(), claimed=self._claimed)
        self.is_direct = False
        self.heard_of = START - MINUTE

    def die(self) -> None:
        """Lose what is in memory; the clients of those requests have no answer."""
        unanswered = [*self.batch_in_hand, *self.memory]
        self.world.ups.append((self.since, self.world.now))
        self.is_up, self.memory, self.batch_in_hand = False, [], []
        self.world.clients.forget(own(unanswered))

    def stamp(self) -> datetime:
        """Return a reception time: now, and never before an earlier one."""
        self.stamped = max(self.stamped, self.world.now)
        return self.stamped

    def receive(self, word: Word) -> None:
        """Take a request. It has no answer yet."""
        copy = Copy(word, request_of(word, self.stamp()))
        self.copies[id(copy.request)] = copy
        self.memory.append(copy)
        if self.unannounced is not None:
            self.unannounced.append(copy)

    def receive_foreign(self, message: Foreign) -> None:
        """Take a request of a neighbour."""
        self.memory.append(message)

    def floor(self, *, without: list[Copy | Foreign] | None = None) -> datetime:
        """The watermark: nothing that was received before it is in memory, on its way, or in the spool."""
        waiting = [*self.memory, *(() if self.batch_in_hand is without else self.batch_in_hand)]
        return self.node.floor(self.stamp(), [copy.at for copy in waiting])

    @property
    def is_away(self) -> bool:
        """Whether this node cannot reach PostgreSQL."""
        return self.world.now < self.away_until

    def next_work(self) -> Callable[[], None] | None:
        """What the process would do now."""
        if self.is_away:
            return self._spool_memory if self.memory else None
        if not self.node.is_registered:
            return self._register
        if not self.is_direct:
            return self._drain
        if self.memory:
            return self._store
        return self._beat if self.heard_of < self.world.minute else None

    # --- its work, each in an actor of its own

    def _claimed(self, requests: Iterable[IngestRequest]) -> None:
        copies = [self.copies[id(request)] for request in requests if id(request) in self.copies]
        if copies:
            self.world.record_batch(copies)

    def _store(self) -> None:
        copies = self.batch_in_hand = self.memory
        self.memory = []
        batch = self.node.begin([Reading(copy.request) for copy in copies])
        watermark, now = self.floor(without=copies), self.stamp()
        try:
            answers = self.node.store(batch, watermark=watermark, now=now, listening_since=self.since)
        except Exception as error:  # noqa: BLE001 - what is no outage is a finding
            self.world.pause(f"told of {error!r}")
            if not isinstance(error, nodes.NodeError):
                self._must_be_an_outage(error)
            self.is_direct = False
            self._to_spool(copies, batch.spool_parts(self.node.give_up(batch)))
            return
        self.heard_of = now
        self.batch_in_hand = []
        for copy, answer in zip(copies, answers, strict=True):
            if isinstance(copy, Foreign):
                continue
            assert answer.status == 202, f"refused: {copy.request.query}: {answer}"
            self.world.clients.answer(copy)

    def _to_spool(self, copies: list[Copy | Foreign], kept: Iterable[Parts]) -> None:
        """Keep a batch, and answer it when it is safe."""
        self.spool.append(part for parts in kept for part in parts)
        self.world.pause("the batch is in the spool")
        self.batch_in_hand = []
        for copy in own(copies):
            self.world.clients.answer(copy)

    def _spool_memory(self) -> None:
        self.is_direct = False
        copies = self.batch_in_hand = self.memory
        self.memory = []
        self._to_spool(copies, [[(copy.request, None)] for copy in copies])

    def _register(self) -> None:
        watermark = self.floor()
        with self._outages():
            self.node.register(watermark, self.stamp(), listening_since=self.since)
            self.is_direct = not self.spool.count
            for copy in self.unannounced or ():
                copy.announced_at = self.world.now
            self.unannounced = None

    def _drain(self) -> None:
        with self._outages():
            self.node.settle(self.stamp())
            if not self.spool.count:
                self.is_direct = True
                return
            # What arrives meanwhile goes to the spool too, or waits until this is stored.
            self.node.drain(self.stamp(), count_max=self.world.chance.choice([1, 2, 100]))

    def _beat(self) -> None:
        floor, now = self.floor(), self.stamp()
        with self._outages():
            self.node.beat(watermark=floor, now=now, spooled_count=self.spool.count, listening_since=self.since)
            self.heard_of = now

    @contextmanager
    def _outages(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - what is no outage is a finding
            self._must_be_an_outage(error)

    def _must_be_an_outage(self, error: Exception) -> None:
        self.world.pause(f"told of {error!r}")
        connection.close()
        if not is_not_now(error):
            raise error
