"""How fast is the clock? Ticks at which many monitor environments have missed a check-in, or run too long.

Each stage seeds a database of its own, applies a few quiet ticks and then the ticks in question through the code of the
workers, and checks that every due environment has exactly one miss or timeout, incident, issue and occurrence. The
growth stages do so with fewer environments. Prints where the time went, the growth table and the figures; the last line
is JSON. Databases are created next to the one in DATABASE_URL, or on an embedded PostgreSQL that this script starts, as
durable as in production; all of it is removed at the end.
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import floor
from project.local import engines

if TYPE_CHECKING:
    from clocktasks.clock import ClockTask

DATABASE = "watchclock_bench_clock"
TICK = datetime(2026, 1, 5, 10, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARGIN = MINUTE
QUIET_TICKS = 7
START_SECONDS_MAX = 120.0
GROWTH = (10_000, 100_000, 1_000_000)
POSTGRES = "max_wal_size=8GB shared_buffers=1GB"
"""What docs/how-to/run-in-production.md advises for so many; the rest is as in `make run`."""

# No two slots of a schedule are closer than five minutes: what a tick marks is not due again at the next few.
MINUTES = ("5", "*/5", "5,35", "0-59/5", "5-55/10", "5,20,35,50", "5-59/15", "5,45")
WEEKDAYS = ("*", "1", "1-5")
ZONES = (
    *("UTC", "Europe/Vienna", "Europe/London", "Europe/Istanbul", "Africa/Lagos", "Asia/Tokyo"),
    *("Asia/Dubai", "America/New_York", "America/Chicago", "America/Sao_Paulo", "Australia/Sydney", "Pacific/Auckland"),
)
INTERVALS = ((5, "minute"), (10, "minute"), (15, "minute"), (30, "minute"), (1, "hour"), (1, "day"))

# A few hundred schedules, shared by all monitors in turn. Each monitor has one environment, which was ok an hour or two
# ago. The parts that are due are mixed among the others: misses expected a check-in a minute before their tick with a
# margin of one minute, timeouts have a run whose deadline is their tick. The others wait for something later.
SEED = {
    "schedules": """
        CREATE TEMPORARY TABLE schedule AS
        SELECT row_number() OVER () - 1 AS number, * FROM (
            SELECT 'crontab' AS schedule_type, minute || ' * * * ' || weekday AS crontab,
                   NULL::integer AS interval, NULL AS interval_unit, zone
              FROM unnest(%(minutes)s::text[]) AS minute, unnest(%(weekdays)s::text[]) AS weekday,
                   unnest(%(zones)s::text[]) AS zone
             UNION ALL
            SELECT 'interval', NULL, interval, unit, zone
              FROM unnest(%(intervals)s::integer[], %(units)s::text[]) AS kind (interval, unit),
                   unnest((%(zones)s::text[])[1:2]) AS zone
            ) AS every""",
    "listening": """
        INSERT INTO checkins_listeningspan (node_id, since, until)
        VALUES (gen_random_uuid(), %(created_at)s, %(later)s)""",
    "parts": """
        CREATE TEMPORARY TABLE part AS
        SELECT id, kind, tick
          FROM (SELECT id, row_number() OVER (ORDER BY md5(id::text)) AS rank
                  FROM generate_series(1, %(environments)s) AS id) AS mixed
          JOIN (SELECT kind, tick, due, sum(due) OVER (ORDER BY tick) AS last
                  FROM unnest(%(kinds)s::text[], %(ticks)s::timestamptz[], %(dues)s::bigint[])
                       AS step (kind, tick, due)) AS step
            ON rank > last - due AND rank <= last""",
    "projects": """
        INSERT INTO monitors_project (id, name, slug, created_at)
        SELECT id, 'Project ' || id, 'project-' || id, %(created_at)s FROM generate_series(1, 20) AS id""",
    "names": """
        INSERT INTO monitors_environment (id, project_id, name) SELECT id, id, 'production' FROM monitors_project""",
    "snapshots": """
        INSERT INTO monitors_configsnapshot (id, sha256, config)
        SELECT number + 1, encode(sha256(number::text::bytea), 'hex'), to_jsonb(schedule) FROM schedule""",
    "monitors": """
        INSERT INTO monitors_monitor (id, project_id, slug, name, guid, status, schedule_type, crontab, interval,
               interval_unit, timezone, checkin_margin, max_runtime, failure_threshold, recovery_threshold, is_muted,
               is_upserting, owner, tags, config_id, created_at)
        SELECT id, 1 + id %% 20, 'job-' || id, 'Nightly job ' || id, gen_random_uuid(), 'active', schedule_type,
               crontab, interval, interval_unit, zone, 1, 30, 1, 1, FALSE, TRUE, '', '{}', number + 1, %(created_at)s
          FROM generate_series(1, %(environments)s) AS id
          JOIN schedule ON number = id %% (SELECT count(*) FROM schedule)""",
    "environments": """
        INSERT INTO monitors_monitorenvironment (id, monitor_id, environment_id, status, is_muted, shard, last_checkin,
               last_ok_at, pending_slot, next_checkin, next_checkin_latest, anchor_at, anchor_day,
               failure_streak, ok_streak, limit_minute, limit_count, created_at)
        SELECT id, id, project_id, 'ok', FALSE, id %% %(shards)s, heard_at, heard_at,
               slot, slot, slot + %(margin)s,
               CASE schedule_type WHEN 'interval' THEN slot - interval '1 hour' END,
               CASE schedule_type WHEN 'interval' THEN 5 END,
               0, 3, heard_at, 1, %(created_at)s
          FROM (SELECT monitor.*, %(heard_at)s - random() * interval '50 minutes' AS heard_at,
                       CASE part.kind WHEN 'missed' THEN part.tick - %(margin)s
                       ELSE %(later)s + id %% 240 * interval '1 minute' END AS slot
                  FROM monitors_monitor AS monitor LEFT JOIN part USING (id)) AS monitor""",
    "check-ins": """
        INSERT INTO checkins_checkin (guid, project_id, monitor_environment_id, shard, status, date_added,
               date_updated, expected_time, duration_ms, source, config_id)
        SELECT gen_random_uuid(), m.project_id, me.id, me.shard, 'ok', me.last_ok_at, me.last_ok_at,
               me.last_ok_at, 1500, 'sentry_envelope', m.config_id
          FROM monitors_monitorenvironment AS me JOIN monitors_monitor AS m ON m.id = me.monitor_id""",
    "runs": """
        INSERT INTO checkins_checkin (guid, project_id, monitor_environment_id, shard, status, date_added,
               date_updated, date_in_progress, expected_time, timeout_at, source, config_id)
        SELECT gen_random_uuid(), m.project_id, me.id, me.shard, 'in_progress', start, start, start, start,
               tick, 'sentry_envelope', m.config_id
          FROM (SELECT *, tick - interval '30 minutes' AS start FROM part WHERE kind = 'timeout') AS part
          JOIN monitors_monitorenvironment AS me USING (id) JOIN monitors_monitor AS m ON m.id = me.monitor_id""",
}

# Each has to count what was due at the tick, and those below what was due so far.
EXPECTED_ROWS = {
    "check-ins with the status of the tick": """
        SELECT count(*) FROM checkins_checkin AS c JOIN part ON part.id = c.monitor_environment_id
         WHERE c.status = %(kind)s AND c.failed_at = %(tick)s AND part.tick = %(tick)s AND part.kind = %(kind)s
           AND c.date_added = CASE c.status WHEN 'missed' THEN %(tick)s - %(margin)s
                              ELSE %(tick)s - interval '30 minutes' END""",
    "environments with such a check-in": """
        SELECT count(DISTINCT monitor_environment_id) FROM checkins_checkin WHERE failed_at = %(tick)s""",
    "environments in error that expect a later slot": """
        SELECT count(*) FROM monitors_monitorenvironment JOIN part USING (id)
         WHERE status = 'error' AND next_checkin_latest > %(tick)s AND failure_streak = 1 AND ok_streak = 0
           AND failure_streak_started_at = %(tick)s AND part.tick = %(tick)s""",
    "occurrences of that tick": """
        SELECT count(*) FROM incidents_occurrence WHERE (explanation->>'tick')::timestamptz = %(tick)s""",
    "in the ledger": """
        SELECT CASE %(kind)s WHEN 'missed' THEN missed_count ELSE timeout_count END FROM clocktasks_tick
         WHERE at = %(tick)s AND finished_at IS NOT NULL""",
}
EXPECTED_SO_FAR = {
    "check-ins of the clock": "SELECT count(*) FROM checkins_checkin WHERE failed_at IS NOT NULL",
    "environments in error": "SELECT count(*) FROM monitors_monitorenvironment WHERE status = 'error'",
    "open incidents": "SELECT count(*) FROM incidents_incident WHERE resolved_at IS NULL",
    "unresolved issues": "SELECT count(*) FROM incidents_issue WHERE status = 'unresolved' AND occurrence_count = 1",
    "occurrences": "SELECT count(*) FROM incidents_occurrence",
}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Step:
    """A tick at which this many check-ins are due, all of one kind ("missed" or "timeout")."""

    kind: str
    due: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A database with this many environments, and what happens in it, a tick for each step."""

    environments: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """What one worker did for one clock task: `statements` and `statement_seconds` by the first words of the SQL."""

    marked_count: int
    wake: "ClockTask | None"
    statements: Counter[str]
    statement_seconds: dict[str, float]
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a tick took. `database_cpu_seconds` is of all processes of an embedded PostgreSQL, else None.

    `floor_per_s` is how many were due a second if their rows are only written (`benchmarks.floor`); 0 if not measured.
    """

    stage: Stage
    step: Step
    quiet_tick_ms: float
    seconds: float
    loads: list[Load]
    database_cpu_seconds: float | None
    wal_mb: float
    floor_per_s: float

    @property
    def worker_cpu_seconds(self) -> float:
        """Processor time of all workers, in user and system mode."""
        return sum(load.cpu_seconds for load in self.loads)

    @property
    def peak_mb(self) -> float:
        """Resident memory of the largest worker so far."""
        return max(load.peak_mb for load in self.loads)


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server: the address of its databases without their name, and its process if we started it."""

    prefix: str
    process: psutil.Process | None

    def cpu_seconds(self) -> float | None:
        """Processor time so far of all its processes that still run."""
        if self.process is None:
            return None
        seconds = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds


