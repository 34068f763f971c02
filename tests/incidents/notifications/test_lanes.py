"""From an incident to a receiver on a real socket: told once, in order, and whatever it answers is recorded."""

import ipaddress
from datetime import timedelta

import msgspec
import pytest

from incidents.models import Channel, Duty, Message
from incidents.notifications import alerts, delivery
from incidents.notifications.configuring import save_channel
from tests.factories import (
    NOW,
    ChannelFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    RouteFactory,
)
from tests.incidents.notifications.channels.receiver import reply, running_receiver

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
TOKEN = "hooks-are-secret-0123456789"


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.ALERT_EMAIL_TO = []


@pytest.fixture
def receiver():
    with running_receiver(lambda _: reply(200, "ok")) as receiver:
        yield receiver


def fails(receiver, *, kind="slack"):
    """An incident that opened, with a route to a channel at the receiver."""
    environment = MonitorEnvironmentFactory(monitor__slug="backup", monitor__name="Nightly backup", status="error")
    incident = OccurrenceFactory(incident__monitor_environment=environment).incident
    channel = ChannelFactory.build(project=environment.monitor.project, kind=kind)
    save_channel(channel, {"url": f"{receiver.url}/{TOKEN}"}, now=NOW)
    RouteFactory(project=environment.monitor.project, to=[channel])
    NotificationFactory(incident=incident)
    return incident


def recovers(incident):
    incident.resolved_at, incident.resolving_checkin = NOW + SECOND, incident.starting_checkin
    incident.save()
    NotificationFactory(incident=incident, transition="resolved", created_at=NOW + SECOND)


def deliver(at=NOW):
    return delivery.deliver(utcnow=lambda: at)


def state():
    message = Message.objects.get()
    return message.status, message.due_at - NOW, message.last_error


def test_beginning_and_end_reach_the_receiver_in_order_with_the_reason(receiver):
    incident = fails(receiver)
    assert deliver().sent_count == 1
    recovers(incident)
    assert deliver().sent_count == 1
    opened, resolved = (received.json["text"] for received in receiver.received)
    assert "Nightly backup (production) is failing" in opened
    assert "Nightly backup (production) has recovered" in resolved
    assert Channel.objects.get().delivered_at == NOW
    assert set(Duty.objects.values_list("message__status", flat=True)) == {"sent"}


def test_what_the_receiver_answered_is_stored(receiver):
    fails(receiver)
    deliver()
    assert Message.objects.get().answer == "200 ok"


def test_a_receiver_that_is_busy_is_asked_again_later_with_the_same_bytes(receiver):
    fails(receiver)
    receiver.answer = lambda _: reply(503)
    assert deliver().failed_count == 1
    status, wait, error = state()
    assert (status, error) == ("waiting", "503")
    assert wait > timedelta(0)
    receiver.answer = lambda _: reply(200, "ok")
    deliver(NOW + wait)
    assert len({received.body for received in receiver.received}) == 1
    assert Message.objects.get().status == "sent"


def test_of_many_messages_that_wait_for_a_receiver_that_is_busy_one_is_tried(receiver):
    incident = fails(receiver)
    for _ in range(3):
        environment = MonitorEnvironmentFactory(
            monitor__project=incident.monitor_environment.monitor.project, status="error"
        )
        NotificationFactory(incident=OccurrenceFactory(incident__monitor_environment=environment).incident)
    receiver.answer = lambda _: reply(503)
    deliver()
    assert len(receiver.received) == 1
    assert Message.objects.filter(status="waiting", attempt_count=0).count() == 3


def test_a_receiver_that_asks_for_time_gets_it(receiver):
    fails(receiver)
    receiver.answer = lambda _: reply(429, headers={"Retry-After": "300"})
    deliver()
    assert state()[1] >= timedelta(seconds=300)
    assert Channel.objects.get().slow_until == NOW + timedelta(seconds=300)


def test_markup_never_costs_an_alert(receiver):
    fails(receiver)
    answers = iter([reply(400, "invalid_blocks"), reply(200, "ok")])
    receiver.answer = lambda _: next(answers)
    deliver()
    first, second = (received.json for received in receiver.received)
    assert "blocks" in first
    assert "blocks" not in second
    assert Message.objects.get().status == "sent"


def test_a_message_that_is_refused_plainly_too_has_failed(receiver):
    fails(receiver)
    receiver.answer = lambda _: reply(400, "invalid_payload")
    deliver()
    assert len(receiver.received) == 2
    assert Message.objects.get().status == "failed"


