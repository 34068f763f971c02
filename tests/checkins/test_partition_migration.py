"""An installation with check-ins is brought to days, and back, and nothing of it is lost."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection

from checkins.models import CheckIn
from checkins.partitions import ensure_partitions, existing_partitions
from clocktasks.simulation import scratch_database
from monitors.wallclock import utcnow
from tests import factories

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)


@pytest.fixture
def own_database(worker_id):
    """A migrated database of its own: the others that share one are not to see half of the migrations."""
    with scratch_database(f"watchclock_migrating_{worker_id}"):
        yield


def definitions():
    """Indexes and constraints of the table of check-ins itself, as PostgreSQL writes them down."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes"
            " WHERE tablename = 'checkins_checkin'"
            " UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'checkins_checkin'::regclass AND contype <> 'n'"
        )
        return dict(cursor.fetchall())


def is_partitioned():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = 'checkins_checkin'::regclass")
        return cursor.fetchone()[0]


def stored():
    return list(CheckIn.objects.order_by("id").values())


def test_check_ins_stay_as_they_are_when_they_are_put_into_days_and_back(own_database):
    now = utcnow()
    environment = factories.MonitorEnvironmentFactory()
    for age in (0, 0, 1, 40, 400):
        factories.CheckInFactory(monitor_environment=environment, date_added=now - age * DAY)
    rows, days = stored(), definitions()

    call_command("migrate", "checkins", "0010", verbosity=0)
    assert not is_partitioned()
    assert stored() == rows
    with pytest.raises(IntegrityError, match="checkin_guid_unique_in_project"):
        factories.CheckInFactory(monitor_environment=environment, guid=rows[0]["guid"], date_added=now - 7 * DAY)

    call_command("migrate", "checkins", verbosity=0)
    assert is_partitioned()
    assert stored() == rows
    assert definitions() == days


def test_an_installation_goes_on_with_its_ids_and_its_next_days(own_database):
    now = utcnow()
    call_command("migrate", "checkins", "0010", verbosity=0)
    environment = factories.MonitorEnvironmentFactory()
    old = factories.CheckInFactory(monitor_environment=environment, date_added=now)
    call_command("migrate", "checkins", verbosity=0)
    ensure_partitions(now=now)

    new = [factories.CheckInFactory(monitor_environment=environment, date_added=now + age * DAY) for age in (0, 1)]
    with pytest.raises(IntegrityError, match="guid_unique"):
        factories.CheckInFactory(monitor_environment=environment, guid=old.guid, date_added=now)

    assert min(checkin.id for checkin in new) > old.id
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM checkins_checkin ORDER BY id")
        before, today, tomorrow = (name for (name,) in cursor.fetchall())
    assert before == today
    assert "_before_" in before
    assert tomorrow == f"checkins_checkin_p{now + DAY:%Y%m%d}"
    assert {before, tomorrow} <= {partition.name for partition in existing_partitions() or []}
