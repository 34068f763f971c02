"""How many bytes of disk does a check-in take, and where do they go?

Check-ins come through the product's own write path, in batches as ingest makes them, into one day's partition. In equal
parts they are of jobs that say when they begin and when they end (an envelope with an id, twice) and of jobs that say
only that all is well (a ping without an id); each of `ENVIRONMENTS` environments checks in every ten minutes. Then
VACUUM, as autovacuum does sooner or later. Nothing is built anew, so indexes are as full as they come to be. The last
line, on standard output, is JSON: bytes a check-in, in all and of each part.
"""

import argparse
import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import bench_clock
from benchmarks.server import POSTGRES, own_database, running_server

if TYPE_CHECKING:
    from checkins.messages import CheckInMessage

BATCH = 250
"""Check-ins that begin in a batch: with the ends of those before, about as many messages as ingest has under load."""
EVERY = timedelta(minutes=10)
LASTS = 5
"""How many batches a run lasts, on average: some are over at once, few last long."""
BYTES_MAX = 200
"""What a check-in may take."""

console = Console(stderr=True)


def batches(environments: Sequence[tuple[int, str]], rounds: int) -> Iterator[list["CheckInMessage"]]:
    """Yield the messages of all jobs, given with project and slug, in the order of time."""
    from msgspec.structs import replace

    from checkins.messages import CheckInMessage, CheckInStatus, Source

    dice = random.Random(1)  # noqa: S311
    step = EVERY * BATCH / len(environments)
    at = bench_clock.TICK
    ending: defaultdict[int, list[CheckInMessage]] = defaultdict(list)

    def message(place: tuple[int, str], status: CheckInStatus, source: Source, run: uuid.UUID | None) -> CheckInMessage:
        project_id, slug = place
        return CheckInMessage(
            project_id=project_id,
            slug=slug,
            raw_slug=slug,
            environment="production",
            status=status,
            check_in_id=run,
            received_at=at,
            source=source,
            payload={},
        )

    batches_a_round = -(-len(environments) // BATCH)
    for number in range(rounds * batches_a_round):
        first = number % batches_a_round * BATCH
        batch = [replace(begun, status=CheckInStatus.OK, received_at=at) for begun in ending.pop(number, [])]
        for nth, place in enumerate(environments[first : first + BATCH]):
            at += step / BATCH
            if nth % 2:
                batch.append(message(place, CheckInStatus.OK, Source.HEALTHCHECKS, None))
                continue
            run = uuid.UUID(int=dice.getrandbits(128), version=4)
            batch.append(message(place, CheckInStatus.IN_PROGRESS, Source.SENTRY_ENVELOPE, run))
            ending[number + 1 + min(int(dice.expovariate(1 / LASTS)), batches_a_round - 2)].append(batch[-1])
        yield batch
    for late in sorted(ending):
        yield [replace(begun, status=CheckInStatus.OK, received_at=at) for begun in ending[late]]


def write(rounds: int) -> None:
    """Have all jobs check in, a batch a transaction."""
    from django.conf import settings
    from django.db import connection

    from checkins.partitions import ensure_partitions
    from checkins.processing.apply import receive
    from monitors.models import Monitor

    settings.EARLY_CHECKIN_SECONDS = 0
    ensure_partitions(now=bench_clock.TICK)
    places = list(Monitor.objects.order_by("id").values_list("project_id", "slug"))
    total = rounds * -(-len(places) // BATCH)
    for batch in track(batches(places, rounds), "check-ins", total=total, console=console):
        outcomes = receive(batch, now=batch[-1].received_at)
        assert all(outcome.accepted for outcome in outcomes), "a benchmark of refusals says nothing"
    connection.close()


# --- looking ----------------------------------------------------------------------------------------------------------


def measure() -> tuple[int, dict[str, float]]:
    """Return how many check-ins the day's partition holds, and bytes a check-in of each part."""
    from django.db import connection

    from checkins.partitions import of_day

    table = of_day(bench_clock.TICK.date()).name
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")

        def ask(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement.format(table=table))
            return cursor.fetchall()

        columns = [name for (name,) in ask(COLUMNS_SQL)]
        widths = ", ".join(f"avg(coalesce(pg_column_size({name}), 0))" for name in columns)
        [(rows, oks, row_bytes, *averages)] = ask(f"{ROWS_SQL}, {widths} FROM {{table}} AS c")
        assert rows == oks, "every run ended well"
        parts = {f"column {name}": float(width) for name, width in zip(columns, averages, strict=True) if width}
        # Of 23 bytes, and a bit for each column, since every row has an empty one; a tuple's length is a multiple of 8.
        parts |= {"tuple header": (23 + -(-len(columns) // 8) + 7) // 8 * 8, "line pointer": 4}
        parts["alignment"] = float(row_bytes) + parts["line pointer"] - sum(parts.values())
        [(heap, maps, toast, total)] = ask(SIZES_SQL)
        parts["free room in pages"] = heap / rows - sum(parts.values())
        parts |= {"maps": maps / rows, "TOAST": toast / rows}
        for name, size in ask(INDEXES_SQL):
            parts[f"index {name.replace(table, 'partition')}"] = size / rows
    assert abs(total / rows - sum(parts.values())) < 1, "the parts are all there is"
    return rows, parts


COLUMNS_SQL = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
ROWS_SQL = """
    SELECT count(*), count(*) FILTER (WHERE status = 'ok'), avg((pg_column_size(c.*) + 7) / 8 * 8)"""
SIZES_SQL = """
    SELECT pg_relation_size('{table}'), pg_table_size('{table}') - pg_relation_size('{table}') - toast, toast,
           pg_total_relation_size('{table}')
      FROM (SELECT coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0) AS toast
              FROM pg_class WHERE oid = '{table}'::regclass) AS c"""
INDEXES_SQL = """
    SELECT coalesce(whole.relname, c.relname), pg_total_relation_size(c.oid)
      FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid
      LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid LEFT JOIN pg_class AS whole ON whole.oid = i.inhparent
     WHERE x.indrelid = '{table}'::regclass ORDER BY 2 DESC"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=10_000, help="that check in (10000)")
    parser.add_argument("--rows", type=int, default=300_000, help="check-ins (300000)")
    options = parser.parse_args()
    began = time.monotonic()
    stage = bench_clock.Stage(options.environments, ())
    with running_server(POSTGRES.split()) as server, own_database(server) as url:
        bench_clock.set_up(url)
        bench_clock.seed(stage)
        write(options.rows // options.environments)
        rows, parts = measure()
        from django.db import connection

        connection.close()
    table = Table("part", "bytes a check-in")
    for name, size in parts.items():
        table.add_row(name, f"{size:.1f}")
    total = sum(parts.values())
    table.add_row("in all", f"{total:.1f}")
    console.print(table)
    console.print(f"{rows:,} check-ins, in {time.monotonic() - began:,.0f} s; {BYTES_MAX} are allowed.")
    figures = {name: round(size, 1) for name, size in parts.items()}
    print(json.dumps({"benchmark": "disk", "rows": rows, "bytes": round(total, 1), **figures}))


if __name__ == "__main__":
    main()