def test_a_channel_that_is_refused_is_left_alone_at_once_and_its_messages_wait(receiver):
    for _ in range(1):
        fails(receiver)
    receiver.answer = lambda _: reply(404, "no_service")
    deliver()
    channel = Channel.objects.get()
    assert channel.open_since == NOW
    assert "404" in channel.last_error
    assert state()[0] == "waiting"
    deliver(NOW + timedelta(minutes=30))
    assert len(receiver.received) == 1


def test_after_a_day_a_message_has_failed(receiver):
    fails(receiver)
    receiver.answer = lambda _: reply(503)
    deliver()
    Message.objects.update(due_at=NOW + timedelta(hours=24))
    deliver(NOW + timedelta(hours=24))
    assert Message.objects.get().status == "failed"


def test_what_waits_for_a_channel_that_is_left_alone_is_given_up_after_a_day(receiver):
    fails(receiver)
    receiver.answer = lambda _: reply(404, "no_service")
    deliver()
    deliver(NOW + timedelta(hours=24, seconds=1))
    assert len(receiver.received) == 1
    assert state()[2] == "not delivered within 24 hours"
    assert Message.objects.get().status == "failed"


@pytest.mark.long
def test_a_receiver_that_hangs_costs_the_others_nothing(receiver, monkeypatch):
    monkeypatch.setattr(delivery, "RUN_SECONDS_MAX", 2.0)
    with running_receiver() as hanging:
        hanging.answer = lambda _: hanging.hang()
        fails(hanging)
        fails(receiver)
        deliver()
        assert sorted(Message.objects.values_list("status", flat=True)) == ["sent", "waiting"]


def test_no_secret_is_stored_or_logged_in_clear(receiver, caplog):
    fails(receiver)
    receiver.answer = lambda received: reply(500, received.path)
    deliver()
    rows = [*Message.objects.values_list(), *Channel.objects.values_list(), *Duty.objects.values_list()]
    assert TOKEN not in repr(rows)
    assert TOKEN not in caplog.text
    assert "500" in Message.objects.get().last_error


def test_an_address_inside_is_not_connected_to(receiver, settings):
    settings.NOTIFY_ALLOWED_NETWORKS = []
    fails(receiver)
    deliver()
    assert receiver.connections == []
    assert Channel.objects.get().open_since == NOW


def test_a_channel_whose_secrets_cannot_be_read_fails_its_own_messages_only(receiver):
    fails(receiver)
    Channel.objects.update(sealed="damaged")
    fails(receiver)
    assert deliver().sent_count == 1
    assert sorted(Message.objects.values_list("status", flat=True)) == ["sent", "waiting"]


def test_the_alert_is_as_severe_as_its_monitor(receiver):
    monitor = fails(receiver).monitor_environment.monitor
    monitor.severity = "warning"
    monitor.save()
    deliver()
    [alert] = [msgspec.json.decode(body) for body in Message.objects.values_list("body", flat=True)]
    assert alert["incidents"][0]["severity"] == "warning"


def test_a_repetition_tells_what_was_stored_at_the_first_attempt(receiver):
    incident = fails(receiver)
    receiver.answer = lambda _: reply(503)
    deliver()
    monitor = incident.monitor_environment.monitor
    monitor.name = "Renamed"
    monitor.save()
    message = Message.objects.get()
    message.channel = Channel.objects.get()
    sendings, failed = alerts.prepare([message])
    assert failed == []
    assert sendings[0].alert.incidents[0].monitor == "Nightly backup"


def test_a_service_behind_apprise_is_told_by_its_process(receiver):
    receiver.answer = lambda _: reply(200, {"id": 1})
    environment = MonitorEnvironmentFactory(monitor__name="Nightly backup", status="error")
    channel = ChannelFactory.build(project=environment.monitor.project, kind="apprise")
    save_channel(channel, {"url": f"gotify://{receiver.url.removeprefix('http://')}/{TOKEN}"}, now=NOW)
    RouteFactory(project=environment.monitor.project, to=[channel])
    NotificationFactory(incident=OccurrenceFactory(incident__monitor_environment=environment).incident)
    assert deliver().sent_count == 1
    assert "Nightly backup (production) is failing" in receiver.received[0].json["title"]
    assert Message.objects.get().answer == "Apprise has sent it."
