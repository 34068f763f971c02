"""A fault drill of the clock: is anything lost, doubled or falsely said while everything that makes it tick breaks?

Starts engines of its own (PostgreSQL as durable as in production), the real web on a socket that outlives it, two
workers and two beats. Jobs whose plans are known check in, or do not, while a seed decides what breaks next: processes
are killed, frozen and cut short, engines stop, messages are lost, doubled, shuffled and buried under others, and the
clock of one process is wrong by a minute and a half. When all that is over, every miss, timeout, incident, issue,
occurrence and notification that the plans ask for has to be there once, and nothing else. Prints what broke and what
was looked at, and one JSON line; the exit status is 1 if something is not so.

    expected, found         what had to come of the plans and of what was acknowledged, and what is there of it
    lost, doubled, false    not there, there twice, or there though nothing asked for it; must be 0
    wrong                   gaps in the ledger, shards behind, wrong ticks, counts, times and statuses; must be 0
    deaf, unknown           minutes without a web, and what fell due in them
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.table import Table

from drills.breaker import Breaker, Drill, make_breaker
from drills.broker import Broker
from drills.installation import running_world
from drills.pace import fitting_speed
from drills.world import World
from project.local import children

if TYPE_CHECKING:
    from drills.clock_audit import Account, Silence
    from drills.jobs import Plan
    from drills.load import Sent, Watched

IDLE_SECONDS_MAX = 420.0
QUIET_SECONDS = 2.0
HEARD_OF_SECONDS = 1.5
"""A web says every second that it listens, or a bit later on a busy machine."""
console = Console(stderr=True)


@dataclass(frozen=True)
class DrillResult:
    """What came out: the figures, what broke how often, and sentences about what is wrong."""

    figures: dict[str, Any]
    faults: Counter[str]
    findings: Sequence[str]


def main() -> int:
    """Run a drill. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of faults")
    parser.add_argument("--jobs", type=int, default=60, help="how many jobs check in")
    parser.add_argument("--only", action="append", metavar="KIND", help="break only this, once for each --only")
    parser.add_argument("--seed", type=int, help="what the jobs do and what breaks when; a random one is printed")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    fastest = 15.0 if options.duration < 120 else 10.0
    drill = Drill(options.duration, seed, options.jobs, speed=fitting_speed(fastest))
    again = f"make drill-clock SEED={seed} DURATION={drill.duration:g} JOBS={drill.jobs}"
    console.print(f"[bold]seed {seed}[/bold]: {again}")
    logs = Path(tempfile.gettempdir()) / f"watchclock-drill-clock-{seed}-logs"
    with tempfile.TemporaryDirectory(prefix="watchclock-drill-") as name, contextlib.redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        try:
            outcome = run(drill, Path(name), only=options.only)
        finally:
            shutil.rmtree(logs, ignore_errors=True)
            shutil.copytree(Path(name) / "logs", logs)
    console.print(table_of(outcome))
    for finding in outcome.findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    if outcome.findings:
        console.print(f"[bold red]seed {seed}[/bold red]: {again}\nThe logs of its processes are in {logs}")
    else:
        shutil.rmtree(logs)
    print(json.dumps(outcome.figures))
    return 1 if outcome.findings else 0


def plan(drill: Drill, kinds: Sequence[str]) -> list[str]:
    """Return what breaks, in the order in which it does, as the seed has it: all kinds before any comes again.

    The clock of the web is wrong with one seed in four: what is received with a wrong time is compared less strictly.
    """
    chance = random.Random(drill.seed)  # noqa: S311 - repeatable, and no secret
    usual = [kind for kind in kinds if kind != "clock of the web wrong" or drill.seed % 4 == 0]
    wanted = max(6, round(drill.duration / 10))  # Also where time goes slower: what breaks is the seed's.
    order: list[str] = []
    while len(order) < wanted:
        order += chance.sample(usual, k=min(len(usual), wanted - len(order)))
    return order


