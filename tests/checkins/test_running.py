"""What runs stands in a table of its own: exactly that, whoever writes check-ins, and the end of a run is cheap."""

from datetime import timedelta

import pytest
from django.db import connection

from checkins.models import CheckIn, RunningCheckIn
from checkins.partitions import ensure_partitions
from checkins.processing.rows import _CHANGED
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def running():
    return list(RunningCheckIn.objects.order_by("checkin").values_list("checkin", "timeout_at", "shard"))


@pytest.mark.parametrize("status", ["ok", "error", "missed", "timeout", "unknown"])
def test_what_does_not_run_is_not_there(status):
    factories.CheckInFactory(status=status)
    assert running() == []


def test_a_run_is_there_until_it_ends():
    run = factories.CheckInFactory(status="in_progress")
    assert running() == [(run.id, run.timeout_at, run.shard)]
    [row] = RunningCheckIn.objects.all()
    assert (row.date_added, row.monitor_environment) == (run.date_added, run.monitor_environment)

    CheckIn.objects.filter(id=run.id).update(status="ok", timeout_at=None)
    assert running() == []


def test_it_goes_with_its_check_in():
    factories.CheckInFactory(status="in_progress")
    CheckIn.objects.all().delete()
    assert running() == []


def test_it_follows_the_deadline_and_the_shard():
    run = factories.CheckInFactory(status="in_progress")
    later = run.timeout_at + timedelta(minutes=1)
    CheckIn.objects.filter(id=run.id).update(timeout_at=later, shard=run.shard + 1)
    assert running() == [(run.id, later, run.shard + 1)]


def test_a_run_that_moves_to_its_new_day_stays_there():
    tomorrow = NOW + 30 * DAY
    run = factories.CheckInFactory(status="in_progress", date_added=tomorrow)
    assert next(iter(ensure_partitions(now=tomorrow).created.values())) == 1
    assert running() == [(run.id, run.timeout_at, run.shard)]


def test_the_end_of_a_run_changes_no_column_that_an_index_names():
    """PostgreSQL then writes it into no index (HOT). A failure is found by its instant, and pays for it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT attname FROM pg_index AS x
              JOIN pg_class AS c ON c.oid = x.indexrelid JOIN pg_am AS am ON am.oid = c.relam AND am.amname <> 'brin'
              JOIN pg_depend AS d ON d.objid = x.indexrelid AND d.refobjid = x.indrelid AND d.refobjsubid > 0
              JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = d.refobjsubid
             WHERE x.indrelid IN (SELECT relid FROM pg_partition_tree('checkins_checkin'))
            """
        )
        indexed = {name for (name,) in cursor.fetchall()}
    assert {"guid", "monitor_environment_id"} <= indexed
    assert indexed & set(_CHANGED.types) == {"failed_at"}