# --- in every process -----------------------------------------------------------------------------------------------


def set_up(database_url: str) -> None:
    """Load Django with the benchmark's database. Nothing here talks to a broker, but the settings ask for one."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "protects nothing in a benchmark",
    }
    import django

    django.setup()


def start_worker(database_url: str, ready: Barrier) -> None:
    """Prepare a worker process; returns when all of them are prepared."""
    set_up(database_url)
    from django.db import connection

    connection.ensure_connection()
    ready.wait(START_SECONDS_MAX)


def do_clock_task(task: "ClockTask") -> Load:
    """What a Celery worker does with a clock task, measured."""
    from django.db import connection

    from clocktasks.shards import process_clock_task

    statements: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)

    def measure(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            words = " ".join(sql.split()[:3])
            statements[words] += 1
            seconds[words] += time.perf_counter() - started

    before = resource.getrusage(resource.RUSAGE_SELF)
    with connection.execute_wrapper(measure):
        result = process_clock_task(task)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(result.marked_count, result.wake, statements, seconds, cpu_seconds, after.ru_maxrss / 1024)


# --- the benchmark --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_server(options: Sequence[str]) -> Iterator[Server]:
    """Yield the server in DATABASE_URL, or one of our own with these options besides those of `make run`."""
    if database_url := os.environ.get("DATABASE_URL"):
        yield Server(database_url.rpartition("/")[0], None)
        return
    with tempfile.TemporaryDirectory(prefix="watchclock-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
        arguments = [argument for option in options for argument in ("-c", option)]
        postgres = dataclasses.replace(postgres, argv=(*postgres.argv, *arguments))
        log = directory / "postgres.log"
        process = postgres.start(log)
        try:
            engines.wait_until_ready(postgres, process, log)
            yield Server(postgres.url.rpartition("/")[0], psutil.Process(process.pid))
        finally:
            process.send_signal(postgres.stop_signal)
            process.wait(60)


@contextlib.contextmanager
def own_database(server: Server) -> Iterator[str]:
    """Yield the address of an empty database, which is dropped afterwards."""
    with psycopg.connect(f"{server.prefix}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{DATABASE}"')
        try:
            yield f"{server.prefix}/{DATABASE}"
        finally:
            connection.execute(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')


def seed(stage: Stage) -> None:
    """Fill the database, with statistics as autovacuum would have gathered them."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection

    parameters: dict[str, Any] = {
        "environments": stage.environments,
        "kinds": [step.kind for step in stage.steps],
        "dues": [step.due for step in stage.steps],
        "ticks": [TICK + number * MINUTE for number in range(len(stage.steps))],
        "shards": settings.CLOCK_SHARDS,
        "margin": MARGIN,
        "later": TICK + 10 * MINUTE,
        "heard_at": TICK - timedelta(minutes=66),
        "created_at": TICK - timedelta(days=100),
        "minutes": list(MINUTES),
        "weekdays": list(WEEKDAYS),
        "zones": list(ZONES),
        "intervals": [interval for interval, _ in INTERVALS],
        "units": [unit for _, unit in INTERVALS],
    }
    with Progress(console=console) as progress, connection.cursor() as cursor:
        steps = progress.add_task(f"{stage.environments:,} environments: migrating", total=len(SEED) + 2)
        call_command("migrate", verbosity=0)
        progress.advance(steps)
        for name, statement in SEED.items():
            progress.update(steps, description=f"{stage.environments:,} environments: seeding {name}")
            cursor.execute(statement, parameters)
            progress.advance(steps)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
        progress.update(steps, description=f"{stage.environments:,} environments: seeded", advance=1)


