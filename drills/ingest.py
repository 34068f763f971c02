"""A fault drill: is anything lost, doubled or wrongly missed while PostgreSQL, Valkey and the web break down?

Starts engines of its own (PostgreSQL as durable as in production), the real web on a socket that outlives it, and a
clock. Clients of all protocols send check-ins at a steady rate, and some hundred jobs report every minute as promised,
while a seed decides what breaks next. Afterwards every acknowledged check-in has to be stored once, with its own
time, and no miss or timeout may contradict one. Prints one JSON line; the exit status is 1 if something is not so.

    acknowledged, stored    check-ins with a success answer, and those of them that are stored
    lost, duplicated        must be 0
    misdated, misplaced     stored with a time at which they were not on their way, or out of order; must be 0
    false_misses            misses and timeouts of jobs that had reported in time; must be 0
    refused                 answers that are no success, and connections that nobody took; must be 0
    unanswered              connections that broke in a kill: these clients know that they know nothing
    p99_ms, p99_spooling_ms of answers: to all, and to those who came while PostgreSQL took nothing
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from drills.installation import running_world
from drills.pace import fitting_speed
from drills.world import World

if TYPE_CHECKING:
    from drills.audit import Account
    from drills.load import Load

MARGIN = timedelta(minutes=1)
RUNTIME = timedelta(minutes=2)
IDLE_SECONDS_MAX = 240.0
PATIENCE_SECONDS = 1.0
"""Answers take this long at most when PostgreSQL begins to hang: the ingest's patience, and what comes on top."""

console = Console(stderr=True)

Fault = tuple[str, Callable[[World], None]]


@dataclass(frozen=True)
class Drill:
    """How long, how hard, and what the seed is. `outage` is the longest time without PostgreSQL. Seconds."""

    duration: float = 300.0
    rate: float = 300.0
    seed: int = 1
    kills: int = 10
    outage: float = 60.0
    speed: float = 5.0
    prompt_monitors: int = 300
    load_monitors: int = 200


@dataclass(frozen=True)
class DrillResult:
    """What came out: the figures, and sentences about what is wrong."""

    figures: dict[str, Any]
    findings: Sequence[str]

    @property
    def is_clean(self) -> bool:
        """Whether everything is as it must be."""
        return not self.findings


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=300.0, help="seconds of load and faults")
    parser.add_argument("--rate", type=float, default=300.0, help="check-ins a second")
    parser.add_argument("--seed", type=int, help="what breaks when; a random one is printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    is_short = options.duration < 120
    drill = Drill(
        duration=options.duration,
        rate=options.rate,
        seed=seed,
        kills=3 if is_short else 10,
        outage=options.duration / 5,
        speed=fitting_speed(10.0 if is_short else 5.0),
    )
    console.print(f"[bold]seed {seed}[/bold]: make drill-ingest SEED={seed} DURATION={options.duration:g}")
    with tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name, contextlib.redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        outcome = run(drill, Path(name))
    for finding in outcome.findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(outcome.figures))
    return 0 if outcome.is_clean else 1


def plan(drill: Drill) -> list[Fault]:
    """Return what breaks, in the order in which it does, as the seed has it: each kind at least once."""
    chance = random.Random(drill.seed)  # noqa: S311 - repeatable, and no secret
    some_seconds = drill.outage / 5
    with_outage = drill.kills // 3
    faults: list[Fault] = [
        ("outage", lambda world: world.stop_postgres(drill.outage, kills=with_outage)),
        ("read-only", lambda world: world.make_postgres_read_only(some_seconds)),
        ("restart", lambda world: world.restart_postgres()),
        ("hang", lambda world: world.freeze_postgres(min(some_seconds, 8))),
        ("valkey", lambda world: world.stop_valkey(some_seconds)),
        ("deploy", lambda world: world.deploy()),
        *[("kill", lambda world: world.kill_web())] * (drill.kills - with_outage),
    ]
    if drill.duration >= 120:
        faults += [
            ("restart", lambda world: world.restart_postgres()),
            ("hang", lambda world: world.freeze_postgres(3)),
            ("outage", lambda world: world.stop_postgres(some_seconds)),
        ]
    chance.shuffle(faults)
    return faults


def run(drill: Drill, directory: Path) -> DrillResult:
    """Run a drill in an empty directory."""
    with running_world(
        directory, seed=drill.seed, speed=drill.speed, CLOCK_GRACE_SECONDS=f"{drill.speed / 10:g}"
    ) as world:
        os.environ |= world.variables
        import django

        django.setup()
        # Models can be imported only now.
        from drills.audit import audit, uncaught
        from drills.load import running
        from lib.wallclock import utcnow

        load = make_load(drill, world)
        with (
            world.progress("drill", drill.duration, console, load.figures),
            ticking_clock() as ticks,
            running(load) as finish_load,
        ):
            started = time.monotonic()
            go_through(drill, world, started)
            finish_load()
            end = utcnow()
            problem = wait_until_idle(world, lambda: uncaught(world.postgres.engine.url, end))
            wait_for_tick(world, ticks, end)
        # A web that replaces a killed one may begin a node of its own, while the spool of the former one waits.
        account = audit(world.postgres.engine.url, load.sent, margin=MARGIN, runtime=RUNTIME, nodes=2)
        from django.db import connection

        connection.close()
        return conclude(drill, world, load, account, problem, ticks)


