"""What is removed, when, and how much of it at a time."""

from datetime import timedelta

import pytest
from celery.schedules import schedule
from django.conf import settings as project_settings

from checkins import housekeeping
from checkins.editing import delete_environments, delete_monitors
from checkins.housekeeping import prune_logs, prune_loss_reports, purge_deleted
from checkins.models import CheckIn, CheckInLog, ClientLossReport
from checkins.tasks import keep_house, settle_parked
from monitors.models import Monitor, MonitorEnvironment
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr("checkins.tasks.utcnow", lambda: NOW)
    return NOW


# --- What hangs on a deleted environment ------------------------------------------------------------------------------


def test_a_deleted_environment_takes_its_check_ins_logs_and_notes_with_it_and_no_others():
    kept, gone = factories.CheckInFactory(), factories.CheckInFactory()
    for checkin in (kept, gone):
        factories.CheckInLogFactory(checkin=checkin)
        factories.CheckInLogFactory(monitor_environment=checkin.monitor_environment)
    delete_environments(gone.monitor_environment.monitor_id, ["production"])
    while purge_deleted():
        pass
    assert set(CheckIn.objects.all()) == {kept}
    assert {log.monitor_environment_id for log in CheckInLog.objects.all()} == {kept.monitor_environment_id}
    assert CheckInLog.objects.count() == 2


def test_a_deleted_environment_is_removed_in_bounded_steps(monkeypatch):
    monkeypatch.setattr(housekeeping, "BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(housekeeping, "LOGS_MAX", 1)
    row = factories.MonitorEnvironmentFactory()
    factories.CheckInFactory.create_batch(3, monitor_environment=row)
    factories.CheckInLogFactory.create_batch(3, monitor_environment=row)
    delete_environments(row.monitor_id, ["production"])
    steps = []
    while purge_deleted():
        steps.append((CheckIn.objects.count(), CheckInLog.objects.count(), MonitorEnvironment.objects.count()))
    assert steps == [(1, 2, 1), (0, 1, 1), (0, 0, 1), (0, 0, 0)]


# --- What is old ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older_by", "left"),
    [
        pytest.param(-SECOND, 1, id="younger"),
        pytest.param(0 * SECOND, 1, id="just as old"),
        pytest.param(SECOND, 0, id="older"),
    ],
)
def test_logs_are_kept_for_as_many_days_as_the_setting_says(settings, older_by, left):
    settings.CHECKIN_LOG_DAYS = 3
    log = factories.CheckInLogFactory(checkin=factories.CheckInFactory(), received_at=NOW - 3 * DAY - older_by)
    assert prune_logs(now=NOW) == 1 - left
    assert CheckInLog.objects.filter(id=log.id).count() == left
    assert CheckIn.objects.count() == 1, "its run stays"


@pytest.mark.parametrize(("older_by", "left"), [(-SECOND, 1), (0 * SECOND, 1), (SECOND, 0)])
def test_loss_reports_are_kept_for_thirty_days(older_by, left):
    factories.ClientLossReportFactory(received_at=NOW - 30 * DAY - older_by)
    assert prune_loss_reports(now=NOW) == 1 - left
    assert ClientLossReport.objects.count() == left


def test_old_logs_are_removed_in_bounded_steps_though_a_spool_stored_some_late(monkeypatch):
    monkeypatch.setattr(housekeeping, "LOGS_MAX", 2)
    row = factories.MonitorEnvironmentFactory()
    ages = [40, 29, 40, 40, 40, 0, 0]
    for age in ages:
        factories.CheckInLogFactory(monitor_environment=row, received_at=NOW - age * DAY)
    assert [prune_logs(now=NOW) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert CheckInLog.objects.count() == 3


# --- Celery -----------------------------------------------------------------------------------------------------------


def test_one_task_does_it_all_in_as_many_steps_as_it_takes(now, monkeypatch):
    for limit in ("BATCH_ROWS_MAX", "LOGS_MAX"):
        monkeypatch.setattr(housekeeping, limit, 1)
    monitor = factories.CheckInFactory.create_batch(2)[0].monitor_environment.monitor
    row = factories.MonitorEnvironmentFactory()
    factories.CheckInLogFactory.create_batch(2, monitor_environment=row, received_at=NOW - 31 * DAY)
    factories.ClientLossReportFactory.create_batch(2, received_at=NOW - 31 * DAY)
    delete_monitors([monitor.id], now=NOW)
    # Two logs, two reports, a check-in, its environment with that one's name, and the monitor.
    assert keep_house() == 8
    assert (CheckInLog.objects.count(), ClientLossReport.objects.count()) == (0, 0)
    assert not Monitor.objects.filter(id=monitor.id).exists()
    assert keep_house() == 0


def test_d17_one_task_settles_what_is_parked_in_as_many_steps_as_it_takes(now, monkeypatch):
    monkeypatch.setattr("checkins.processing.retry.SETTLED_MAX", 1)
    factories.WaitingCheckInFactory.create_batch(3, received_at=NOW - 200 * SECOND)
    assert settle_parked() == 3
    assert settle_parked() == 0


def test_parked_check_ins_are_looked_at_three_times_a_minute():
    entry = project_settings.CELERY_BEAT_SCHEDULE["settle-parked"]
    assert entry["task"] == settle_parked.name
    assert entry["schedule"] == schedule(20)
    assert entry["options"] == {"queue": "housekeeping", "expires": 20}
