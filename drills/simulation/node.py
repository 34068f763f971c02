"""Ingest: what clients say, and the nodes that receive and store it, as the micro-batcher and its spool do."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

from django.db import connection, transaction

from checkins import nodes
from checkins.processing.batch import take
from checkins.processing.resolving import Hints
from checkins.protocols.request import IngestRequest
from drills.simulation.interleaving import Actor
from drills.simulation.rules import CONFIG_KEYS, KEY, MINUTE, START, Changes, Job, crontab
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
    """A message that a node received, and when."""

    word: Word
    request: IngestRequest
    is_acknowledged: bool = False

    @property
    def at(self) -> datetime:
        """When it was received."""
        return self.request.received_at


@dataclass(eq=False)
class SpoolEntry:
    """A request on a node's disk, and the number of the batch that may have stored it already."""

    place: int
    copy: Copy
    batch: int | None


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


class Node:
    """An ingest process and its spool, as the micro-batcher uses them: what it keeps where, and what it commits."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.id = uuid.UUID(int=number + 1)
        self.name = f"node {number}"
        self.number = number
        self.spool: list[SpoolEntry] = []
        self.places = count(1)
        self.actor: Actor | None = None
        self.is_up = False
        self.stamped = START
        self.away_until = START
        self.start()

    def start(self) -> None:
        """Begin a process: it has the spool of the one before and nothing else."""
        self.is_up = True
        self.since = self.world.now
        self.is_registered = False
        self.memory: list[Copy] = []
        self.batch_in_hand: list[Copy] = []
        self.batch = 0
        self.fence: int | None = None
        self.hints = Hints()
        self.is_direct = False
        self.heard_of = START - MINUTE

    def die(self) -> None:
        """Lose what is in memory; the clients of those requests have no answer."""
        unanswered = [*self.batch_in_hand, *self.memory]
        self.world.ups.append((self.since, self.world.now))
        self.is_up, self.memory, self.batch_in_hand = False, [], []
        self.world.forget_clients(unanswered)

    def stamp(self) -> datetime:
        """Return a reception time: now, and never before an earlier one."""
        self.stamped = max(self.stamped, self.world.now)
        return self.stamped

    def receive(self, word: Word) -> None:
        """Take a request. It has no answer yet."""
        self.memory.append(Copy(word, request_of(word, self.stamp())))

    def floor(self, *, without: list[Copy] | None = None) -> datetime:
        """The watermark: nothing that was received before it is in memory, on its way, or in the spool."""
        waiting = [*self.memory, *(() if self.batch_in_hand is without else self.batch_in_hand)]
        return min([self.stamp(), *(copy.at for copy in waiting), *(entry.copy.at for entry in self.spool)])

    @property
    def is_away(self) -> bool:
        """Whether this node cannot reach PostgreSQL."""
        return self.world.now < self.away_until

    def next_work(self) -> Callable[[], None] | None:
        """What the process would do now."""
        if self.is_away:
            return self._spool_memory if self.memory else None
        if not self.is_registered:
            return self._register
        if not self.is_direct:
            return self._drain
        if self.memory:
            return self._store
        return self._beat if self.heard_of < self.world.minute else None

    # --- its work, each in an actor of its own

    def _store(self) -> None:
        batch = self.batch_in_hand = self.memory
        self.memory = []
        self.batch += 1
        number, floor, now, claimed = self.batch, self.floor(without=batch), self.stamp(), False

        def commit(volume: Mapping[datetime, int]) -> None:
            nonlocal claimed
            claimed = True
            nodes.advance(
                self.id,
                batch=number,
                watermark=floor,
                now=now,
                spooled_count=len(self.spool),
                listening_since=self.since,
                volume=volume,
            )
            self.world.record_batch(batch)

        try:
            answers = take([copy.request for copy in batch], now=now, also=commit, hints=self.hints)
        except Exception as error:  # noqa: BLE001 - what is no outage is a finding
            self.world.pause(f"told of {error!r}")
            if not isinstance(error, nodes.NodeError):
                self._must_be_an_outage(error)
            self.is_direct = False
            if claimed:
                self.fence = number
            self._to_spool(batch, number if claimed else None)
            return
        self.heard_of = now
        self.batch_in_hand = []
        for copy, answer in zip(batch, answers, strict=True):
            assert answer.status == 202, f"refused: {copy.request.query}: {answer}"
            self.world.answer(copy)

    def _to_spool(self, batch: list[Copy], number: int | None) -> None:
        """Keep a batch, and answer it when it is safe."""
        self.spool += [SpoolEntry(next(self.places), copy, number) for copy in batch]
        self.world.pause("the batch is in the spool")
        self.batch_in_hand = []
        for copy in batch:
            self.world.answer(copy)

    def _spool_memory(self) -> None:
        self.is_direct = False
        batch = self.batch_in_hand = self.memory
        self.memory = []
        self._to_spool(batch, None)

    def _register(self) -> None:
        watermark = self.floor()
        with self._outages():
            known = nodes.register_node(
                self.id, watermark=watermark, now=self.stamp(), host="web", pid=1, listening_since=self.since
            )
            self._forget(known.spool_position)
            self.batch = max(self.batch, known.batch)
            self.is_registered = True
            self.is_direct = not self.spool

    def _drain(self) -> None:
        with self._outages():
            self._settle()
            if not self.spool:
                self.is_direct = True
                return
            # What arrives meanwhile goes to the spool too, or waits until this is stored.
            entries = self.spool[: self.world.chance.choice([1, 2, 100])]
            rest = [entry.copy.at for entry in self.spool]
            watermark, position, now = min(rest), entries[-1].place, self.stamp()

            def commit(volume: Mapping[datetime, int]) -> None:
                nodes.advance(
                    self.id,
                    batch=None,
                    spool_position=position,
                    watermark=watermark,
                    now=now,
                    spooled_count=len(self.spool) - len(entries),
                    volume=volume,
                )
                self.world.record_batch([entry.copy for entry in new])

            with transaction.atomic():
                committed = nodes.lock_node(self.id).spool_position
                new = [entry for entry in entries if entry.place > committed]
                if new:
                    take([entry.copy.request for entry in new], now=now, also=commit)
            self._forget(position)

    def _settle(self) -> None:
        newest = max((entry.batch for entry in self.spool if entry.batch is not None), default=None)
        if newest is None and self.fence is None:
            return
        with transaction.atomic():
            node = nodes.lock_node(self.id)
            # The file is settled at once, also if the connection breaks now: what is not committed never will be.
            self.spool = [entry for entry in self.spool if entry.batch is None or entry.batch > node.batch]
            for entry in self.spool:
                entry.batch = None
            if self.fence is not None and node.batch < self.fence:
                nodes.advance(
                    self.id,
                    batch=self.fence,
                    watermark=node.watermark,
                    now=self.stamp(),
                    spooled_count=len(self.spool),
                )
        self.fence = None

    def _beat(self) -> None:
        floor, now = self.floor(), self.stamp()
        with self._outages():
            nodes.beat(self.id, watermark=floor, now=now, spooled_count=len(self.spool))
            self.heard_of = now

    def _forget(self, position: int) -> None:
        self.spool = [entry for entry in self.spool if entry.place > position]

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
