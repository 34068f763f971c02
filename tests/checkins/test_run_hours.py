"""The hours of runs say what a count of the check-ins says, whatever happens to these."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkins.models import CheckIn, RunHour
from checkins.partitions import ensure_partitions
from checkins.processing.apply import receive
from clocktasks.dispatch import advance_ledger
from drills.simulation.audit import audit_hours
from tests import factories
from tests.checkins.run_hours import FIELDS, counted, stored
from tests.clocktasks.shards import after, make_monitor_in, tick_by_tick
from tests.factories import NOW
from tests.messages import make_message

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def hour(**fields):
    """What a row holds if it holds this and nothing else."""
    return tuple({**dict.fromkeys(FIELDS, 0), "duration_max_ms": None, **fields}.values())


def the_hour():
    [(_, counts)] = stored().items()
    return counts


@pytest.mark.parametrize("status", ["error", "missed", "timeout", "unknown"])
def test_a_run_is_counted_in_the_hour_of_its_start_by_how_it_ended(status):
    run = factories.CheckInFactory(status=status, date_added=NOW + timedelta(minutes=59))
    assert stored() == {(NOW, run.monitor_environment_id): hour(**{status: 1})}


def test_durations_are_those_of_runs_that_ended_ok():
    environment = factories.MonitorEnvironmentFactory()
    for duration_ms in (None, 2_000, 5_000):
        factories.CheckInFactory(monitor_environment=environment, duration_ms=duration_ms)
    factories.CheckInFactory(monitor_environment=environment, status="error", duration_ms=60_000)
    assert the_hour() == hour(ok=3, error=1, durations=2, duration_sum_ms=7_000, duration_max_ms=5_000)


def test_a_run_in_progress_is_counted_when_it_ends():
    run = factories.CheckInFactory(status="in_progress")
    assert RunHour.objects.count() == 0
    CheckIn.objects.filter(id=run.id).update(status="ok", timeout_at=None, duration_ms=7)
    assert the_hour() == hour(ok=1, durations=1, duration_sum_ms=7, duration_max_ms=7)


def test_d16_an_error_that_becomes_ok_moves_from_one_count_to_the_other():
    run = factories.CheckInFactory(status="error")
    CheckIn.objects.filter(id=run.id).update(status="ok", duration_ms=9, limit_broken="slow_counted")
    assert the_hour() == hour(ok=1, off_limits=1, durations=1, duration_sum_ms=9, duration_max_ms=9)


def test_a_change_of_something_else_writes_no_hour():
    run = factories.CheckInFactory()
    RunHour.objects.all().delete()
    CheckIn.objects.filter(id=run.id).update(exit_status=3)
    assert RunHour.objects.count() == 0


def test_hours_are_those_of_utc_whatever_the_zone_of_the_session():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TIME ZONE 'Asia/Kathmandu'")
    factories.CheckInFactory(date_added=NOW + timedelta(minutes=20))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TIME ZONE 'UTC'")  # Django reads instants as if it were.
    assert [key[0] for key in stored()] == [NOW]


def test_a_run_that_moves_to_its_new_day_is_not_counted_again():
    tomorrow = NOW + 30 * 24 * HOUR
    factories.CheckInFactory(date_added=tomorrow)
    assert next(iter(ensure_partitions(now=tomorrow).created.values())) == 1
    assert stored() == counted() != {}


def test_they_stay_when_the_check_ins_go():
    run = factories.CheckInFactory()
    before = stored()
    CheckIn.objects.filter(id=run.id).delete()
    assert stored() == before != {}


def test_the_audit_of_the_simulation_finds_an_hour_that_says_something_else():
    run = factories.CheckInFactory()
    assert audit_hours() == []
    RunHour.objects.filter(monitor_environment=run.monitor_environment).update(ok=2)
    [finding] = audit_hours()
    assert finding.startswith("D44: the hour 10:00 has")
    RunHour.objects.filter(monitor_environment=run.monitor_environment).delete()
    assert len(audit_hours()) == 1


# What a job may say, and when: (seconds since the last message, run, status).
WORDS = st.lists(
    st.tuples(
        st.sampled_from([1, 20, 70, 400]),
        st.integers(0, 3),
        st.sampled_from(["in_progress", "in_progress", "ok", "error"]),
    ),
    max_size=12,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS, batches=st.integers(1, 4), clock_is_late=st.booleans())
def test_a_count_of_the_check_ins_says_the_same_whatever_jobs_and_clock_do(words, batches, clock_is_late):
    """Ends that overtake starts, retries, late ends, misses, timeouts; a clock in time, or one that catches up."""
    with transaction.atomic():
        _live_through(words, batches, clock_is_late=clock_is_late)
        assert stored() == counted()
        transaction.set_rollback(True)


def _live_through(words, batches, *, clock_is_late):
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(5, crontab="*/2 * * * *", max_runtime=1)
    seconds, ticked, waiting = 0, 0, []
    for seconds_later, run, status in words:
        seconds += seconds_later
        waiting.append(make_message(status, monitor=monitor, run=run, at=NOW + timedelta(seconds=seconds)))
        if len(waiting) >= batches:
            if not clock_is_late and seconds // 60 > ticked:
                tick_by_tick(after(ticked + 1), after(seconds // 60))
                ticked = seconds // 60
            receive(waiting, now=NOW + timedelta(seconds=seconds))
            waiting = []
    receive(waiting, now=NOW + timedelta(seconds=seconds))
    tick_by_tick(after(ticked + 1), after(seconds // 60 + 2))
