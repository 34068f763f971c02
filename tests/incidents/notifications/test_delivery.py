"""Mails go out from the outbox whatever the mail server does: each alone, none twice without need, none for ever."""

import smtplib
import threading
import time
from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction

from incidents.models import Incident, Message, Notification
from incidents.notifications import alerts, backlog, claims, delivery, mail_lines, outbox, wake
from incidents.notifications.addressing import address
from incidents.notifications.attempts import ATTEMPTS_MAX, LEASE, REFUSALS_MAX
from incidents.notifications.channels import email
from incidents.notifications.channels.mail import compose
from incidents.tasks import deliver_notifications
from tests.factories import (
    NOW,
    DutyFactory,
    IncidentFactory,
    MessageFactory,
    NotificationFactory,
    OccurrenceFactory,
    ProjectFactory,
)
from tests.mailserver import HangError, HangUpError, dripping_server, running_mail_server
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
ONE, TWO = "ops@example.com", "night@example.com"


@pytest.fixture(autouse=True)
def people(settings):
    settings.ALERT_EMAIL_TO = [ONE, TWO]


@pytest.fixture
def use(settings, monkeypatch):
    """Send to the mail server at a port. Who waits for nothing but silence need not be patient."""

    def point_at(port, *, is_patient=True):
        settings.EMAIL_BACKEND = "incidents.notifications.channels.email.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        settings.EMAIL_TIMEOUT = PATIENCE_SECONDS if is_patient else 0.5
        monkeypatch.setattr(mail_lines, "SECONDS_MAX", PATIENCE_SECONDS if is_patient else 1.0)

    return point_at


def deliver(at=NOW):
    return delivery.deliver(utcnow=lambda: at)


def states(kind="opened"):
    return dict(Message.objects.filter(kind=kind).values_list("recipient", "status"))


def test_a_message_of_an_older_beat_sends_nothing_where_it_is_read_but_wakes_delivery(monkeypatch, mailoutbox):
    woken = []
    monkeypatch.setattr(wake, "wake", lambda: woken.append(1))
    NotificationFactory()

    assert deliver_notifications() == 0
    assert (woken, mailoutbox) == ([1], [])


def test_a_refusal_for_good_is_believed_sooner(monkeypatch):
    message = MessageFactory(attempt_count=REFUSALS_MAX - 1)
    monkeypatch.setattr(email.Postman, "send", fails_with(email.RefusedError("550 no")))

    deliver()

    message.refresh_from_db()
    assert (message.status, message.last_error) == ("failed", "550 no")


def fails_with(error):
    def send(self, message):
        raise error

    return send


# --- claims


def test_who_lost_his_claim_records_nothing():
    MessageFactory()
    [slow] = claims.claim_mails(limit=1, now=NOW)
    assert claims.claim_mails(limit=1, now=NOW + LEASE - SECOND) == []
    [quick] = claims.claim_mails(limit=1, now=NOW + LEASE)

    assert not claims.record_failed(slow, error="too late", wait=None, now=NOW + LEASE)
    assert claims.record_sent([slow], now=NOW + LEASE) == 0
    assert claims.record_sent([quick], now=NOW + LEASE) == 1
    assert (quick.attempt_count, Message.objects.get().status) == (2, "sent")


def test_a_repetition_says_the_same_under_the_same_key(mailoutbox):
    occurrence = OccurrenceFactory()
    NotificationFactory(incident=occurrence.incident)
    address([ONE], now=NOW)
    [claimed] = claims.claim_mails(limit=1, now=NOW)
    alerts.write_alerts([claimed])  # and then the worker is killed
    type(occurrence).objects.update(explanation={"kind": "error"})

    deliver(NOW + LEASE)

    [sent] = mailoutbox
    assert without_date(sent) == without_date(compose(claimed))
    assert b"multipart/alternative" in without_date(sent)


def without_date(mail):
    built = mail.message()
    del built["Date"]
    return built.as_bytes()


def test_what_takes_its_worker_with_it_each_time_is_given_up():
    MessageFactory(attempt_count=ATTEMPTS_MAX, claimed_until=NOW)

    deliver()

    assert Message.objects.get().status == "failed"


# --- one message for a beginning and an end


def test_d29_an_incident_that_opens_and_is_resolved_at_once_is_one_message(mailoutbox):
    incident = OccurrenceFactory(incident=IncidentFactory(resolved=True)).incident
    NotificationFactory(incident=incident, created_at=NOW + 4 * MINUTE)
    NotificationFactory(incident=incident, transition="resolved", created_at=NOW + 5 * MINUTE)

    deliver(NOW + 6 * MINUTE)

    assert states("passed") == {ONE: "sent", TWO: "sent"}
    assert len(mailoutbox) == 2
    assert mailoutbox[0].subject.endswith(" failed and recovered")
    assert set(Notification.objects.values_list("sent_at", flat=True)) == {NOW + 6 * MINUTE}


