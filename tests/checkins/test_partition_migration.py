"""An installation with check-ins is brought to days, and back, and nothing of it is lost."""

import uuid
from datetime import datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection

from checkins.partitions import ensure_partitions, existing_partitions
from clocktasks.playback.scratch import scratch_database
from lib.wallclock import utcnow
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
    """Every check-in as the table has it now: before the days it lacks the columns that came after them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM checkins_checkin ORDER BY id")
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def add_as_before(like: int, *, guid: uuid.UUID | None = None, date_added: datetime) -> uuid.UUID:
    """Add a check-in to a table of an earlier version, of which the models know too much: a copy of this one."""
    guid = guid or uuid.uuid4()
    with connection.cursor() as cursor:
        cursor.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'checkins_checkin'")
        names = [f'"{name}"' for (name,) in cursor.fetchall() if name not in ("id", "guid", "date_added")]
        columns = ", ".join(names)
        cursor.execute(
            f"INSERT INTO checkins_checkin (guid, date_added, {columns})"  # noqa: S608
            f" SELECT %s, %s, {columns} FROM checkins_checkin WHERE id = %s",
            [guid, date_added, like],
        )
    return guid


def test_check_ins_stay_as_they_are_when_they_are_put_into_days_and_back(own_database):
    now = utcnow()
    environment = factories.MonitorEnvironmentFactory()
    for age in (0, 0, 1, 40, 400):
        factories.CheckInFactory(monitor_environment=environment, date_added=now - age * DAY)
    rows, days = stored(), definitions()

    call_command("migrate", "checkins", "0010", verbosity=0)
    assert not is_partitioned()
    before = stored()
    assert before == [{name: row[name] for name in before[0]} for row in rows]
    with pytest.raises(IntegrityError, match="checkin_guid_unique_in_project"):
        add_as_before(rows[0]["id"], guid=rows[0]["guid"], date_added=now - 7 * DAY)

    call_command("migrate", "checkins", verbosity=0)
    assert is_partitioned()
    assert stored() == rows
    assert definitions() == days


def test_an_installation_goes_on_with_its_ids_and_its_next_days(own_database):
    now = utcnow()
    environment = factories.MonitorEnvironmentFactory()
    old = factories.CheckInFactory(monitor_environment=environment, date_added=now)
    call_command("migrate", "checkins", "0010", verbosity=0)
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
