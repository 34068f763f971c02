"""Do ingest and the clock get slower with history? Both are measured on an empty database and on one with check-ins.

The check-ins lie in the days before, a partition each, as they would after months. They are written as rows without
indexes, which are built afterwards; then VACUUM ANALYZE. Ingest is measured as by bench-ingest, through the real web,
and the clock as by bench-clock; each measurement is a process of its own, and removes its database. The last line, on
standard output, is JSON: for each figure the value on the empty database, the one with history, and how much slower.

    ping_per_s, sentry_envelope_per_s   check-ins acknowledged in a second
    ping_cpu_us, sentry_envelope_cpu_us processor time for each, of web and PostgreSQL: it says more on a busy machine
    due_per_s                           misses of one tick, with their incidents
    quiet_tick_ms                       a tick at which nothing is due
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import bench_clock, bench_ingest

PROTOCOLS = ("ping", "sentry_envelope")
SLOWER_MAX = 0.20
"""What history may cost: see issue 4."""
# One in `error_every` failed, and one in two is of a job that says when it begins.
ROWS_SQL = """
    INSERT INTO {name} (id, guid, project_id, monitor_id, monitor_environment_id, shard, status, date_added,
           date_updated, date_in_progress, received_at, expected_time, duration_ms, source, config_id, failed_at)
    SELECT nextval(pg_get_serial_sequence('checkins_checkin', 'id')), gen_random_uuid(), m.project_id, m.id, me.id,
           me.shard, CASE WHEN i %% %(error_every)s = 0 THEN 'error' ELSE 'ok' END, at, at + interval '2 seconds',
           CASE WHEN i %% 2 = 0 THEN at END, at, date_trunc('minute', at), 2000, 'sentry_envelope', m.config_id,
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


# --- the two measurements, each in a process of its own ---------------------------------------------------------------


def measure_ingest(rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Return check-ins a second for each protocol."""
    bench = argparse.Namespace(seconds=options.seconds, connections=256, processes=2)
    figures = {}
    with bench_ingest.installation(bench.processes) as target:
        bench_ingest.seed(target, options.monitors)
        if rows:
            from monitors.wallclock import utcnow

            seed_history(rows, days=options.days, newest=utcnow())
        with bench_ingest.watched_memory(target):
            for protocol in PROTOCOLS:
                measured = bench_ingest.measure(target, protocol, bench)
                if measured["stored"] != measured["acknowledged"]:
                    raise SystemExit(f"{protocol}: {measured}")
                figures[f"{protocol}_per_s"] = float(measured["checkins_per_s"])
                spent = measured["server_cpu_s"] + measured["database_cpu_s"]
                figures[f"{protocol}_cpu_us"] = spent * 1e6 / (measured["checkins_per_s"] * options.seconds)
    return figures


def measure_clock(rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the speed of a tick with many misses, and the length of a quiet one."""
    stage = bench_clock.Stage(options.environments, (bench_clock.Step("missed", options.due),))
    seed = bench_clock.seed

    def seed_with_history(stage: bench_clock.Stage) -> None:
        seed(stage)
        if rows:
            # What `seed` wrote for the day itself is in the default partition already. The check afterwards counts all
            # failures as the clock's, so there are none before.
            midnight = bench_clock.TICK.replace(hour=0, minute=0)
            seed_history(rows, days=options.days, newest=midnight - timedelta(microseconds=1), error_every=rows)

    postgres = bench_clock.running_server(bench_clock.POSTGRES.split())
    with patch.object(bench_clock, "seed", seed_with_history), postgres as server:
        [measured] = bench_clock.run_stage(server, stage, workers=options.workers)
    return {"due_per_s": options.due / measured.seconds, "quiet_tick_ms": measured.quiet_tick_ms}


PARTS = {"ingest": measure_ingest, "clock": measure_clock}


# --- all of them ------------------------------------------------------------------------------------------------------


def run_part(part: str, rows: int) -> dict[str, float]:
    """Measure in a new process with the same options: Django keeps to the database that it was started with."""
    console.print(f"{part} {f'after {rows:,} check-ins' if rows else 'on an empty database'}")
    command = [sys.executable, "-m", "benchmarks.bench_history", *sys.argv[1:], "--only", part, "--rows", str(rows)]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(outcome.stdout.splitlines()[-1])
    return figures


def slower_by(name: str, empty: float, full: float) -> float:
    """Return by which part a figure is worse with history; negative if it is better."""
    return empty / full - 1 if name.endswith("_per_s") else full / empty - 1


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000, help="check-ins of history (50000000)")
    parser.add_argument("--days", type=int, default=90, help="over which they are spread (90)")
    parser.add_argument("--monitors", type=int, default=10_000, help="that ingest hears of (10000)")
    parser.add_argument("--seconds", type=int, default=20, help="of load, for each protocol and speed (20)")
    parser.add_argument("--environments", type=int, default=200_000, help="that the clock walks (200000)")
    parser.add_argument("--due", type=int, default=50_000, help="how many of them miss a check-in (50000)")
    parser.add_argument("--workers", type=int, default=2, help="of the clock (2)")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured, with commas between")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(PARTS[options.only](options.rows, options)))
        return
    started = time.monotonic()
    table = Table("figure", "empty", f"after {options.rows:,}", "slower by")
    outcome: dict[str, Any] = {"benchmark": "history", "rows": options.rows, "days": options.days}
    for part in options.parts.split(","):
        empty, full = (run_part(part, rows) for rows in (0, options.rows))
        for name in empty:
            slower = slower_by(name, empty[name], full[name])
            outcome[name] = [round(empty[name], 1), round(full[name], 1), round(slower, 3)]
            table.add_row(name, f"{empty[name]:,.1f}", f"{full[name]:,.1f}", f"{slower:+.1%}")
    console.print(table)
    console.print(f"In {time.monotonic() - started:,.0f} s; history may cost {SLOWER_MAX:.0%}.")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
