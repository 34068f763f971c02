"""A clock that was wrong by years, and is right again: what it did for a time still to come is taken back."""

import uuid
from datetime import timedelta

import pytest

from checkins.models import CheckIn, IngestNode, ListeningSpan
from checkins.nodes import beat, register_node
from checkins.processing.apply import receive
from checkins.watermarks import stored_until
from clocktasks import setback
from clocktasks.dispatch import advance_ledger
from clocktasks.models import ClockIncident, ShardClock, Tick
from clocktasks.setback import take_back_future
from tests.clocktasks.shards import MINUTE, after, make_monitor_in, tick_until
from tests.factories import NOW, ListeningSpanFactory, MonitorEnvironmentFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db
YEARS = timedelta(days=14 * 365, minutes=30)
WRONG = NOW + YEARS
NODE = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def clock(db, monkeypatch):
    """A clock that has come to 10:00, on a machine whose PostgreSQL has the same time."""
    monkeypatch.setattr(setback, "database_now", lambda now: now)
    advance_ledger(NOW, now=NOW)
    ListeningSpan.objects.update(until=after(5))


def jump_forward_and_back():
    """Five minutes after ten the clock says 2040, for a few minutes; at ten past ten it is right again."""
    ListeningSpanFactory(since=WRONG, until=WRONG + 5 * MINUTE)
    tick_until(WRONG + 2 * MINUTE)
    told = take_back_future(after(10))
    ListeningSpanFactory(since=after(10))
    return told


def test_a_clock_that_was_in_2040_goes_on_now(caplog):
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(5, crontab="0 * * * *"))
    assert jump_forward_and_back() > timedelta(days=5000)
    assert "still to come" in caplog.text
    assert Tick.objects.latest("at").at == after(10)
    assert set(ShardClock.objects.values_list("position", flat=True)) == {after(10)}
    environment.refresh_from_db()
    assert environment.pending_slot == after(60)
    tick_until(after(61))
    assert list(environment.checkins.values_list("status", "date_added")) == [("missed", after(60))]


def test_an_ok_of_2040_excuses_no_failure_of_today():
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(5, crontab="0 * * * *"))
    message = make_message(monitor=environment.monitor, at=WRONG, run=1)
    receive([message], now=WRONG)
    jump_forward_and_back()
    tick_until(after(61))
    environment.refresh_from_db()
    assert environment.status == "error"
    assert CheckIn.objects.filter(status="ok").exists(), "it was acknowledged, and is kept"


def test_minutes_and_clock_incidents_of_2040_are_gone():
    jump_forward_and_back()
    assert not Tick.objects.filter(at__gt=after(10)).exists()
    incident = ClockIncident.objects.get()
    assert (incident.started_at, incident.ended_at) == (after(5), after(10))
    tick_until(after(12))
    assert Tick.objects.get(at=after(12)).is_listened


def test_nothing_is_taken_back_for_a_worker_whose_own_clock_is_behind(monkeypatch):
    monkeypatch.setattr(setback, "database_now", lambda _: WRONG)
    ListeningSpanFactory(since=WRONG)
    tick_until(WRONG)
    assert take_back_future(after(10)) is None
    assert Tick.objects.filter(at=WRONG).exists()


def test_a_few_minutes_ahead_are_waited_for():
    tick_until(after(5))
    assert take_back_future(after(-4)) is None


def test_a_ledger_that_began_in_2040_begins_anew():
    Tick.objects.all().delete()
    ShardClock.objects.all().delete()
    advance_ledger(WRONG, now=WRONG)
    assert take_back_future(after(10)) is not None
    advance_ledger(after(10), now=after(10))
    assert list(Tick.objects.values_list("at", flat=True)) == [after(10)]


def test_p2_a_node_that_was_in_2040_vouches_for_nothing_still_to_come():
    register_node(NODE, watermark=WRONG, now=WRONG, host="web-1", pid=1)
    beat(NODE, watermark=after(10), now=after(10), spooled_count=0, listening_since=after(10))
    assert stored_until(after(10)).until == after(10)
    node = IngestNode.objects.get()
    assert (node.started_at, node.seen_at, node.watermark) == (after(10), after(10), after(10))
