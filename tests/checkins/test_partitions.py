"""The days of check-ins: which there are to be, making and dropping them, and what is looked up over days."""

import io
import json
import uuid
from datetime import UTC, date, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction

from checkins import partitions
from checkins.housekeeping import prune_logs, prune_strays
from checkins.models import Attempt, CheckIn, CheckInLog
from checkins.partitions import DEFAULT, Partition, ensure_partitions, named, of_day, plan_partitions
from checkins.processing.apply import receive
from incidents.models import Incident
from tests import factories
from tests.connections import in_another_connection
from tests.days import make_day
from tests.messages import make_message

NOW = datetime(2021, 3, 10, 12, tzinfo=UTC)
"""A year of which no partition was made when the database was."""
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
TODAY = NOW.date()


def days(*since_today):
    return [of_day(TODAY + timedelta(days=number)) for number in since_today]


# --- Which days (pure) ------------------------------------------------------------------------------------------------


def test_today_and_three_days_ahead_are_made():
    assert plan_partitions([], today=TODAY, keep_days=0).create == tuple(days(0, 1, 2, 3))


def test_what_is_there_is_not_made_again_and_days_that_are_over_are_not_made_up_for():
    assert plan_partitions(days(-5, 0, 2), today=TODAY, keep_days=0).create == tuple(days(1, 3))


def test_the_partition_of_what_was_there_before_holds_its_days():
    before = named("checkins_checkin_before_20210312")
    assert before == Partition("checkins_checkin_before_20210312", None, date(2021, 3, 12))
    assert plan_partitions([before], today=TODAY, keep_days=0).create == tuple(days(2, 3))


@pytest.mark.parametrize(("age", "goes"), [(90, False), (91, True), (92, True)])
def test_a_day_is_dropped_when_all_of_it_is_older_than_what_is_kept(age, goes):
    assert bool(plan_partitions(days(-age), today=TODAY, keep_days=90, drop_as_of=TODAY).drop) is goes


def test_zero_days_keep_everything():
    assert plan_partitions(days(-9999), today=TODAY, keep_days=0).drop == ()


@pytest.mark.parametrize("name", [DEFAULT, "checkins_checkin", "checkins_checkin_p2021031", "checkins_checkinlog"])
def test_other_tables_are_no_days(name):
    assert named(name) is None


# --- Making and dropping them -----------------------------------------------------------------------------------------


def part_of(checkin):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM checkins_checkin WHERE id = %s", [checkin.id])
        return cursor.fetchone()[0]


def names():
    return {partition.name for partition in partitions.existing_partitions() or []}


@pytest.fixture
def tidy(db):
    """Whatever a test makes and commits is dropped in the end."""
    before = names()
    yield
    with connection.cursor() as cursor:
        for name in names() - before:
            cursor.execute(f"DROP TABLE {name}")


@pytest.mark.django_db
def test_a_migrated_database_has_its_first_days():
    assert len(names()) >= 4


@pytest.mark.django_db
def test_a_day_takes_the_check_ins_that_begin_in_it_and_the_default_one_the_others():
    assert list(ensure_partitions(now=NOW, drop_as_of=NOW).created) == [day.name for day in days(0, 1, 2, 3)]
    assert ensure_partitions(now=NOW, drop_as_of=NOW).created == {}
    midnight = NOW.replace(hour=0)
    second = timedelta(seconds=1)
    placed = [part_of(factories.CheckInFactory(date_added=midnight + at)) for at in (-second, 0 * second, DAY - second)]
    assert placed == [DEFAULT, days(0)[0].name, days(0)[0].name]


