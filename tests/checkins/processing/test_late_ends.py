"""D8, P1: a run that came from the spool as a whole keeps its late end."""

import pytest

from checkins.processing.apply import receive
from clocktasks.dispatch import advance_ledger
from tests.clocktasks.shards import after, make_monitor_in, tick_by_tick
from tests.factories import NOW, MonitorEnvironmentFactory
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
