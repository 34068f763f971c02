"""Do ingest and the clock get slower with history? Both are measured on an empty database and on one with check-ins.

The check-ins lie in the days before, a partition each, as they would after months. They are written as rows without
indexes, which are built afterwards; then VACUUM ANALYZE. Ingest is measured as by bench-ingest, through the real web:
two installations stand side by side and are loaded in turn, because a machine may be a quarter faster now than a minute
later. The clock is measured as by bench-clock, on an empty database before and after the one with history. Figures are
medians. The last line, on standard output, is JSON: for each figure the value on the empty database, the one with
history, and how much slower.

    ping_per_s, sentry_envelope_per_s   check-ins acknowledged in a second
    ping_cpu_us, sentry_envelope_cpu_us processor time for each, of web and PostgreSQL: it says more on a busy machine
    due_per_s                           misses of one tick, with their incidents
    quiet_tick_ms                       a tick at which nothing is due
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import bench_clock, bench_ingest
from benchmarks.server import POSTGRES, running_server

PROTOCOLS = ("ping", "sentry_envelope")
SLOWER_MAX = 0.20
"""What history may cost: see issue 4."""
# One in `error_every` failed, and one in two is of a job that says when it begins.
ROWS_SQL = """
    INSERT INTO {name} (id, guid, project_id, monitor_environment_id, shard, status, date_added,
           date_updated, date_in_progress, expected_time, duration_ms, source, config_id, failed_at)
    SELECT nextval(pg_get_serial_sequence('checkins_checkin', 'id')), gen_random_uuid(), m.project_id, me.id,
           me.shard, CASE WHEN i %% %(error_every)s = 0 THEN 'error' ELSE 'ok' END, at, at + interval '2 seconds',
           CASE WHEN i %% 2 = 0 THEN at END, date_trunc('minute', at), 2000, 'sentry_envelope', m.config_id,
           CASE WHEN i %% %(error_every)s = 0 THEN at END
      FROM generate_series(1, %(rows)s) AS i
     CROSS JOIN LATERAL (SELECT %(since)s::timestamptz
                                    + i * (%(until)s::timestamptz - %(since)s) / (%(rows)s + 1) AS at,
                                i * 7919::bigint %% %(environments)s AS n) AS place
      JOIN numbered ON numbered.n = place.n
      JOIN monitors_monitorenvironment AS me ON me.id = numbered.id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