@pytest.mark.django_db
def test_a_new_day_takes_its_check_ins_out_of_the_default_partition_and_they_stay_what_they_were():
    mine, other = factories.CheckInFactory(date_added=NOW), factories.CheckInFactory(date_added=NOW - DAY)
    before = CheckIn.objects.order_by("id").values().get(id=mine.id)
    settle()
    assert ensure_partitions(now=NOW, drop_as_of=NOW).created[days(0)[0].name] == 1
    assert CheckIn.objects.values().get(id=mine.id) == before
    assert (part_of(mine), part_of(other)) == (days(0)[0].name, DEFAULT)


def settle():
    """Check foreign keys now: in a transaction of its own a row would have been checked when it was committed."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


@pytest.mark.django_db
def test_a_day_with_too_many_check_ins_in_the_default_partition_stays_there(monkeypatch):
    monkeypatch.setattr(partitions, "MOVED_ROWS_MAX", 1)
    runs = factories.CheckInFactory.create_batch(2, date_added=NOW)
    settle()
    outcome = ensure_partitions(now=NOW, drop_as_of=NOW)
    assert "more than 1 check-ins" in outcome.postponed[days(0)[0].name]
    assert len(outcome.created) == 3
    assert {part_of(run) for run in runs} == {DEFAULT}


@pytest.mark.django_db
def test_past_days_go_with_the_earlier_words_of_their_runs_and_younger_ones_stay(settings):
    settings.CHECKIN_RETENTION_DAYS = 30
    for back in (31, 30):
        make_day(of_day(TODAY - back * DAY))
    old, young = (factories.CheckInFactory(date_added=NOW - back * DAY) for back in (31, 30))
    for run in (old, young):
        factories.AttemptFactory(checkin=run)
    settle()
    assert list(ensure_partitions(now=NOW, drop_as_of=NOW).dropped) == [of_day(TODAY - 31 * DAY).name]
    assert list(CheckIn.objects.all()) == [young]
    assert [attempt.checkin_id for attempt in Attempt.objects.all()] == [young.id]


@pytest.mark.django_db
def test_p3_a_past_day_stays_while_a_run_is_in_progress_in_it(settings):
    settings.CHECKIN_RETENTION_DAYS = 30
    make_day(of_day(TODAY - 40 * DAY))
    run = factories.CheckInFactory(status="in_progress", date_added=NOW - 40 * DAY)
    settle()
    outcome = ensure_partitions(now=NOW, drop_as_of=NOW)
    assert outcome.dropped == {}
    assert "1 of its runs are still in progress" in outcome.postponed[of_day(TODAY - 40 * DAY).name]
    CheckIn.objects.filter(id=run.id).update(status="timeout", timeout_at=None)
    settle()
    assert list(ensure_partitions(now=NOW, drop_as_of=NOW).dropped) == [of_day(TODAY - 40 * DAY).name]


@pytest.mark.django_db
def test_what_has_no_day_goes_a_batch_at_a_time(settings, monkeypatch):
    settings.CHECKIN_RETENTION_DAYS = 30
    monkeypatch.setattr("checkins.housekeeping.BATCH_ROWS_MAX", 2)
    old = factories.CheckInFactory.create_batch(3, date_added=NOW - 40 * DAY)
    running = factories.CheckInFactory(status="in_progress", date_added=NOW - 40 * DAY)
    young = factories.CheckInFactory(date_added=NOW - 30 * DAY)
    factories.AttemptFactory(checkin=old[0])
    assert [prune_strays(now=NOW) for _ in range(3)] == [2, 1, 0]
    assert set(CheckIn.objects.all()) == {running, young}
    assert not Attempt.objects.exists()
    settings.CHECKIN_RETENTION_DAYS = 0
    assert prune_strays(now=NOW + 9999 * DAY) == 0


@pytest.mark.django_db
def test_logs_do_not_outlive_their_runs(settings):
    settings.CHECKIN_LOG_DAYS, settings.CHECKIN_RETENTION_DAYS = 60, 30
    factories.CheckInLogFactory(checkin=factories.CheckInFactory(), received_at=NOW - 31 * DAY)
    assert prune_logs(now=NOW) == 1
    assert not CheckInLog.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("tidy")
def test_who_uses_the_table_is_waited_for_only_a_moment_and_the_day_is_made_later():
    environment = factories.MonitorEnvironmentFactory()

    def write():
        type(environment).objects.filter(id=environment.id).update(limit_count=1)

    with in_another_connection(write) as other:
        tried = ensure_partitions(now=NOW, tries=1)
    assert other.was_waited_for
    assert set(tried.postponed.values()) == {"the table was in use all the time"} or tried.created
    again = ensure_partitions(now=NOW, drop_as_of=NOW)
    assert names() >= {day.name for day in days(0, 1, 2, 3)}
    assert not again.postponed


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("tidy")
def test_a_migration_that_was_killed_before_it_was_written_down_is_run_again():
    ensure_partitions(now=NOW)
    migration = import_module("checkins.migrations.0003_find_changes_by_time")
    migration.index_changes(apps, connection.schema_editor())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT bool_and(indisvalid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "WHERE relname LIKE '%_updated' OR relname = 'checkin_date_updated_brin'"
        )
        assert cursor.fetchone() == (True,)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("tidy")
def test_two_at_once_make_each_day_once():
    with in_another_connection(lambda: partitions._create(days(0)[0])) as other:
        outcome = ensure_partitions(now=NOW, drop_as_of=NOW)
    assert other.was_waited_for
    assert list(outcome.created) == [day.name for day in days(1, 2, 3)]


# --- What is looked up over days --------------------------------------------------------------------------------------


@pytest.fixture(scope="class")
def a_fortnight_of_a_class(shared_rows):
    with shared_rows.unblock():
        for back in range(14, -1, -1):
            with transaction.atomic():
                make_day(of_day(TODAY - back * DAY))
        return factories.MonitorEnvironmentFactory(last_checkin=NOW - 14 * DAY)


@pytest.fixture
def a_fortnight(a_fortnight_of_a_class, db):
    """A partition for each of the last 14 days."""
    return type(a_fortnight_of_a_class).objects.get(id=a_fortnight_of_a_class.id)


class TestOverDays:
    @pytest.mark.parametrize("status", ["in_progress", "error", "timeout", "unknown"])
    @pytest.mark.parametrize("age", [timedelta(minutes=5), DAY, 3 * DAY, 7 * DAY - timedelta(minutes=1)])
    def test_a_run_that_a_word_may_change_is_found_by_its_id_for_seven_days(self, a_fortnight, status, age):
        runtime = timedelta(days=7)
        run = factories.CheckInFactory(
            monitor_environment=a_fortnight, status=status, date_added=NOW - age,
            **({"timeout_at": NOW - age + runtime} if status == "in_progress" else {}),
        )  # fmt: skip
        [outcome] = receive([make_message("ok", monitor=a_fortnight.monitor, at=NOW, check_in_id=run.guid)], now=NOW)
        assert (outcome.guid, outcome.problems, CheckIn.objects.count()) == (run.guid, [], 1)

    @pytest.mark.parametrize(
        ("age", "ended", "is_known"),
        [
            pytest.param(DAY, DAY, True, id="a day ago"),
            pytest.param(3 * DAY, 3 * DAY, True, id="three days ago"),
            pytest.param(7 * DAY - MINUTE, 7 * DAY - MINUTE, True, id="almost seven days ago"),
            pytest.param(7 * DAY, 7 * DAY, False, id="seven days ago"),
            pytest.param(7 * DAY + 2 * MINUTE, DAY - MINUTE, True, id="it ended less than a day ago"),
            pytest.param(8 * DAY - 2 * MINUTE, DAY - MINUTE, True, id="the longest run there is"),
            pytest.param(7 * DAY + 2 * MINUTE, DAY, False, id="it ended a day ago"),
        ],
    )
    def test_d30_a_run_that_ended_is_known_by_its_id_for_seven_days_and_a_day_after_its_end(
        self, a_fortnight, age, ended, is_known
    ):
        run = factories.CheckInFactory(
            monitor_environment=a_fortnight, status="ok", date_added=NOW - age, date_updated=NOW - ended, duration_ms=1
        )
        [outcome] = receive([make_message("error", monitor=a_fortnight.monitor, at=NOW, check_in_id=run.guid)], now=NOW)
        assert bool(outcome.problems) is is_known
        assert CheckIn.objects.count() == (1 if is_known else 2)

    @pytest.mark.parametrize("age", [timedelta(minutes=5), 2 * DAY, 6 * DAY])
    def test_a_word_without_id_ends_a_run_of_any_day(self, a_fortnight, age):
        run = factories.CheckInFactory(
            monitor_environment=a_fortnight, status="in_progress", date_added=NOW - age, timeout_at=NOW + DAY
        )
        receive([make_message("ok", monitor=a_fortnight.monitor, at=NOW, run=None)], now=NOW)
        run.refresh_from_db()
        assert run.status == "ok"

    def test_d5_the_run_of_an_incident_is_complete_however_long_ago_it_began(self, a_fortnight):
        monitor = a_fortnight.monitor
        type(monitor).objects.filter(id=monitor.id).update(failure_threshold=3, crontab="0 0 1 6 *")
        type(a_fortnight).objects.update(pending_slot=None, next_checkin=None, next_checkin_latest=None)
        for back in (13, 1, 0):
            receive([make_message("error", monitor=monitor, at=NOW - back * DAY, check_in_id=uuid.uuid4())], now=NOW)
        incident = Incident.objects.get()
        assert incident.started_at == NOW - 13 * DAY
        assert incident.occurrences.count() == 3

    def test_p7_ingest_looks_into_few_days(self, a_fortnight):
        """Each statement about check-ins names, in its plan, the days of a week and a day at most."""
        from checkins.processing.rows import load_by_guid, load_running

        plans = []

        def explain(execute, sql, params, many, context):
            if "checkins_checkin" in sql:
                with connection.cursor() as cursor:
                    cursor.cursor.execute(f"EXPLAIN {sql}", params)
                    plans.append("\n".join(row[0] for row in cursor.cursor.fetchall()))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(explain):
            load_by_guid({(1, uuid.uuid4())}, since=NOW)
            load_running([a_fortnight.id], since=NOW, each_max=5)
        touched = [sum(of_day(TODAY - back * DAY).name in plan for back in range(15)) for plan in plans]
        assert touched == [2, 7, 8]


# --- Doors ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def now(monkeypatch):
    for module in ("checkins.tasks", "checkins.management.commands.ensure_partitions"):
        monkeypatch.setattr(f"{module}.utcnow", lambda: NOW)


@pytest.mark.django_db
def test_the_command_says_what_there_is_to_do_does_it_and_says_when_there_is_nothing(now, settings):
    settings.CHECKIN_RETENTION_DAYS = 30
    make_day(of_day(TODAY - 40 * DAY))
    wanted = [day.name for day in days(0, 1, 2, 3)]
    before = names()
    for options in (["--dry-run"], []):
        out = io.StringIO()
        call_command("ensure_partitions", "--json", *options, stdout=out)
        told = json.loads(out.getvalue())
        assert (list(told["created"]), list(told["dropped"])) == (wanted, [of_day(TODAY - 40 * DAY).name])
        assert told["dry_run"] is bool(options)
        assert (names() == before) is bool(options)
    out = io.StringIO()
    call_command("ensure_partitions", stdout=out)
    assert "Nothing to do" in out.getvalue()


@pytest.mark.django_db
def test_beat_has_it_done_every_hour(now):
    from django.conf import settings

    from checkins.tasks import ensure_partitions as task

    assert settings.CELERY_BEAT_SCHEDULE["ensure-partitions"]["task"] == task.name
    assert task() >= 4
    assert task() == 0