def run(drill: Drill, directory: Path, *, only: Sequence[str] | None = None) -> DrillResult:
    """Run a drill in an empty directory. `only` are kinds of faults to go through instead of what the seed says."""
    with running_world(
        directory,
        seed=drill.seed,
        speed=drill.speed,
        ALERT_EMAIL_TO="oncall@watchclock.test",
        EMAIL_URL="dummymail://",
        CLOCK_GRACE_SECONDS=f"{drill.speed / 10:g}",
    ) as world:
        os.environ |= world.variables
        import django

        django.setup()
        # Models can be imported only now.
        from drills.clock_audit import audit_clock
        from drills.clock_facts import read_facts
        from drills.jobs import Jobs, make_plans
        from drills.load import running

        url = world.postgres.engine.url
        breaker = make_breaker(drill, world, directory)
        wait_until(world, lambda: figure(url, "SELECT count(*) FROM clocktasks_tick") > 0)
        project, key, jobs = make_jobs(make_plans(drill.jobs, random.Random(drill.seed)))  # noqa: S311
        clients = Jobs(
            port=world.port,
            project=project,
            key=key,
            speed=drill.speed,
            random=random.Random(drill.seed),  # noqa: S311 - repeatable, and no secret
            jobs=jobs,
        )
        with world.progress("drill", drill.duration, console, clients.figures), running(clients) as finish_clients:
            breaker.go_through(only or plan(drill, list(breaker.faults())))
            finish_clients()
            problem = come_to_rest(world, breaker.broker, beats=breaker.beats, workers=breaker.workers)
        account = audit_clock(
            read_facts(url),
            [(job, clients.told.get(job.slug, [])) for job, _ in jobs],
            silences=silences_of(world, drill.speed, clients.sent),
            wrong_times=[(at(since, drill.speed), at(until, drill.speed)) for since, until in breaker.wrong_times],
        )
        return conclude(drill, breaker, account, problem)


def make_jobs(plans: "Sequence[Plan]") -> "tuple[int, str, list[tuple[Plan, Watched]]]":
    """Make the monitors of the jobs; returns the project, its key, and who is watched by what plan."""
    from django.db import connection

    from checkins.messages import Source
    from checkins.processing.apply import receive
    from checkins.protocols.fields import parse_checkin
    from drills.load import Watched
    from lib.wallclock import utcnow
    from monitors.models import IngestKey, Monitor, MonitorEnvironment, Project

    now = utcnow()
    project = Project.objects.create(name="Drill", slug="drill", created_at=now)
    key = IngestKey.objects.create(project=project, created_at=now).public_key
    messages = []
    for one in plans:
        every = "*" if one.every == 1 else f"*/{one.every}"
        config = {
            "schedule": {"type": "crontab", "value": f"{every} * * * *"},
            "checkin_margin": one.margin,
            "max_runtime": one.runtime,
            "failure_issue_threshold": one.failure_threshold,
            "recovery_threshold": one.recovery_threshold,
        }
        payload = {"monitor_slug": one.slug, "status": "ok", "monitor_config": config}
        messages.append(parse_checkin(payload, project_id=project.id, received_at=now, source=Source.REST))
    receive(messages, now=now)
    muted = [one.slug for one in plans if one.is_muted]
    MonitorEnvironment.objects.filter(monitor__slug__in=muted).update(is_muted=True)
    watched = {row[2]: Watched(*row) for row in Monitor.objects.values_list("id", "guid", "slug")}
    connection.close()
    return project.id, key, [(one, watched[one.slug]) for one in plans]


# --- the end ---


