"""A small installation on one stage: jobs, two ingest nodes, beats, a broker, workers, and whatever goes wrong.

One seed decides everything: which jobs there are and what they do, who edits what, who goes on next, what is lost,
doubled, late or killed, and how wrong the clocks of beat and workers are. Code of the product runs unchanged; the edges
are replaced: its clock (virtual time), Celery's broker (a list), the mail server (another list), a node's spool file
(one more list), and the event loop of the micro-batcher, which decides when its node does what.

Two phases: with faults for some minutes; then the faults stop, everything recovers, and the clock ticks to the end.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from clocktasks import tasks as clock_tasks
from drills.oracle.rules import MINUTE
from drills.simulation.clients import Clients
from drills.simulation.edges import DELIVER, TASKS, BrokerMessage, edges
from drills.simulation.faults import AROUND_COMMIT, SKEW_MAX, Faults, choose_faults
from drills.simulation.history import BatchStored, Committed, TickApplied
from drills.simulation.interleaving import Actor, Stage, State, is_of_connection
from drills.simulation.neighbour import Neighbour, has_neighbour
from drills.simulation.node import Copy, Process
from drills.simulation.people import Edited, Person
from drills.simulation.rules import SECOND, START, Job, choose_configs, choose_jobs, choose_limits, choose_windows
from incidents.notifications import claims
from incidents.notifications.addressees import recipients
from incidents.notifications.addressing import address
from incidents.notifications.alerts import write_alerts
from incidents.notifications.attempts import LEASE
from incidents.notifications.storms import SUMMARY_AFTER

NODES = 2
SHARDS = 3
QUIET_MINUTES = 2
"""No job begins a run any more, while the clock finds out about those that did, and everything still fails."""
WORKERS = 3
STEPS_MAX = 3_000
"""A world that is not idle after so many steps goes round in circles."""


class StuckError(Exception):
    """The world does not come to rest."""


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
        self.is_recovering = False
        self.jobs = choose_jobs(chance)
        self.windows = choose_windows(seed, {job.monitor_id for job in self.jobs}, self.minutes)
        self.limits = choose_limits(seed, {job.monitor_id for job in self.jobs})
        self.configs = {job.monitor_id: choose_configs(chance, self.faults.edits / 3) for job in self.jobs}
        self.history: list[Committed] = []
        self.acknowledged: list[Copy] = []
        self.mails: list[uuid.UUID] = []
        self.trace: list[str] = []
        self.broker: list[BrokerMessage] = []
        self.actors: list[Actor] = []
        self.workers: dict[Actor, BrokerMessage] = {}
        self.skew = timedelta(0)
        self._events: list[Event] = []
        self._numbers = count()
        self.tries: dict[Actor | None, tuple[int, set[tuple[uuid.UUID | None, str, datetime]]]] = {}
        self.current: Actor | None = None
        self.counts = dict.fromkeys(("kills", "lost_connections", "steps", "blocked", "outages", "edits", "foreign"), 0)
        stage.committed = self._committed
        self.nodes = [Process(self, number) for number in range(NODES)]
        self.clients = Clients(self)
        self.people = [Person(self, monitor_id) for monitor_id in sorted({job.monitor_id for job in self.jobs})]
        self.neighbour = Neighbour(self) if has_neighbour(seed) else None
        self._plan()

    @property
    def minute(self) -> datetime:
        """The minute that it is."""
        return self.now.replace(second=0, microsecond=0)

    # --- the plan

    def _plan(self) -> None:
        for job in self.jobs:
            self.clients.plan(job)
        for person in self.people:
            person.plan()
        if self.neighbour is not None:
            self.neighbour.plan()
        for number in range(1, self.minutes + QUIET_MINUTES + 1):
            self.at(START + number * MINUTE + SECOND, self._beat)
            if self.chance.random() < 0.3:
                message = BrokerMessage(DELIVER, (), {}, START)
                self.at(START + number * MINUTE + 5 * SECOND, partial(self.publish, message))
        for node in self.nodes:
            if self.chance.random() < self.faults.outage:
                self.at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._outage_of(node))
            if self.chance.random() < self.faults.outage:
                self.at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._death_of(node))
        if self.chance.random() < self.faults.deafness:
            self.at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._all_die)
        if self.chance.random() < self.faults.skew:
            self.at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._skew)
            self.at(START + self.chance.randrange(self.minutes * 60) * SECOND, self._skew)

    def _beat(self) -> None:
        if not self.is_recovering and self.chance.random() < self.faults.lost_beat:
            return
        beats = 2 if self.chance.random() < self.faults.second_beat else 1
        for _ in range(beats):
            self.publish(BrokerMessage(clock_tasks.tick.name, (), {}, self.now))

    def _outage_of(self, node: Process) -> Callable[[], None]:
        def happen() -> None:
            node.away_until = self.now + self.chance.choice([5, 40, 100]) * SECOND
            self.counts["outages"] += 1
            self.note(f"{node.name} cannot reach PostgreSQL until {node.away_until:%H:%M:%S}")
            if node.actor is not None and node.actor.state is State.READY:
                self._let(node.actor, node.actor.lose_connection)

        return happen

    def _death_of(self, node: Process) -> Callable[[], None]:
        return lambda: self.kill_node(node)

    def _all_die(self) -> None:
        seconds = self.chance.choice([5, 30, 70, 150])
        for node in self.nodes:
            self.kill_node(node, seconds)

    def shard_of(self, job: Job) -> int:
        """The shard in which a job is judged."""
        return job.monitor_id % SHARDS

    def was_up(self, at: datetime) -> bool:
        """Whether any node listened at that time."""
        going_on = [(node.since, self.now) for node in self.nodes if node.is_up]
        return any(since <= at <= until for since, until in (*self.ups, *going_on))

    def kill_node(self, node: Process, seconds: int | None = None) -> None:
        """Kill a process of the web; the next one starts some time later."""
        if not node.is_up:
            return
        self.counts["kills"] += 1
        self.note(f"{node.name} is killed" + (f" at {node.actor.at}" if node.actor else ""))
        if node.actor is not None:
            self._kill(node.actor)
        node.die()

        def restart() -> None:
            node.start()
            self.note(f"{node.name} starts")

        self.at(self.now + (seconds or self.chance.choice([1, 15, 70])) * SECOND, restart)

    def _skew(self) -> None:
        most = SKEW_MAX // SECOND
        self.skew = self.chance.choice([-most, -30, 0, 30, most]) * SECOND
        self.note(f"the clock of beat and workers is {self.skew.total_seconds():+g} s wrong")

    def at(self, at: datetime, happen: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heappush(self._events, Event(at, next(self._numbers), happen))

    # --- the broker and the workers

    def publish(self, message: BrokerMessage) -> None:
        """Take a message; it may get lost, be delivered twice, or come late."""
        copies = 1
        if not self.is_recovering:
            chance = self.chance.random()
            if chance < self.faults.lost_message:
                copies = 0
            elif chance < self.faults.lost_message + self.faults.doubled_message:
                copies = 2
        for _ in range(copies):
            at = message.not_before
            if not self.is_recovering and self.chance.random() < self.faults.late_message:
                at += self.chance.choice([3, 30, 90]) * SECOND
            self.broker.append(BrokerMessage(message.name, message.arguments, message.keywords, at))

    def _start_worker(self, message: BrokerMessage) -> None:
        self.broker.remove(message)
        work = self.deliver if message.name == DELIVER else TASKS[message.name]
        actor = self.start(message.name.rpartition(".")[2], lambda: work(*message.arguments, **message.keywords))
        self.workers[actor] = message
        self._go_on(actor)

    def deliver(self) -> None:
        """A worker empties the outbox of notifications."""
        address(recipients(), now=self.worker_now())
        while claimed := claims.claim_mails(limit=1, now=self.worker_now()):
            write_alerts(claimed)
            self.mails.append(claimed[0].idempotency_key)
            self.pause("the mail is sent")
            claims.record_sent(claimed, now=self.worker_now())

    def worker_now(self) -> datetime:
        """What the clock of the hosts of beat and workers shows."""
        return self.now + self.skew

    # --- the scheduler

    def run(self) -> None:
        """Let everything happen, to the end."""
        with edges(self):
            try:
                self._run_until_idle(lambda: self.now >= self.until)
                self._recover()
            finally:
                for actor in self.actors:
                    actor.kill(is_noticed=True)
                self.stage.notice()

    def _recover(self) -> None:
        """No more faults: everything starts that is down, every client gets its answer, and the clock ticks on."""
        self.is_recovering = True
        self.note("the faults stop")
        self.skew = timedelta(0)
        self.stage.notice()
        for node in self.nodes:
            node.away_until = self.now
        self._run_until_idle(lambda: not self._events)
        # The last ticks: every deadline that is left passes.
        self.now = self.minute + self._longest_runtime() * MINUTE + 2 * SECOND
        self._run_until_idle(lambda: True)
        self.publish(BrokerMessage(clock_tasks.tick.name, (), {}, self.now))
        self._run_until_idle(lambda: True)
        # What a killed worker had claimed is free again when its claim is over, by whatever clock it was made; and the
        # summary of a storm waits for more recoveries.
        self.now += max(LEASE + SKEW_MAX, SUMMARY_AFTER)
        self.publish(BrokerMessage(DELIVER, (), {}, self.now))
        self._run_until_idle(lambda: True)

    def _longest_runtime(self) -> int:
        runtimes = [job.rules.runtime for job in self.jobs]
        for entry in self.history:
            match entry:
                case Edited():
                    changed = [entry.changes]
                case BatchStored():
                    changed = [copy.word.config for copy in entry.copies if copy.word.config is not None]
                case _:
                    continue
            runtimes += [value for changes in changed for name, value in changes if name == "runtime"]
        return max(runtimes)

    def _run_until_idle(self, is_over: Callable[[], bool]) -> None:
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
            if over and not self.is_recovering:
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
                    # On a busy machine PostgreSQL may look for a deadlock late, and refuse whoever waited first.
                    self.stage.has_freed_locks()
                    self.stage.see_who_is_free(blocked)
                    if any(actor.state is State.READY for actor in blocked):
                        continue
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
                    what.actor = self.start(what.name, what.next_work())
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

    def plan(self, second: int, happen: Callable[[], None]) -> None:
        """Have something happen so many seconds after the beginning."""
        self.at(START + second * SECOND, happen)

    def plan_in(self, seconds: int, happen: Callable[[], None]) -> None:
        """Have something happen in so many seconds."""
        self.at(self.now + seconds * SECOND, happen)

    def start(self, name: str, work: Callable[[], object]) -> Actor:
        """Have a piece of work begin."""
        actor = Actor(self.stage, name, work)
        self.actors.append(actor)
        return actor

    def _go_on(self, actor: Actor) -> None:
        self.counts["steps"] += 1
        node = next((node for node in self.nodes if node.actor is actor), None)
        fate = 1.0 if self.is_recovering or actor.at == "start" else self.chance.random()
        if actor.at in ("COMMIT", "committed"):
            fate /= AROUND_COMMIT
        if fate < self.faults.kill:
            if node is not None:
                self.kill_node(node)
            else:
                self.note(f"{actor.name} is killed at {actor.at}")
                self.counts["kills"] += 1
                self._kill(actor)
        elif fate < self.faults.kill + self.faults.lost_connection:
            self.note(f"{actor.name} loses its connection at {actor.at}")
            self.counts["lost_connections"] += 1
            self._let(actor, actor.lose_connection)
        else:
            self.note(f"{actor.name}: {actor.at}")
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
            self.note(f"{actor.name} waits for a lock")
        if actor.state is State.DONE:
            self._end(actor)

    def _end(self, actor: Actor) -> None:
        self.actors.remove(actor)
        for person in self.people:
            if person.actor is actor:
                person.is_told(actor)
        for node in self.nodes:
            if node.actor is actor:
                node.actor = None
        message = self.workers.pop(actor, None)
        if actor.is_killed:
            actor.error = None  # Whatever it met on its way out, nobody heard of it.
        if actor.error is not None and not (actor.has_lost_connection and is_of_connection(actor.error)):
            raise actor.error
        # With late acknowledgement, what a dead worker had in hand is delivered again, unless the broker lost it.
        if message is not None and actor.is_killed and self.chance.random() < 0.7:
            self.publish(BrokerMessage(message.name, message.arguments, message.keywords, self.now + 5 * SECOND))

    # --- what is recorded

    def record(self, what: Committed) -> None:
        """Have this in the history if the transaction of the current actor commits."""
        assert self.current is not None, "somebody does it"
        self.current.pending = what

    def record_batch(self, copies: list[Copy]) -> None:
        """Have a batch in the history if it commits, with what its last try to apply it refused."""
        begun, refused = self.tries[self.current]
        names = [(copy.word.run, copy.word.status, copy.at) for copy in copies]
        numbers = frozenset(number for number, name in enumerate(names) if name in refused)
        self.record(BatchStored(tuple(copies), begun, numbers))

    def pause(self, where: str) -> None:
        """A place between two statements where the actor can be killed."""
        assert self.current is not None, "somebody does it"
        self.current.hand_over(where)

    def _committed(self, actor: Actor) -> None:
        if isinstance(actor.pending, (BatchStored, TickApplied, Edited)):
            self.counts["edits"] += isinstance(actor.pending, Edited)
            self.history.append(actor.pending)
            self.note(f"{actor.name} has committed {type(actor.pending).__name__}")

    def note(self, what: str) -> None:
        """Put a sentence into the story."""
        self.trace.append(f"{self.now:%H:%M:%S} {' '.join(what[:400].split())[:150]}")
