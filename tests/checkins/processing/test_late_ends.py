"""D8, P1: a run that came from the spool as a whole keeps its late end; and which runs a late message may end."""

from datetime import timedelta

import pytest

from checkins.processing.apply import receive
from checkins.processing.rows import load_running
from clocktasks.dispatch import advance_ledger
from tests.clocktasks.shards import after, make_monitor_in, tick_by_tick
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d8_a_run_that_is_stored_together_with_its_late_end_is_a_timeout_that_says_how_it_ended(status):
    """`make drill-clock SEED=8`: PostgreSQL was away, and the end that had been acknowledged was forgotten."""
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(5, crontab="0 12 * * *", max_runtime=1)
    environment = MonitorEnvironmentFactory(monitor=monitor)

    receive(
        [
            make_message("in_progress", monitor=monitor, run=1, at=after(1.5)),
            make_message(status, monitor=monitor, run=1, at=after(2.5)),
        ],
        now=after(3),
    )
    tick_by_tick(after(1), after(3))

    (run,) = environment.checkins.all()
    assert (run.status, run.finished_status, run.finished_at) == ("timeout", status, after(2.5))


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
