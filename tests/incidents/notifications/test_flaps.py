"""A job that flaps: told once, then silence until it has settled, and then its state."""

from datetime import timedelta

import pytest

from incidents.models import Flapping, Incident, Message, Notification
from incidents.notifications import alerts
from incidents.notifications.addressing import address
from incidents.notifications.flaps import load_histories
from incidents.notifications.holds import FLAPS
from monitors.models import MonitorEnvironment
from tests.factories import (
    NOW,
    CheckInFactory,
    IncidentFactory,
    IssueFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
)

pytestmark = pytest.mark.django_db
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LOOK = timedelta(minutes=5)


class Job:
    """A job that runs every hour; each failure is an incident. Mail is delivered at once."""

    def __init__(self):
        self.environment = MonitorEnvironmentFactory(monitor__slug="job", status="ok")
        self.now = NOW
        self.incident = None
        self.issue = IssueFactory(monitor_environment=self.environment)

    def runs(self, *statuses, every=HOUR):
        for status in statuses:
            self.now += every
            checkin = CheckInFactory(
                monitor_environment=self.environment, status=status, date_added=self.now, date_updated=self.now
            )
            if status == "ok" and self.incident:
                Incident.objects.filter(pk=self.incident.pk).update(
                    resolved_at=self.now, resolving_checkin_id=checkin.id
                )
                NotificationFactory(incident=self.incident, transition="resolved", created_at=self.now)
                self.incident = None
            elif status != "ok" and not self.incident:
                incident = IncidentFactory(
                    monitor_environment=self.environment,
                    issue=self.issue,
                    starting_checkin=checkin,
                    started_at=self.now,
                )
                self.incident = OccurrenceFactory(incident=incident, issue=self.issue).incident
                NotificationFactory(incident=self.incident, created_at=self.now)
            failing = "error" if self.incident else "ok"
            MonitorEnvironment.objects.filter(pk=self.environment.pk).update(status=failing)
            self.deliver()

    def waits(self, time):
        self.now += time
        self.deliver()

    def deliver(self):
        address(["ops@example.com"], now=self.now)
        Message.objects.filter(status="waiting").update(status="sent", finished_at=self.now)

    def told(self):
        return list(Message.objects.order_by("id").values_list("kind", flat=True))


@pytest.fixture
def job():
    return Job()


def flap(job):
    """Fail every second run until people are told that it flaps."""
    while not Flapping.objects.exists():
        job.runs("error", "ok")


def test_people_are_told_once_and_then_there_is_silence(job):
    flap(job)
    before = job.told()
    assert before.count("opened") == before.count("resolved") + 1, "the end of the one that says so is held"
    job.runs("error", "ok", "error", "ok", "error")
    assert job.told() == before
    assert set(Notification.objects.filter(addressed_at=None).values_list("held_by", flat=True)) == {FLAPS}


def test_the_message_says_that_it_flaps_and_how(job):
    flap(job)
    message = Message.objects.latest("id")
    written, failed = alerts.write_alerts([message])
    assert failed == []
    assert written[message.id].title.endswith("is flapping")
    assert "It is flapping: it changed 6 times between ok and failing in its last 7 runs" in written[message.id].reason


def test_settled_and_ok_its_end_is_told(job):
    flap(job)
    count = len(job.told())
    job.runs(*["ok"] * 30)
    assert job.told()[count:] == ["resolved"]
    assert Flapping.objects.get().ended_at is not None
    message = Message.objects.latest("id")
    written, _ = alerts.write_alerts([message])
    assert written[message.id].title.endswith("has settled and recovered")


def test_settled_and_failing_the_open_incident_is_told(job):
    flap(job)
    count = len(job.told())
    job.runs(*["error"] * 20)
    job.waits(LOOK)
    assert sorted(job.told()[count:]) == ["opened", "resolved"]
    last = Message.objects.filter(kind="opened").latest("id")
    assert last.incident == job.incident


def test_without_a_change_for_a_day_it_has_settled_however_few_runs_there_are(job):
    flap(job)
    count = len(job.told())
    job.waits(timedelta(hours=23, minutes=59))
    assert len(job.told()) == count
    job.waits(LOOK)
    assert job.told()[count:] == ["resolved"]


def test_incidents_that_end_while_it_flaps_are_told_neither_at_their_beginning_nor_at_their_end(job):
    flap(job)
    held = Incident.objects.count()
    job.runs("error", "ok")
    job.runs(*["ok"] * 30)
    ended = Incident.objects.order_by("id")[held:]
    assert not Message.objects.filter(incident__in=ended).exists()
    assert not Notification.objects.filter(addressed_at=None).exists()


def test_the_first_two_incidents_are_never_flapping(job):
    job.runs("error", "ok", "error")
    assert job.told() == ["opened", "resolved", "opened"]
    assert not Flapping.objects.exists()


def test_a_run_that_broke_a_limit_which_counts_is_a_failure(job):
    for number, broken in enumerate(["slow_counted", "slow", None]):
        at = NOW + number * MINUTE
        CheckInFactory(monitor_environment=job.environment, date_added=at, limit_broken=broken)
    [history] = load_histories([job.environment.pk], now=NOW + HOUR).values()
    assert history.failed == [True, False, False]


def test_muted_when_it_settles_the_told_opening_still_gets_its_end(job):
    flap(job)
    MonitorEnvironment.objects.update(is_muted=True)
    count = len(job.told())
    job.runs(*["ok"] * 30)
    assert job.told()[count:] == ["resolved"]


def test_another_environment_is_not_silenced(job):
    flap(job)
    other = OccurrenceFactory(incident__monitor_environment=MonitorEnvironmentFactory(status="error")).incident
    NotificationFactory(incident=other)
    job.deliver()
    assert Message.objects.filter(incident=other).count() == 1
