"""How fast is the clock? One tick at which many monitor environments have missed a check-in.

Seeds a database of its own, applies a few quiet ticks and then the tick in question through the code of the workers,
checks that every due environment has exactly one miss, incident, issue and occurrence, and prints the figures; the
last line is JSON. The database is created next to the one in DATABASE_URL, or on an embedded PostgreSQL that this
script starts, with PostgreSQL's own settings for durability; both are removed at the end.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from project import engines

if TYPE_CHECKING:
    from clocktasks.clock import ClockTask

DATABASE = "watchclock_bench_clock"
TICK = datetime(2026, 1, 5, 10, 6, tzinfo=UTC)
QUIET_TICKS = 7
START_SECONDS_MAX = 120.0

MINUTES = ("5", "*/5", "5,35", "0-59/5", "5-55/10", "5,20,35,50", "*", "1-59/2")
WEEKDAYS = ("*", "1", "1-5")
ZONES = (
    *("UTC", "Europe/Vienna", "Europe/London", "Europe/Istanbul", "Africa/Lagos", "Asia/Tokyo"),
    *("Asia/Dubai", "America/New_York", "America/Chicago", "America/Sao_Paulo", "Australia/Sydney", "Pacific/Auckland"),
)
INTERVALS = ((1, "minute"), (5, "minute"), (15, "minute"), (30, "minute"), (1, "hour"), (1, "day"))

# A few hundred schedules, shared by all monitors in turn. Each monitor has one environment, which was ok an hour ago.
# Those that are due, mixed among the others, expected a check-in at five minutes past ten with a margin of one minute;
# the others wait for something later.
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
               last_result_at, last_ok_at, pending_slot, next_checkin, next_checkin_latest, anchor_at, anchor_day,
               failure_streak, ok_streak, limit_minute, limit_count, created_at)
        SELECT id, id, project_id, 'ok', FALSE, id %% %(shards)s, %(heard_at)s, %(heard_at)s, %(heard_at)s,
               slot, slot, slot + interval '1 minute',
               CASE schedule_type WHEN 'interval' THEN slot - interval '1 hour' END,
               CASE schedule_type WHEN 'interval' THEN 5 END,
               0, 3, %(heard_at)s, 1, %(created_at)s
          FROM (SELECT *, CASE WHEN row_number() OVER (ORDER BY md5(id::text)) <= %(due)s THEN %(slot)s
                               ELSE %(slot)s + (1 + id %% 240) * interval '1 minute' END AS slot
                  FROM monitors_monitor) AS monitor""",
    "check-ins": """
        INSERT INTO checkins_checkin (guid, project_id, monitor_id, monitor_environment_id, shard, status, date_added,
               date_updated, received_at, expected_time, duration_ms, source, config_id)
        SELECT gen_random_uuid(), m.project_id, m.id, me.id, me.shard, 'ok', %(heard_at)s, %(heard_at)s, %(heard_at)s,
               %(heard_at)s, 1500, 'sentry_envelope', m.config_id
          FROM monitors_monitorenvironment AS me JOIN monitors_monitor AS m ON m.id = me.monitor_id""",
}

EXPECTED_ROWS = {
    "missed check-ins": "SELECT count(*) FROM checkins_checkin WHERE status = 'missed' AND date_added = %(slot)s",
    "check-ins of one environment each": """
        SELECT count(DISTINCT monitor_environment_id) FROM checkins_checkin WHERE status = 'missed'""",
    "environments in error": "SELECT count(*) FROM monitors_monitorenvironment WHERE status = 'error'",
    "environments that expect a later slot": """
        SELECT count(*) FROM monitors_monitorenvironment WHERE status = 'error' AND next_checkin_latest > %(tick)s""",
    "open incidents": "SELECT count(*) FROM incidents_incident WHERE resolved_at IS NULL",
    "unresolved issues": "SELECT count(*) FROM incidents_issue WHERE status = 'unresolved' AND occurrence_count = 1",
    "occurrences": "SELECT count(*) FROM incidents_occurrence",
    "misses in the ledger": "SELECT missed_count FROM clocktasks_tick WHERE at = %(tick)s AND finished_at IS NOT NULL",
}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Load:
    """What one worker did for one clock task: `statements` and `statement_seconds` by the first words of the SQL."""

    marked_count: int
    wake: "ClockTask | None"
    statements: Counter[str]
    statement_seconds: dict[str, float]
    peak_mb: float


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

    from clocktasks.services import process_clock_task

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

    with connection.execute_wrapper(measure):
        result = process_clock_task(task)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Load(result.marked_count, result.wake, statements, seconds, peak_kib / 1024)


