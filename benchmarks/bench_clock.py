"""How fast is the clock? Ticks at which many monitor environments have missed a check-in, or run too long.

Each stage seeds a database of its own, applies a few quiet ticks and then the ticks in question through the code of the
workers, and checks that every due environment has exactly one miss or timeout, incident, issue and occurrence. The
growth stages do so with fewer environments. Prints where the time went, the growth table and the figures; the last line
is JSON. Databases are created next to the one in DATABASE_URL, or on an embedded PostgreSQL that this script starts, as
durable as in production; all of it is removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import floor
from benchmarks.clock_rows import EXPECTED_ROWS, EXPECTED_SO_FAR, INTERVALS, MINUTES, SEED, WEEKDAYS, ZONES
from benchmarks.server import POSTGRES, Server, own_database, running_server

if TYPE_CHECKING:
    from clocktasks.clock import ClockTask

TICK = datetime(2026, 1, 5, 10, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARGIN = MINUTE
QUIET_TICKS = 7
START_SECONDS_MAX = 120.0
GROWTH = (10_000, 100_000, 1_000_000)

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
