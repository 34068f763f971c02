"""Who is notified of an incident: its routes decide, and whoever was told of the beginning is told of the end."""

import uuid
from datetime import timedelta

import pytest
from django.db.models import F

from incidents.models import Duty, Message, Notification
from incidents.notifications import claims
from incidents.notifications.addressing import address, address_again
from incidents.notifications.attempts import LEASE
from incidents.notifications.rates import RATES
from tests.factories import (
    NOW,
    ChannelFactory,
    IncidentFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
DEFAULT = "ops@example.com"
SECOND = timedelta(seconds=1)


def fails(slug="backup", **columns):
    """An incident that opened, of which people are to be notified."""
    environment = MonitorEnvironmentFactory(monitor__slug=slug, status="error")
    return NotificationFactory(incident=OccurrenceFactory(incident__monitor_environment=environment).incident).incident


def recovers(incident):
    NotificationFactory(incident=incident, transition="resolved")


def project_of(incident):
    return incident.monitor_environment.monitor.project


def channel(incident, **columns):
    return ChannelFactory(project=project_of(incident), **columns)


def route(incident, *channels, **columns):
    return RouteFactory(project=project_of(incident), to=channels, **columns)


def only(attribute, *values):
    return [{"attribute": attribute, "operator": "is", "values": list(values)}]


def told(default=(DEFAULT,), **filters):
    address(default, now=NOW)
    return list(
        Message.objects.filter(**filters).exclude(status="folded").order_by("id").values_list("recipient", "kind")
    )


def test_an_incident_that_no_route_catches_goes_to_alert_email_to():
    incident = fails()
    route(incident, channel(incident), matchers=only("monitor", "another"))
    assert told() == [(DEFAULT, "opened")]


def test_an_incident_goes_to_the_channels_of_its_route_and_not_to_alert_email_to():
    incident = fails()
    slack, mute = channel(incident), channel(incident)
    route(incident, slack)
    route(incident, mute)
    assert told() == [(str(slack.guid), "opened")]


def test_routes_of_another_project_do_not_matter():
    fails()
    RouteFactory(to=[ChannelFactory()])
    assert told() == [(DEFAULT, "opened")]


def test_a_route_looks_at_the_severity_and_the_owner_of_the_monitor():
    incident = fails()
    pager, room = channel(incident), channel(incident)
    route(incident, pager, matchers=only("severity", "critical"), continues=True)
    route(incident, room, matchers=only("owner", "team:db"))
    monitor = incident.monitor_environment.monitor
    monitor.severity, monitor.owner = "critical", "team:db"
    monitor.save()
    assert told() == [(str(pager.guid), "opened"), (str(room.guid), "opened")]


def test_a_route_looks_at_the_kind_of_the_failure_that_opened_the_incident():
    incident = fails()
    kind = incident.starting_checkin.status
    pager, other = channel(incident), channel(incident)
    route(incident, other, matchers=only("kind", *({"missed", "timeout", "error"} - {kind})))
    route(incident, pager, matchers=only("kind", kind))
    assert told() == [(str(pager.guid), "opened")]


def test_a_mail_channel_has_a_mail_for_each_of_its_addresses():
    incident = fails()
    route(incident, channel(incident, kind="email", values={"to": "a@example.com, b@example.com ,a@example.com"}))
    assert told() == [("a@example.com", "opened"), ("b@example.com", "opened")]


def test_without_a_mail_server_a_mail_channel_notifies_nobody(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    incident = fails()
    route(incident, channel(incident, kind="email", values={"to": "a@example.com"}))
    assert told() == []
    assert Notification.objects.filter(nobody_since=NOW).exists()


def test_a_duty_says_over_which_channel_and_why():
    incident = fails()
    slack = channel(incident)
    route(incident, slack, name="all of it")
    address([DEFAULT], now=NOW)
    duty = Duty.objects.get()
    assert (duty.incident, duty.channel, duty.reason) == (incident, slack, "route 'all of it' catches everything")
    assert duty.message.channel == slack


def test_a_disabled_or_removed_channel_is_told_nothing_new():
    incident = fails()
    good = channel(incident)
    route(incident, good, channel(incident, is_enabled=False), channel(incident, removed_at=NOW))
    assert told() == [(str(good.guid), "opened")]


def test_a_disabled_route_catches_nothing():
    incident = fails()
    route(incident, channel(incident), is_enabled=False)
    assert told() == [(DEFAULT, "opened")]


def test_whoever_was_told_of_the_beginning_is_told_of_the_end_also_if_the_route_is_another_now():
    incident = fails()
    before, after = channel(incident), channel(incident)
    own = route(incident, before)
    address([], now=NOW)
    Message.objects.update(status="sent", finished_at=NOW)
    own.channels.set([after])
    recovers(incident)
    assert told(kind="resolved") == [(str(before.guid), "resolved")]


def test_the_end_of_an_incident_of_which_nobody_was_told_yet_makes_one_message_of_both():
    incident = fails()
    slack = channel(incident)
    route(incident, slack)
    address([], now=NOW)
    recovers(incident)
    assert told() == [(str(slack.guid), "passed")]
    assert Duty.objects.filter(message__kind="passed").count() == 2


def test_p5_a_beginning_that_may_have_arrived_is_not_replaced_so_that_a_pager_is_told_of_the_end():
    incident = fails()
    pager = channel(incident, kind="pagerduty")
    route(incident, pager)
    address([], now=NOW)
    [message] = claims.claim_for_lanes(now=NOW)
    claims.record_failed(message, error="no answer", wait=SECOND, now=NOW, is_in_doubt=True)
    recovers(incident)
    assert told() == [(str(pager.guid), "opened"), (str(pager.guid), "resolved")]


def test_p5_what_a_killed_worker_had_claimed_may_have_arrived_also_if_a_later_attempt_fails():
    incident = fails()
    pager = channel(incident, kind="pagerduty")
    route(incident, pager)
    address([], now=NOW)
    claims.claim_for_lanes(now=NOW)
    [message] = claims.claim_for_lanes(now=NOW + LEASE)
    claims.record_failed(message, error="500", wait=SECOND, now=NOW + LEASE)
    recovers(incident)
    assert told() == [(str(pager.guid), "opened"), (str(pager.guid), "resolved")]


class TestNobody:
    def test_an_incident_without_recipients_waits_and_is_counted(self):
        fails()
        assert told(default=()) == []
        assert Notification.objects.filter(addressed_at=None, nobody_since=NOW).count() == 1

    def test_it_is_routed_again_when_somebody_has_added_a_route(self):
        incident = fails()
        address([], now=NOW)
        slack = channel(incident)
        route(incident, slack)
        address_again([], now=NOW + SECOND)
        assert list(Message.objects.values_list("recipient", flat=True)) == [str(slack.guid)]
        assert Notification.objects.filter(nobody_since=None, addressed_at=NOW + SECOND).exists()

    def test_it_is_not_told_late_if_it_is_over_by_then(self):
        incident = fails()
        address([], now=NOW)
        incident.resolved_at, incident.resolving_checkin = NOW, incident.starting_checkin
        incident.save()
        address_again([DEFAULT], now=NOW + SECOND)
        assert not Message.objects.exists()

    def test_those_that_wait_keep_no_other_waiting(self, monkeypatch):
        monkeypatch.setattr("incidents.notifications.addressing.ADDRESSED_MAX", 2)
        for _ in range(3):
            fails()
        while address([], now=NOW):
            pass
        incident = fails()
        slack = channel(incident)
        route(incident, slack)
        assert told(default=()) == [(str(slack.guid), "opened")]

    def test_a_route_without_channels_means_nobody(self):
        incident = fails()
        route(incident)
        assert told() == []
        assert not Notification.objects.filter(addressed_at=None).exists()


class TestClaims:
    def lane(self, number, **columns):
        """Messages of one channel, one for each of so many incidents."""
        slack = ChannelFactory(**columns)
        for _ in range(number):
            Message.objects.create(
                incident=IncidentFactory(), kind="opened", channel=slack, recipient=str(slack.guid),
                idempotency_key=uuid.uuid4(), created_at=NOW, due_at=NOW,
            )  # fmt: skip
        return slack

    def claimed(self, at=NOW, **options):
        return [message.channel_id for message in claims.claim_for_lanes(now=at, **options)]

    def test_so_many_messages_of_a_channel_are_claimed_at_once_and_no_more_before_they_are_done(self):
        webhook = self.lane(claims.LANE_MAX + 5, kind="webhook")
        assert self.claimed() == [webhook.id] * claims.LANE_MAX
        assert self.claimed() == []

    def test_a_channel_whose_breaker_is_open_has_one_message_claimed_when_a_probe_is_due(self):
        slack = self.lane(3, open_since=NOW, probe_at=NOW + SECOND)
        assert self.claimed() == []
        assert self.claimed(NOW + SECOND) == [slack.id]

    def test_a_channel_that_asked_for_fewer_requests_is_left_alone(self):
        slack = self.lane(1, slow_until=NOW + SECOND)
        assert self.claimed() == []
        assert self.claimed(NOW + SECOND) == [slack.id]

    def test_no_more_are_claimed_than_the_service_takes_now(self):
        slack = self.lane(20)
        rate = RATES["slack"]
        assert self.claimed() == [slack.id] * rate.burst
        Message.objects.filter(claimed_until__isnull=False).update(status="sent", finished_at=NOW, claimed_until=None)
        assert self.claimed() == []
        at = claims.next_paced(NOW)
        assert at == NOW + rate.every
        assert self.claimed(at) == [slack.id]

    def test_a_probe_takes_a_token_too(self):
        slack = self.lane(1, open_since=NOW, probe_at=NOW)
        self.claimed()
        slack.refresh_from_db()
        assert slack.paced_until == NOW - (RATES["slack"].burst - 2) * RATES["slack"].every

    def test_nobody_is_woken_for_a_channel_that_waits_for_more_than_its_rate(self):
        self.lane(1, paced_until=NOW + SECOND, slow_until=NOW + 60 * SECOND)
        self.lane(1, paced_until=NOW + SECOND, open_since=NOW, probe_at=NOW + 60 * SECOND)
        ChannelFactory(paced_until=NOW + SECOND)
        assert claims.next_paced(NOW) is None

    def test_mails_and_other_messages_are_claimed_apart(self):
        self.lane(1)
        mails = self.lane(1, kind="email")
        assert [message.channel_id for message in claims.claim_mails(limit=9, now=NOW)] == [mails.id]

    def test_the_end_waits_for_the_beginning(self):
        incident = fails()
        slack = channel(incident)
        route(incident, slack)
        address([], now=NOW)
        claims.claim_for_lanes(now=NOW)
        recovers(incident)
        address([], now=NOW)
        assert Message.objects.filter(kind="resolved").count() == 1
        Message.objects.filter(kind="opened").update(claimed_until=None, due_at=F("due_at") + SECOND)
        assert claims.claim_for_lanes(now=NOW) == []

    def test_at_most_so_many_channels_are_served_at_once(self):
        for _ in range(3):
            self.lane(1)
        assert len(self.claimed(channels=2)) == 2
        assert self.claimed(channels=0) == []