def test_a_beginning_that_was_not_sent_yet_is_folded_into_the_end(mailoutbox):
    incident = IncidentFactory(resolved=True)
    NotificationFactory(incident=incident)
    address([ONE, TWO], now=NOW)
    Message.objects.filter(recipient=TWO).update(status="sent", finished_at=NOW)
    NotificationFactory(incident=incident, transition="resolved")

    deliver()

    assert states() == {ONE: "folded", TWO: "sent"}
    assert states("passed") == {ONE: "sent"}
    assert states("resolved") == {TWO: "sent"}


def test_whoever_was_told_of_the_beginning_is_told_of_the_end_also_if_the_addresses_change(settings):
    incident = IncidentFactory(resolved=True)
    NotificationFactory(incident=incident)
    deliver()
    settings.ALERT_EMAIL_TO = ["new@example.com"]
    NotificationFactory(incident=incident, transition="resolved")

    deliver()

    assert states("resolved") == {ONE: "sent", TWO: "sent"}


# --- nobody to tell


@pytest.fixture(params=["no address", "consolemail"])
def nobody(request, settings):
    if request.param == "no address":
        settings.ALERT_EMAIL_TO = []
    else:
        settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

    def somebody():
        settings.ALERT_EMAIL_TO = [ONE]
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    return somebody


def test_an_incident_that_is_open_when_there_is_somebody_is_told_once(nobody, mailoutbox):
    NotificationFactory()
    deliver()
    assert (Message.objects.count(), Notification.objects.get().nobody_since) == (0, NOW)
    nobody()

    deliver(NOW + MINUTE)
    deliver(NOW + 2 * MINUTE)

    assert len(mailoutbox) == 1
    assert Notification.objects.get().nobody_since is None


@pytest.mark.parametrize("change", ["resolved", "muted", "archived"])
def test_of_what_is_over_or_not_wanted_nobody_is_told_late(nobody, mailoutbox, change):
    incident = OccurrenceFactory().incident
    NotificationFactory(incident=incident)
    deliver()
    match change:
        case "resolved":
            Incident.objects.update(resolved_at=NOW, resolving_checkin=7)
            NotificationFactory(incident=incident, transition="resolved")
        case "muted":
            type(incident.monitor_environment).objects.update(is_muted=True)
        case "archived":
            type(incident.issue).objects.update(status="archived")
    nobody()

    deliver(NOW + MINUTE)
    deliver(NOW + 2 * MINUTE)

    assert mailoutbox == []
    assert not Notification.objects.filter(addressed_at=None).exists()
    assert Notification.objects.filter(transition="opened", nobody_since=NOW).exists(), "the incident says so"


# --- mail servers of all kinds, on real sockets


def test_a_mail_server_takes_all_on_few_connections(use, settings):
    settings.ALERT_EMAIL_TO, settings.EMAIL_CONNECTIONS = [ONE], 3
    NotificationFactory.create_batch(25)
    with running_mail_server() as server:
        use(server.port)
        run = deliver()

    assert (run.sent_count, run.failed_count) == (25, 0)
    assert server.connection_count <= 3
    assert len({mail["Message-ID"] for mail in server.mails_to(ONE)}) == 25


@pytest.mark.parametrize("word", ["CONNECT", "EHLO", "MAIL", "DATA", "."])
def test_a_server_that_falls_silent_ends_the_run_in_time(use, settings, word):
    settings.EMAIL_CONNECTIONS = 1
    NotificationFactory.create_batch(5)

    def silent(at, _recipient):
        if at == word:
            raise HangError
        return

    with running_mail_server(silent) as server:
        use(server.port, is_patient=False)
        run = deliver()

    assert (run.sent_count, run.failed_count) == (0, 1), "the others do not use up their tries"
    assert Message.objects.filter(attempt_count=0).count() == 9
    assert "does not answer in time" in Message.objects.get(attempt_count=1).last_error


def test_a_server_that_drips_is_cut_off(use, settings):
    settings.EMAIL_CONNECTIONS = 1
    NotificationFactory()
    with dripping_server(0.05) as port:
        use(port, is_patient=False)
        run = deliver()
        wait_until(lambda: all(thread.name != "mail" for thread in threading.enumerate()), "no connection is left")

    assert run.failed_count == 1
    assert "did not finish within" in Message.objects.get(attempt_count=1).last_error


def test_a_server_that_is_not_there_is_said_so_and_asked_again(use, settings):
    settings.EMAIL_CONNECTIONS = 1
    NotificationFactory()
    with running_mail_server() as server:
        port = server.port
    use(port)

    assert deliver().failed_count == 1
    message = Message.objects.get(attempt_count=1)
    assert "Connection refused" in message.last_error
    assert not message.is_in_doubt, "nobody can have it"
    with running_mail_server() as server:
        use(server.port)
        assert deliver(NOW + MINUTE).sent_count == 2


