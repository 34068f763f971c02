"""A soak: a hundred thousand jobs check in for minutes, and the clock has to find what is wrong, soon, and no more.

Starts engines of its own (PostgreSQL as durable as in production), the real web, beat and a worker. Jobs with slots
every one to five minutes send their runs as pings, spread over each minute. One in a hundred is silent for a while, one
fails and one hangs. What must come of that is computed from the plan by plain arithmetic, and compared with the tables:
every miss, timeout, error, incident and occurrence, and nothing else. How soon is known from the database's own record
of when each transaction was committed. Prints a table and one JSON line; the exit status is 1 if something is not so.

    acknowledged, refused    answers that are a success, and others; refused must be 0
    rate                     acknowledged a second
    late                     jobs that were acknowledged so late that nobody knows what must come of them; not compared
    lost, false              what must be there and is not, and what is there and must not be; must be 0
    lag_p50_ms, lag_p99_ms   from the tick at which a miss or timeout was due until its row was committed; p99 under 2 s
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.table import Table

from drills.installation import running_world
from drills.soak_load import Load
from drills.soak_plan import COMES_TO, SECONDS, SECONDS_FAST, Habit, Incident, Job, expected_incidents, make_jobs, slots
from drills.world import World
from project.local import children

if TYPE_CHECKING:
    from checkins.messages import Message

MINUTE = timedelta(minutes=1)
SEEDED_A_SECOND = 800
"""Jobs that are made in a second at least, so that all are there when the first minute begins."""
START_SECONDS_MAX = 10.0
"""How long beat and worker may take to start, and all that has to be imported."""
IDLE_SECONDS_MAX = 120.0
LAG_P99_MS_MAX = 2000
LATE_SHARE_MAX = 0.01
FINDINGS_SHOWN_MAX = 10

console = Console(stderr=True)


@dataclass(frozen=True)
class Soak:
    """How many whole minutes, jobs and check-ins a second, all by a clock that runs `speed` times as fast."""

    minutes: int = 10
    environments: int = 100_000
    rate: float = 2000.0
    seed: int = 1
    speed: float = 1.0


@dataclass
class Account:
    """What was compared, by kind: how much had to be there, and sentences about what is not, or should not be."""

    expected: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    false: int = 0
    findings: list[str] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    """By job: the minutes of what was found only when a newer ok was known, and counts as history."""

    def compare(self, kind: str, expected: Counter[Any], found: Counter[Any]) -> None:
        """Count what is on one side only."""
        self.expected[kind] += expected.total()
        self.found[kind] += found.total()
        for name, missing in (("lost", expected - found), ("false", found - expected)):
            setattr(self, name, getattr(self, name) + missing.total())
            self.findings += [f"{name}: {kind} {one}" for one in list(missing)[:FINDINGS_SHOWN_MAX]]


@dataclass(frozen=True)
class DrillResult:
    """What came out: the figures, what was compared, and sentences about what is wrong."""

    figures: dict[str, Any]
    account: Account
    findings: Sequence[str]


def main() -> int:
    """Run a soak. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--duration", type=float, default=600.0, help="seconds by the clock of the installation, in whole minutes"
    )
    parser.add_argument("--environments", type=int, default=100_000, help="monitor environments, one for each job")
    parser.add_argument("--rate", type=float, default=2000.0, help="check-ins a second")
    parser.add_argument("--seed", type=int, default=1, help="what the jobs do")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast the installation's clock runs")
    options = parser.parse_args()
    minutes = max(2, round(options.duration / 60))
    soak = Soak(minutes, options.environments, options.rate, options.seed, options.speed)
    with tempfile.TemporaryDirectory(prefix="watchclock-soak-") as name, contextlib.redirect_stdout(sys.stderr):
        Path(name).chmod(0o711)  # PostgreSQL runs as another user if we are root.
        outcome = run(soak, Path(name))
    table = Table("what", "expected", "found", title="What came of it")
    for kind, count in outcome.account.expected.items():
        table.add_row(kind, f"{count:,}", f"{outcome.account.found[kind]:,}")
    console.print(table)
    for finding in outcome.findings:
        console.print(finding, style="red", markup=False, soft_wrap=True)
    print(json.dumps(outcome.figures))
    return 1 if outcome.findings else 0


