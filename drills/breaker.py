"""What breaks in a drill of the clock, one thing after the other."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from drills.broker import Broker
from drills.stepped import write_step
from drills.world import World
from project.local import children

STEP_SECONDS = 90.0
"""By how much a clock is wrong, in seconds of the installation's clock."""
WORKERS = 2
BEATS = 2


@dataclass(frozen=True)
class Drill:
    """How long (seconds), with how many jobs, how fast time goes, and what the seed is."""

    duration: float = 600.0
    seed: int = 1
    jobs: int = 60
    speed: float = 10.0


@dataclass
class Breaker:
    """Breaks one thing after the other. Durations are seconds of the installation's clock, as short as `speed` asks."""

    drill: Drill
    world: World
    broker: Broker
    workers: list[children.Child]
    beats: list[children.Child]
    clocks: dict[str, Path]
    """By program: the file that says by how many seconds its clock is wrong."""
    count: Counter[str] = field(default_factory=Counter)
    wrong_times: list[tuple[float, float]] = field(default_factory=list)
    """When the clock of the web was wrong (monotonic)."""

    def faults(self) -> dict[str, Callable[[], None]]:
        """Return all faults by kind."""
        world, chance = self.world, self.world.random
        return {
            "worker killed": lambda: world.kill(chance.choice(self.workers)),
            "all workers killed": lambda: world.kill(*self.workers),
            "beat killed": lambda: world.kill(chance.choice(self.beats)),
            "worker frozen": lambda: self._freeze(chance.choice(self.workers)),
            "workers and beats killed": lambda: world.kill(*self.workers, *self.beats),
            "web killed": world.kill_web,
            "web frozen": lambda: world.freeze_web(chance.choice([self._some_time(20, 100), 12.0])),
            "web away": lambda: world.stop_web(self._some_time(30, 200), number=signal.SIGKILL),
            "web stopped": lambda: world.stop_web(self._some_time(30, 200)),
            "deploy": world.deploy,
            "PostgreSQL restarted": world.restart_postgres,
            "PostgreSQL stopped": lambda: world.stop_postgres(self._some_time(20, 150)),
            "PostgreSQL frozen": lambda: world.freeze_postgres(self._some_time(10, 60)),
            "PostgreSQL read-only": lambda: world.make_postgres_read_only(self._some_time(20, 60)),
            "Valkey flushed": self._flush,
            "Valkey stopped": lambda: world.stop_valkey(self._some_time(20, 150)),
            "broker full": self._refuse,
            "broker filled": self._fill,
            "messages shuffled": self._shuffle,
            "messages repeated": self._repeat,
            "nonsense sent": self._send_nonsense,
            "clock of a worker wrong": lambda: self._step("worker-1"),
            "clock of a beat wrong": lambda: self._step("beat-1"),
            "clock of the web wrong": self._step_web,
        }

    def go_through(self, kinds: Sequence[str]) -> None:
        """Let things break one after the other, with time in between, until the duration is over."""
        faults = self.faults()
        started = time.monotonic()
        for number, kind in enumerate(kinds):
            left = self.drill.duration - (time.monotonic() - started)
            if left <= 0:
                break
            self.world.live(self.world.random.uniform(0.3, 0.9) * left / (len(kinds) - number))
            faults[kind]()
            self.count[kind] += 1
        self.world.live(max(0.5, self.drill.duration - (time.monotonic() - started)))

    def _some_time(self, least: float, most: float) -> float:
        """Return real seconds for a time of the installation's clock."""
        return round(self.world.random.uniform(least, most) / self.drill.speed, 2)

    def _freeze(self, program: children.Child) -> None:
        seconds = self._some_time(30, 150)
        self.world.told(f"{program.name} is frozen for {seconds:g} s")
        with self.world.frozen(program):
            self.world.live(seconds)

    def _step(self, name: str) -> None:
        by = self.world.random.choice([STEP_SECONDS, -STEP_SECONDS]) / self.drill.speed
        seconds = self._some_time(60, 240)
        self.world.told(f"the clock of {name} is {by:+g} s wrong for {seconds:g} s")
        write_step(self.clocks[name], by)
        self.world.live(seconds)
        write_step(self.clocks[name], 0)

    def _step_web(self) -> None:
        by = self.world.random.choice([STEP_SECONDS, -STEP_SECONDS])
        self.world.told(f"the web comes back with its clock {by / self.drill.speed:+g} s wrong")
        since = time.monotonic()
        self.world.stop_web(0.1, WATCHCLOCK_TEST_CLOCK=stepped(self.world.variables["WATCHCLOCK_TEST_CLOCK"], by))
        self.world.live(self._some_time(60, 120))
        self.world.stop_web(0.1)
        self.wrong_times.append((since, time.monotonic()))

    def _flush(self) -> None:
        self.world.told("Valkey is flushed")
        self.broker.flush()

    def _refuse(self) -> None:
        seconds = self._some_time(30, 120)
        self.world.told(f"the broker takes no messages for {seconds:g} s")
        self.broker.refuse()
        self.world.live(seconds)
        self.broker.accept()

    def _fill(self) -> None:
        count = self.world.random.randint(1000, 3000)
        self.world.told(f"{count} messages come before the others")
        with self.world.frozen(*self.workers):
            self.broker.fill(count)

    def _shuffle(self) -> None:
        """Messages wait only while nobody takes them."""
        with self.world.frozen(*self.workers):
            self.world.live(self._some_time(60, 130))
            self.broker.send_nonsense(self._now(), 5)
            count = self.broker.shuffle()
        self.world.told(f"{count} messages come in another order, half of them twice")

    def _repeat(self) -> None:
        count = self.broker.repeat_old()
        self.world.told(f"{count} old messages come once more")

    def _send_nonsense(self) -> None:
        self.world.told("somebody sends ticks and clock tasks that make no sense")
        self.broker.send_nonsense(self._now(), 50)

    def _now(self) -> datetime:
        from lib.wallclock import utcnow

        return utcnow()


def make_breaker(drill: Drill, world: World, directory: Path) -> Breaker:
    """Start workers and beats, of which the first of each has a clock that can be put wrong."""
    arguments = children.program_arguments()
    clocks = {name: directory / f"{name}-clock" for name in ("worker-1", "beat-1")}
    for path in clocks.values():
        write_step(path, 0)
    workers, beats = [], []
    for number in range(1, WORKERS + 1):
        name = f"worker-{number}"
        begin = ["drills.stepped", str(clocks[name])] if name in clocks else []
        workers.append(world.start_program(name, [*begin, *arguments["worker"], "--hostname", f"{name}@%h"]))
    world.start_program("delivery", arguments["delivery"])
    for number in range(1, BEATS + 1):
        name = f"beat-{number}"
        begin = ["drills.stepped", str(clocks[name])] if name in clocks else []
        beats.append(world.start_program(name, [*begin, *arguments["beat"]]))
    broker = Broker(world.valkey.engine.url, random.Random(drill.seed))  # noqa: S311 - repeatable, and no secret
    return Breaker(drill, world, broker, workers, beats, clocks)


def stepped(setting: str, seconds: float) -> str:
    """WATCHCLOCK_TEST_CLOCK for a clock that is ahead of another one by some of its seconds."""
    origin, _, speed = setting.rpartition("@")
    moved = datetime.fromisoformat(origin) + timedelta(seconds=seconds / (1 - float(speed)))
    return f"{moved.isoformat()}@{speed}"