"""

console = Console(stderr=True)


def seed_history(rows: int, *, days: int, newest: datetime, error_every: int = 100) -> None:
    """Write this many check-ins of all environments into the `days` days before `newest` and the day of it."""
    from django.db import connection

    from checkins import partitions

    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [midnight - timedelta(days=back) for back in range(days, -1, -1)]
    with Progress(console=console) as progress, connection.cursor() as cursor:
        task = progress.add_task(f"{rows:,} check-ins of {days} days", total=len(starts) + 1)
        cursor.execute(
            "CREATE TEMPORARY TABLE numbered AS"
            " SELECT row_number() OVER (ORDER BY id) - 1 AS n, id FROM monitors_monitorenvironment"
        )
        cursor.execute("CREATE UNIQUE INDEX ON numbered (n)")
        cursor.execute("ANALYZE numbered")
        cursor.execute("SELECT count(*) FROM numbered")
        (environments,) = cursor.fetchone()
        existing = {partition.name for partition in partitions.existing_partitions() or []}
        for since in starts:
            name, until = partitions.of_day(since.date()).name, min(since + timedelta(days=1), newest)
            if name not in existing:
                cursor.execute(partitions.TABLE_SQL.format(name=name))
            cursor.execute(
                ROWS_SQL.format(name=name),
                {
                    "rows": rows // len(starts),
                    "since": since,
                    "until": until,
                    "environments": environments,
                    "error_every": error_every,
                },
            )
            if name not in existing:
                cursor.execute(partitions.INDEX_SQL.format(name=name, index=partitions.guid_index(name)))
                bounds = {"since": f"'{since}'", "until": f"'{since + timedelta(days=1)}'"}
                cursor.execute(partitions.ATTACH_SQL.format(name=name, **bounds))
            progress.advance(task)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
        progress.advance(task)


# --- the two measurements, in processes of their own: Django keeps to the database that it was started with ----------


def serve_ingest(rows: int, options: argparse.Namespace) -> None:
    """Prepare an installation, say so, and measure each protocol that is asked for on standard input."""
    bench = argparse.Namespace(seconds=options.seconds, connections=256, processes=2)
    with bench_ingest.installation(bench.processes) as target:
        bench_ingest.seed(target, options.monitors)
        if rows:
            from lib.wallclock import utcnow

            seed_history(rows, days=options.days, newest=utcnow())
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            protocol = line.strip()
            measured = bench_ingest.measure(target, protocol, bench)
            if measured["stored"] != measured["acknowledged"]:
                raise SystemExit(f"{protocol}: {measured}")
            spent = measured["server_cpu_s"] + measured["database_cpu_s"]
            figures = {
                f"{protocol}_per_s": float(measured["checkins_per_s"]),
                f"{protocol}_cpu_us": spent * 1e6 / (measured["checkins_per_s"] * options.seconds),
            }
            print(json.dumps(figures), flush=True)


def serve_clock(rows: int, options: argparse.Namespace) -> None:
    """Measure a tick with many misses, and quiet ones."""
    stage = bench_clock.Stage(options.environments, (bench_clock.Step("missed", options.due),))
    seed = bench_clock.seed

    def seed_with_history(stage: bench_clock.Stage) -> None:
        seed(stage)
        if rows:
            # What `seed` wrote for the day itself is in the default partition already. The check afterwards counts all
            # failures as the clock's, so there are none before.
            midnight = bench_clock.TICK.replace(hour=0, minute=0)
            seed_history(rows, days=options.days, newest=midnight - timedelta(microseconds=1), error_every=rows)

    postgres = running_server(POSTGRES.split())
    with patch.object(bench_clock, "seed", seed_with_history), postgres as server:
        [measured] = bench_clock.run_stage(server, stage, workers=options.workers)
    print(json.dumps({"due_per_s": options.due / measured.seconds, "quiet_tick_ms": measured.quiet_tick_ms}))


SERVERS = {"ingest": serve_ingest, "clock": serve_clock}


# --- all of them ------------------------------------------------------------------------------------------------------


Rounds = dict[str, list[float]]
"""The figures of one side, by name: a value for each round."""


def add_round(rounds: Rounds, figures: dict[str, float]) -> None:
    """Take the figures of a round."""
    for name, value in figures.items():
        rounds.setdefault(name, []).append(value)


@contextlib.contextmanager
def measuring(part: str, rows: int) -> Iterator[Callable[[str], Any]]:
    """Start a process that measures one side; yields a function that tells it a line (or nothing) and hears one."""
    command = [sys.executable, "-m", "benchmarks.bench_history", *sys.argv[1:], "--only", part, "--rows", str(rows)]
    console.print(f"{part} {f'after {rows:,} check-ins' if rows else 'on an empty database'}")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None, "both are pipes"
        assert process.stdout is not None, "both are pipes"
        told, heard = process.stdin, process.stdout

        def ask(line: str) -> Any:
            if line:
                told.write(f"{line}\n")
                told.flush()
            answer = heard.readline()
            if not answer:
                raise SystemExit(f"{part}: the process ended with status {process.wait()}")
            return json.loads(answer)

        yield ask
        told.close()


def measure_ingest(options: argparse.Namespace) -> tuple[Rounds, Rounds]:
    """Load both installations in turn."""
    empty: Rounds = {}
    full: Rounds = {}
    with measuring("ingest", 0) as ask_empty, measuring("ingest", options.rows) as ask_full:
        for ask in (ask_empty, ask_full):
            ask("")
        for _ in range(options.rounds):
            for protocol in PROTOCOLS:
                add_round(empty, ask_empty(protocol))
                add_round(full, ask_full(protocol))
    return empty, full


def measure_clock(options: argparse.Namespace) -> tuple[Rounds, Rounds]:
    """Apply the tick on an empty database, on one with history, and on an empty one again."""
    empty: Rounds = {}
    full: Rounds = {}
    for rows, side in ((0, empty), (options.rows, full), (0, empty)):
        with measuring("clock", rows) as ask:
            add_round(side, ask(""))
    return empty, full


PARTS = {"ingest": measure_ingest, "clock": measure_clock}


def slower_by(name: str, empty: float, full: float) -> float:
    """Return by which part a figure is worse with history; negative if it is better."""
    return empty / full - 1 if name.endswith("_per_s") else full / empty - 1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000, help="check-ins of history (50000000)")
    parser.add_argument("--days", type=int, default=90, help="over which they are spread (90)")
    parser.add_argument("--monitors", type=int, default=10_000, help="that ingest hears of (10000)")
    parser.add_argument("--seconds", type=int, default=10, help="of load, for each protocol and speed (10)")
    parser.add_argument("--rounds", type=int, default=5, help="in which ingest is measured on both (5)")
    parser.add_argument("--environments", type=int, default=200_000, help="that the clock walks (200000)")
    parser.add_argument("--due", type=int, default=50_000, help="how many of them miss a check-in (50000)")
    parser.add_argument("--workers", type=int, default=2, help="of the clock (2)")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured, with commas between")
    parser.add_argument("--only", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        SERVERS[options.only](options.rows, options)
        return
    started = time.monotonic()
    table = Table("figure", "empty", f"after {options.rows:,}", "slower by")
    outcome: dict[str, Any] = {"benchmark": "history", "rows": options.rows, "days": options.days}
    for part in options.parts.split(","):
        empty, full = PARTS[part](options)
        for name in empty:
            before, after = statistics.median(empty[name]), statistics.median(full[name])
            slower = slower_by(name, before, after)
            outcome[name] = [round(before, 1), round(after, 1), round(slower, 3)]
            table.add_row(name, f"{before:,.1f}", f"{after:,.1f}", f"{slower:+.1%}")
            for side, rounds in (("empty", empty), ("full", full)):
                console.print(f"{name} {side}: {', '.join(f'{value:,.1f}' for value in rounds[name])}")
    console.print(table)
    console.print(f"In {time.monotonic() - started:,.0f} s; history may cost {SLOWER_MAX:.0%}.")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
