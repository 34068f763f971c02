"""What is read of stored check-ins: which of many, and no more than is asked for."""

from datetime import timedelta

import pytest

from checkins.processing.rows import deadline_after, load_first_timeouts, load_newest_errors, load_overdue, load_running
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def make_running(row, *, began, deadline):
    """A run that began some minutes ago and has its deadline so many minutes from now."""
    return CheckInFactory(
        monitor_environment=row,
        status="in_progress",
        date_added=NOW - began * MINUTE,
        timeout_at=NOW + deadline * MINUTE,
    )


def test_of_running_check_ins_those_that_are_overdue_take_no_room():
    """However many newer ones have run too long and the clock has not found that yet."""
    row = MonitorEnvironmentFactory()
    running, *_overdue = [
        CheckInFactory(
            monitor_environment=row,
            status="in_progress",
            date_added=NOW - timedelta(minutes=5 - number),
            timeout_at=NOW + timedelta(hours=1) if number == 0 else NOW,
        )
        for number in range(4)
    ]
    found = load_running([row.id], since=NOW, each_max=1)
    assert [run.guid for run in found] == [running.guid]


def test_of_many_running_check_ins_the_newest_are_read_first():
    row = MonitorEnvironmentFactory()
    runs = [make_running(row, began=began, deadline=60) for began in (1, 3, 2)]

    found = load_running([row.id], since=NOW, each_max=2)

    assert [run.guid for run in found] == [runs[0].guid, runs[2].guid]


def test_of_each_environment_the_newest_error_that_still_matters_is_read():
    rows = [MonitorEnvironmentFactory() for _ in range(3)]
    for row, minutes in ((rows[0], 4), (rows[0], 2), (rows[1], 3), (rows[2], 9)):
        at = NOW - minutes * MINUTE
        CheckInFactory(monitor_environment=row, status="error", date_added=at, failed_at=at)

    found = load_newest_errors([row.id for row in rows], since=NOW - 5 * MINUTE)

    assert {run.environment_id: run.failed_at for run in found} == {
        rows[0].id: NOW - 2 * MINUTE,
        rows[1].id: NOW - 3 * MINUTE,
    }


def test_the_earliest_deadline_is_told_of_environments_where_a_run_goes_on():
    busy, idle = MonitorEnvironmentFactory(), MonitorEnvironmentFactory()
    for deadline in (8, 3, 5):
        make_running(busy, began=1, deadline=deadline)
    CheckInFactory(monitor_environment=idle, status="ok")

    assert load_first_timeouts([busy.id, idle.id]) == {busy.id: NOW + 3 * MINUTE}


def test_a_run_is_overdue_at_its_deadline_and_not_before():
    row = MonitorEnvironmentFactory()
    due = [make_running(row, began=began, deadline=0) for began in (2, 7)]
    make_running(row, began=9, deadline=1)

    assert [run.guid for run in load_overdue([row.id], NOW)] == [due[1].guid, due[0].guid]


@pytest.mark.parametrize(("count", "minutes"), [(0, -3), (1, -2), (2, -1), (3, None)])
def test_the_deadline_behind_so_many_that_are_overdue(count, minutes):
    row = MonitorEnvironmentFactory()
    for deadline in (-1, -3, -2, 1):
        make_running(row, began=9, deadline=deadline)

    assert deadline_after(row.shard, NOW, count) == (None if minutes is None else NOW + minutes * MINUTE)
