"""A small installation that tells people of incidents: two delivery workers, receivers, edits, and whatever goes wrong.

One seed decides everything: which channels and routes there are, when jobs fail and recover, who goes on next, what is
lost, doubled, late or killed, and how each receiver takes each message. Code of the product runs unchanged, from the
change of an incident to the bytes at the receiver; the edges are replaced: clocks, threads and event loop (`process`),
the sockets (`receivers`), and Celery's broker (a list of wishes).

Two phases: with faults; then the faults stop, the receivers are well, and delivery is woken until nothing waits.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import getcurrent  # type: ignore[import-untyped]

from drills.delivery.agenda import Agenda, Edited
from drills.delivery.changes import choose_changes
from drills.delivery.config import Config, choose_config
from drills.delivery.edges import edges
from drills.delivery.faults import AROUND_COMMIT, Faults, Manner, choose_faults
from drills.delivery.ledger import Received
from drills.delivery.process import HAS_RESULTS, Process, Task, without_database
from drills.delivery.rows import SECOND, START
from drills.delivery.waiting import next_work_at
from drills.simulation.interleaving import Actor, Stage, State, is_of_connection
from incidents import tasks
from incidents.notifications import delivery
from incidents.notifications.attempts import LEASE

JOBS_MAX = 3
WORKERS = 2
SWEEP = 60 * SECOND
STEPS_MAX = 6_000
"""A world that is not idle after so many steps goes round in circles."""
ROUNDS_MAX = 150


class StuckError(Exception):
    """The world does not come to rest."""


@dataclass(order=True)
class Event:
    """Something that happens when its time has come."""

    at: datetime
    number: int
    happen: Callable[[], object] = field(compare=False)


@dataclass(frozen=True)
class Committed:
    """What was committed, when, and how many edits were committed before it."""

    what: object
    at: datetime
    edits: int


class World:
    """Everything that a seed decides, and what came of it (`history`, in the order of the commits)."""

    def __init__(self, seed: int, stage: Stage, *, faults: Faults | None = None) -> None:
        self.seed, self.stage = seed, stage
        self.hub = getcurrent()
        self.chance = chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        self.now = START
        self.faults = faults or choose_faults(chance)
        self.is_recovering = False
        self.jobs = chance.choice([1, 1, 2, 2, JOBS_MAX])
        self.configs: list[Config] = [choose_config(chance)]
        self.history: list[Committed] = []
        self.received: list[Received] = []
        self.trace: list[str] = []
        self.actors: list[Actor] = []
        self.processes = [Process(number + 1) for number in range(WORKERS)]
        self.process: Process | None = None
        self.task: Task | None = None
        self.current: Actor | None = None
        self.bad_mail = self.faults.bad_mail
        self.backlog = chance.choice([1, 2, JOBS_MAX, 100])
        """So many incidents that wait for a channel make a backlog."""
        self.counts = {"kills": 0, "lost_connections": 0, "steps": 0, "blocked": 0, "edits": 0, "sent": 0, "bad": 0}
        self._wishes: list[datetime] = []
        self._alarms: set[datetime] = set()
        self._waits: dict[Actor, Callable[[], bool]] = {}
        self._hung: dict[Actor, datetime] = {}
        self.agenda = Agenda(self)
        self._events: list[Event] = []
        self._numbers = count()
        self._edits_committed = 0
        stage.committed = self._committed
        self._plan()

    # --- the plan

    def _plan(self) -> None:
        chance = self.chance
        last = 0
        for second, change in choose_changes(chance, self.jobs, self.faults.mutes):
            self.at(START + second * SECOND, partial(self.agenda.change, change))
            last = max(last, second)
        if chance.random() < self.faults.edits:
            for _ in range(chance.choice([1, 2, 3])):
                self.at(START + chance.randrange(last + 10) * SECOND, self.agenda.edit)
        for number in range(1, min(last // 60, 4) + 2):
            self.at(START + number * SWEEP, self._sweep)
        self.until = START + (last + 20) * SECOND

    def _sweep(self) -> None:
        self.wish()

    def at(self, at: datetime, happen: Callable[[], object]) -> None:
        """Have something happen at a time."""
        heappush(self._events, Event(at, next(self._numbers), happen))

    def in_a_while(self) -> Callable[[], bool]:
        """Return the condition that some moments have passed: what is outside takes its time."""
        most = 1 if self.is_recovering else 4_000
        at = self.now + timedelta(milliseconds=self.chance.choice([1, 30, self.chance.randint(1, most)]))
        self.at(at, lambda: None)
        return lambda: self.now >= at

    def utcnow(self) -> datetime:
        """Return what time it is."""
        return self.now

    def monotonic(self) -> float:
        """Return the seconds since the beginning."""
        return (self.now - START).total_seconds()

    # --- the outside

    def wish(self) -> None:
        """Take a message that wakes delivery; it may get lost, be delivered twice, or come late."""
        copies = 1
        if not self.is_recovering:
            chance = self.chance.random()
            if chance < self.faults.lost_message:
                copies = 0
            elif chance < self.faults.lost_message + self.faults.doubled_message:
                copies = 2
        for _ in range(copies):
            late = 0 if self.is_recovering or self.chance.random() >= self.faults.late_message else 15
            self._wishes.append(self.now + late * SECOND)
            self.at(self._wishes[-1], lambda: None)

    def wish_at(self, at: datetime, *, now: datetime) -> None:
        """Take the wish to be woken at an instant. It is one message, however often it is wished; at the end none."""
        del now
        if not self.is_recovering and at not in self._alarms:
            self._alarms.add(at)
            self.at(at, self.wish)

    def manner_of(self, recipient: str) -> Manner:
        """Return how a receiver takes the next message."""
        del recipient
        if self.is_recovering or self.chance.random() >= self.faults.bad_receiver:
            return Manner.TAKES
        self.counts["bad"] += 1
        return self.chance.choice(self.faults.manners)

    def manner_of_mail(self) -> Manner:
        """Return how the mail server takes the next mail."""
        if self.is_recovering or self.chance.random() >= self.bad_mail:
            return Manner.TAKES
        self.counts["bad"] += 1
        return self.chance.choice(self.faults.manners)

    def receive(self, entry: Callable[..., Received]) -> None:
        """Note what a receiver got."""
        one = entry(number=len(self.received))
        self.received.append(one)
        self.note(f"{one.recipient[-12:]} {'applies' if one.is_applied else 'ignores'} {one.key[:8]} {one.action}")

    # --- the scheduler

    def run(self) -> None:
        """Let everything happen, to the end."""
        with edges(self):
            try:
                self._go_until(lambda: self.now >= self.until)
                self._recover()
            finally:
                for actor in self.actors:
                    actor.kill(is_noticed=True)
                for process in self.processes:
                    process.die(self.now)
                self.stage.notice()

    def _recover(self) -> None:
        """No more faults: all receivers are well, and delivery is woken when something is due."""
        self.is_recovering = True
        self.bad_mail = 0
        self.note("the faults stop")
        self.stage.notice()
        for process in self.processes:
            process.stalled_until = None
        self._hung.clear()
        self._go_until(lambda: True)
        for number in range(ROUNDS_MAX):
            at = next_work_at(self.now)
            if at is None:
                return
            # What is held is looked at every minute for hours: later and later here, which only delays.
            self.now = max(self.now, at) + max(0, number - 20) * 30 * SECOND
            self.wish()
            self._go_until(lambda: True)
        raise StuckError(f"something is due after {ROUNDS_MAX} rounds")

    def _go_until(self, is_over: Callable[[], bool]) -> None:
        """Make steps; once `is_over` and while settling, until nobody has anything left to do."""
        while True:
            if self.counts["steps"] > STEPS_MAX:
                raise StuckError(f"{self.counts['steps']} steps, and no end")
            if is_over() and not self.is_recovering:
                return
            blocked = [actor for actor in self.actors if actor.state is State.BLOCKED]
            self.stage.see_who_is_free(blocked)
            choices: list[tuple[float, Callable[[], object]]] = []
            for actor in self.actors:
                owner = self._owner(actor)
                is_hung = self.now < self._hung.get(actor, self.now)
                waits = self._waits.get(actor, lambda: True)
                if actor.state is State.READY and self._goes(owner) and not is_hung and waits():
                    choices.append((1, partial(self._go_on, actor, owner)))
            for process in self.processes:
                if self._goes(process):
                    choices += [(1, partial(self._go_on_with, task)) for task in process.tasks if task.is_ready]
                    if process.run is None and any(at <= self.now for at in self._wishes):
                        choices.append((1, partial(self._deliver, process)))
            if self._events:
                choices.append((0.04, self._pass_time))
            if not choices:
                if not blocked:
                    return
                if not self.stage.lost:
                    raise StuckError(f"{', '.join(actor.name for actor in blocked)} wait for each other")
                self.stage.notice()
                continue
            [(_, happen)] = self.chance.choices(choices, [weight for weight, _ in choices])
            happen()

    def _goes(self, process: Process | None) -> bool:
        return process is None or not any(
            at is not None and self.now < at for at in (process.back_at, process.stalled_until)
        )

    def _owner(self, actor: Actor) -> Process | None:
        return next((process for process in self.processes if process.run is actor), None)

    def _pass_time(self) -> None:
        event = heappop(self._events)
        self.now = max(self.now, event.at)
        event.happen()
        if self.stage.lost and self.chance.random() < 0.3:
            self.stage.notice()

    def start(self, name: str, work: Callable[[], object]) -> Actor:
        """Have a piece of work begin."""
        actor = Actor(self.stage, name, work)
        self.actors.append(actor)
        return actor

    def wait(self, condition: Callable[[], bool]) -> None:
        """Let the run of a worker wait until this holds."""
        actor = self.current
        assert actor is not None, "a run waits"
        self._waits[actor] = condition
        try:
            actor.hand_over("waits for results")
        finally:
            self._waits.pop(actor, None)

    def _deliver(self, process: Process) -> None:
        self._wishes.remove(min(self._wishes))

        def work() -> None:
            self.counts["sent"] += tasks.deliver.run()

        process.run = self.start(process.name, work)

    def _fate(self, where: str) -> str:
        """What happens to whoever would go on now, and has come to this place."""
        if self.is_recovering or where == "start":
            return "goes on"
        if where == HAS_RESULTS and self.chance.random() < self.faults.late_results:
            return "is late"
        fate = self.chance.random()
        if where in ("COMMIT", "committed"):
            fate /= AROUND_COMMIT
        for name, chance in (
            ("dies", self.faults.kill),
            ("loses its connection", self.faults.lost_connection),
            ("stalls", self.faults.stall),
            ("hangs", self.faults.hang),
        ):
            if fate < chance:
                return name
            fate -= chance
        return "goes on"

    def _go_on(self, actor: Actor, process: Process | None) -> None:
        self.counts["steps"] += 1
        has_hung = self._hung.pop(actor, None) is not None
        fate = "goes on" if has_hung else self._fate(actor.at)
        self.note(f"{actor.name} {fate}: {actor.at}")
        match fate:
            case "dies" if process is not None:
                self._kill(process)
            case "dies":
                self.counts["kills"] += 1
                self._let(actor, process, partial(actor.kill, is_noticed=self._is_noticed()))
            case "loses its connection":
                self.counts["lost_connections"] += 1
                self._let(actor, process, actor.lose_connection)
            case "stalls" if process is not None:
                self._stall(process)
            case "hangs" if process is not None and actor.at not in ("COMMIT", "waits for results"):
                # PostgreSQL does not answer, while its lines and lanes go on: perhaps longer than its claims last.
                self._hang(actor, self.chance.choice([10, 88, 92, 95, 100, 120]) * SECOND)
            case "is late":
                self._be_late(actor)
            case _:
                self._let(actor, process, actor.go_on)

    def _go_on_with(self, task: Task) -> None:
        self.counts["steps"] += 1
        match self._fate("outside"):
            case "dies":
                self._kill(task.process)
            case "stalls":
                self._stall(task.process)
            case _:
                with without_database(), self._as(task.process, None):
                    self.task = task
                    task.condition = lambda: True
                    task.go_on()
                    self.task = None
                if task.is_over:
                    with suppress(ValueError):
                        task.process.tasks.remove(task)

    def _be_late(self, actor: Actor) -> None:
        """It records its results when its claims have run out, and another worker has the messages."""
        self.at(self.now + LEASE, self.wish)
        self._hang(actor, LEASE + self.chance.choice([0.1, 0.5, 2]) * SECOND)
        self.until = max(self.until, self._hung[actor] + 20 * SECOND)

    def _hang(self, actor: Actor, time: timedelta) -> None:
        self._hung[actor] = self.now + time
        self.at(self._hung[actor], lambda: None)

    def _stall(self, process: Process) -> None:
        """It gets no time for a while, as on a busy host: less than its claims last."""
        process.stalled_until = self.now + self.chance.choice([1, 5, 20]) * SECOND
        self.at(process.stalled_until, lambda: None)

    def _kill(self, process: Process) -> None:
        self.counts["kills"] += 1
        self.note(f"{process.name} is killed")
        back_at = self.now + self.chance.choice([1, 10, 100]) * SECOND
        if process.run is not None:
            self._let(process.run, process, partial(process.run.kill, is_noticed=self._is_noticed()))
            # With late acknowledgement its message comes again, unless the broker lost it.
            if self.chance.random() < 0.5:
                self.wish()
        process.die(back_at)
        self.at(back_at, lambda: None)

    def _is_noticed(self) -> bool:
        return self.chance.random() >= self.faults.unnoticed_death

    def _let(self, actor: Actor, process: Process | None, what: Callable[[], Any]) -> None:
        """Let the actor do this, up to its next pause, and look after what became of it."""
        with self._as(process, actor):
            what()
        if actor.state is State.BLOCKED:
            self.counts["blocked"] += 1
        if actor.state is State.DONE:
            self._end(actor, process)

    @contextmanager
    def _as(self, process: Process | None, actor: Actor | None) -> Iterator[None]:
        """The turn of a process or an actor: module state of the product is that of the process."""
        before = self.process, self.current
        self.process, self.current = process, actor
        if process is not None:
            delivery._known_routing = process.known_routing
        yield
        self.process, self.current = before

    def _end(self, actor: Actor, process: Process | None) -> None:
        self.actors.remove(actor)
        if process is not None:
            process.run = None
        error = None if actor.is_killed else actor.error
        if error is not None and not (actor.has_lost_connection and is_of_connection(error)):
            raise error
        self.agenda.ended(actor, is_well=error is None and not actor.is_killed)

    # --- what is recorded

    def _committed(self, actor: Actor) -> None:
        """Something of an actor was committed. A change or an edit is done then, whether its actor lives or not."""
        if actor.pending is None:
            return
        self.agenda.committed(actor)
        if isinstance(actor.pending, Edited):
            self._edits_committed += 1
            self.counts["edits"] += 1
        self.history.append(Committed(actor.pending, self.now, self._edits_committed))
        self.note(f"committed: {actor.pending}")

    def note(self, what: str) -> None:
        """Put a sentence into the story."""
        self.trace.append(f"{self.monotonic():8.3f} {' '.join(what[:400].split())[:150]}")