@pytest.fixture
def outage(use, settings):
    """No mail server, and mails to one address about more incidents of a project than are told one by one."""
    settings.ALERT_EMAIL_TO = [ONE]
    project = ProjectFactory()
    for _ in range(backlog.LEAST + 1):
        NotificationFactory(incident__monitor_environment__monitor__project=project)
        address([ONE], now=NOW)
    with running_mail_server() as server:
        port = server.port
    use(port)


def test_after_an_outage_one_mail_goes_first_and_the_rest_together(use, outage):
    deliver()
    tried = Message.objects.filter(attempt_count__gt=0)
    before = tried.count()
    assert deliver(NOW + MINUTE).failed_count == 1
    assert tried.count() <= before + 1, "whether the server works is asked with one mail"

    with running_mail_server() as server:
        use(server.port)
        assert deliver(NOW + 2 * MINUTE).sent_count == 2
        first, rest = server.mails_to(ONE)
    assert first["Subject"] != rest["Subject"]
    assert Message.objects.get(kind="digest").subject.startswith(f"{backlog.LEAST} jobs of ")
    assert set(Message.objects.values_list("status", flat=True)) == {"sent", "folded"}
    assert not Notification.objects.filter(sent_at=None).exists()


def test_in_an_outage_nothing_is_folded(outage):
    for minutes in range(5):
        deliver(NOW + minutes * MINUTE)
    assert set(Message.objects.values_list("kind", "status")) == {("opened", "waiting")}


@pytest.mark.parametrize("error", [HangError, HangUpError])
def test_a_mail_that_a_server_may_have_taken_is_in_doubt_and_who_may_have_it_is_told_of_the_end(use, settings, error):
    settings.ALERT_EMAIL_TO, settings.EMAIL_CONNECTIONS = [ONE], 1
    incident = IncidentFactory()
    MessageFactory(incident=incident, kind="escalated", number=1, recipient=ONE)
    about = NotificationFactory(incident=incident, transition="escalated", number=1, addressed_at=NOW)
    DutyFactory(notification=about, message=Message.objects.get(), recipient=ONE, channel=None, number=1)

    def takes_it_and_does_not_answer(word, _recipient):
        if word == "DATA":
            raise error
        return

    with running_mail_server(takes_it_and_does_not_answer) as server:
        use(server.port, is_patient=False)
        assert deliver().failed_count == 1
    assert Message.objects.get().is_in_doubt

    NotificationFactory(incident=incident, addressed_at=NOW)
    NotificationFactory(incident=incident, transition="resolved")
    address([], now=NOW)
    assert Message.objects.filter(recipient=ONE, kind="resolved").exists()


def test_a_server_that_ends_its_connections_after_a_mail_gets_another_one(use, settings):
    settings.ALERT_EMAIL_TO, settings.EMAIL_CONNECTIONS = [ONE], 1
    NotificationFactory.create_batch(3)
    counts = []

    def one_mail_each(word, _recipient):
        counts.append(word)
        if word == "MAIL" and counts.count("MAIL") > counts.count("CONNECT"):
            counts.pop()
            raise HangUpError
        return

    with running_mail_server(one_mail_each) as server:
        use(server.port)
        run = deliver()

    assert (run.sent_count, run.failed_count, server.connection_count) == (3, 0, 3)


def test_what_the_server_said_stands_in_the_row_in_one_line(use, settings):
    settings.ALERT_EMAIL_TO = [ONE]
    NotificationFactory()
    with running_mail_server(lambda word, _: "451-greylisted\r\n451 come again" if word == "RCPT" else None) as server:
        use(server.port)
        deliver()

    assert Message.objects.get().last_error == "the mail server answers 451 greylisted come again"


# --- waking


@pytest.mark.django_db(transaction=True)
def test_whoever_writes_what_is_to_be_told_wakes_delivery_after_the_commit(monkeypatch):
    woken = threading.Event()
    monkeypatch.setattr(wake, "send_wish", woken.set)
    incident = IncidentFactory()
    with transaction.atomic():
        outbox.notify_opened({incident.id: outbox.Opening(NOW)})
        assert not woken.wait(0.1)
    assert woken.wait(PATIENCE_SECONDS)


def test_a_broker_that_hangs_keeps_nobody_waiting(monkeypatch):
    stop, begun = threading.Event(), threading.Event()

    def send_wish():
        begun.set()
        stop.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(wake, "send_wish", send_wish)
    began = time.monotonic()
    try:
        for _ in range(100):
            wake.wake()
        assert time.monotonic() - began < PATIENCE_SECONDS
        assert begun.wait(PATIENCE_SECONDS)
    finally:
        stop.set()


def test_no_line_of_an_error_gets_into_the_next(mailoutbox):
    assert (
        email.describe_error(smtplib.SMTPDataError(554, b"spam\r\nX-Header: 1"))
        == "the mail server answers 554 spam X-Header: 1"
    )
    assert mail.outbox == []
