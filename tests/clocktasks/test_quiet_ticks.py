"""P7: what a tick costs at which nothing is due, while there is much that could be."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clocktasks.dispatch import advance_ledger, poll_nodes
from tests.clocktasks.shards import SHARD, after, make_monitor_in
from tests.factories import NOW, AppliedTickFactory, CheckInFactory, MinuteVolumeFactory, MonitorEnvironmentFactory

pytestmark = pytest.mark.django_db

# Copies of a row, of which some columns differ.
COPY = """
    INSERT INTO {table}
    SELECT copy.* FROM {table} AS old, generate_series(1, {count}) AS n,
           jsonb_populate_record(old, jsonb_build_object({changes})) AS copy
"""
ROWS_MAX = 1000
"""Tables with fewer rows may be read in full: PostgreSQL does not look into an index for a page."""
LATER = "n % 60 * interval '1 minute'"
MANY = [
    ("clocktasks_tick", 80_000, "'at', old.at - n * interval '1 minute'"),
    ("clocktasks_appliedtick", 80_000, "'id', old.id + n, 'tick', old.tick - n * interval '1 minute'"),
    ("checkins_minutevolume", 20_000, "'id', old.id + n, 'minute', old.minute - n * interval '1 minute'"),
    ("monitors_monitor", 10_000, "'id', old.id + 16 * n, 'slug', 'copy-' || n, 'guid', gen_random_uuid()"),
    (
        "monitors_monitorenvironment",
        10_000,
        "'id', old.id + n, 'monitor_id', old.monitor_id + 16 * n, 'shard', n % 16,"
        f" 'pending_slot', old.pending_slot + {LATER}, 'next_checkin', old.next_checkin + {LATER},"
        f" 'next_checkin_latest', old.next_checkin_latest + {LATER}",
    ),
    (
        "checkins_checkin",
        20_000,
        "'id', old.id + n, 'guid', gen_random_uuid(), 'shard', n % 16,"
        " 'status', CASE n % 2 WHEN 0 THEN 'ok' ELSE 'in_progress' END,"
        f" 'timeout_at', CASE n % 2 WHEN 1 THEN old.timeout_at + {LATER} END",
    ),
]


@pytest.fixture
def much(db):
    """Thousands of environments and runs that wait for something later, and two months of ledger."""
    environment = MonitorEnvironmentFactory(
        monitor=make_monitor_in(SHARD), pending_slot=after(60), next_checkin=after(60), next_checkin_latest=after(61)
    )
    CheckInFactory(monitor_environment=environment, status="in_progress", timeout_at=after(61))
    MinuteVolumeFactory(minute=after(-1))
    advance_ledger(NOW, now=NOW)
    AppliedTickFactory(tick=NOW)
    with connection.cursor() as cursor:
        for table, count, changes in MANY:
            cursor.execute(COPY.format(table=table, count=count, changes=changes))
        cursor.execute("ANALYZE")


def test_p7_no_statement_of_a_quiet_tick_scans_a_table_that_grows(much):
    with CaptureQueriesContext(connection) as queries:
        poll_nodes(after(1))
        assert advance_ledger(after(1), now=after(1)) == []
    statements = [
        query["sql"] for query in queries if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", query["sql"])
    ]
    assert len(statements) >= 6
    with connection.cursor() as cursor:
        # An empty partition may well be read in full.
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > %s", [ROWS_MAX])
        big = {name for (name,) in cursor.fetchall()}
        assert len(big) >= len({table for table, *_ in MANY})
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            scanned = set(re.findall(r"Seq Scan on (\w+)", plan)) & big
            assert not scanned, f"{scanned} in full by {statement}\n{plan}"
