"""A rolling upgrade: is anything lost while an old version and this one work side by side?

Checks an old commit out beside this one and starts an installation of it. While clients of all protocols send, and jobs
with known plans check in, this version migrates and starts beside the old one. Each version does what only the other
one has sent, with the other's workers frozen. Then the old one goes, process by process; its web last, killed while
PostgreSQL is away, so that this version finds its spool. Prints one JSON line; the exit status is 1 if something is not
so.

    acknowledged, stored, ...   of the load, as in the drill of ingest
    jobs_expected, ...          of the jobs, as in the drill of the clock
    tasks_by_new, tasks_by_old  how many kinds of tasks one version did that only the other one had sent
    not_understood              those that it did not do, and what a program called an error meanwhile; must be 0
    spooled                     requests in the spool of the old web when it was killed, which this version has to store
    late_ticks, tick_max_s      minutes judged later than ten seconds after them, and the latest; not judged while the
                                drill freezes both beats, or has no PostgreSQL
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console

from drills.broker import Broker
from drills.clock import at, come_to_rest, figure, silences_of, wait_until
from drills.installation import python_of, running_world
from drills.oracle.rules import MINUTE
from drills.pace import fitting_speed
from drills.versions import HERE, Version, checked_out, child_of
from drills.world import World
from project.local import children

if TYPE_CHECKING:
    from drills.jobs import Plan
    from drills.load import Watched

LAST_OLD = "e2e8189"
"""After it migrations were put together: nothing older is upgraded to this version."""
LATE_SECONDS = 10.0
PROMPT_MONITORS, LOAD_MONITORS = 30, 50

console = Console(stderr=True)


@dataclass(frozen=True)
class Drill:
    """From which commit, how long in seconds, with how many check-ins a second and jobs, and how fast time goes."""

    old: str = LAST_OLD
    duration: float = 120.0
    rate: float = 50.0
    jobs: int = 30
    seed: int = 1
    speed: float = 10.0
    is_patient: bool = False


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default=LAST_OLD, help="the old version: a commit")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds, besides what starts and stops take")
    parser.add_argument("--seed", type=int, default=1, help="what the jobs do, and what is sent")
    parser.add_argument("--patient", action="store_true", help="judge no delay: for a machine that does other work")
    options = parser.parse_args()
    drill = Drill(
        options.old, options.duration, seed=options.seed, speed=fitting_speed(10.0), is_patient=options.patient
    )
    with (
        tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name,
        contextlib.redirect_stdout(sys.stderr),
        checked_out(drill.old, Path(name)) as tree,
    ):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        figures, findings = run(drill, tree, Path(name))
    for finding in findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(figures))
    return 1 if findings else 0


def run(drill: Drill, tree: Path, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """Run a drill of the version in `tree`; returns the figures, and sentences about what is wrong."""

    def make_web(listener: socket.socket, variables: dict[str, str], logs: Path) -> children.Child:
        arguments = ("project.web", "--fd", str(listener.fileno()))
        return child_of(tree, "old-web", arguments, variables, logs, listener.fileno())

    with running_world(
        directory,
        seed=drill.seed,
        speed=drill.speed,
        tree=tree,
        make_web=make_web,
        ALERT_EMAIL_TO="oncall@watchclock.test",
        EMAIL_URL="dummymail://",
        CLOCK_GRACE_SECONDS=f"{drill.speed / 10:g}",
    ) as world:
        os.environ |= world.variables
        import django

        django.setup()
        # Models can be imported only now.
        from drills import audit, clock_audit, clock_facts, jobs, load

        # Two of them: what both draw from one seed are the same ids.
        chance, others_chance = (random.Random(f"{drill.seed} {who}") for who in ("jobs", "load"))  # noqa: S311
        url = world.postgres.engine.url
        old, new = Version("old", tree, world), Version("new", HERE, world)
        old.start()
        wait_until(world, lambda: figure(url, "SELECT count(*) FROM clocktasks_tick") > 0)
        project, key = first_project(tree, world.variables)
        plans = jobs.make_plans(drill.jobs, chance)
        others = [jobs.Plan(f"other-{number}", ()) for number in range(PROMPT_MONITORS + LOAD_MONITORS)]
        watched = make_monitors(world, key, [*plans, *others])
        clients = jobs.Jobs(
            port=world.port, project=project, key=key, speed=drill.speed, random=chance,
            jobs=list(zip(plans, watched, strict=False)),
        )  # fmt: skip
        crowd = load.Load(
            port=world.port, project=project, key=key, speed=drill.speed, random=others_chance,
            prompt=watched[len(plans) : -LOAD_MONITORS], load=watched[-LOAD_MONITORS:], rate=drill.rate,
        )  # fmt: skip
        with (
            world.progress("upgrade", drill.duration, console, crowd.figures),
            load.running(clients) as finish_clients,
            load.running(crowd) as finish_crowd,
        ):
            rolled = upgrade(drill, world, old, new)
            finish_clients()
            finish_crowd()
            broker = Broker(world.valkey.engine.url, chance)
            problem = come_to_rest(world, broker, beats=[new.programs["beat"]], workers=new.workers())
        of_load = audit.audit(url, crowd.sent, margin=MINUTE, runtime=30 * MINUTE, nodes=2)
        of_jobs = clock_audit.audit_clock(
            clock_facts.read_facts(url),
            [(plan, clients.told.get(plan.slug, [])) for plan in plans],
            silences=silences_of(world, drill.speed, clients.sent),
            nodes=2,
        )
        late, tick_max = find_late_ticks(drill, url, rolled)
    findings = [
        f"{figure}: {sentence}"
        for account in (of_load, of_jobs)
        for figure, sentences in account.findings.items()
        for sentence in sentences
    ]
    findings += [f"not understood: {one}" for one in rolled.not_understood]
    findings += [f"refused: {one.kind} {one.what}" for one in (*crowd.refused, *clients.refused)[:10]]
    findings += [] if drill.is_patient else [f"late: {one}" for one in late]
    if problem is not None:
        findings.append(f"not idle: {problem}")
    if not rolled.spooled:
        findings.append("the old web had nothing in its spool: that it is taken over was not seen")
    return {
        "drill": "upgrade",
        "old": drill.old,
        "seed": drill.seed,
        "speed": drill.speed,
        **{name: value for name, value in vars(of_load).items() if name != "findings"},
        "refused": len(crowd.refused) + len(clients.refused),
        **{f"jobs_{name}": value for name, value in vars(of_jobs).items() if name != "findings"},
        "tasks_by_new": rolled.by_new,
        "tasks_by_old": rolled.by_old,
        "not_understood": len(rolled.not_understood),
        "spooled": rolled.spooled,
        "late_ticks": len(late),
        "tick_max_s": tick_max,
    }, findings


def first_project(tree: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Make the first project with the old version's own command; returns its number and its key."""
    made = subprocess.run(
        [python_of(tree), "manage.py", "bootstrap", "--json"],
        cwd=tree, env=variables, check=True, capture_output=True, text=True,
    )  # fmt: skip
    outcome = json.loads(made.stdout)
    return outcome["project_id"], outcome["public_key"]


