"""An instance of the last commit before its migrations were put together is brought to this one, and nothing changes.

`dumps/e2e8189.sql.gz` is such an instance, made by `python -m tests.dumps.make` in that commit: it had check-ins before
there were days, and a little of everything since, until 2026-01-05 10:03; its clock has applied 10:00.
"""

import gzip
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from checkins.models import CheckIn, DeferredEnding
from checkins.partitions import existing_partitions
from checkins.processing.apply import receive
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import finish_ticks
from clocktasks.models import Tick
from clocktasks.playback.scratch import scratch_database
from clocktasks.shards import process_clock_task
from incidents.models import Incident
from lib.migrations import half_replaced, missing_migrations
from monitors.management.commands.migrate import LAST_WITH_ALL
from monitors.models import Monitor, MonitorEnvironment
from tests.checkins import run_hours
from tests.factories import NOW
from tests.messages import make_message, run_id

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

DUMP = Path(__file__).parent / "dumps" / "e2e8189.sql.gz"
MINUTE = timedelta(minutes=1)
APPS = ("audit", "monitors", "accounts", "checkins", "incidents", "clocktasks")
SQUASHED = [
    "checkins.0001_squashed_0018",
    "clocktasks.0001_squashed_0006",
    "incidents.0001_squashed_0008",
    "monitors.0001_squashed_0018",
]

# What PostgreSQL has written down, by names. A partition's part of an index or a foreign key of the whole table goes by
# the name of that: its own is PostgreSQL's choice. That columns are not null is said once, of the columns.
CATALOGUE = """
    SELECT 'table', c.relname, c.relkind::text, coalesce(c.reloptions::text, ''), parent.relname,
           pg_get_partkeydef(c.oid), c.relpersistence::text
      FROM pg_class c
      LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v')
    UNION ALL
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           pg_get_expr(d.adbin, d.adrelid), concat_ws(' ', attidentity, attgenerated, attstorage, attcompression)
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'index', t.relname, coalesce(whole.relname, c.relname),
           replace(replace(pg_get_indexdef(c.oid), 'INDEX ' || c.relname || ' ', 'INDEX '), ' ON ONLY ', ' ON '),
           x.indisvalid::text, x.indisprimary::text, coalesce(c.reloptions::text, '')
      FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
      LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class whole ON whole.oid = i.inhparent
     WHERE t.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'constraint', t.relname, coalesce(whole.conname, o.conname), pg_get_constraintdef(o.oid),
           concat_ws(' ', o.contype, o.condeferrable, o.condeferred, o.contype = 'c' AND o.connoinherit), NULL, NULL
      FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid
      LEFT JOIN pg_constraint whole ON whole.oid = o.conparentid
     WHERE t.relnamespace = 'public'::regnamespace AND o.contype <> 'n'
    UNION ALL
    SELECT 'trigger', t.relname, g.tgname, pg_get_triggerdef(g.oid), g.tgenabled::text, NULL, NULL
      FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
     WHERE t.relnamespace = 'public'::regnamespace AND NOT g.tgisinternal
"""
SPELLINGS = [
    (r"checkins_checkin_p\d{8}", "checkins_checkin_p"),
    # What was there before the days has what the partition without a day has: an index for many days.
    (r"checkins_checkin_before_\d{8}", "checkins_checkin_default"),
    # A list of texts is spelt differently once it comes from a dump.
    (r"\(ARRAY\[(.*?)\]\)::text\[\]", r"ARRAY[\1]"),
    (r"\(('\w*'::character varying)\)::text", r"\1"),
]
NOT_VALID = "checkin_counted_only_as_a_failure"
"""The check that an old instance has as NOT VALID, and one that is new as valid: to validate it would be to read every
check-in. It holds for what is written since it is there, and what was there before had passed a stricter one."""


def catalogue():
    """What there is, with the days of check-ins as one: which there are depends on when the database was made."""
    with connection.cursor() as cursor:
        cursor.execute(CATALOGUE)
        rows = {tuple(str(value) for value in row) for row in cursor.fetchall()}
    for pattern, replacement in SPELLINGS:
        rows = {tuple(re.sub(pattern, replacement, value) for value in row) for row in rows}
    return rows


@pytest.fixture
def own_database(worker_id):
    """A database of this version's migrations, beside the one that others share."""
    with scratch_database(f"watchclock_upgrade_{worker_id}"):
        yield


@pytest.fixture
def instance(own_database):
    """The instance of the dump, as it is before `migrate`."""
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        cursor.execute(gzip.decompress(DUMP.read_bytes()).decode())
    connection.close()  # The dump's settings of the session go with it.


def migrate(**options):
    call_command("migrate", verbosity=0, interactive=False, **options)


