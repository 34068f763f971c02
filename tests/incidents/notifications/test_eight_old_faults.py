"""Eight ways in which an early version lost, delayed or gave away what people had to be told, one test for each.

Each test fails on the code of that time. What else mail servers do is in `test_delivery`.
"""

import base64
import logging
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings as stored_settings
from django.db import DatabaseError, connection, transaction

from incidents.models import Incident, Message, Notification
from incidents.notifications import alerts, claims, delivery
from incidents.notifications.attempts import LEASE
from incidents.notifications.channels.email import SECONDS_MAX
from project.celery import app as celery_app
from project.local.children import program_arguments
from tests.factories import NOW, IncidentFactory, MessageFactory, NotificationFactory, OccurrenceFactory
from tests.mailserver import running_mail_server
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.django_db
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ONE, TWO = "ops@example.com", "night@example.com"


@pytest.fixture(autouse=True)
def people(settings):
    settings.ALERT_EMAIL_TO = [ONE, TWO]


@pytest.fixture
def mail_server(settings):
    """A mail server that all mail goes to; a test says how it behaves."""
    settings.EMAIL_BACKEND = "incidents.notifications.channels.email.EmailBackend"
    settings.EMAIL_TIMEOUT = PATIENCE_SECONDS
    with running_mail_server() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server


def deliver(at=NOW):
    return delivery.deliver(utcnow=lambda: at)


def states(**which):
    return dict(Message.objects.filter(**which).values_list("recipient", "status"))


@pytest.mark.django_db(transaction=True)
def test_1_while_the_mail_server_is_asked_every_row_can_be_locked_by_others(mail_server, settings):
    settings.ALERT_EMAIL_TO, settings.EMAIL_CONNECTIONS = [ONE], 1
    NotificationFactory()
    refused = []

    def lock_all_rows(word, _recipient):
        if word in {"MAIL", "DATA", "."}:
            try:
                with transaction.atomic():
                    for model in (Incident, Notification, Message):
                        assert list(model.objects.select_for_update(nowait=True))
            except DatabaseError as error:
                refused.append((word, error))
            finally:
                connection.close()

    mail_server.behaviour = lock_all_rows

    assert deliver().sent_count == 1
    assert refused == []
    assert stored_settings.EMAIL_TIMEOUT is not None
    assert LEASE.total_seconds() > SECONDS_MAX, "who claimed a mail is done with it while the claim lasts"


def test_2_what_talks_to_receivers_shares_no_queue_and_no_worker_with_the_clock():
    """`tests/e2e/test_silent_mail_server.py` shows it with real processes."""
    entries = celery_app.conf.beat_schedule.values()
    senders = {entry["task"] for entry in entries if entry["options"]["queue"] == "delivery"}
    others = {entry["task"] for entry in entries if entry["options"]["queue"] != "delivery"}

    assert "incidents.tasks.deliver" in senders
    assert {task.split(".")[0] for task in senders} == {"incidents"}
    assert senders.isdisjoint(others)
    assert celery_app.amqp.router.route({}, "incidents.tasks.deliver")["queue"].name == "delivery"
    workers = [command for command in program_arguments().values() if "--queues" in command]
    queues = [set(command[command.index("--queues") + 1].split(",")) for command in workers]
    assert {"delivery"} in queues
    assert all(own == {"delivery"} or "delivery" not in own for own in queues)


def test_3_each_recipient_has_a_mail_of_their_own_and_one_refused_costs_nobody_else_theirs(mail_server):
    NotificationFactory()
    mail_server.behaviour = lambda word, to: "550 no such user" if (word, to) == ("RCPT", ONE) else None

    run = deliver()

    assert (run.sent_count, run.failed_count) == (1, 1)
    assert [mail["To"] for _, mail, _ in mail_server.taken] == [TWO]
    assert states() == {ONE: "waiting", TWO: "sent"}
    refused = Message.objects.get(recipient=ONE)
    assert refused.last_error == "the mail server answers 550 no such user"
    assert refused.due_at > NOW
    assert Notification.objects.get().sent_at == NOW, "people were told, one of them"