def make_monitors(world: World, key: str, plans: "Sequence[Plan]") -> "list[Watched]":
    """Let the old web make a monitor for each plan, as a first check-in with a configuration does."""
    from drills.load import Watched

    first = [
        {
            "monitor": plan.slug,
            "status": "ok",
            "config": {
                "schedule": {"type": "crontab", "value": f"*/{plan.every} * * * *"},
                "checkin_margin": plan.margin,
                "max_runtime": plan.runtime,
                "failure_issue_threshold": plan.failure_threshold,
                "recovery_threshold": plan.recovery_threshold,
            },
        }
        for plan in plans
    ]
    request = urllib.request.Request(
        f"http://127.0.0.1:{world.port}/api/v1/checkins",
        json.dumps(first).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        assert json.load(answer)["accepted"] == len(plans), "each makes a monitor"
    # A busy web answers from its spool, and stores them a moment later.
    there = "SELECT count(*) FROM monitors_monitorenvironment"
    if not wait_until(world, lambda: figure(world.postgres.engine.url, there) == len(plans)):
        raise RuntimeError(f"the old web does not make its monitors; logs are in {world.logs}")
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        muted = [plan.slug for plan in plans if plan.is_muted]
        connection.execute(
            "UPDATE monitors_monitorenvironment SET is_muted = true"
            " WHERE monitor_id IN (SELECT id FROM monitors_monitor WHERE slug = ANY(%s))", [muted]
        )  # fmt: skip
        made = {row[2]: Watched(*row) for row in connection.execute("SELECT id, guid, slug FROM monitors_monitor")}
    return [made[plan.slug] for plan in plans]


@dataclass
class Rolled:
    """What was seen during an upgrade."""

    by_new: int = 0
    by_old: int = 0
    not_understood: list[str] = field(default_factory=list)
    spooled: int = 0
    apart: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When the drill itself kept the clock waiting."""


def upgrade(drill: Drill, world: World, old: Version, new: Version) -> Rolled:
    """Go from the old version to the new one, with a fifth of the time in between."""
    rolled = Rolled()
    some_time = drill.duration / 5
    world.live(some_time)
    world.told("this version migrates, and starts beside the old one")
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=HERE, env=world.variables, check=True
    )
    old_web, old_nodes = world.web, nodes(world)
    new_web = children.web_child(world.listener, world.variables, world.logs)
    new_web.launch()
    new.start()
    if not wait_until(world, lambda: bool(nodes(world) - old_nodes) and bool(new.done())):
        raise RuntimeError(f"this version does not start; logs are in {world.logs}")
    world.live(some_time)
    for giver, taker in ((old, new), (new, old)):
        done, missing = exchange(drill, world, rolled, giver, taker)
        rolled.by_new, rolled.by_old = (done, rolled.by_old) if taker is new else (rolled.by_new, done)
        rolled.not_understood += missing
    world.live(some_time)
    rolled.not_understood += [*old.errors(newer=new.tasks() - old.tasks()), *new.errors()]
    for part in sorted(old.programs, key=lambda part: part != "beat"):
        old.stop(part)
        world.live(some_time / 3)
    world.told("PostgreSQL is stopped, and the old web killed for good")
    since = time.monotonic()
    with world.without_postgres():
        world.live(some_time / 4)
        assert old_web.process is not None, "it runs"
        children.end_group(old_web.process.pid, signal.SIGKILL)
        old_web.process.wait()
        world.web = new_web
        rolled.spooled = sum(count_spooled(world, node) for node in old_nodes)
        world.live(some_time / 4)
    rolled.apart.append((at(since, drill.speed), at(time.monotonic(), drill.speed)))
    world.live(some_time)
    return rolled


def exchange(drill: Drill, world: World, rolled: Rolled, giver: Version, taker: Version) -> tuple[int, list[str]]:
    """Let one version do what only the other one sends; returns how many kinds of tasks it did, and which not."""
    world.told(f"the workers of the {taker.name} version do what the {giver.name} one sends")
    since = time.monotonic()
    with world.frozen(*giver.workers(), giver.programs["beat"], taker.programs["beat"]):
        world.live(75 / drill.speed)  # There is a minute to judge.
        before = taker.done()
        sent = giver.send_all() & taker.tasks()
        wait_until(world, lambda: sent <= set(taker.done() - before))
    rolled.apart.append((at(since, drill.speed), at(time.monotonic(), drill.speed)))
    done = set(taker.done() - before)
    return len(sent & done), [f"{taker.name} has not done {name} of {giver.name}" for name in sorted(sent - done)]


def nodes(world: World) -> set[str]:
    """The processes of the web that take check-ins."""
    with psycopg.connect(world.postgres.engine.url) as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM checkins_ingestnode WHERE left_at IS NULL")}


def count_spooled(world: World, node: str) -> int:
    """How many requests are in the spool of a process that is gone."""
    path = Path(world.variables["SPOOL_DIRECTORY"]) / f"{node}.spool"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])


def find_late_ticks(drill: Drill, url: str, rolled: Rolled) -> tuple[list[str], float]:
    """Return a sentence for each tick that was late without the drill's doing, and the longest delay in seconds."""
    with psycopg.connect(url) as connection:
        ticks = connection.execute(
            "SELECT at, finished_at FROM clocktasks_tick WHERE finished_at IS NOT NULL"
        ).fetchall()
    usual = [
        (at_, (finished_at - at_).total_seconds() / drill.speed)
        for at_, finished_at in ticks
        if not any(since <= finished_at and at_ <= until for since, until in rolled.apart)
    ]
    late = [f"{at_} was judged {delay:.1f} s later" for at_, delay in usual if delay > LATE_SECONDS]
    return late, round(max(delay for _, delay in usual), 1)


if __name__ == "__main__":
    sys.exit(main())
