"""What has waited for a channel that was out of order: one message when it works again, in order, and nothing lost."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from incidents.handling import acknowledge_many
from incidents.models import Channel, Duty, Message, Notification, Storm
from incidents.notifications import claims
from incidents.notifications.acknowledged import address_acknowledged
from incidents.notifications.addressing import address
from incidents.notifications.alert import Event
from incidents.notifications.alerts import write_alerts
from incidents.notifications.backlog import LEAST, WAITED, fold_backlogs, fold_mails, mail_backlogs
from incidents.notifications.channels import wording
from tests.factories import (
    NOW,
    ChannelFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    ProjectFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
LATER = NOW + WAITED
SECOND = timedelta(seconds=1)


class Waiting:
    """A project with one channel, and messages about incidents that wait for it, each found by a check-in.

    `default`: ALERT_EMAIL_TO, in the place of the channel.
    """

    def __init__(self, count=LEAST, *, default=(), **columns):
        self.project, self.default = ProjectFactory(), default
        if not default:
            self.channel = ChannelFactory(project=self.project, **columns)
            RouteFactory(project=self.project, to=[self.channel])
        self.incidents = []
        for _ in range(count):
            self.opens()

    def opens(self):
        environment = MonitorEnvironmentFactory(monitor__project=self.project, status="error")
        incident = OccurrenceFactory(incident__monitor_environment=environment).incident
        NotificationFactory(incident=incident)
        self.incidents.append(incident)
        address(self.default, now=NOW)

    def ends(self, *incidents, at=NOW):
        for incident in incidents:
            NotificationFactory(incident=incident, transition="resolved")
        address(self.default, now=at)

    def send(self, at=LATER):
        sent = []
        while claimed := claims.claim_for_lanes(now=at) or claims.claim_mails(limit=100, now=at):
            claims.record_sent(claimed, now=at)
            sent += claimed
            Channel.objects.update(paced_until=None)
        return [message.kind for message in sent]

    def kinds(self, **filters):
        return list(Message.objects.filter(**filters).order_by("id").values_list("kind", flat=True))


def test_many_that_have_waited_are_one_message_with_the_duties_of_all():
    waiting = Waiting()
    assert fold_backlogs(now=LATER) == LEAST
    assert waiting.send() == ["digest"]
    assert waiting.kinds(status="folded") == ["opened"] * LEAST
    assert Duty.objects.filter(message__kind="digest", message__status="sent").count() == LEAST
    assert Notification.objects.filter(sent_at=LATER).count() == LEAST
    storm = Storm.objects.get()
    assert (storm.cause, storm.project, storm.channel) == ("backlog", waiting.project, waiting.channel)


def test_the_message_says_why_it_comes_late():
    Waiting()
    fold_backlogs(now=LATER)
    [digest] = claims.claim_for_lanes(now=LATER)
    alerts, _ = write_alerts([digest])
    assert alerts[digest.id].reason == "This had waited until this channel took messages again."
    assert (alerts[digest.id].event, len(alerts[digest.id].incidents)) == (Event.DIGEST, LEAST)


@pytest.mark.parametrize(
    ("count", "at", "columns"),
    [
        pytest.param(LEAST - 1, LATER, {}, id="few"),
        pytest.param(LEAST, LATER - SECOND, {}, id="on the way"),
        pytest.param(LEAST, LATER, {"folds": False}, id="a message for each is wanted"),
        pytest.param(LEAST, LATER, {"kind": "alertmanager"}, id="it must be told of each"),
        pytest.param(LEAST, LATER, {"open_since": NOW, "probe_at": LATER}, id="its breaker is open"),
        pytest.param(LEAST, LATER, {"slow_until": LATER + SECOND}, id="it asked for time"),
    ],
)
def test_these_are_left_alone(count, at, columns):
    Waiting(count, **columns)
    assert fold_backlogs(now=at) == 0
    assert not Storm.objects.exists()


def test_what_may_have_arrived_or_is_on_the_way_is_left_alone_with_all_about_its_incident():
    waiting = Waiting(LEAST + 2)
    claimed, doubted = Message.objects.order_by("id")[:2]
    Message.objects.filter(id=claimed.id).update(claimed_until=LATER + SECOND)
    Message.objects.filter(id=doubted.id).update(is_in_doubt=True)
    waiting.ends(*waiting.incidents[:2])
    fold_backlogs(now=LATER)
    left = Message.objects.filter(status="waiting", storm=None).order_by("id").values_list("kind", "incident")
    first, second = (incident.id for incident in waiting.incidents[:2])
    assert list(left) == [("opened", first), ("opened", second), ("resolved", first), ("resolved", second)]


@pytest.mark.parametrize("kind", ["slack", "slack_bot", "pagerduty"])
def test_an_incident_that_is_over_before_anybody_was_told_is_in_the_digest_as_such(kind):
    waiting = Waiting(LEAST, kind=kind)
    waiting.ends(waiting.incidents[0])
    fold_backlogs(now=LATER)
    [digest] = claims.claim_for_lanes(now=LATER)
    alerts, _ = write_alerts([digest])
    assert sorted(one.is_open for one in alerts[digest.id].incidents) == [False, *[True] * (LEAST - 1)]


@pytest.mark.parametrize(
    ("kind", "is_folded"), [("slack", True), ("webhook", True), ("slack_bot", False), ("pagerduty", False)]
)
def test_the_ends_of_openings_that_were_sent_are_folded_where_nothing_hangs_on_each(kind, is_folded):
    waiting = Waiting(LEAST, kind=kind)
    waiting.send(NOW)
    waiting.ends(*waiting.incidents)
    fold_backlogs(now=LATER)
    assert waiting.send() == (["digest"] if is_folded else ["resolved"] * LEAST)


def test_a_pager_whose_incidents_are_all_acknowledged_is_told_so_after_the_digest():
    waiting = Waiting(LEAST, kind="pagerduty")
    acknowledge_many([one.id for one in waiting.incidents], by=Actor("anna", Source.LINK, NOW), via="", now=NOW)
    address_acknowledged(now=NOW)
    fold_backlogs(now=LATER)
    assert waiting.send() == ["digest", "acknowledged"]


def test_the_end_comes_after_the_digest_in_one_summary():
    waiting = Waiting(LEAST, kind="pagerduty")
    fold_backlogs(now=LATER)
    waiting.send()
    waiting.ends(*waiting.incidents, at=LATER)
    assert waiting.send() == ["storm_over"]


def test_reminders_that_wait_behind_an_opening_go_with_it():
    waiting = Waiting(LEAST)
    first = waiting.incidents[0]
    reminder = Message.objects.create(
        incident=first, kind="reminder", number=1, channel=waiting.channel, recipient=str(waiting.channel.guid),
        idempotency_key=first.guid, created_at=LATER, due_at=LATER,
    )  # fmt: skip
    about = NotificationFactory(incident=first, transition="reminder", number=1, addressed_at=LATER)
    Duty.objects.create(
        incident=first, notification=about, message=reminder, channel=waiting.channel, number=1,
        recipient=str(waiting.channel.guid), reason="reminder 1", created_at=LATER,
    )  # fmt: skip
    assert fold_backlogs(now=LATER) == LEAST + 1
    assert waiting.send() == ["digest"]
    assert Notification.objects.get(id=about.id).sent_at == LATER


def test_what_waits_later_joins_a_digest_that_nobody_has_claimed():
    waiting = Waiting()
    fold_backlogs(now=LATER)
    for _ in range(LEAST):
        waiting.opens()
    fold_backlogs(now=LATER)
    assert waiting.kinds(status="waiting") == ["digest"]
    assert Storm.objects.count() == 1


def test_a_message_of_an_older_version_without_a_duty_is_not_lost():
    Waiting()
    Duty.objects.all().delete()
    assert fold_backlogs(now=LATER) == 0


class TestMail:
    ADA, BOB = "ada@example.com", "bob@example.com"
    BOTH = {"kind": "email", "values": {"to": f"{ADA}, {BOB}"}}

    def test_what_waits_for_the_mail_server_is_one_mail_for_each_address(self):
        waiting = Waiting(**self.BOTH)
        assert mail_backlogs(now=LATER) == [(waiting.channel.id, self.ADA), (waiting.channel.id, self.BOB)]
        assert fold_mails(now=LATER) == 2 * LEAST
        assert waiting.send() == ["digest", "digest"]
        assert waiting.kinds(status="folded") == ["opened"] * 2 * LEAST
        told = Duty.objects.filter(message__kind="digest", message__status="sent")
        assert sorted(told.values_list("recipient", flat=True)) == [self.ADA] * LEAST + [self.BOB] * LEAST
        assert mail_backlogs(now=LATER) == []

    def test_of_alert_email_to_each_project_has_a_mail(self):
        first, second = Waiting(default=[self.ADA]), Waiting(default=[self.ADA])
        few = Waiting(LEAST - 1, default=[self.ADA])
        assert mail_backlogs(now=LATER) == [(0, self.ADA)]
        assert fold_mails(now=LATER) == 2 * LEAST
        storms = Storm.objects.filter(cause="backlog", channel=None, recipient=self.ADA).order_by("id")
        assert [storm.project for storm in storms] == [first.project, second.project]
        assert sorted(few.send()) == ["digest", "digest", *["opened"] * (LEAST - 1)]

    @pytest.mark.parametrize(
        ("count", "at", "columns"),
        [
            pytest.param(LEAST - 1, LATER, {}, id="few"),
            pytest.param(LEAST, LATER - SECOND, {}, id="on the way"),
            pytest.param(LEAST, LATER, {"folds": False}, id="a mail for each is wanted"),
        ],
    )
    def test_these_are_left_alone(self, count, at, columns):
        Waiting(count, **self.BOTH, **columns)
        assert mail_backlogs(now=at) == []
        assert fold_mails(now=at) == 0

    def test_what_was_tried_and_nobody_has_is_folded_and_what_somebody_may_have_is_not(self):
        waiting = Waiting(LEAST + 2, default=[self.ADA])
        tried, doubted, claimed = Message.objects.order_by("id")[:3]
        later = LATER + timedelta(hours=1)
        Message.objects.filter(id=tried.id).update(attempt_count=4, due_at=later)
        Message.objects.filter(id=doubted.id).update(attempt_count=1, is_in_doubt=True)
        Message.objects.filter(id=claimed.id).update(claimed_until=later)
        waiting.ends(*waiting.incidents[1:3])
        fold_mails(now=LATER)
        left = Message.objects.filter(status="waiting", storm=None).order_by("id").values_list("kind", "incident")
        second, third = (incident.id for incident in waiting.incidents[1:3])
        assert list(left) == [("opened", second), ("opened", third), ("resolved", second), ("resolved", third)]

    def test_who_was_told_of_the_openings_is_told_of_the_ends_in_one_mail(self):
        waiting = Waiting(default=[self.ADA])
        waiting.send(NOW)
        waiting.ends(*waiting.incidents)
        assert fold_mails(now=LATER) == LEAST
        [digest] = claims.claim_mails(limit=9, now=LATER)
        [alert] = write_alerts([digest])[0].values()
        assert alert.title == f"{LEAST} jobs of {waiting.project.name} failed and have recovered"
        claims.record_sent([digest], now=LATER)
        assert Notification.objects.filter(transition="resolved", sent_at=LATER).count() == LEAST

    def test_what_opened_and_ended_meanwhile_has_one_line_that_says_both(self):
        waiting = Waiting(default=[self.ADA])
        waiting.ends(waiting.incidents[0])
        fold_mails(now=LATER)
        [digest] = claims.claim_mails(limit=9, now=LATER)
        [alert] = write_alerts([digest])[0].values()
        assert alert.title == f"{LEAST - 1} jobs of {waiting.project.name} are failing, 1 has recovered"
        lines = [wording.entry(one) for one in alert.incidents if one.guid == waiting.incidents[0].guid]
        assert [line[:28] for line in lines] == ["recovered. Reported an error"]

    def test_the_ends_of_what_the_digest_told_come_after_it_together(self):
        waiting = Waiting(default=[self.ADA])
        fold_mails(now=LATER)
        [digest] = claims.claim_mails(limit=9, now=LATER)
        waiting.ends(*waiting.incidents, at=LATER)
        assert claims.claim_mails(limit=9, now=LATER) == []
        claims.record_sent([digest], now=LATER)
        assert waiting.send() == ["storm_over"]
