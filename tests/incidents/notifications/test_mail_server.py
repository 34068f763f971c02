"""The mail server is away: e-mail channels show it, and people hear of it over a channel that needs no mail."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from health.queries import read_rows
from incidents.models import Channel, MailOutage, Message
from incidents.notifications import delivery
from incidents.notifications.fallback import report_failures
from incidents.notifications.mail_settings import CONSOLE
from project.local.engines import free_port
from tests.factories import (
    NOW,
    ChannelFactory,
    IncidentFactory,
    MembershipFactory,
    MessageFactory,
    ProjectFactory,
    RouteFactory,
)
from tests.mailserver import running_mail_server
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.django_db
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def refused(settings):
    """Nobody listens on the port of the mail server."""
    settings.EMAIL_BACKEND = "incidents.notifications.channels.email.EmailBackend"
    settings.EMAIL_TIMEOUT = PATIENCE_SECONDS
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    settings.ALERT_EMAIL_TO = []


@pytest.fixture
def project():
    project = ProjectFactory()
    MembershipFactory(project=project, role="owner", user__email="ada@example.com")
    return project


@pytest.fixture
def mail(project):
    """An e-mail channel with a mail that is due."""
    channel = ChannelFactory(project=project, kind="email", name="team", values={"to": "team@example.com"})
    incident = IncidentFactory(monitor_environment__monitor__project=project)
    MessageFactory(channel=channel, recipient="team@example.com", incident=incident)
    return channel


@pytest.fixture
def pager(project, mail):
    """A fallback route that has the e-mail channel too."""
    pager = ChannelFactory(project=project, name="pager")
    RouteFactory(project=project, is_fallback=True, to=[mail, pager])
    return pager


def deliver_until(at):
    """Deliver as the sweep does, every twenty seconds."""
    for seconds in range(0, int((at - NOW).total_seconds()) + 1, 20):
        delivery.deliver(utcnow=lambda: NOW + seconds * SECOND)  # noqa: B023 - called at once


def told():
    return [one.recipient for one in Message.objects.filter(kind="fallback")]


def test_it_is_told_five_minutes_after_the_first_failure_over_a_channel_that_needs_no_mail(mail, pager):
    deliver_until(NOW + 40 * SECOND)
    mail.refresh_from_db()
    assert (mail.failing_since, mail.open_since) == (NOW, None), "a server that restarts"

    deliver_until(NOW + 5 * MINUTE)
    mail.refresh_from_db()
    assert mail.open_since == NOW
    assert "Connection refused" in mail.last_error
    assert report_failures(now=NOW + 5 * MINUTE - SECOND) == 0
    assert report_failures(now=NOW + 5 * MINUTE) == 1
    assert report_failures(now=NOW + 6 * MINUTE) == 0
    assert told() == [str(pager.guid)]
    assert "Not sent over it yet" in Message.objects.get(kind="fallback").body


def test_who_could_be_told_by_mail_only_is_not_and_health_says_so(mail):
    deliver_until(NOW + 5 * MINUTE)
    assert report_failures(now=NOW + 5 * MINUTE) == 0
    rows = read_rows(NOW + 11 * MINUTE)
    assert rows.unreported_failures == [f"{mail.name} of {mail.project.slug}"]
    assert rows.unsent_count == 1, "the mail server is a part of the installation"


def test_a_mail_that_gets_through_ends_it_and_mails_were_tried_all_the_time(mail, pager, settings):
    idle = ChannelFactory(project=mail.project, kind="email", values={"to": "idle@example.com"})
    deliver_until(NOW + 2 * MINUTE)
    idle.refresh_from_db()
    assert idle.failing_since is None, "no mail waits for it"
    assert Message.objects.get().attempt_count >= 4
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        delivery.deliver(utcnow=lambda: NOW + 10 * MINUTE)
    assert Message.objects.get().status == "sent"
    mail.refresh_from_db()
    idle.refresh_from_db()
    assert (mail.failing_since, mail.open_since, mail.last_error) == (None, None, "")
    assert (mail.delivered_at, idle.delivered_at) == (NOW + 10 * MINUTE, None)
    assert report_failures(now=NOW + 10 * MINUTE) == 0


def test_a_channel_shows_when_the_mail_server_accepted_its_last_mail(mail, settings, capsys):
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        delivery.deliver(utcnow=lambda: NOW)
    call_command("notify", "status")
    assert f"last delivered {NOW.isoformat()}" in capsys.readouterr().out


def test_a_mail_that_is_only_printed_to_a_log_was_not_accepted(mail, settings, capsys):
    settings.EMAIL_BACKEND = CONSOLE
    delivery.deliver(utcnow=lambda: NOW)
    mail.refresh_from_db()
    assert (mail.delivered_at, "names no mail server" in mail.last_error) == (None, True)
    assert mail.messages.get().status == Message.Status.WAITING
    assert capsys.readouterr().out == ""


def test_an_address_that_is_refused_says_nothing_about_the_mail_server(mail, settings):
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        server.behaviour = lambda word, _: "550 no such user" if word == "RCPT" else None
        delivery.deliver(utcnow=lambda: NOW)
    assert Message.objects.get().last_error == "the mail server answers 550 no such user"
    assert Channel.objects.get(id=mail.id).failing_since is None


class TestMailsToTheAddressesOfTheInstance:
    """ALERT_EMAIL_TO: these mails have no channel."""

    @pytest.fixture
    def incident(self, project):
        incident = IncidentFactory(monitor_environment__monitor__project=project)
        MessageFactory(recipient="ops@example.com", incident=incident)
        return incident

    def test_after_five_minutes_the_fallback_route_is_told_once(self, project, incident):
        team = ChannelFactory(project=project, kind="email", values={"to": "team@example.com"})
        pager = ChannelFactory(project=project, name="pager")
        RouteFactory(project=project, is_fallback=True, to=[team, pager])
        deliver_until(NOW + 5 * MINUTE)
        assert report_failures(now=NOW + 5 * MINUTE - SECOND) == 0
        assert report_failures(now=NOW + 5 * MINUTE) == 1
        assert report_failures(now=NOW + 6 * MINUTE) == 0
        assert told() == [str(pager.guid)]
        body = Message.objects.get(kind="fallback").body
        assert "over the channel ALERT_EMAIL_TO (E-mail) of " in body
        assert incident.monitor_environment.monitor.name in body
        assert "Connection refused" in body
        assert "Correct the address or the mail server (ALERT_EMAIL_TO, EMAIL_URL)." in body

    def test_a_project_whose_first_mail_waits_later_is_told_then(self, project, incident):
        RouteFactory(project=project, is_fallback=True, to=[ChannelFactory(project=project)])
        other = ProjectFactory()
        late = ChannelFactory(project=other)
        RouteFactory(project=other, is_fallback=True, to=[late])
        deliver_until(NOW + MINUTE)
        assert report_failures(now=NOW + 5 * MINUTE) == 1
        MessageFactory(
            recipient="ops@example.com",
            incident=IncidentFactory(monitor_environment__monitor__project=other),
            due_at=NOW + 6 * MINUTE,
        )
        delivery.deliver(utcnow=lambda: NOW + 6 * MINUTE)
        assert report_failures(now=NOW + 6 * MINUTE) == 1
        assert told()[1:] == [str(late.guid)]

    def test_of_mails_about_the_clock_the_channels_of_the_instance_are_told(self, settings):
        room = ChannelFactory(project=None)
        MessageFactory(recipient="ops@example.com", incident=None, kind="clock", subject="The clock stands", body="-")
        deliver_until(NOW + MINUTE)
        assert report_failures(now=NOW + 5 * MINUTE) == 1
        assert told() == [str(room.guid)]

    def test_it_is_over_when_the_server_accepts_a_mail(self, project, incident, settings):
        RouteFactory(project=project, is_fallback=True, to=[ChannelFactory(project=project)])
        deliver_until(NOW + MINUTE)
        assert MailOutage.objects.get().began_at == NOW
        with running_mail_server() as server:
            settings.EMAIL_PORT = server.port
            delivery.deliver(utcnow=lambda: NOW + 5 * MINUTE)
        assert not MailOutage.objects.exists()
        assert report_failures(now=NOW + 6 * MINUTE) == 0

    def test_what_begins_to_wait_long_after_the_last_failure_is_not_told_before_it_fails(self, project, incident):
        """All mails of an outage were given up, and nobody knows when it ended."""
        RouteFactory(project=project, is_fallback=True, to=[ChannelFactory(project=project)])
        deliver_until(NOW + MINUTE)
        Message.objects.update(due_at=NOW + 3 * HOUR)
        assert report_failures(now=NOW + 3 * HOUR) == 0
        delivery.deliver(utcnow=lambda: NOW + 3 * HOUR)
        assert MailOutage.objects.get().began_at == NOW + 3 * HOUR
        assert report_failures(now=NOW + 3 * HOUR) == 0
        assert report_failures(now=NOW + 3 * HOUR + 5 * MINUTE) == 1

    def test_where_only_mail_could_tell_it_nobody_is_told(self, project, incident, settings):
        settings.ALERT_EMAIL_TO = ["ops@example.com"]
        team = ChannelFactory(project=project, kind="email", values={"to": "team@example.com"})
        RouteFactory(project=project, is_fallback=True, to=[team])
        deliver_until(NOW + MINUTE)
        assert report_failures(now=NOW + 5 * MINUTE) == 0

    def test_what_was_given_up_meanwhile_is_told_over_a_channel_that_needs_no_mail(self, project, incident, settings):
        settings.ALERT_EMAIL_TO = ["boss@example.com"]
        pager = ChannelFactory(project=project)
        RouteFactory(project=project, is_fallback=True, to=[pager])
        deliver_until(NOW + MINUTE)
        MessageFactory(
            recipient="ops@example.com",
            incident=IncidentFactory(monitor_environment__monitor__project=project),
            status="failed",
        )
        assert report_failures(now=NOW + MINUTE) == 1
        assert told() == [str(pager.guid)]
