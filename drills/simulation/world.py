"""A small installation on one stage: jobs, two ingest nodes, beats, a broker, workers, and whatever goes wrong.

One seed decides everything: which jobs there are and what they do, who goes on next, what is lost, doubled, late or
killed, and how wrong the clocks of beat and workers are. Code of the product runs unchanged; the edges are replaced:
its clock (virtual time), Celery's broker (a list), the mail server (another list), and the micro-batcher with its
asyncio loop and its spool file, whose steps towards PostgreSQL are those of `Node`.

Two phases: with faults for some minutes; then the faults stop, everything settles, and the clock ticks to the end.
"""

import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any
from unittest import mock

from django.db import InterfaceError, OperationalError, connection, transaction

from checkins import nodes
from checkins.intake import is_not_now, take
from checkins.protocols.request import IngestRequest
from checkins.resolving import Hints
from clocktasks import services as clock_services
from clocktasks import tasks as clock_tasks
from clocktasks.clock import TaskKind
from drills.simulation.interleaving import Actor, Stage, State
from incidents import outbox, texts, wake
from incidents.addressees import recipients
from incidents.attempts import LEASE

START = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
KEY = "5" * 32
NODES = 2
SHARDS = 3
QUIET_MINUTES = 2
"""No job begins a run any more, while the clock finds out about those that did, and everything still fails."""
WORKERS = 3
AROUND_COMMIT = 4
"""How much likelier a fault is just before a COMMIT and just after it: that is where most can go wrong."""
STEPS_MAX = 3_000
"""A world that is not settled after so many steps goes round in circles."""


class StuckError(Exception):
    """The world does not come to rest."""


@dataclass(frozen=True)
class Job:
    """A monitor environment and what its monitor expects: a run every `every` minutes, counted from the hour."""

    monitor_id: int
    environment: str
    every: int
    margin: int
    runtime: int
    failures_to_open: int
    oks_to_recover: int

    @property
    def slug(self) -> str:
        """The monitor's name in addresses."""
        return f"job-{self.monitor_id}"

    def __str__(self) -> str:
        return f"{self.slug}/{self.environment}"


MONITORS = [
    (1, 2, 1, 1, 1, 1), (2, 2, 1, 1, 2, 1), (3, 1, 2, 1, 1, 2), (4, 3, 1, 2, 1, 1), (17, 3, 2, 1, 1, 1),
    (18, 1, 1, 1, 3, 2), (20, 3, 2, 1, 1, 1), (33, 2, 3, 1, 2, 2),
]  # fmt: skip
"""Id, minutes between runs, margin, longest runtime, failures that open, oks that recover. Some share a shard."""


@dataclass(eq=False)
class Word:
    """One message of a client, as often as it is sent: each time that it is received is a `Copy`."""

    job: Job
    run: uuid.UUID
    status: str
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


@dataclass(frozen=True)
class BatchStored:
    """A transaction of check-ins was committed."""

    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class TickApplied:
    """A transaction with what the ticks of a pass marked in a shard was committed."""

    kind: TaskKind
    shard: int
    first: datetime
    last: datetime

    def ticks(self) -> list[datetime]:
        """Return all ticks of the pass; of a time without a listener, the last one, which stands for all."""
        minutes = 0 if self.kind is TaskKind.UNKNOWN else (self.last - self.first) // MINUTE
        return [self.last - number * MINUTE for number in reversed(range(minutes + 1))]


@dataclass(frozen=True)
class BrokerMessage:
    """A Celery message: the task by its name, what it is called with, and not before when."""

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    not_before: datetime


@dataclass(eq=False)
class SpoolEntry:
    """A request on a node's disk, and the number of the batch that may have stored it already."""

    place: int
    copy: Copy
    batch: int | None