def come_to_rest(
    world: World, broker: Broker, *, beats: list[children.Child], workers: list[children.Child]
) -> str | None:
    """Let the clock come to the present, then stop beats and, when nothing is left to do, workers.

    Returns what does not come to rest, or None.
    """
    from lib.wallclock import utcnow

    url = world.postgres.engine.url
    end = utcnow()
    behind = "SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NOT NULL AND at > %s"
    if not wait_until(world, lambda: figure(url, behind, end) > 0):
        return f"the clock does not come to {end}"
    world.told("the clock is at the present; beats stop")
    _stop(world, beats)
    unfinished = "SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NULL"
    newest = "SELECT extract(epoch FROM max(at))::bigint FROM clocktasks_tick"
    # Jobs that break at random flap: what is held back then, or withdrawn, is told later or to nobody.
    unsent = """
        SELECT count(*) FROM incidents_notification
         WHERE sent_at IS NULL AND nobody_since IS NULL AND coalesce(held_until, %s) <= %s"""

    def is_at_rest() -> bool:
        before = figure(url, newest)
        if figure(url, unfinished) > 0:
            broker.wake()
            return False
        world.live(QUIET_SECONDS)
        return figure(url, unfinished) == 0 and figure(url, newest) == before

    if not wait_until(world, is_at_rest):
        return f"{figure(url, unfinished)} ticks are not finished"

    def is_told() -> bool:
        broker.deliver()
        world.live(QUIET_SECONDS)
        return figure(url, unsent, utcnow(), utcnow()) == 0

    if not wait_until(world, is_told):
        return f"{figure(url, unsent, utcnow(), utcnow())} notifications are not sent"
    _stop(world, workers)
    return None


def _stop(world: World, programs: list[children.Child]) -> None:
    for program in programs:
        world.programs.remove(program)
    children.stop(programs)


def wait_until(world: World, is_so: Callable[[], bool]) -> bool:
    """Wait until something is so, but not for ever; returns whether it is."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while not is_so():
        if time.monotonic() > deadline:
            return False
        world.live(0.2)
    return True


def figure(url: str, sql: str, *parameters: Any) -> int:
    """Ask the database for a number."""
    with psycopg.connect(url) as connection:
        row = connection.execute(sql.encode(), parameters).fetchone()
    assert row is not None, "an aggregate has a row"
    return int(row[0])


def at(monotonic: float, speed: float) -> datetime:
    """What the installation's clock showed at an instant of `time.monotonic`."""
    from lib.wallclock import utcnow

    return utcnow() - timedelta(seconds=(time.monotonic() - monotonic) * speed)


def silences_of(world: World, speed: float, sent: "Sequence[Sent]" = ()) -> "list[Silence]":
    """Return when there was no web, or perhaps nobody who knew that there was, by the installation's clock.

    A web that is killed was heard of a second before; one that could not reach PostgreSQL, when it still could. It is
    back when it has taken a check-in that was sent since: it may answer other requests sooner, and on a slow machine a
    client reads late what the web before has answered.
    """
    from drills.clock_audit import Silence

    taken = [(one.sent_at, one.answered_at) for one in sent if one.answered_at is not None]

    def taken_after(instant: datetime) -> datetime:
        return min((answered_at for sent_at, answered_at in taken if sent_at >= instant), default=instant)

    times = [(one.since - HEARD_OF_SECONDS, one.gone, one.back, one.until) for one in world.silences]
    times += [(since - HEARD_OF_SECONDS, since, since, until) for since, until in world.away]
    return [
        Silence(at(since, speed), at(gone, speed), at(back, speed), taken_after(at(until, speed)))
        for since, gone, back, until in times
    ]


def conclude(drill: Drill, breaker: Breaker, account: "Account", problem: str | None) -> DrillResult:
    """Put everything together."""
    findings = [f"{figure}: {sentence}" for figure, sentences in account.findings.items() for sentence in sentences]
    if problem is not None:
        findings.append(f"not idle: {problem}")
    figures = {
        "drill": "clock",
        "seed": drill.seed,
        "seconds": drill.duration,
        "speed": drill.speed,
        "jobs": drill.jobs,
        "faults": breaker.count.total(),
        **{name: value for name, value in vars(account).items() if name != "findings"},
    }
    return DrillResult(figures, breaker.count, findings)


def table_of(outcome: DrillResult) -> Table:
    """What broke how often, beside what was looked at."""
    table = Table("what broke", "times", "what was looked at", "number")
    broken = sorted(outcome.faults.items())
    names = [name for name in outcome.figures if name not in ("drill", "seed", "seconds", "speed", "jobs", "faults")]
    for number in range(max(len(broken), len(names))):
        left = broken[number] if number < len(broken) else ("", "")
        right = (names[number], outcome.figures[names[number]]) if number < len(names) else ("", "")
        table.add_row(left[0], str(left[1]), right[0], str(right[1]))
    return table


if __name__ == "__main__":
    sys.exit(main())
