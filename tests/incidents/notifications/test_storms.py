"""A storm: one message about many openings, and one when the last of them is over, whatever comes between."""

from datetime import time, timedelta

import pytest

from incidents.housekeeping import prune_messages, prune_storms
from incidents.models import Duty, Message, Notification, Storm
from incidents.notifications import claims
from incidents.notifications.addressing import address
from incidents.notifications.alert import Event
from incidents.notifications.alerts import write_alerts
from incidents.notifications.configuring import ChannelError, save_channel
from incidents.notifications.storms import SUMMARY_AFTER
from tests.factories import (
    NOW,
    ChannelFactory,
    MessageFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    ProjectFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class World:
    """A project with a route to one channel, and incidents that one tick has opened."""

    def __init__(self, **columns):
        self.project = ProjectFactory()
        self.channel = ChannelFactory(project=self.project, **columns)
        self.route = RouteFactory(project=self.project, to=[self.channel])

    def opens(self, count=1, *, tick=NOW, severity="error"):
        incidents = []
        for _ in range(count):
            environment = MonitorEnvironmentFactory(
                monitor__project=self.project, monitor__severity=severity, status="error"
            )
            incident = OccurrenceFactory(incident__monitor_environment=environment).incident
            NotificationFactory(incident=incident, tick=tick)
            incidents.append(incident)
        return incidents

    def ends(self, *incidents):
        for incident in incidents:
            NotificationFactory(incident=incident, transition="resolved")

    def address(self, at=NOW):
        address(["ops@example.com"], now=at)

    def messages(self, **filters):
        return list(Message.objects.filter(**filters).order_by("id").values_list("kind", "number", "status"))

    def claim(self, at=NOW):
        return claims.claim_for_lanes(now=at) + claims.claim_mails(limit=100, now=at)

    def send(self, at=NOW):
        claimed = self.claim(at)
        claims.record_sent(claimed, now=at)
        return [message.kind for message in claimed]


@pytest.fixture
def world():
    return World()


def test_what_one_tick_opens_is_one_message_that_carries_all_duties(world):
    world.opens(3)
    world.address()
    assert world.messages() == [("digest", 0, "waiting")]
    storm = Storm.objects.get()
    assert (storm.cause, storm.tick, storm.channel, storm.route) == ("tick", NOW, world.channel, world.route)
    assert Duty.objects.filter(message__storm=storm, recipient=str(world.channel.guid)).count() == 3


def test_one_opening_is_an_ordinary_message(world):
    world.opens(1)
    world.address()
    assert world.messages() == [("opened", 0, "waiting")]


def test_all_duties_are_told_when_the_message_is_sent(world):
    world.opens(3)
    world.address()
    assert world.send() == ["digest"]
    assert Notification.objects.filter(sent_at=NOW).count() == 3


def test_an_opening_that_comes_late_joins_the_message_that_nobody_has_claimed(world):
    world.opens(2)
    world.address()
    world.opens(1)
    world.address()
    assert world.messages() == [("digest", 0, "waiting")]
    assert Duty.objects.count() == 3


def test_after_the_message_was_claimed_it_has_a_message_of_its_own(world):
    world.opens(2)
    world.address()
    world.claim()
    world.opens(1)
    world.address()
    assert [kind for kind, *_ in world.messages()] == ["digest", "opened"]


class TestTheEnd:
    def test_one_summary_when_the_last_member_is_over(self, world):
        incidents = world.opens(3)
        world.address()
        world.send()
        world.ends(*incidents)
        world.address(NOW + MINUTE)
        assert world.send(NOW + MINUTE) == ["storm_over"]
        assert Notification.objects.filter(transition="resolved", sent_at=NOW + MINUTE).count() == 3

    def test_the_first_to_be_over_waits_for_the_last(self, world):
        first, *others = world.opens(3)
        world.address()
        world.send()
        world.ends(first)
        world.address(NOW + MINUTE)
        assert world.send(NOW + MINUTE) == []
        world.ends(*others)
        world.address(NOW + 2 * MINUTE)
        assert world.send(NOW + 2 * MINUTE) == ["storm_over"]
        assert world.messages(kind="storm_over") == [("storm_over", 1, "sent")]

    def test_but_not_for_ever(self, world):
        first, second = world.opens(2)
        world.address()
        world.send()
        world.ends(first)
        world.address(NOW)
        assert world.send(NOW + SUMMARY_AFTER - SECOND) == []
        assert world.send(NOW + SUMMARY_AFTER) == ["storm_over"]
        world.ends(second)
        world.address(NOW + 60 * MINUTE)
        assert world.send(NOW + 60 * MINUTE) == ["storm_over"]
        assert world.messages(kind="storm_over") == [("storm_over", 1, "sent"), ("storm_over", 2, "sent")]

    def test_the_last_joins_a_summary_whose_sending_did_not_begin_and_its_text_says_so(self, world):
        first, second = world.opens(2)
        world.address()
        world.send()
        world.ends(first)
        world.address()
        at = NOW + SUMMARY_AFTER
        [summary] = world.claim(at)
        alerts, _ = write_alerts([summary])
        assert alerts[summary.id].event is Event.DIGEST
        claims.release([summary])
        world.ends(second)
        world.address(at)
        [again] = world.claim(at)
        alerts, _ = write_alerts([again])
        assert (again.id, alerts[again.id].event) == (summary.id, Event.STORM_OVER)

    def test_it_waits_for_the_message_about_the_beginning(self, world):
        incidents = world.opens(2)
        world.address()
        world.claim()
        world.ends(*incidents)
        world.address()
        Message.objects.filter(kind="digest").update(claimed_until=None, due_at=NOW + MINUTE)
        assert world.claim() == []
        assert [message.kind for message in world.claim(NOW + MINUTE)] == ["digest"]

    def test_before_anybody_was_told_it_goes_into_the_same_message(self, world):
        incidents = world.opens(2)
        world.address()
        world.ends(*incidents)
        world.address()
        assert world.messages() == [("digest", 0, "waiting")]
        assert Duty.objects.filter(message__kind="digest").count() == 4

    def test_openings_and_ends_that_are_found_together_make_one_message(self, world):
        world.ends(*world.opens(2))
        world.address()
        assert world.messages() == [("digest", 0, "waiting")]

    def test_who_was_told_of_the_beginning_is_told_of_it_when_routes_have_changed(self, world):
        incidents = world.opens(2)
        world.address()
        world.send()
        world.route.channels.set([ChannelFactory(project=world.project)])
        world.ends(*incidents)
        world.address()
        assert list(Message.objects.filter(kind="storm_over").values_list("channel", flat=True)) == [world.channel.id]

    def test_who_was_told_of_the_beginning_is_told_of_it_when_it_is_muted(self, world):
        incidents = world.opens(2)
        world.address()
        world.send()
        type(incidents[0].monitor_environment).objects.update(is_muted=True)
        world.ends(*incidents)
        world.address()
        assert world.send() == ["storm_over"]


class TestQuietHours:
    """10:00 in UTC is NOW; the hours are from nine to eleven."""

    @pytest.fixture
    def world(self):
        return World(kind="slack", quiet_from=time(9), quiet_until=time(11))

    def test_openings_are_one_digest_at_their_end(self, world):
        world.opens(1)
        world.address()
        world.opens(1, tick=NOW + MINUTE)
        world.address(NOW + MINUTE)
        assert world.send(NOW + 59 * MINUTE) == []
        assert world.send(NOW + 60 * MINUTE) == ["digest"]
        assert Notification.objects.filter(sent_at=NOW + 60 * MINUTE).count() == 2

    def test_what_recovers_meanwhile_is_in_the_digest(self, world):
        [incident] = world.opens(1)
        world.address()
        world.ends(incident)
        world.address(NOW + MINUTE)
        assert world.send(NOW + 60 * MINUTE) == ["digest"]
        assert Notification.objects.exclude(sent_at=None).count() == 2

    def test_the_end_of_what_was_told_before_is_in_the_digest(self, world):
        [incident] = world.opens(1)
        world.address(NOW - 90 * MINUTE)
        assert world.send(NOW - 90 * MINUTE) == ["opened"]
        world.ends(incident)
        world.opens(1)
        world.address()
        assert world.send(NOW + 60 * MINUTE) == ["digest"]
        assert Notification.objects.filter(sent_at=None).count() == 0

    def test_what_is_critical_is_told_at_once(self, world):
        world.opens(1, severity="critical")
        world.address()
        assert world.send() == ["opened"]

    def test_a_pager_is_told_at_once_that_something_is_over(self):
        world = World(kind="pagerduty", quiet_from=time(9), quiet_until=time(11))
        [incident] = world.opens(1)
        world.address(NOW - 90 * MINUTE)
        world.send(NOW - 90 * MINUTE)
        world.ends(incident)
        world.address()
        assert world.send() == ["resolved"]

    def test_a_channel_whose_later_messages_change_the_first_is_told_of_each_end_when_they_are_over(self):
        world = World(kind="slack_bot", quiet_from=time(9), quiet_until=time(11))
        [incident] = world.opens(1)
        world.address(NOW - 90 * MINUTE)
        world.send(NOW - 90 * MINUTE)
        world.ends(incident)
        world.address()
        assert world.send() == []
        assert world.send(NOW + 60 * MINUTE) == ["resolved"]


def test_a_channel_that_does_not_fold_has_a_message_for_each():
    world = World(folds=False)
    world.opens(3)
    world.address()
    assert world.messages() == [("opened", 0, "waiting")] * 3


def test_p5_the_summary_waits_for_what_a_recipient_is_still_to_be_told_of_a_member():
    world = World(kind="pagerduty")
    incidents = world.opens(2)
    world.address()
    assert world.send() == ["digest"]
    world.ends(incidents[0])
    world.address()  # The summary is there, and waits for more.
    step = MessageFactory(
        incident=incidents[1],
        kind="escalated",
        channel=world.channel,
        recipient=str(world.channel.guid),
        due_at=NOW + SUMMARY_AFTER + MINUTE,
    )
    Message.objects.filter(id=step.id).update(is_in_doubt=True, attempt_count=1)
    world.ends(incidents[1])
    world.address()
    assert world.send(NOW + SUMMARY_AFTER) == []
    sent = [kind for _ in range(3) for kind in world.send(NOW + SUMMARY_AFTER + MINUTE)]
    assert sent.index("escalated") < min(sent.index("storm_over"), sent.index("resolved"))


def test_a_service_that_may_have_opened_an_alert_is_told_of_the_end():
    world = World(kind="pagerduty")
    [incident] = world.opens(1)
    world.address()
    [message] = world.claim()
    claims.record_failed(message, error="no answer", wait=MINUTE, now=NOW, is_in_doubt=True)
    world.ends(incident)
    world.address()
    assert [kind for kind, *_ in world.messages()] == ["opened", "resolved"]


class TestEditedQuietHours:
    @pytest.fixture
    def world(self):
        return World(kind="slack", quiet_from=time(9), quiet_until=time(11))

    def edited(self, world, **columns):
        for name, value in columns.items():
            setattr(world.channel, name, value)
        save_channel(world.channel, {"url": "https://hooks.slack.com/services/T0/B0/secret-part"}, now=NOW)

    def test_what_waits_is_due_at_the_new_end(self, world):
        world.opens(1)
        world.address()
        self.edited(world, quiet_until=time(10, 30))
        assert world.send(NOW + 29 * MINUTE) == []
        assert world.send(NOW + 30 * MINUTE) == ["digest"]

    def test_what_waits_is_due_at_once_when_there_are_none_any_more(self, world):
        world.opens(1)
        world.address()
        self.edited(world, quiet_from=None, quiet_until=None)
        assert world.send() == ["digest"]

    @pytest.mark.parametrize(
        ("begin", "end", "problem"),
        [(time(22), None, "enter both"), (time(22), time(22), "all day"), (time(22, 0, 1), time(7), "whole minutes")],
    )
    def test_hours_that_cannot_be_are_refused(self, world, begin, end, problem):
        with pytest.raises(ChannelError, match=problem):
            self.edited(world, quiet_from=begin, quiet_until=end)


class TestRetention:
    """What told of an incident is kept while the incident is open, since its recipient is told of the end."""

    LATER = NOW + timedelta(days=1_000)

    def over(self, *incidents):
        for incident in incidents:
            incident.resolved_at, incident.resolving_checkin = NOW, incident.starting_checkin
            incident.save()

    def test_a_storm_is_kept_while_a_member_is_open(self, world):
        first, _ = world.opens(2)
        world.address()
        world.send()
        self.over(first)
        assert (prune_messages(now=self.LATER), prune_storms(now=self.LATER)) == (0, 0)

    def test_a_storm_goes_with_the_last_of_its_messages(self, world):
        incidents = world.opens(2)
        world.address()
        world.send()
        self.over(*incidents)
        assert prune_storms(now=self.LATER) == 0
        assert (prune_messages(now=self.LATER), prune_storms(now=self.LATER)) == (1, 1)