@dataclass
class Faults:
    """What can go wrong, as chances: of an actor to be killed or to lose its connection at a pause, and so on."""

    kill: float
    lost_connection: float
    unnoticed_death: float
    lost_message: float
    doubled_message: float
    late_message: float
    lost_beat: float
    second_beat: float
    outage: float
    skew: float
    deafness: float


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
        request = IngestRequest(
            method="GET",
            path=f"/api/1/cron/{word.job.slug}/{KEY}/",
            query=f"status={word.status}&check_in_id={word.run.hex}&environment={word.job.environment}",
            headers={},
            body=b"",
            body_bytes=0,
            received_at=self.stamp(),
        )
        self.memory.append(Copy(word, request))

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
            self.world.record(BatchStored(tuple(batch)))

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
                self.world.record(BatchStored(tuple(entry.copy for entry in new)))

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


@dataclass(order=True)
class Event:
    """Something that happens when its time has come."""

    at: datetime
    number: int
    happen: Callable[[], None] = field(compare=False)


class World:
    """Everything that a seed decides, and what came of it (`history`, in the order of the commits)."""

    def __init__(self, seed: int, stage: Stage, *, faults: Faults | None = None) -> None:
        self.seed = seed
        self.stage = stage
        self.chance = chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        self.now = START
        self.ups: list[tuple[datetime, datetime]] = []
        self.minutes = chance.choice([1, 2, 2, 3])
        self.until = START + (self.minutes + QUIET_MINUTES) * MINUTE
        self.faults = faults or choose_faults(chance)
        self.is_settling = False
        self.jobs = choose_jobs(chance)
        self.history: list[BatchStored | TickApplied] = []
        self.acknowledged: list[Copy] = []
        self.mails: list[uuid.UUID] = []
        self.trace: list[str] = []
        self.broker: list[BrokerMessage] = []
        self.actors: list[Actor] = []
        self.workers: dict[Actor, BrokerMessage] = {}
        self.skew = timedelta(0)
        self._events: list[Event] = []
        self._numbers = count()
        self._waiting: dict[Word, deque[tuple[str, timedelta]]] = {}
        self.current: Actor | None = None
        self.counts = {"kills": 0, "lost_connections": 0, "steps": 0, "blocked": 0, "outages": 0}
        stage.committed = self._committed
        self.nodes = [Node(self, number) for number in range(NODES)]
        self._clients = {job: self.nodes[number % NODES] for number, job in enumerate(self.jobs)}
        self._plan()

    @property
    def minute(self) -> datetime:
        """The minute that it is."""
        return self.now.replace(second=0, microsecond=0)

    # --- the plan

    def _plan(self) -> None:
        for job in self.jobs:
            self._plan_runs(job)
        for number in range(1, self.minutes + QUIET_MINUTES + 1):
            self._at(START + number * MINUTE + SECOND, self._beat)
            if self.chance.random() < 0.3:
                message = BrokerMessage(DELIVER, (), {}, START)
                self._at(START + number * MINUTE + 5 * SECOND, partial(self.publish, message))
        for node in self.nodes:
            if self.chance.random() < self.faults.outage:
                self._at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._outage_of(node))
            if self.chance.random() < self.faults.outage:
                self._at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._death_of(node))
        if self.chance.random() < self.faults.deafness:
            self._at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._all_die)
        if self.chance.random() < self.faults.skew:
            self._at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._skew)
            self._at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._skew)

    def _plan_runs(self, job: Job) -> None:
        chance = self.chance
        minutes = [minute for minute in range(self.minutes) if minute % job.every == 0]
        for number in minutes:
            begin = START + number * MINUTE + timedelta(seconds=chance.choice([0, 0, 2, 20, 45, 59]))
            second = timedelta(seconds=chance.choice([1, 20, 58, 60, 75]))
            late = job.runtime * MINUTE + timedelta(seconds=chance.choice([0, 5, 70]))
            story: list[tuple[str, timedelta]] = chance.choice(
                [
                    [("in_progress", begin - begin), ("ok", second)],
                    [("in_progress", begin - begin), ("ok", second)],
                    [("in_progress", begin - begin), ("error", second)],
                    [("in_progress", begin - begin), ("in_progress", second), ("ok", second)],
                    [("in_progress", begin - begin), ("ok", late)],
                    [("in_progress", begin - begin)],
                    [("in_progress", begin - begin), ("error", second), ("ok", second)],
                    [("ok", begin - begin)],
                    [("ok", timedelta(minutes=job.margin, seconds=chance.choice([0, 1, 61])))],
                    [("error", begin - begin)],
                    [],
                    [],
                ]
            )
            if story:
                run = uuid.UUID(int=chance.getrandbits(128), version=4)
                self._continue_run(job, run, deque(story), begin)

    def _continue_run(self, job: Job, run: uuid.UUID, story: deque[tuple[str, timedelta]], now: datetime) -> None:
        """The job's next word, some time after the last one was answered."""
        if story:
            status, pause = story.popleft()
            word = Word(job, run, status)
            self._waiting[word] = story
            self._at(now + pause, lambda: self._send(word))

    def _send(self, word: Word) -> None:
        node = self._clients[word.job]
        if node.is_up:
            node.receive(word)
            self._note(f"{word.job} says {word.status} of {word.run.hex[:4]} to {node.name}")
        elif self.is_settling or self.chance.random() < 0.7:
            self._at(self.now + 8 * SECOND, lambda: self._send(word))
        else:
            self._waiting.pop(word)

    def forget_clients(self, copies: list[Copy]) -> None:
        """These clients get no answer. Some try again, some do not."""
        for copy in copies:
            if copy.word.is_answered:
                continue
            if self.chance.random() < 0.7:
                word = copy.word
                self._at(self.now + self.chance.choice([1, 10, 40]) * SECOND, partial(self._send, word))
            else:
                self._waiting.pop(copy.word, None)

    def answer(self, copy: Copy) -> None:
        """A client hears that its message is safe."""
        copy.is_acknowledged = copy.word.is_answered = True
        self.acknowledged.append(copy)
        story = self._waiting.pop(copy.word, None)
        if story is not None:
            self._continue_run(copy.word.job, copy.word.run, story, self.now)

    def _beat(self) -> None:
        if not self.is_settling and self.chance.random() < self.faults.lost_beat:
            return
        beats = 2 if self.chance.random() < self.faults.second_beat else 1
        for _ in range(beats):
            self.publish(BrokerMessage(clock_tasks.tick.name, (), {}, self.now))

    def _outage_of(self, node: Node) -> Callable[[], None]:
        def happen() -> None:
            node.away_until = self.now + self.chance.choice([5, 40, 100]) * SECOND
            self.counts["outages"] += 1
            self._note(f"{node.name} cannot reach PostgreSQL until {node.away_until:%H:%M:%S}")
            if node.actor is not None and node.actor.state is State.READY:
                self._let(node.actor, node.actor.lose_connection)

        return happen

    def _death_of(self, node: Node) -> Callable[[], None]:
        return lambda: self.kill_node(node)

    def _all_die(self) -> None:
        seconds = self.chance.choice([5, 30, 70, 150])
        for node in self.nodes:
            self.kill_node(node, seconds)

    def was_up(self, at: datetime) -> bool:
        """Whether any node listened at that time."""
        going_on = [(node.since, self.now) for node in self.nodes if node.is_up]
        return any(since <= at <= until for since, until in (*self.ups, *going_on))

    def kill_node(self, node: Node, seconds: int | None = None) -> None:
        """Kill a process of the web; the next one starts some time later."""
        if not node.is_up:
            return
        self.counts["kills"] += 1
        self._note(f"{node.name} is killed" + (f" at {node.actor.at}" if node.actor else ""))
        if node.actor is not None:
            self._kill(node.actor)
        node.die()

        def restart() -> None:
            node.start()
            self._note(f"{node.name} starts")

        self._at(self.now + (seconds or self.chance.choice([1, 15, 70])) * SECOND, restart)

    def _skew(self) -> None:
        most = SKEW_MAX // SECOND
        self.skew = self.chance.choice([-most, -30, 0, 30, most]) * SECOND
        self._note(f"the clock of beat and workers is {self.skew.total_seconds():+g} s wrong")

    def _at(self, at: datetime, happen: Callable[[], None]) -> None:
        heappush(self._events, Event(at, next(self._numbers), happen))

    # --- the broker and the workers

    def publish(self, message: BrokerMessage) -> None:
        """Take a message; it may get lost, be delivered twice, or come late."""
        copies = 1
        if not self.is_settling:
            chance = self.chance.random()
            if chance < self.faults.lost_message:
                copies = 0
            elif chance < self.faults.lost_message + self.faults.doubled_message:
                copies = 2
        for _ in range(copies):
            at = message.not_before
            if not self.is_settling and self.chance.random() < self.faults.late_message:
                at += self.chance.choice([3, 30, 90]) * SECOND
            self.broker.append(BrokerMessage(message.name, message.arguments, message.keywords, at))

    def _start_worker(self, message: BrokerMessage) -> None:
        self.broker.remove(message)
        work = self.deliver if message.name == DELIVER else TASKS[message.name]
        actor = self._start(message.name.rpartition(".")[2], lambda: work(*message.arguments, **message.keywords))
        self.workers[actor] = message
        self._go_on(actor)

    def deliver(self) -> None:
        """A worker empties the outbox of notifications."""
        outbox.address(recipients(), now=self.worker_now())
        while claimed := outbox.claim(limit=1, now=self.worker_now()):
            texts.write_texts(claimed)
            self.mails.append(claimed[0].idempotency_key)
            self.pause("the mail is sent")
            outbox.record_sent(claimed, now=self.worker_now())

    def worker_now(self) -> datetime:
        """What the clock of the hosts of beat and workers shows."""
        return self.now + self.skew

    # --- the scheduler

    def run(self) -> None:
        """Let everything happen, to the end."""
        with self._edges():
            try:
                self._run_until_settled(lambda: self.now >= self.until)
                self._settle()
            finally:
                for actor in self.actors:
                    actor.kill(is_noticed=True)
                self.stage.notice()

    def _settle(self) -> None:
        """No more faults: everything starts that is down, every client gets its answer, and the clock ticks on."""
        self.is_settling = True
        self._note("the faults stop")
        self.skew = timedelta(0)
        self.stage.notice()
        for node in self.nodes:
            node.away_until = self.now
        self._run_until_settled(lambda: not self._events)
        # The last ticks: every deadline that is left passes.
        self.now = self.minute + max(job.runtime for job in self.jobs) * MINUTE + 2 * SECOND
        self._run_until_settled(lambda: True)
        self.publish(BrokerMessage(clock_tasks.tick.name, (), {}, self.now))
        self._run_until_settled(lambda: True)
        # What a killed worker had claimed is free again when its claim is over, by whatever clock it was made.
        self.now += LEASE + SKEW_MAX
        self.publish(BrokerMessage(DELIVER, (), {}, self.now))
        self._run_until_settled(lambda: True)

    def _run_until_settled(self, is_over: Callable[[], bool]) -> None:
        """Make steps; once `is_over` and while settling, until nobody has anything left to do."""
        while True:
            if self.counts["steps"] > STEPS_MAX:
                raise StuckError(f"{len(self.trace)} steps, and no end")
            blocked = [actor for actor in self.actors if actor.state is State.BLOCKED]
            self.stage.see_who_is_free(blocked)
            ready = [actor for actor in self.actors if actor.state is State.READY]
            idle = [node for node in self.nodes if node.is_up and node.actor is None and node.next_work() is not None]
            due = [message for message in self.broker if message.not_before <= self.now]
            if len(self.workers) >= WORKERS:
                due = []
            over = is_over()
            if over and not self.is_settling:
                return
            choices: list[tuple[str, Any]] = [("go on", actor) for actor in ready]
            weights = [1.0] * len(ready)
            choices += [("node", node) for node in idle]
            weights += [1.0] * len(idle)
            choices += [("work", message) for message in due]
            weights += [1.0] * len(due)
            if not over and self._events:
                choices.append(("time", None))
                weights.append(0.5)
            if not choices:
                if blocked:
                    if not self.stage.lost:
                        raise StuckError(f"{', '.join(actor.name for actor in blocked)} wait for each other")
                    self.stage.notice()
                    continue
                later = [message.not_before for message in self.broker]
                if later:
                    self.now = max(self.now, min(later))
                    continue
                return
            kind, what = self.chance.choices(choices, weights)[0]
            match kind:
                case "go on":
                    self._go_on(what)
                case "node":
                    what.actor = self._start(what.name, what.next_work())
                    self._go_on(what.actor)
                case "work":
                    self._start_worker(what)
                case "time":
                    self._pass_time()

    def _pass_time(self) -> None:
        event = heappop(self._events)
        self.now = max(self.now, event.at)
        event.happen()
        # What was planned for the same moment happens before anybody reacts, mostly.
        while self._events and self._events[0].at <= self.now and self.chance.random() < 0.7:
            heappop(self._events).happen()
        if self.stage.lost and self.chance.random() < 0.3:
            self.stage.notice()

    def _start(self, name: str, work: Callable[[], object]) -> Actor:
        actor = Actor(self.stage, name, work)
        self.actors.append(actor)
        return actor

    def _go_on(self, actor: Actor) -> None:
        self.counts["steps"] += 1
        node = next((node for node in self.nodes if node.actor is actor), None)
        fate = 1.0 if self.is_settling or actor.at == "start" else self.chance.random()
        if actor.at in ("COMMIT", "committed"):
            fate /= AROUND_COMMIT
        if fate < self.faults.kill:
            if node is not None:
                self.kill_node(node)
            else:
                self._note(f"{actor.name} is killed at {actor.at}")
                self.counts["kills"] += 1
                self._kill(actor)
        elif fate < self.faults.kill + self.faults.lost_connection:
            self._note(f"{actor.name} loses its connection at {actor.at}")
            self.counts["lost_connections"] += 1
            self._let(actor, actor.lose_connection)
        else:
            self._note(f"{actor.name}: {actor.at}")
            self._let(actor, actor.go_on)

    def _kill(self, actor: Actor) -> None:
        is_noticed = self.chance.random() >= self.faults.unnoticed_death
        self._let(actor, lambda: actor.kill(is_noticed=is_noticed))

    def _let(self, actor: Actor, what: Callable[[], None]) -> None:
        """Let the actor do this, up to its next pause, and look after what became of it."""
        before, self.current = self.current, actor
        what()
        self.current = before
        if actor.state is State.BLOCKED:
            self.counts["blocked"] += 1
            self._note(f"{actor.name} waits for a lock")
        if actor.state is State.DONE:
            self._end(actor)

    def _end(self, actor: Actor) -> None:
        self.actors.remove(actor)
        for node in self.nodes:
            if node.actor is actor:
                node.actor = None
        message = self.workers.pop(actor, None)
        if actor.is_killed:
            actor.error = None  # Whatever it met on its way out, nobody heard of it.
        if actor.error is not None and not (actor.has_lost_connection and _is_of_connection(actor.error)):
            raise actor.error
        # With late acknowledgement, what a dead worker had in hand is delivered again, unless the broker lost it.
        if message is not None and actor.is_killed and self.chance.random() < 0.7:
            self.publish(BrokerMessage(message.name, message.arguments, message.keywords, self.now + 5 * SECOND))

    # --- what is recorded

    def record(self, what: BatchStored | TickApplied) -> None:
        """Have this in the history if the transaction of the current actor commits."""
        assert self.current is not None, "somebody does it"
        self.current.pending = what

    def pause(self, where: str) -> None:
        """A place between two statements where the actor can be killed."""
        assert self.current is not None, "somebody does it"
        self.current.hand_over(where)

    def _committed(self, actor: Actor) -> None:
        if isinstance(actor.pending, (BatchStored, TickApplied)):
            self.history.append(actor.pending)
            self._note(f"{actor.name} has committed {type(actor.pending).__name__}")

    def _note(self, what: str) -> None:
        self.trace.append(f"{self.now:%H:%M:%S} {' '.join(what.split())[:150]}")

    # --- the edges

    @contextmanager
    def _edges(self) -> Iterator[None]:
        def publish(name: str) -> Callable[..., None]:
            def apply_async(
                args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, countdown: float = 0, **_: object
            ) -> None:
                at = self.now + timedelta(seconds=countdown)
                self.publish(BrokerMessage(name, tuple(args), kwargs or {}, at))

            return apply_async

        def observed(kind: TaskKind) -> Callable[[int, datetime, datetime], Any]:
            handler = clock_services.HANDLERS[kind]

            def handle(shard: int, first: datetime, last: datetime) -> Any:
                done = handler(shard, first, last)
                self.record(TickApplied(kind, shard, first, done.until))
                return done

            return handle

        def wish() -> None:
            self.publish(BrokerMessage(DELIVER, (), {}, self.now))

        with (
            mock.patch.object(clock_tasks, "utcnow", self.worker_now),
            mock.patch.object(clock_tasks.tick, "apply_async", publish(clock_tasks.tick.name)),
            mock.patch.object(
                clock_tasks.process_clock_task, "apply_async", publish(clock_tasks.process_clock_task.name)
            ),
            mock.patch.dict(clock_services.HANDLERS, {kind: observed(kind) for kind in clock_services.HANDLERS}),
            mock.patch.object(wake, "wake", wish),
        ):
            yield