def measure_quiet_ticks() -> float:
    """Apply the ticks before the ones in question, at which nothing is due; returns the median in milliseconds."""
    from clocktasks.dispatch import advance_ledger

    first = TICK - timedelta(minutes=QUIET_TICKS + 1)
    advance_ledger(first, now=first)
    durations = []
    for minute in range(1, QUIET_TICKS + 1):
        started = time.perf_counter()
        tasks = advance_ledger(first + timedelta(minutes=minute), now=first)
        durations.append(time.perf_counter() - started)
        assert not tasks, "a quiet tick has nothing to do"
    return statistics.median(durations) * 1000


def apply_tick(pool: ProcessPoolExecutor, step: Step, tick: datetime) -> tuple[float, list[Load]]:
    """Apply the tick with the workers of the pool; returns how long it took and what each clock task did."""
    from clocktasks.dispatch import advance_ledger
    from clocktasks.ledger import finish_ticks

    loads: list[Load] = []
    with Progress(console=console) as progress:
        marked = progress.add_task(f"a tick with {step.due:,} of {step.kind}", total=step.due)
        started = time.perf_counter()
        waiting: set[Future[Load]] = {pool.submit(do_clock_task, task) for task in advance_ledger(tick, now=tick)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for load in (future.result() for future in done):
                loads.append(load)
                progress.advance(marked, load.marked_count)
                if load.wake is not None:
                    waiting.add(pool.submit(do_clock_task, load.wake))
        finish_ticks(now=tick)
        return time.perf_counter() - started, loads


def verify(step: Step, tick: datetime, *, so_far: int) -> None:
    """Stop unless the tick did exactly what it had to do."""
    from django.db import connection

    parameters: dict[str, Any] = {"kind": step.kind, "tick": tick, "margin": MARGIN}
    with connection.cursor() as cursor:
        for queries, expected in ((EXPECTED_ROWS, step.due), (EXPECTED_SO_FAR, so_far)):
            for name, query in queries.items():
                cursor.execute(query, parameters)
                row = cursor.fetchone()
                if row is None or row[0] != expected:
                    raise SystemExit(f"{name}: {row and row[0]} instead of {expected}")


def wal_bytes() -> int:
    """How much the server has written to its log so far."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        row = cursor.fetchone()
    assert row is not None, "a SELECT without FROM has a row"
    return int(row[0])


def run_stage(server: Server, stage: Stage, *, workers: int) -> list[Measured]:
    """Seed a database, apply the quiet ticks and the steps, and check what they did."""
    with own_database(server) as database_url:
        set_up(database_url)
        from django.db import connection

        try:
            seed(stage)
            quiet_tick_ms = measure_quiet_ticks()
            measured: list[Measured] = []
            context = multiprocessing.get_context("spawn")
            ready = context.Barrier(workers + 1)
            with ProcessPoolExecutor(workers, context, start_worker, (database_url, ready)) as pool:
                for _ in range(workers):
                    pool.submit(int)  # The pool starts a process for each task that finds none idle.
                ready.wait(START_SECONDS_MAX)
                for number, step in enumerate(stage.steps):
                    tick = TICK + number * MINUTE
                    cpu_seconds, wal = server.cpu_seconds(), wal_bytes()
                    seconds, loads = apply_tick(pool, step, tick)
                    cpu_after = server.cpu_seconds()
                    database_cpu = None if cpu_seconds is None or cpu_after is None else cpu_after - cpu_seconds
                    wal_mb = (wal_bytes() - wal) / 2**20
                    verify(step, tick, so_far=sum(one.due for one in stage.steps[: number + 1]))
                    bare = floor.bare_tick(database_url, tick, sessions=workers) if step is stage.steps[-1] else 0.0
                    measured.append(Measured(stage, step, quiet_tick_ms, seconds, loads, database_cpu, wal_mb, bare))
            return measured
        finally:
            connection.close()


def show_statements(measured: Measured, *, workers: int) -> None:
    """Print where the time of the workers went."""
    statements: Counter[str] = sum((load.statements for load in measured.loads), Counter())
    spent: defaultdict[str, float] = defaultdict(float)
    for load in measured.loads:
        for words, statement_seconds in load.statement_seconds.items():
            spent[words] += statement_seconds
    table = Table("statement", "count", "seconds", title=f"Where the workers' time went: {measured.step.kind}")
    for words, statement_seconds in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(words, str(statements[words]), f"{statement_seconds:.2f}")
    rest = measured.seconds * workers - sum(spent.values())
    table.add_row("Python, commits, and waiting for a task", "", f"{rest:.2f}")
    console.print(table)


def show_growth(measured: Sequence[Measured]) -> None:
    """Print how time grows with what exists and with what is due."""
    columns = ("existing", "kind", "due", "s", "CPU s", "DB CPU s", "WAL MB", "peak MB", "quiet ms")
    table = Table(*columns, title="How time grows", box=box.SIMPLE)
    for one in measured:
        table.add_row(
            f"{one.stage.environments:,}",
            one.step.kind,
            f"{one.step.due:,}",
            f"{one.seconds:.2f}",
            f"{one.worker_cpu_seconds:.1f}",
            "" if one.database_cpu_seconds is None else f"{one.database_cpu_seconds:.1f}",
            f"{one.wal_mb:,.0f}",
            f"{one.peak_mb:.0f}",
            f"{one.quiet_tick_ms:.1f}",
        )
    console.print(table)


def stages(environments: int, due: int, timeouts: int, growth: Sequence[int]) -> list[Stage]:
    """Return the stages: growing ones up to `environments`, that of the timeouts, and at last the one in question.

    All ticks of a database mark different environments.

    >>> for stage in stages(100, 100, 20, [10, 100]):
    ...     print(stage.environments, [(step.kind, step.due) for step in stage.steps])
    10 [('missed', 10)]
    100 [('missed', 10), ('timeout', 20)]
    100 [('missed', 100)]
    """
    sizes = sorted({size for size in growth if size < environments} | {environments})
    found = []
    for size in sizes:
        steps = [Step("missed", part) for part in sorted(growth) if part < size]
        if size == environments:
            steps = [step for step in steps if step.due != due]
            if timeouts:
                steps.append(Step("timeout", timeouts))
            if steps:
                found.append(Stage(size, tuple(steps)))
            found.append(Stage(size, (Step("missed", due),)))
        else:
            if steps:
                found.append(Stage(size, tuple(steps)))
            found.append(Stage(size, (Step("missed", size),)))
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--environments", type=int, default=1_000_000, help="monitor environments (1000000)")
    parser.add_argument("--due", type=int, help="how many of them miss a check-in (all)")
    parser.add_argument("--timeouts", type=int, help="how many of them run too long, at another tick (a tenth)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument(
        "--growth", default=",".join(map(str, GROWTH)), help="smaller sizes to compare with; 0 for none"
    )
    parser.add_argument(
        "--postgres", default=POSTGRES, help="options of the embedded PostgreSQL: name=value name=value"
    )
    arguments = parser.parse_args()
    environments, workers = arguments.environments, arguments.workers
    due = environments if arguments.due is None else arguments.due
    timeouts = environments // 10 if arguments.timeouts is None else arguments.timeouts
    growth = [int(size) for size in arguments.growth.split(",") if int(size)]
    if not 0 < due <= environments or workers < 1:
        parser.error("give at least one worker, and at least one due environment but not more than there are")
    planned = stages(environments, due, timeouts, growth)
    if any(sum(step.due for step in stage.steps) > stage.environments for stage in planned):
        parser.error("more would be due than there are environments")
    measured: list[Measured] = []
    with running_server(arguments.postgres.split()) as server:
        for stage in planned:
            measured += run_stage(server, stage, workers=workers)
            show_growth(measured)
    main_tick = measured[-1]
    of_timeouts = next((one for one in measured if one.step.kind == "timeout"), None)
    for one in (main_tick, of_timeouts):
        if one is not None:
            show_statements(one, workers=workers)
    figures = {
        "benchmark": "clock",
        "environments": environments,
        "due": due,
        "workers": workers,
        "seconds": round(main_tick.seconds, 2),
        "due_per_s": round(due / main_tick.seconds),
        "floor_due_per_s": round(main_tick.floor_per_s),
        "floor_share": round(due / main_tick.seconds / main_tick.floor_per_s, 2),
        "worker_cpu_s": round(main_tick.worker_cpu_seconds, 1),
        "database_cpu_s": main_tick.database_cpu_seconds and round(main_tick.database_cpu_seconds, 1),
        "statements": sum(load.statements.total() for load in main_tick.loads),
        "wal_mb": round(main_tick.wal_mb),
        "peak_mb": round(max(one.peak_mb for one in measured)),
        "quiet_tick_ms": round(main_tick.quiet_tick_ms, 1),
        "timeouts": None if of_timeouts is None else of_timeouts.step.due,
        "timeouts_seconds": None if of_timeouts is None else round(of_timeouts.seconds, 2),
        "growth": [
            [one.stage.environments, one.step.kind, one.step.due, round(one.seconds, 2), round(one.quiet_tick_ms, 1)]
            for one in measured
        ],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