# --- the benchmark --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_database() -> Iterator[str]:
    """Yield the address of an empty database, which is dropped afterwards."""
    with contextlib.ExitStack() as stack:
        server_url = os.environ.get("DATABASE_URL") or stack.enter_context(embedded_postgres())
        prefix = server_url.rpartition("/")[0]
        with psycopg.connect(f"{prefix}/postgres", autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{DATABASE}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{DATABASE}"')
            try:
                yield f"{prefix}/{DATABASE}"
            finally:
                server.execute(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')


@contextlib.contextmanager
def embedded_postgres() -> Iterator[str]:
    """Yield the address of a PostgreSQL server in a temporary directory, as durable as in production."""
    with tempfile.TemporaryDirectory(prefix="watchclock-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
        log = directory / "postgres.log"
        process = postgres.start(log)
        try:
            engines.wait_until_ready(postgres, process, log)
            yield postgres.url
        finally:
            process.send_signal(postgres.stop_signal)
            process.wait(30)


def seed(*, environments: int, due: int) -> None:
    """Fill the database, with statistics as autovacuum would have gathered them."""
    from django.core.management import call_command
    from django.db import connection

    from monitors.sharding import SHARD_COUNT

    parameters: dict[str, Any] = {
        "environments": environments,
        "due": due,
        "shards": SHARD_COUNT,
        "slot": TICK - timedelta(minutes=1),
        "heard_at": TICK - timedelta(minutes=66),
        "created_at": TICK - timedelta(days=100),
        "minutes": list(MINUTES),
        "weekdays": list(WEEKDAYS),
        "zones": list(ZONES),
        "intervals": [interval for interval, _ in INTERVALS],
        "units": [unit for _, unit in INTERVALS],
    }
    with Progress(console=console) as progress, connection.cursor() as cursor:
        steps = progress.add_task("seeding", total=len(SEED) + 2)
        call_command("migrate", verbosity=0)
        progress.advance(steps)
        for name, statement in SEED.items():
            progress.update(steps, description=f"seeding {name}")
            cursor.execute(statement, parameters)
            progress.advance(steps)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
        progress.update(steps, description="seeded", advance=1)


def measure_quiet_ticks() -> float:
    """Apply the ticks before the one in question, at which nothing is due; returns the median in milliseconds."""
    from clocktasks.services import advance_ledger

    first = TICK - timedelta(minutes=QUIET_TICKS + 1)
    advance_ledger(first, now=first)
    durations = []
    for minute in range(1, QUIET_TICKS + 1):
        started = time.perf_counter()
        tasks = advance_ledger(first + timedelta(minutes=minute), now=first)
        durations.append(time.perf_counter() - started)
        assert not tasks, "a quiet tick has nothing to do"
    return statistics.median(durations) * 1000


def apply_tick(pool: ProcessPoolExecutor, *, due: int) -> tuple[float, list[Load]]:
    """Apply the tick with the workers of the pool; returns how long it took and what each clock task did."""
    from clocktasks.services import advance_ledger, finish_ticks

    loads: list[Load] = []
    with Progress(console=console) as progress:
        marked = progress.add_task("applying the tick", total=due)
        started = time.perf_counter()
        waiting: set[Future[Load]] = {pool.submit(do_clock_task, task) for task in advance_ledger(TICK, now=TICK)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for load in (future.result() for future in done):
                loads.append(load)
                progress.advance(marked, load.marked_count)
                if load.wake is not None:
                    waiting.add(pool.submit(do_clock_task, load.wake))
        finish_ticks(now=TICK)
        return time.perf_counter() - started, loads


def verify(*, due: int) -> None:
    """Stop unless the tick did exactly what it had to do."""
    from django.db import connection

    with connection.cursor() as cursor:
        for name, query in EXPECTED_ROWS.items():
            cursor.execute(query, {"slot": TICK - timedelta(minutes=1), "tick": TICK})
            row = cursor.fetchone()
            if row is None or row[0] != due:
                raise SystemExit(f"{name}: {row and row[0]} instead of {due}")


def show(loads: list[Load], *, seconds: float, workers: int) -> None:
    """Print where the time of the workers went."""
    statements: Counter[str] = sum((load.statements for load in loads), Counter())
    spent: defaultdict[str, float] = defaultdict(float)
    for load in loads:
        for words, statement_seconds in load.statement_seconds.items():
            spent[words] += statement_seconds
    table = Table("statement", "count", "seconds", title="Where the time of the workers went")
    for words, statement_seconds in sorted(spent.items(), key=lambda item: -item[1]):
        table.add_row(words, str(statements[words]), f"{statement_seconds:.2f}")
    table.add_row("Python, and waiting for a task", "", f"{seconds * workers - sum(spent.values()):.2f}")
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--environments", type=int, default=200_000, help="monitor environments (200000)")
    parser.add_argument("--due", type=int, default=50_000, help="how many of them miss a check-in (50000)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (1)")
    arguments = parser.parse_args()
    if not 0 < arguments.due <= arguments.environments or arguments.workers < 1:
        parser.error("give at least one worker, and at least one due environment but not more than there are")
    with own_database() as database_url:
        set_up(database_url)
        from django.db import connection

        try:
            seed(environments=arguments.environments, due=arguments.due)
            quiet_tick_ms = measure_quiet_ticks()
            context = multiprocessing.get_context("spawn")
            ready = context.Barrier(arguments.workers + 1)
            with ProcessPoolExecutor(arguments.workers, context, start_worker, (database_url, ready)) as pool:
                for _ in range(arguments.workers):
                    pool.submit(int)  # The pool starts a process for each task that finds none idle.
                ready.wait(START_SECONDS_MAX)
                seconds, loads = apply_tick(pool, due=arguments.due)
            verify(due=arguments.due)
        finally:
            connection.close()
    show(loads, seconds=seconds, workers=arguments.workers)
    figures = {
        "benchmark": "clock",
        "environments": arguments.environments,
        "due": arguments.due,
        "workers": arguments.workers,
        "seconds": round(seconds, 2),
        "due_per_s": round(arguments.due / seconds),
        "statements": sum(load.statements.total() for load in loads),
        "peak_mb": round(max(load.peak_mb for load in loads)),
        "quiet_tick_ms": round(quiet_tick_ms, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