def _is_of_connection(error: BaseException) -> bool:
    """Tell whether an error may be that of a connection that broke; the product can only ask whoever has it (D36)."""
    has_state = getattr(error.__cause__, "sqlstate", None) is not None
    return is_not_now(error) or (isinstance(error, (OperationalError, InterfaceError)) and not has_state)


DELIVER = "deliver"
SKEW_MAX = timedelta(seconds=90)
"""How wrong the clock of beat and workers may be."""
TASKS: dict[str, Callable[..., object]] = {
    clock_tasks.tick.name: clock_tasks.tick.run,
    clock_tasks.process_clock_task.name: clock_tasks.process_clock_task.run,
}


def choose_jobs(chance: random.Random) -> list[Job]:
    """Some environments of some monitors, in two shards or three."""
    monitors = chance.sample(MONITORS, chance.choice([1, 1, 1, 2]))
    places = [(monitor, "production") for monitor in monitors]
    places += [(monitor, "staging") for monitor in monitors if chance.random() < 0.3]
    return [Job(monitor[0], name, *monitor[1:]) for monitor, name in places]


def choose_faults(chance: random.Random) -> Faults:
    """How bad it is: some worlds are quiet but for one kind of fault, some have all of them."""

    def often(most: float) -> float:
        return chance.choice([0, 0, most / 4, most])

    return Faults(
        kill=often(0.04),
        lost_connection=often(0.04),
        unnoticed_death=often(0.8),
        lost_message=often(0.4),
        doubled_message=often(0.8),
        late_message=often(0.4),
        lost_beat=often(0.5),
        second_beat=often(0.8),
        outage=often(0.9),
        skew=often(0.8),
        deafness=often(0.6),
    )