def run(soak: Soak, directory: Path) -> DrillResult:
    """Run a soak in an empty directory."""
    grace = 1.0 if soak.speed == 1 else soak.speed / 10
    chance = random.Random(soak.seed)  # noqa: S311 - repeatable, and no secret
    when = SECONDS if soak.speed == 1 else SECONDS_FAST
    jobs = make_jobs(soak.environments, rate=soak.rate, minutes=soak.minutes, chance=chance, seconds=when)
    with running_world(
        directory,
        seed=soak.seed,
        speed=soak.speed,
        MONITORS_PER_PROJECT="10000000",
        CLOCK_GRACE_SECONDS=f"{grace:g}",
    ) as world:
        record_commits(world)
        os.environ |= world.variables
        import django

        django.setup()
        # Only now does it know which clock to read.
        from lib.wallclock import utcnow

        started_at, started = utcnow(), time.monotonic()
        seeding = timedelta(seconds=(soak.environments / SEEDED_A_SECOND + START_SECONDS_MAX) * soak.speed)
        begin = (started_at + seeding).replace(second=0, microsecond=0) + MINUTE
        # A run that hangs in the last minute is found a minute after it.
        end = begin + (soak.minutes + 1) * MINUTE
        watched = make_monitors(jobs, begin - timedelta(seconds=30))
        start_clock(world)
        load = Load(
            port=world.port,
            jobs=jobs,
            guids=watched,
            first_epoch_minute=int(begin.timestamp()) // 60,
            begins_at=started + (begin - started_at).total_seconds() / soak.speed,
            speed=soak.speed,
        )
        if time.monotonic() > load.begins_at:
            raise RuntimeError(
                f"it took {time.monotonic() - started:.0f} s to make {soak.environments} monitors: too long"
            )
        seconds = (begin - utcnow()).total_seconds() / soak.speed + (soak.minutes + 1) * 60 / soak.speed
        with world.progress("soak", seconds, console, load.figures), load.running() as finish_load:
            world.live(seconds)
            # The jobs go on until all is judged: if all of them fell silent at once, nobody would be blamed.
            problem = wait_for_tick(world, end)
            finish_load()
        account = audit(soak, world, jobs, load, begin)
    return conclude(soak, load, account, problem)


def record_commits(world: World) -> None:
    """Let PostgreSQL remember when it committed each transaction."""
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    world.postgres.stop()
    world.postgres.start()


def start_clock(world: World) -> None:
    """Start beat and a worker as `make run` does."""
    for name, arguments in children.program_arguments().items():
        world.start_program(name, arguments)


def make_monitors(jobs: Sequence[Job], heard_at: datetime) -> list[str]:
    """Make a monitor for each job, by a first check-in that was received at `heard_at`; returns their addresses."""
    from django.db import connection

    from checkins.messages import Source
    from checkins.processing.apply import receive
    from checkins.protocols.fields import parse_checkin
    from monitors.models import IngestKey, Monitor, Project

    project = Project.objects.create(name="Soak", slug="soak", created_at=heard_at)
    IngestKey.objects.create(project=project, created_at=heard_at)

    def first_word(number: int, job: Job) -> "Message":
        config = {
            "schedule": {"type": "crontab", "value": f"*/{job.every} * * * *"},
            "checkin_margin": 1,
            "max_runtime": 1,
            "failure_issue_threshold": job.failure_threshold,
        }
        payload = {"monitor_slug": f"job-{number}", "status": "ok", "monitor_config": config}
        return parse_checkin(payload, project_id=project.id, received_at=heard_at, source=Source.REST)

    for first in range(0, len(jobs), 1000):
        some = enumerate(jobs[first : first + 1000], first)
        receive([first_word(number, job) for number, job in some], now=heard_at)
    guids = {slug: str(guid) for slug, guid in Monitor.objects.values_list("slug", "guid")}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    connection.close()
    return [guids[f"job-{number}"] for number in range(len(jobs))]


def wait_for_tick(world: World, tick: datetime) -> str | None:
    """Wait until a tick is finished; returns what is not so in the end."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            query = "SELECT count(*) FROM clocktasks_tick WHERE at = %s AND finished_at IS NOT NULL"
            row = connection.execute(query, [tick]).fetchone()
            if row is not None and row[0]:
                return None
            world.live(0.1)
    return f"the tick of {tick} is not finished"


# --- the end ---


def audit(soak: Soak, world: World, jobs: Sequence[Job], load: Load, begin: datetime) -> Account:
    """Compare what the minutes of the soak must have led to with what is there."""
    account = Account()
    first, minutes = load.first_epoch_minute, soak.minutes
    known = [(number, job) for number, job in enumerate(jobs) if number not in load.late]
    end = begin + minutes * MINUTE
    with psycopg.connect(world.postgres.engine.url) as connection:
        numbers = {
            id_: int(slug.removeprefix("job-"))
            for id_, slug in connection.execute(
                "SELECT me.id, m.slug FROM monitors_monitorenvironment me JOIN monitors_monitor m ON m.id = monitor_id"
            )
        }
        found: dict[str, Counter[tuple[int, int]]] = {status: Counter() for status in COMES_TO.values()}
        counted_late: Counter[tuple[int, int]] = Counter()
        for environment, status, at, failed_at, committed_at in _rows(connection, CHECKINS, begin, end):
            number, minute = numbers[environment], int(at.timestamp()) // 60 - first
            if number in load.late:
                continue
            found.setdefault(status, Counter())[number, minute] += 1
            if status in ("missed", "timeout"):
                if failed_at != begin + (minute + (1 if status == "missed" else 2)) * MINUTE:
                    counted_late[number, minute] += 1
                else:
                    account.lags_ms.append(_lag_ms(world, failed_at, committed_at, soak.speed))
        incidents = Counter(
            (numbers[environment], _incident(first, started_at, resolved_at, occurrences))
            for environment, started_at, resolved_at, occurrences in _rows(connection, INCIDENTS, begin, end)
            if numbers[environment] not in load.late
        )
        broken = _rows(connection, BROKEN, begin, end)
    expected: dict[str, Counter[tuple[int, int]]] = {status: Counter() for status in found}
    for number, job in known:
        for minute in slots(job, first, minutes):
            expected[COMES_TO[job.does_at(minute)]][number, minute] += 1
    for status in found:
        account.compare(status, expected[status], found[status])
    account.compare("found at another tick than its own", Counter(), counted_late)
    account.compare(
        "incidents",
        Counter((number, incident) for number, job in known for incident in expected_incidents(job, first, minutes)),
        incidents,
    )
    account.compare("ticks that are missing, or not judged as usual", Counter(), Counter(row[0] for row in broken))
    return account


CHECKINS = """
    SELECT monitor_environment_id, status, date_added, failed_at, pg_xact_commit_timestamp(xmin)
      FROM checkins_checkin WHERE date_added >= %(begin)s AND date_added < %(end)s
