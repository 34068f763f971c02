"""A fault drill of delivery: is everybody told once, in order, while workers, engines and receivers break?

Starts engines of its own (PostgreSQL as durable as in production), two delivery workers and a beat, and receivers on
loopback: an HTTP server that is signed webhooks, pagers and chats, and a mail server. A thousand incidents open and
resolve, one by one and by ticks, some held behind another one that their jobs depend on. Meanwhile a seed decides what
breaks: workers are killed with -9 and frozen, PostgreSQL restarts, Valkey is flushed and stopped, and receivers refuse,
hang, drip, answer 429 with Retry-After, answer twice, answer after the deadline, or apply a message and drop the
connection. Then all are well, and everything has to come to rest. Prints one JSON line; the exit status is 1 if
something is not so.

    incidents, duties            what happened, and who had to be told of it
    lost, recorded_twice         not told, and ended twice by the database's own log; must be 0
    out_of_order                 the end before the beginning, or the beginning after the end; must be 0
    unequal_repeats              repetitions under another key, or with other bytes (dates and signatures apart); 0
    held_told, held_over         held behind another incident: told when the hold ended, or over by then and not told
    held_and_lost                nobody was told though somebody had to be; must be 0
    left_open                    alerts that pagers have open though the incident is over; must be 0
    repeats                      messages that a receiver has applied more than once
    p99_alone_ms, p99_beside_ms  of a healthy channel, alone and beside broken ones: at most twice as long
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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from drills.clock import figure, wait_until
from drills.delivery.faults import Manner
from drills.ingest import percentile
from drills.installation import running_world
from drills.notify_receivers import Place, Receivers, listening
from drills.world import World
from project.local import children

if TYPE_CHECKING:
    from drills.notify_incidents import Group, Jobs

SPEED = 60.0
"""Of the installation's clock: a wait of a minute before the next attempt takes a second. Deadlines of sockets, and how
long a claim lasts, are real: a receiver does not answer faster."""
LEAST_MS = 250.0
"""Below this a percentile is not compared: one task more on a busy machine takes as long."""
KINDS = ("webhook", "webhook", "webhook", "pagerduty", "opsgenie", "slack", "discord", "email", "webhook")
"""Of the channels, numbered from 1: the first is healthy throughout, the second always hangs, the last is bad, too."""
HEALTHY, HANGING = 1, 2
FINDINGS = {
    "lost": "lost",
    "recorded twice": "recorded_twice",
    "out of order": "out_of_order",
    "unequal": "unequal_repeats",
    "left open": "left_open",
    "held and lost": "held_and_lost",
    "unknown": "unknown",
}
console = Console(stderr=True)


@dataclass(frozen=True)
class Drill:
    """How long everything breaks (seconds), how many incidents there are, and what the seed is."""

    duration: float = 120.0
    seed: int = 1
    incidents: int = 1_000


@dataclass(frozen=True)
class DrillResult:
    """What came out: the figures, and sentences about what is wrong."""

    figures: dict[str, Any]
    findings: Sequence[str]


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of faults")
    parser.add_argument("--incidents", type=int, default=1_000, help="how many incidents open and resolve")
    parser.add_argument("--seed", type=int, help="what breaks when; a random one is printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    drill = Drill(options.duration, seed, options.incidents)
    again = f"make drill-notify SEED={seed} DURATION={drill.duration:g} INCIDENTS={drill.incidents}"
    console.print(f"[bold]seed {seed}[/bold]: {again}")
    with tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name, contextlib.redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        outcome = run(drill, Path(name))
    for finding in outcome.findings[:50]:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(outcome.figures))
    return 1 if outcome.findings else 0


def run(drill: Drill, directory: Path) -> DrillResult:
    """Run a drill in an empty directory."""
    chance = random.Random(drill.seed)  # noqa: S311 - repeatable, and no secret
    receivers = Receivers({"email": Place("email", badness=0.1, slow_left=1)}, chance)
    with listening(receivers), running_world(
        directory,
        seed=drill.seed,
        speed=SPEED,
        ALERT_EMAIL_TO="oncall@drill.test",
        EMAIL_URL=f"smtp://127.0.0.1:{receivers.mail_port}",
        NOTIFY_ALLOWED_NETWORKS="127.0.0.0/8",
    ) as world:  # fmt: skip
        os.environ |= world.variables
        import django

        django.setup()
        # Models can be imported only now.
        from django.db import connection

        from drills.delivery.rows import WATCH_SQL, run_sql
        from drills.notify_incidents import Jobs, make_channels, make_dependencies, make_jobs, make_routes, recipient

        for number, kind in enumerate(KINDS, 1):
            is_bad = kind != "email" and number not in (HEALTHY, HANGING)
            receivers.places[recipient(number)] = Place(kind, badness=0.25 if is_bad else 0, slow_left=2)
        receivers.places[recipient(HANGING)].only = Manner.HANGS
        groups = choose_groups(drill, chance)
        run_sql(WATCH_SQL)
        make_jobs(groups)
        make_channels(receivers, KINDS)
        make_routes(groups)
        make_dependencies(groups)
        arguments = children.program_arguments()
        workers = [
            world.start_program(name, [*arguments["delivery"][:-1], f"{name}@%h"])
            for name in ("delivery-1", "delivery-2")
        ]
        world.start_program("beat", arguments["beat"])
        jobs = Jobs(chance)
        with world.progress("drill", drill.duration, console, jobs.figures):
            wait_until(world, lambda: figure(world.postgres.engine.url, "SELECT count(*) FROM incidents_message") == 0)
            measure(world, jobs, receivers, groups[0])  # The first messages of a process import what they need.
            alone = measure(world, jobs, receivers, groups[1])
            receivers.are_well = False
            beside = measure(world, jobs, receivers, groups[2])
            break_everything(drill, world, workers, jobs, groups[3:])
            receivers.are_well = True
            world.told("all receivers are well")
            problem = come_to_rest(world)
        outcome = conclude(drill, receivers, groups, (alone, beside), problem)
        connection.close()
        return outcome


def choose_groups(drill: Drill, chance: random.Random) -> "list[Group]":
    """Return the groups of jobs: three that are measured while nothing breaks, and the others."""
    from drills.notify_incidents import Group, recipient

    measured = max(20, drill.incidents // 10)
    jobs = iter(range(1, drill.incidents + 1))

    groups = [
        Group("first", tuple(islice(jobs, 5)), (recipient(HEALTHY),)),
        Group("alone", tuple(islice(jobs, measured)), (recipient(HEALTHY),)),
        Group("beside", tuple(islice(jobs, measured)), (recipient(HEALTHY), recipient(HANGING))),
    ]
    bad = [recipient(number) for number in range(1, len(KINDS) + 1) if number != HANGING]
    rest = list(jobs)
    parts = 6
    for part in range(parts):
        names = tuple(sorted(chance.sample(bad, 2)))
        groups.append(Group(f"group-{part}", tuple(rest[part::parts]), names, has_upstream=part % 2 == 1))
    return groups


def measure(world: World, jobs: "Jobs", receivers: Receivers, group: "Group") -> list[float]:
    """Let a group fail and recover, one job after the other; returns the latencies at the healthy channel."""
    from drills.notify_incidents import recipient

    name = recipient(HEALTHY)
    in_background(world, lambda: jobs.go_through(group.jobs, len(group.jobs) / 10, by_ticks=0, lasts=(2.0, 3.0)))
    wanted = {(name, f"job-{job}", "resolved") for job in group.jobs}
    wait_until(world, lambda: wanted <= receivers.heard.keys())
    return jobs.latencies(receivers, group.jobs, name)


def break_everything(
    drill: Drill, world: World, workers: list[children.Child], jobs: "Jobs", groups: "Sequence[Group]"
) -> None:
    """Let jobs fail and recover while everything breaks, one thing after the other."""
    own = [job for group in groups for job in group.jobs]
    order = plan(drill)
    faults = faults_of(world, workers)

    def break_it() -> None:
        started = time.monotonic()
        for number, name in enumerate(order):
            left = drill.duration - (time.monotonic() - started)
            world.live(max(0.1, world.random.uniform(0.3, 0.9) * left / (len(order) - number)))
            faults[name]()
        world.live(max(0.1, drill.duration - (time.monotonic() - started)))

    # Some last until long after what they are held behind.
    lasts = (0, 0.05, 0.3, 1, 20, drill.duration * 0.6)
    upstreams = sorted({upstream for group in groups for upstream in group.upstreams().values()})
    thread = threading.Thread(
        target=lambda: jobs.go_through(own, drill.duration, lasts=lasts, upstreams=upstreams),
        name="jobs",
        daemon=True,
    )
    thread.start()
    break_it()
    while thread.is_alive():
        world.live(0.2)


def plan(drill: Drill) -> list[str]:
    """Return what breaks, in the order in which it does, as the seed has it: each kind before any comes again."""
    chance = random.Random(drill.seed)  # noqa: S311 - repeatable, and no secret
    kinds = ["kill", "kill both", "freeze", "PostgreSQL", "flush", "Valkey"]
    wanted = max(len(kinds), round(drill.duration / 8))
    order: list[str] = []
    while len(order) < wanted:
        order += chance.sample(kinds, k=min(len(kinds), wanted - len(order)))
    return order


def faults_of(world: World, workers: list[children.Child]) -> dict[str, Callable[[], None]]:
    """Return all faults by kind."""
    from drills.broker import Broker

    chance = world.random
    broker = Broker(world.valkey.engine.url, chance)

    def freeze() -> None:
        one, seconds = chance.choice(workers), chance.uniform(1, 5)
        world.told(f"{one.name} is frozen for {seconds:.1f} s")
        with world.frozen(one):
            world.live(seconds)

    def flush() -> None:
        world.told("Valkey is flushed")
        broker.flush()

    return {
        "kill": lambda: world.kill(chance.choice(workers)),
        "kill both": lambda: world.kill(*workers),
        "freeze": freeze,
        "PostgreSQL": world.restart_postgres,
        "flush": flush,
        "Valkey": lambda: world.stop_valkey(chance.uniform(0.5, 3)),
    }


# --- the end ---


def come_to_rest(world: World) -> str | None:
    """Wait until everybody is told; returns what is not in the end, or None."""
    waiting = """
        SELECT (SELECT count(*) FROM incidents_notification WHERE addressed_at IS NULL AND nobody_since IS NULL)
             + (SELECT count(*) FROM incidents_message WHERE status = 'waiting')"""
    if wait_until(world, lambda: figure(world.postgres.engine.url, waiting) == 0):
        return None
    return f"{figure(world.postgres.engine.url, waiting)} messages and changes wait"


def in_background(world: World, work: Callable[[], None]) -> None:
    """Do this in a thread, while the world lives on."""
    thread = threading.Thread(target=work, name="jobs", daemon=True)
    thread.start()
    while thread.is_alive():
        world.live(0.1)


def conclude(
    drill: Drill,
    receivers: Receivers,
    groups: "Sequence[Group]",
    latencies: tuple[list[float], list[float]],
    problem: str | None,
) -> DrillResult:
    """Put everything together."""
    from django.db import connection

    from drills.delivery.audit import judge, judge_held
    from drills.notify_keys import named
    from incidents.models import Duty, Incident, Message

    connection.close()  # It is from before PostgreSQL restarted.
    received = named(receivers.received)
    kinds = {name: place.kind for name, place in receivers.places.items()}
    held = judge_held({job: upstream for group in groups for job, upstream in group.upstreams().items()})
    findings = [*judge(received, kinds), *held.lost]
    count = Counter(FINDINGS.get(finding.partition(":")[0], "unequal_repeats") for finding in findings)
    if problem is not None:
        findings.append(f"not idle: {problem}")
    expected = sum(len(group.jobs) for group in groups)
    opened = Incident.objects.count()
    if opened != expected or Incident.objects.filter(resolved_at__isnull=True).exists():
        findings.append(f"there are {opened} incidents, not {expected}, or some are open")
    alone, beside = (percentile(one, 99) for one in latencies)
    if alone is None or beside is None or beside > 2 * max(alone, LEAST_MS):
        findings.append(f"a healthy channel's p99 is {alone} ms alone and {beside} ms beside a broken one")
    applied = Counter((one.key, one.part) for one in received if one.is_applied)
    statuses = Counter(Message.objects.values_list("status", flat=True))
    figures = {
        "drill": "notify",
        "seed": drill.seed,
        "seconds": drill.duration,
        "incidents": opened,
        "duties": Duty.objects.count(),
        "messages": sum(statuses.values()),
        **{f"messages_{status}": number for status, number in sorted(statuses.items())},
        "requests": len(received),
        "bad_answers": receivers.manners.total(),
        "held_told": held.told,
        "held_over": held.over,
        "repeats": sum(number - 1 for number in applied.values()),
        **{name: count[name] for name in FINDINGS.values()},
        "p50_alone_ms": percentile(latencies[0], 50),
        "p99_alone_ms": alone,
        "p50_beside_ms": percentile(latencies[1], 50),
        "p99_beside_ms": beside,
        "measured": [len(one) for one in latencies],
    }
    return DrillResult(figures, findings)


if __name__ == "__main__":
    sys.exit(main())