@pytest.mark.parametrize("error", [ValueError("bad header"), RuntimeError("no template"), KeyError("x")])
def test_4_a_row_that_raises_blocks_no_other(monkeypatch, error, mailoutbox):
    bad, good = OccurrenceFactory(), OccurrenceFactory()
    NotificationFactory(incident=bad.incident)
    NotificationFactory(incident=good.incident)
    write = alerts.write_alert

    def write_alert(message, *facts):
        if message.incident_id == bad.incident_id:
            raise error
        return write(message, *facts)

    monkeypatch.setattr(alerts, "write_alert", write_alert)

    run = deliver()

    assert (run.sent_count, run.failed_count) == (2, 2)
    assert set(Message.objects.filter(incident=bad.incident).values_list("status", "attempt_count")) == {("waiting", 1)}
    assert type(error).__name__ in Message.objects.filter(incident=bad.incident)[0].last_error


@pytest.mark.parametrize(
    ("answer", "within"),
    [
        ("451 come again", (timedelta(hours=23), timedelta(hours=24))),
        ("550 no such user", (timedelta(minutes=45), timedelta(minutes=100))),
        ("552 5.2.2 mailbox full", (timedelta(hours=23), timedelta(hours=24))),
        ("554 5.7.1 your network is blocked", (timedelta(hours=23), timedelta(hours=24))),
    ],
)
def test_5_what_is_refused_is_put_off_longer_and_longer_and_given_up_at_last(mail_server, settings, answer, within):
    settings.ALERT_EMAIL_TO = []
    message = MessageFactory(recipient=ONE, idempotency_key=UUID(int=0))
    mail_server.behaviour = lambda word, _: answer if word == "RCPT" else None
    waits, at = [], NOW
    while message.status == "waiting":
        at = message.due_at
        assert deliver(at).failed_count == 1
        message.refresh_from_db()
        waits.append(message.due_at - at)
        assert deliver(message.due_at - SECOND / 10).failed_count == 0, "not before it is due"

    assert message.status == "failed"
    assert waits[:9] == sorted(waits[:9])
    earliest, latest = within
    assert earliest < at - NOW <= latest
    assert deliver(at + timedelta(days=1)).failed_count == 0, "nothing is tried for ever"


def test_6_the_end_never_overtakes_the_beginning_whoever_sends(mail_server):
    incident = IncidentFactory(resolved=True)
    MessageFactory(incident=incident, recipient=ONE, due_at=NOW + MINUTE, attempt_count=1, last_error="timed out")
    MessageFactory(incident=incident, recipient=ONE, kind="resolved")

    assert deliver().sent_count == 0, "the beginning is not due yet"
    [beginning] = claims.claim_mails(limit=5, now=NOW + MINUTE)
    assert claims.claim_mails(limit=5, now=NOW + MINUTE) == [], "another worker is sending it"
    claims.release([beginning])

    assert deliver(NOW + MINUTE).sent_count == 2
    assert [mail["Subject"].startswith("Re: ") for mail in mail_server.mails_to(ONE)] == [False, True]


def test_7_no_secret_that_a_receiver_repeats_is_stored_or_logged(mail_server, settings, caplog):
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "clock", "pass phrase/4711"
    plain = base64.b64encode(b"\0clock\0pass phrase/4711").decode()
    MessageFactory(recipient=ONE)
    greeting = "250-mail.test\r\n250 AUTH PLAIN"
    mail_server.behaviour = lambda word, _: {
        "EHLO": greeting,
        "AUTH": f"535 not accepted: AUTH PLAIN {plain} (pass phrase/4711, pass%20phrase%2F4711)",
    }.get(word)

    with caplog.at_level(logging.DEBUG):
        assert deliver().failed_count == 1

    stored = Message.objects.get().last_error
    assert stored.startswith("the mail server answers 535 not accepted: AUTH PLAIN ***")
    for secret in ("4711", plain):
        assert secret not in stored
        assert secret not in caplog.text


def test_8_the_mails_about_an_incident_form_a_conversation_under_a_real_domain(mail_server, settings):
    settings.ALERT_EMAIL_TO, settings.DEFAULT_FROM_EMAIL = [ONE], "Watchclock <clock@mail.example.com>"
    incident = IncidentFactory()
    NotificationFactory(incident=incident)
    deliver()
    Incident.objects.update(resolved_at=NOW, resolving_checkin=7)
    NotificationFactory(incident=incident, transition="resolved")
    deliver()

    opened, resolved = mail_server.mails_to(ONE)
    key = Message.objects.get(kind="opened").idempotency_key
    assert opened["Message-ID"] == f"<{key}@mail.example.com>"
    assert resolved["References"] == resolved["In-Reply-To"] == opened["Message-ID"]
    assert resolved["Subject"] == f"Re: {opened['Subject']}"