"""
# What happened after the end is not compared: neither failures, nor the ok that ends an incident.
INCIDENTS = """
    SELECT i.monitor_environment_id, i.started_at, CASE WHEN i.resolved_at < %(end)s THEN i.resolved_at END,
           i.occurrence_count
           - (SELECT count(*) FROM incidents_occurrence o WHERE o.incident_id = i.id AND o.detected_at > %(end)s)
      FROM incidents_incident i WHERE i.opened_at <= %(end)s
"""
BROKEN = """
    SELECT minute FROM generate_series(%(begin)s + interval '1 minute', %(end)s, interval '1 minute') AS minute
      LEFT JOIN clocktasks_tick ON at = minute
     WHERE finished_at IS NULL OR decision <> 'normal' OR NOT is_listened
"""


def _rows(connection: "psycopg.Connection[Any]", query: str, begin: datetime, end: datetime) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), {"begin": begin, "end": end}).fetchall()


def _incident(first: int, started_at: datetime, resolved_at: datetime | None, occurrences: int) -> Incident:
    resolved = None if resolved_at is None else int(resolved_at.timestamp()) // 60 - first
    return Incident(int(started_at.timestamp()) // 60 - first, resolved, occurrences)


def _lag_ms(world: World, tick: datetime, committed_at: datetime, speed: float) -> float:
    """Real milliseconds from a tick until a commit. The database's clock is that of the wall."""
    if speed != 1:
        origin = datetime.fromisoformat(world.variables["WATCHCLOCK_TEST_CLOCK"].rpartition("@")[0])
        tick = origin + (tick - origin) / speed
    return (committed_at - tick.astimezone(UTC)).total_seconds() * 1000


def conclude(soak: Soak, load: Load, account: Account, problem: str | None) -> DrillResult:
    """Put everything together."""
    lag_p99_ms = percentile(account.lags_ms, 99)
    figures: dict[str, Any] = {
        "drill": "soak",
        "seed": soak.seed,
        "environments": soak.environments,
        "minutes": soak.minutes,
        "speed": soak.speed,
        "acknowledged": load.acknowledged.total(),
        "refused": len(load.refused),
        "rate": round(_messages(account) / (soak.minutes * 60 / soak.speed)),
        "late": len(load.late),
        "behind_max_ms": round(load.behind_max * 1000),
        **{kind: account.found[kind] for kind in (*COMES_TO.values(), "incidents")},
        "lost": account.lost,
        "false": account.false,
        "lag_p50_ms": percentile(account.lags_ms, 50),
        "lag_p99_ms": lag_p99_ms,
        "lag_max_ms": percentile(account.lags_ms, 100),
        "p50_ms": percentile([seconds * 1000 for seconds in load.latencies], 50),
        "p99_ms": percentile([seconds * 1000 for seconds in load.latencies], 99),
    }
    findings = [*account.findings, *(f"refused: {one}" for one in load.refused[:FINDINGS_SHOWN_MAX])]
    if problem is not None:
        findings.append(f"not idle: {problem}")
    if soak.speed == 1 and len(load.late) > soak.environments * LATE_SHARE_MAX:
        findings.append(f"late: {len(load.late)} jobs of {soak.environments}")
    if soak.speed == 1 and (lag_p99_ms is None or lag_p99_ms >= LAG_P99_MS_MAX):
        findings.append(f"lag: 99 % of misses and timeouts within {lag_p99_ms} ms, not {LAG_P99_MS_MAX}")
    return DrillResult(figures, account, findings)


def _messages(account: Account) -> int:
    """How many messages led to what was found: a run that ends says two words, one that hangs says one."""
    ended = account.found[COMES_TO[Habit.GOOD]] + account.found[COMES_TO[Habit.FAILING]]
    return 2 * ended + account.found[COMES_TO[Habit.HANGING]]


def percentile(values: Iterable[float], percent: int) -> int | None:
    """Return a percentile of milliseconds; None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]) if ordered else None


if __name__ == "__main__":
    sys.exit(main())