def go_through(drill: Drill, world: World, started: float) -> None:
    """Let things break one after the other, with time in between, until the duration is over."""
    faults = plan(drill)
    for number, (_, fault) in enumerate(faults):
        left = (
            drill.duration
            - (time.monotonic() - started)
            - drill.outage * any(name == "outage" for name, _ in faults[number:])
        )
        world.live(max(0.2, world.random.uniform(0.3, 0.7) * left / (len(faults) - number)))
        fault(world)
    world.live(max(1.0, drill.duration - (time.monotonic() - started)))


def make_load(drill: Drill, world: World) -> "Load":
    """Make monitors that are due every minute, and their clients."""
    from django.db import connection

    from checkins.messages import Source
    from checkins.processing.apply import receive
    from checkins.protocols.fields import parse_checkin
    from drills.load import Load, Watched
    from lib.wallclock import utcnow
    from monitors.models import IngestKey, Monitor, Project

    now = utcnow()
    project = Project.objects.create(name="Drill", slug="drill", created_at=now)
    key = IngestKey.objects.create(project=project, created_at=now).public_key
    config = {
        "schedule": {"type": "crontab", "value": "* * * * *"},
        "checkin_margin": MARGIN // timedelta(minutes=1),
        "max_runtime": RUNTIME // timedelta(minutes=1),
    }
    slugs = [f"job-{number}" for number in range(drill.prompt_monitors + drill.load_monitors)]
    payloads = ({"monitor_slug": slug, "status": "ok", "monitor_config": config} for slug in slugs)
    receive(
        [parse_checkin(one, project_id=project.id, received_at=now, source=Source.REST) for one in payloads], now=now
    )
    monitors = [Watched(*row) for row in Monitor.objects.order_by("id").values_list("id", "guid", "slug")]
    connection.close()
    return Load(
        port=world.port,
        project=project.id,
        key=key,
        prompt=monitors[: drill.prompt_monitors],
        load=monitors[drill.prompt_monitors :],
        rate=drill.rate,
        speed=drill.speed,
        random=random.Random(drill.seed),  # noqa: S311 - repeatable, and no secret
    )


# --- what goes on beside the faults ---


@dataclass
class Ticks:
    """How far the clock is, and what it could not do since the database was away."""

    newest: datetime | None = None
    failures: int = 0


@contextlib.contextmanager
def ticking_clock() -> Iterator[Ticks]:
    """Do what beat and a worker do, with their code, ten times a second: what may be judged is judged at once."""
    from django.db import DatabaseError, InterfaceError, connection

    from clocktasks import dispatch, ledger, shards
    from lib.wallclock import utcnow

    ticks = Ticks()
    over = threading.Event()

    def tick() -> None:
        window, _ = dispatch.poll_nodes(utcnow())
        waiting = dispatch.advance_ledger(window.newest, now=utcnow())
        while waiting:
            wake = shards.process_clock_task(waiting.pop()).wake
            if wake is not None:
                waiting.append(wake)
        ledger.finish_ticks(now=utcnow())
        ticks.newest = window.newest

    def serve() -> None:
        while not over.wait(0.1):
            try:
                tick()
            except (DatabaseError, InterfaceError):
                ticks.failures += 1
                with contextlib.suppress(DatabaseError, InterfaceError):
                    connection.close()
        connection.close()

    thread = threading.Thread(target=serve, name="clock")
    thread.start()
    try:
        yield ticks
    finally:
        over.set()
        thread.join()


def wait_until_idle(world: World, busy: Callable[[], str | None]) -> str | None:
    """Wait until everything is stored; returns what is not in the end."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while (problem := busy()) is not None and time.monotonic() < deadline:
        world.live(0.2)
    return problem


def wait_for_tick(world: World, ticks: Ticks, at: datetime) -> None:
    """Wait until the clock has judged all minutes before an instant."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while (ticks.newest is None or ticks.newest < at) and time.monotonic() < deadline:
        world.live(0.2)


# --- the end ---


def conclude(
    drill: Drill, world: World, load: "Load", account: "Account", problem: str | None, ticks: Ticks
) -> DrillResult:
    """Put everything together."""
    findings = [f"{figure}: {sentence}" for figure, sentences in account.findings.items() for sentence in sentences]
    findings += [f"refused: {one.kind} {one.what}" for one in load.refused[:10]]
    if problem is not None:
        findings.append(f"not idle: {problem}")
    if ticks.newest is None:
        findings.append("the clock never ticked")
    spooling = [
        latency
        for began, latency in load.latencies
        if any(since + PATIENCE_SECONDS <= began and began + latency <= until for since, until in world.away)
        and not any(since - PATIENCE_SECONDS <= began <= until + PATIENCE_SECONDS for since, until in world.kills)
    ]
    figures = {
        "drill": "ingest",
        "seed": drill.seed,
        "seconds": drill.duration,
        "rate": drill.rate,
        **{name: value for name, value in vars(account).items() if name != "findings"},
        "refused": len(load.refused),
        "unanswered": load.unanswered,
        "kills": len(world.kills),
        "away_s": round(sum(until - since for since, until in world.away), 1),
        "p50_ms": percentile([latency for _, latency in load.latencies], 50),
        "p99_ms": percentile([latency for _, latency in load.latencies], 99),
        "p99_spooling_ms": percentile(spooling, 99),
        "answers_spooling": len(spooling),
    }
    return DrillResult(figures, findings)


def percentile(seconds: Sequence[float], percent: int) -> float | None:
    """Return a percentile in milliseconds; None of nothing."""
    if not seconds:
        return None
    return round(1000 * sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)], 1)


if __name__ == "__main__":
    sys.exit(main())
