"""Alertmanager forgets: what is open there is told again every minute, and what is over is not."""

import ipaddress
import json
import urllib.request
from datetime import datetime, timedelta

import msgspec
import pytest

from incidents.models import Channel
from incidents.notifications import delivery, keep_alive
from incidents.notifications.alert import Event
from incidents.notifications.channels import alertmanager
from incidents.notifications.configuring import remove_channel, save_channel
from lib.wallclock import utcnow
from tests.factories import (
    NOW,
    ChannelFactory,
    DutyFactory,
    IncidentFactory,
    MessageFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    RouteFactory,
    StormFactory,
)
from tests.incidents.notifications.channels.alerts import alert, many
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.incidents.notifications.channels.test_alertmanager import real, running_alertmanager
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.ALERT_EMAIL_TO = []
    yield
    keep_alive._asked.clear()


@pytest.fixture
def receiver():
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def channel(receiver):
    return new_channel(receiver.url)


def new_channel(url):
    environment = MonitorEnvironmentFactory(monitor__slug="backup", status="error")
    channel = ChannelFactory.build(project=environment.monitor.project, kind="alertmanager")
    save_channel(channel, {"url": url}, now=NOW)
    RouteFactory(project=channel.project, to=[channel])
    return channel


def fails(channel, *, at=NOW):
    environment = MonitorEnvironmentFactory(monitor__project=channel.project, status="error")
    incident = OccurrenceFactory(
        incident__monitor_environment=environment, incident__opened_at=at, incident__started_at=at, detected_at=at
    ).incident
    NotificationFactory(incident=incident, created_at=at)
    delivery.deliver(utcnow=lambda: at)
    return incident


def recovers(incident, *, at):
    incident.resolved_at, incident.resolving_checkin = at, incident.starting_checkin
    incident.save()
    NotificationFactory(incident=incident, transition="resolved", created_at=at)


def tell_again(at):
    """Tell again, and wait for the answers."""
    count = keep_alive.keep_alive(now=at)
    wait_until(lambda: all(asked.future.done() for asked in keep_alive._asked.values()), "it is told")
    return count


def told(receiver):
    """The alerts of the newest request: incident and end."""
    return {one["labels"]["incident"]: one["endsAt"] for one in receiver.received[-1].json}


def test_what_is_open_is_told_again_with_a_later_end(receiver, channel):
    one, other = fails(channel), fails(channel)
    assert tell_again(NOW + 3 * MINUTE) == 1
    assert set(told(receiver)) == {str(one.guid), str(other.guid)}
    ends = {msgspec.convert(text, type=datetime) for text in told(receiver).values()}
    assert ends == {NOW + 3 * MINUTE + alertmanager.HOLD}


def test_many_go_in_few_requests(receiver, channel, monkeypatch):
    monkeypatch.setattr(alertmanager, "ALERTS_PER_REQUEST", 2)
    for _ in range(3):
        fails(channel)
    receiver.received.clear()
    tell_again(NOW + MINUTE)
    assert [len(received.json) for received in receiver.received] == [2, 1]


def test_what_is_not_told_yet_is_left_to_its_message(receiver, channel):
    receiver.answer = lambda _: reply(503)
    fails(channel)
    receiver.received.clear()
    assert tell_again(NOW + MINUTE) == 0
    assert receiver.received == []


def test_an_end_is_told_again_for_five_minutes(receiver, channel):
    incident = fails(channel)
    recovers(incident, at=NOW + MINUTE)
    assert tell_again(NOW + MINUTE) == 0
    delivery.deliver(utcnow=lambda: NOW + MINUTE)
    assert tell_again(NOW + 2 * MINUTE) == 1
    [ends_at] = told(receiver).values()
    assert msgspec.convert(ends_at, type=datetime) == NOW + MINUTE
    assert tell_again(NOW + 7 * MINUTE) == 0


def test_a_digest_of_quiet_hours_is_told_again_while_one_of_its_incidents_is_open(receiver, channel):
    incident = IncidentFactory(monitor_environment__monitor__project=channel.project)
    storm = StormFactory(project=channel.project, channel=channel, cause="quiet", tick=None)
    told = {"storm": storm, "incident": None, "channel": channel, "recipient": str(channel.guid), "status": "sent"}
    body = msgspec.json.encode(alert(Event.DIGEST, incidents=many(Event.DIGEST, 3))).decode()
    message = MessageFactory(kind="digest", body=body, finished_at=NOW, **told)
    DutyFactory(notification__incident=incident, message=message, channel=channel)
    assert tell_again(NOW + 30 * MINUTE) == 1
    assert [one["labels"]["alertname"] for one in receiver.received[-1].json] == ["WatchclockStorm"]
    recovers(incident, at=NOW + 31 * MINUTE)
    assert tell_again(NOW + 31 * MINUTE) == 0


def test_a_removed_channel_is_told_until_the_end(receiver, channel):
    fails(channel)
    remove_channel(channel, now=NOW, by=None)
    assert tell_again(NOW + MINUTE) == 1


def test_a_disabled_channel_is_not_told_again(channel):
    fails(channel)
    Channel.objects.update(is_enabled=False)
    assert tell_again(NOW + MINUTE) == 0


def test_other_kinds_of_channels_are_not_told_again(receiver):
    environment = MonitorEnvironmentFactory(status="error")
    channel = ChannelFactory.build(project=environment.monitor.project, kind="slack")
    save_channel(channel, {"url": receiver.url}, now=NOW)
    RouteFactory(project=channel.project, to=[channel])
    fails(channel)
    assert tell_again(NOW + MINUTE) == 0


def test_nobody_waits_for_an_answer_and_who_is_being_asked_is_not_asked_again(receiver, channel):
    fails(channel)
    receiver.answer = lambda _: receiver.hang()
    assert keep_alive.keep_alive(now=NOW + MINUTE) == 1
    assert keep_alive.keep_alive(now=NOW + 2 * MINUTE) == 0
    receiver.stopped.set()


def test_one_that_fails_for_a_minute_is_left_alone_by_messages_and_told_again_all_the_same(receiver, channel):
    fails(channel)
    receiver.answer = lambda _: reply(503, "no quorum")
    for minute in range(1, 8):
        assert tell_again(NOW + minute * MINUTE) == 1
    channel.refresh_from_db()
    assert channel.open_since is not None
    assert channel.last_error == "503 no quorum"
    receiver.answer = lambda _: reply(200)
    tell_again(NOW + 8 * MINUTE)
    keep_alive.keep_alive(now=NOW + 9 * MINUTE)
    channel.refresh_from_db()
    assert (channel.open_since, channel.last_error) == (None, "")


@pytest.mark.long
@real
def test_the_real_one_keeps_an_alert_open_until_the_incident_is_over(receiver, tmp_path):
    def alerts():
        with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
            return json.load(answer)

    def notified():
        return [received.json["status"] for received in receiver.received]

    with running_alertmanager(receiver.url, tmp_path) as url:
        now, channel = utcnow(), new_channel(url)
        incident = fails(channel, at=now)
        wait_until(notified, "it fires")
        [before] = alerts()
        tell_again(now + 4 * MINUTE)
        [after] = alerts()
        assert after["fingerprint"] == before["fingerprint"]
        assert (
            msgspec.convert(after["endsAt"], type=datetime) - msgspec.convert(before["endsAt"], type=datetime)
            == 4 * MINUTE
        )
        recovers(incident, at=utcnow())
        delivery.deliver(utcnow=utcnow)
        tell_again(utcnow())
        wait_until(lambda: notified()[-1] == "resolved", "it is resolved")
        assert alerts() == []
        assert notified() == ["firing", "resolved"]
