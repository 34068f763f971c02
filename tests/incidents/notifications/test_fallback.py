"""A channel fails: people are told over another one, once, with what was not told."""

from datetime import timedelta

import pytest

from incidents.models import Channel, Message
from incidents.notifications.configuring import save_channel
from incidents.notifications.fallback import report_failures
from incidents.notifications.fallback_text import Failure, Undelivered, write_fallback
from tests.factories import (
    NOW,
    ChannelFactory,
    IncidentFactory,
    MembershipFactory,
    MessageFactory,
    ProjectFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SMTP = "incidents.notifications.channels.email.EmailBackend"


@pytest.fixture(autouse=True)
def mail(settings):
    settings.EMAIL_BACKEND = SMTP
    settings.ALERT_EMAIL_TO = ["ops@example.com"]


@pytest.fixture
def project():
    return ProjectFactory(slug="shop")


@pytest.fixture
def channel(project):
    """A channel that has failed for six minutes."""
    return ChannelFactory(project=project, name="room", **broken())


def broken(minutes=6):
    return {"open_since": NOW - minutes * MINUTE, "probe_at": NOW, "last_error": "404 no_service"}


def message(channel, **columns):
    project = {"incident__monitor_environment__monitor__project": channel.project} if channel.project else {}
    return MessageFactory(channel=channel, recipient=str(channel.guid), **project, **columns)


def told():
    return [(one.recipient, one.channel_id) for one in Message.objects.filter(kind="fallback").order_by("id")]


class TestABreakerThatIsOpen:
    def test_owners_are_told_by_mail_what_was_not_told(self, project, channel):
        MembershipFactory(project=project, role="owner", user__email="ada@example.com")
        MembershipFactory(project=project, role="editor", user__email="ed@example.com")
        waiting = message(channel)
        assert report_failures(now=NOW) == 1
        [mail] = Message.objects.filter(kind="fallback")
        assert (mail.recipient, mail.channel, mail.incident) == ("ada@example.com", None, None)
        assert mail.subject == "[Watchclock] Channel room of shop fails"
        assert "The last error: 404 no_service" in mail.body
        monitor = waiting.incident.monitor_environment.monitor
        assert f"- {monitor.name or monitor.slug} (production): opened" in mail.body

    def test_the_link_leads_to_the_page_since_owners_may_not_open_the_admin(self, channel, settings):
        settings.PUBLIC_URL = "https://watchclock.example"
        report_failures(now=NOW)
        body = Message.objects.get(kind="fallback").body
        assert f"https://watchclock.example/projects/shop/channels/{channel.id}/\n" in body

    def test_it_is_told_once_and_again_after_it_has_worked(self, channel):
        assert report_failures(now=NOW) == 1
        assert report_failures(now=NOW + HOUR) == 0
        Channel.objects.update(open_since=NOW + HOUR)
        assert report_failures(now=NOW + HOUR + 4 * MINUTE) == 0
        assert report_failures(now=NOW + HOUR + 5 * MINUTE) == 1

    @pytest.mark.parametrize("columns", [broken(minutes=4), {"failure_count": 4}])
    def test_five_minutes_are_given_to_a_service_that_restarts(self, project, columns):
        ChannelFactory(project=project, **columns)
        assert report_failures(now=NOW) == 0

    @pytest.mark.parametrize("columns", [{"is_enabled": False}, {"is_enabled": False, "removed_at": NOW}])
    def test_nobody_hears_of_a_channel_that_nobody_uses(self, project, columns):
        ChannelFactory(project=project, **broken(), **columns)
        assert report_failures(now=NOW) == 0

    def test_a_channel_of_the_instance_is_told_to_alert_email_to(self):
        ChannelFactory(project=None, **broken())
        assert report_failures(now=NOW) == 1
        assert told() == [("ops@example.com", None)]

    def test_two_processes_tell_once(self, channel):
        assert [report_failures(now=NOW), report_failures(now=NOW)] == [1, 0]


class TestMessagesThatWereGivenUp:
    @pytest.fixture
    def channel(self, project):
        return ChannelFactory(project=project, name="room", last_error="400 invalid_payload")

    def test_they_are_told_together_at_most_once_an_hour(self, channel):
        message(channel, status="failed")
        message(channel, status="failed")
        assert report_failures(now=NOW) == 1
        assert Message.objects.filter(kind="fallback", body__contains="not sent over it").count() == 1
        message(channel, status="failed", finished_at=NOW + MINUTE)
        assert report_failures(now=NOW + 2 * MINUTE) == 0
        assert report_failures(now=NOW + HOUR) == 1

    def test_a_failed_test_or_fallback_tells_nobody(self, channel):
        message(channel, status="failed", kind="test", incident=None)
        MessageFactory(status="failed", kind="fallback", incident=None)
        assert report_failures(now=NOW) == 0

    def test_what_was_given_up_days_ago_is_not_told_after_an_upgrade(self, channel):
        message(channel, status="failed")
        assert report_failures(now=NOW + timedelta(days=2)) == 0

    def test_a_mail_address_that_is_refused_is_told_to_the_others(self, settings):
        settings.ALERT_EMAIL_TO = ["gone@example.com", "ops@example.com"]
        MessageFactory(recipient="gone@example.com", status="failed", last_error="550 no such user")
        assert report_failures(now=NOW) == 1
        assert told() == [("ops@example.com", None)]
        assert "550 no such user" in Message.objects.get(kind="fallback").body
        assert report_failures(now=NOW) == 0

    def test_of_an_email_channel_the_address_that_works_is_told(self, project):
        channel = ChannelFactory.build(project=project, kind="email")
        save_channel(channel, {"to": "gone@example.com, here@example.com"}, now=NOW)
        RouteFactory(project=project, is_fallback=True, to=[channel])
        MessageFactory(
            channel=channel,
            recipient="gone@example.com",
            status="failed",
            incident=IncidentFactory(monitor_environment__monitor__project=project),
        )
        assert report_failures(now=NOW) == 1
        assert told() == [("here@example.com", channel.id)]


class TestWhoIsTold:
    def test_the_fallback_route_comes_before_owners(self, project, channel):
        MembershipFactory(project=project, role="owner", user__email="ada@example.com")
        other = ChannelFactory(project=project)
        RouteFactory(project=project, is_fallback=True, to=[channel, other])
        report_failures(now=NOW)
        assert told() == [(str(other.guid), other.id)]

    def test_a_fallback_that_fails_too_is_passed_over(self, project, channel):
        RouteFactory(project=project, is_fallback=True, to=[ChannelFactory(project=project, **broken())])
        report_failures(now=NOW)
        assert set(told()) == {("ops@example.com", None)}

    def test_without_owners_alert_email_to_is_told(self, channel):
        report_failures(now=NOW)
        assert told() == [("ops@example.com", None)]

    def test_while_nobody_can_be_told_it_waits_until_somebody_can(self, channel, settings):
        settings.ALERT_EMAIL_TO = []
        message(channel, status="failed")
        assert report_failures(now=NOW) == 0
        settings.ALERT_EMAIL_TO = ["ops@example.com"]
        assert report_failures(now=NOW + HOUR) == 1


def test_the_text_lists_some_and_counts_the_rest():
    untold = [Undelivered(f"job {n} (production)", "opened", NOW) for n in range(30)]
    letter = write_fallback(
        Failure(channel="room", service="Slack", project="shop", since=NOW, error="", waiting=untold, waiting_count=45)
    )
    assert letter.body.count("- job") == 20
    assert "- and 25 more" in letter.body


def test_the_kind_of_channel_is_named_in_the_language_of_the_message():
    failure = Failure(channel="room", service="Signed webhook", project="shop", since=NOW, error="")
    assert "room (Signed webhook)" in write_fallback(failure).body
    assert "room (Signierter Webhook)" in write_fallback(failure, "de").body


def test_it_is_told_in_the_language_of_the_channel_that_tells_it(project, channel):
    channels = {language: ChannelFactory(project=project, language=language) for language in ("de", "en")}
    RouteFactory(project=project, is_fallback=True, to=list(channels.values()))
    message(channel)
    assert report_failures(now=NOW) == 2
    german, english = (Message.objects.get(kind="fallback", channel=channels[one]) for one in ("de", "en"))
    assert english.subject == "[Watchclock] Channel room of shop fails"
    assert german.subject.startswith("[Watchclock] Kanal room von shop ")
    assert "Der letzte Fehler: 404 no_service" in german.body
    assert ": begonnen, " in german.body