def test_an_upgraded_instance_has_the_tables_of_a_new_one(own_database, request):
    fresh = catalogue()
    request.getfixturevalue("instance")
    before = catalogue()
    recorded = set(MigrationRecorder(connection).applied_migrations())
    assert set(SQUASHED).isdisjoint(missing_migrations(connection))

    for name in SQUASHED:
        call_command("migrate", *name.split("."), verbosity=0)

    # Old processes run beside new ones meanwhile: no more than the record has changed.
    assert catalogue() == before
    now_recorded = set(MigrationRecorder(connection).applied_migrations())
    assert sorted(f"{app}.{name}" for app, name in now_recorded - recorded) == SQUASHED
    assert recorded <= now_recorded

    migrate()

    upgraded = {
        tuple(value.replace(" NOT VALID", "") for value in row) if NOT_VALID in row else row for row in catalogue()
    }
    assert sorted(fresh - upgraded) == []
    assert sorted(upgraded - fresh) == []
    migrate(check_unapplied=True)
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


def test_an_upgraded_instance_goes_on(instance):
    migrate()
    names = {partition.name for partition in existing_partitions() or []}
    assert {"checkins_checkin_before_20260103", "checkins_checkin_p20260105"} <= names
    assert CheckIn.objects.filter(date_added__lt=NOW - timedelta(days=2.5)).count() == 3
    assert run_hours.stored() == run_hours.counted() != {}, "what was there before is counted"
    newest = CheckIn.objects.latest("id").id
    often, daily = (Monitor.objects.get(slug=slug) for slug in ("often", "daily"))
    waited_for = MonitorEnvironment.objects.get(monitor__slug="hangs")
    assert Incident.objects.filter(resolved_at=None, monitor_environment__monitor__in=[often, daily]).count() == 2

    # A ping of one monitor, the end of a run that goes on, and the word that all is well of two that fail.
    at = NOW + 4 * MINUTE
    receive(
        [
            make_message("in_progress", monitor=daily, at=at, run=101),
            make_message("ok", monitor=often, at=at, run=30),
            make_message("ok", monitor=often, at=at, run=102, environment="staging"),
            make_message("ok", monitor=daily, at=at, run=101),
        ],
        now=at,
    )
    tasks = advance_ledger(at, now=at)
    while tasks:
        woken = process_clock_task(tasks.pop(0)).wake
        tasks += [] if woken is None else [woken]
    finish_ticks(now=at)

    assert CheckIn.objects.get(guid=run_id(101)).id > newest
    assert CheckIn.objects.get(guid=run_id(30)).status == "ok"
    assert not Tick.objects.filter(at__lte=at, finished_at=None).exists()
    # The clock has come to the run that hung, and then to the end that waited for it.
    assert CheckIn.objects.get(guid=run_id(40)).status == "timeout"
    assert not DeferredEnding.objects.filter(monitor_environment=waited_for).exists()
    assert not Incident.objects.filter(resolved_at=None, monitor_environment__monitor=daily).exists()
    assert not Incident.objects.filter(resolved_at=None, monitor_environment__monitor=often).exists()


@pytest.mark.parametrize("table", ["checkins_checkin", "monitors_monitorenvironment"])
def test_postgresql_fills_no_gaps_between_columns(table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attlen, CASE attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END"
            " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            [table],
        )
        columns = cursor.fetchall()
    ends = 0
    fixed = [column for column in columns if column[0] > 0]
    assert columns[: len(fixed)] == fixed, "what has any length comes last"
    for length, alignment in fixed:
        assert ends % alignment == 0
        ends += length


def test_an_instance_that_is_too_old_is_told_what_to_do(instance):
    MigrationRecorder(connection).record_unapplied("checkins", "0018_lost_spans")
    assert half_replaced(connection) == ["checkins.0001_squashed_0018"]
    assert "checkins.0001_squashed_0018" in missing_migrations(connection)
    for command in ("migrate", "bootstrap"):
        with pytest.raises(CommandError) as refused:
            call_command(command, verbosity=0)
        assert str(refused.value) == (
            f"this database is of a version before {LAST_WITH_ALL}, which this version cannot upgrade:"
            " run `manage.py migrate` of that commit first, then this one"
        )
    assert DUMP.name.startswith(f"{LAST_WITH_ALL}.")


def test_a_database_without_tables_and_one_that_is_up_to_date_are_not_too_old(own_database):
    migrate()
    assert (half_replaced(connection), missing_migrations(connection)) == ([], [])
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert half_replaced(connection) == []
    assert set(SQUASHED) < set(missing_migrations(connection))
    migrate()
    assert (half_replaced(connection), missing_migrations(connection)) == ([], [])


def test_all_of_it_can_be_taken_back(own_database):
    for app in reversed(APPS):
        call_command("migrate", app, "zero", verbosity=0)
    assert connection.introspection.table_names() == [
        name for name in connection.introspection.table_names() if not name.startswith(APPS)
    ]
    migrate()
    assert missing_migrations(connection) == []
