"""Tests of channels are in the audit log: who sent one, and whether it was taken; never what the service said."""

import ipaddress
from datetime import timedelta

import pytest
from django.core.management import call_command

from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.models import Message
from incidents.notifications import delivery
from incidents.notifications.configuring import save_channel, send_test
from tests.factories import NOW, ChannelFactory, ProjectFactory
from tests.incidents.notifications.channels.receiver import reply, running_receiver

pytestmark = pytest.mark.django_db
ANNA = Actor("anna", Source.PAGE, NOW, 7)
TOKEN = "hooks-are-secret-0123456789"
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def receiver(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    with running_receiver(lambda received: reply(500, f"no such place: {received.path}")) as receiver:
        yield receiver


@pytest.fixture
def room(receiver):
    found = ChannelFactory.build(project=ProjectFactory(), kind="slack", name="room")
    save_channel(found, {"url": f"{receiver.url}/{TOKEN}"}, now=NOW)
    return found


def entries():
    return list(AuditEntry.objects.order_by("id").values_list("actor_name", "action", "changes"))


def deliver(at):
    delivery.deliver(utcnow=lambda: at)


def test_who_sent_it_and_its_result_are_entries_and_repeated_failures_are_not(room, receiver):
    send_test(room, now=NOW, by=ANNA)
    assert entries() == [("anna", "test sent", {})]
    for minutes in (0, 1, 2):
        deliver(NOW + timedelta(minutes=minutes))
    assert Message.objects.get().attempt_count == 3
    receiver.answer = lambda _: reply(200, "ok")
    deliver(NOW + timedelta(hours=1))
    assert entries()[1:] == [("Watchclock", "test not accepted", {}), ("Watchclock", "test accepted", {})]
    stored = AuditEntry.objects.order_by("id")
    assert {(one.kind, one.object_id, one.object_name, one.project_id) for one in stored} == {
        ("channel", room.pk, "room", room.project_id)
    }
    assert [one.source for one in stored] == ["page", "system", "system"]


def test_of_an_e_mail_channel_each_address_has_a_result(mailoutbox):
    mail = ChannelFactory(kind="email", name="ops", values={"to": "ada@example.com, bob@example.com"})
    send_test(mail, now=NOW, by=ANNA)
    deliver(NOW)
    assert sorted(changes["to"][1] for _, action, changes in entries() if action == "test accepted") == [
        "ada@example.com", "bob@example.com",
    ]  # fmt: skip


def test_a_test_by_the_command_is_one_entry_with_its_result(room, capsys):
    with pytest.raises(SystemExit):
        call_command("notify", "test", "room")
    assert entries() == [("notify", "test not accepted", {})]


def test_nothing_is_recorded_if_all_addresses_have_unsubscribed():
    nobody = ChannelFactory(kind="email", values={"to": ""})
    assert send_test(nobody, now=NOW, by=ANNA) == []
    assert entries() == []
