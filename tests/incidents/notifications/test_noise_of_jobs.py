"""Noise of jobs whose check-ins are really processed: flapping, and failures behind another one."""

from datetime import timedelta

import pytest

from checkins.processing.apply import receive
from incidents.models import Message, Notification
from incidents.notifications.addressing import address
from incidents.notifications.holds import FLAPS
from monitors.dependencies import set_upstreams
from monitors.models import Monitor
from tests.factories import NOW, MonitorFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


class Jobs:
    """Jobs of a project that run every minute. People are told at once."""

    def __init__(self, *slugs):
        first = MonitorFactory(slug=slugs[0], crontab="* * * * *")
        more = [MonitorFactory(slug=slug, crontab="* * * * *", project=first.project) for slug in slugs[1:]]
        self.monitors = {monitor.slug: monitor for monitor in (first, *more)}
        self.minute = 0

    def run(self, **statuses):
        self.minute += 1
        at = NOW + self.minute * MINUTE
        for slug, status in statuses.items():
            number = 1_000 * list(self.monitors).index(slug) + self.minute
            receive([make_message(status, monitor=self.monitors[slug], at=at, run=number)], now=at)
        address(["ops@example.com"], now=at)
        Message.objects.filter(status="waiting").update(status="sent", finished_at=at)

    def told(self, slug):
        messages = Message.objects.filter(incident__monitor_environment__monitor__slug=slug)
        return list(messages.order_by("id").values_list("kind", flat=True))


def test_a_job_that_fails_every_second_time_is_told_four_times_and_then_when_it_has_settled():
    jobs = Jobs("job")
    for _ in range(6):
        jobs.run(job="error")
        jobs.run(job="ok")
    assert jobs.told("job") == ["opened", "resolved"] * 3 + ["opened"]
    assert set(Notification.objects.filter(addressed_at=None).values_list("held_by", flat=True)) == {FLAPS}
    for _ in range(24):
        jobs.run(job="error")
    assert jobs.told("job")[7:] == ["resolved", "opened"]
    assert not Notification.objects.filter(addressed_at=None).exists()


def test_a_job_behind_another_that_fails_is_not_told():
    jobs = Jobs("db", "app")
    set_upstreams(Monitor.objects.get(slug="app").pk, ["db"], now=NOW)
    jobs.run(db="ok", app="ok")
    jobs.run(db="error", app="error")
    for _ in range(5):
        jobs.run(db="error", app="error")
    jobs.run(db="ok", app="error")
    for _ in range(3):
        jobs.run(db="ok", app="ok")
    assert jobs.told("db") == ["opened", "resolved"]
    assert jobs.told("app") == []
    assert not Notification.objects.filter(addressed_at=None).exists()
