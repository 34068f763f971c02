"""A monitor whose schedule is not known yet: nothing is missed, and all else counts."""

from datetime import UTC, datetime

import pytest

from checkins.editing import update_monitor
from checkins.models import CheckIn
from checkins.processing.apply import receive
from clocktasks.ledger import write_ticks
from clocktasks.shards import apply_ticks
from monitors.models import MonitorEnvironment
from monitors.schedule import LEARNING_CRONTAB
from tests.factories import MonitorFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db
HOURLY = {"crontab": "0 * * * *"}


def at(time):
    return datetime.fromisoformat(f"2026-01-05T{time}").replace(tzinfo=UTC)


@pytest.fixture
def job():
    """A monitor that learns, and was heard of at 10:00."""
    monitor = MonitorFactory(crontab=LEARNING_CRONTAB, max_runtime=10)
    write_ticks(at("10:00"), now=at("10:00"))
    report(monitor, "ok", "10:00:05")
    MonitorEnvironment.objects.update(shard=3)
    return monitor


def report(monitor, status, time):
    receive([make_message(status, monitor=monitor, at=at(time))], now=at(time))


def pass_until(time):
    write_ticks(at(time), now=at(time))
    list(apply_ticks(3, until=at(time)))


def rows():
    return [f"{row.date_added:%H:%M} {row.status}" for row in CheckIn.objects.order_by("date_added")]


def test_nothing_is_expected_and_nothing_is_missed(job):
    pass_until("14:00")
    report(job, "ok", "14:30:05")
    assert rows() == ["10:00 ok", "14:30 ok"]
    assert MonitorEnvironment.objects.get().next_checkin is None


def test_errors_and_timeouts_count(job):
    report(job, "error", "10:20")
    assert MonitorEnvironment.objects.get().status == "error"
    report(job, "ok", "10:21")
    report(job, "in_progress", "10:30")
    pass_until("11:00")
    assert rows()[-1] == "10:30 timeout"
    assert MonitorEnvironment.objects.get().status == "error"


def test_from_the_schedule_on_it_is_judged_by_it_and_not_before(job):
    pass_until("13:20")
    update_monitor(job.pk, HOURLY, now=at("13:20:20"))
    assert MonitorEnvironment.objects.get().next_checkin == at("14:00")
    pass_until("14:10")
    assert rows() == ["10:00 ok", "14:00 missed"]


def test_what_was_expected_before_it_learns_is_still_judged(job):
    update_monitor(job.pk, HOURLY, now=at("10:30"))
    update_monitor(job.pk, {"crontab": LEARNING_CRONTAB}, now=at("11:00:30"))
    pass_until("14:10")
    assert rows() == ["10:00 ok", "11:00 missed"]
    report(job, "ok", "14:30")
    assert MonitorEnvironment.objects.get().next_checkin is None
