"""The link in an alert: whoever opens it sees the incident, and the button acknowledges it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditEntry
from checkins.editing import delete_monitors
from dashboard.acknowledge import views
from incidents.models import FollowUp, Incident, Notification
from incidents.notifications.acknowledge_links import acknowledge_link, read, sign
from monitors.models import Monitor
from tests.factories import (
    NOW,
    ChannelFactory,
    DutyFactory,
    IncidentFactory,
    MessageFactory,
    ProjectFactory,
    StormFactory,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock(monkeypatch, settings):
    settings.PUBLIC_URL = "https://watch.example.com"
    now = [NOW]
    monkeypatch.setattr(views, "utcnow", lambda: now[0])
    return now


@pytest.fixture
def stranger():
    """Somebody without an account, whose browser insists on CSRF tokens as browsers' servers do."""
    return Client(enforce_csrf_checks=True)


def path_of(message):
    return acknowledge_link(message).removeprefix("https://watch.example.com")


def test_opening_the_page_changes_nothing(stranger):
    message = MessageFactory()
    for ask in (stranger.get, stranger.head):
        response = ask(path_of(message))
        assert response.status_code == 200
    assert b"Nobody has acknowledged it." in stranger.get(path_of(message)).content
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_at is None
    assert not AuditEntry.objects.exists()


def test_the_button_acknowledges_without_an_account_and_says_whose_link_it_was(stranger):
    message = MessageFactory(recipient="night@example.com")
    response = stranger.post(path_of(message))
    assert b"night@example.com acknowledged it" in response.content
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_by == "night@example.com"
    assert message.incident.acknowledged_via == "the link sent to night@example.com"
    assert AuditEntry.objects.get().source == "link"


def test_the_link_of_a_deleted_monitor_is_not_valid(stranger):
    """Its rows are removed later, and its environments have names that nobody gave them meanwhile."""
    message = MessageFactory()
    delete_monitors([message.incident.monitor_environment.monitor_id], now=NOW)
    for ask in (stranger.get, stranger.post):
        response = ask(path_of(message))
        assert (response.status_code, b"deleted-" in response.content) == (404, False)
    assert not Incident.objects.filter(acknowledged_at__isnull=False).exists()


def test_a_forwarded_link_is_told_apart_by_its_recipient(stranger):
    message = MessageFactory(recipient="boss@example.com")
    stranger.post(path_of(message), {"name": "  Nina\x00 Meyer "})
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_by == "Nina Meyer"
    assert message.incident.acknowledged_via == "the link sent to boss@example.com"


def test_a_link_in_a_chat_names_the_channel(stranger):
    channel = ChannelFactory(name="ops-room")
    message = MessageFactory(channel=channel, recipient=str(channel.guid))
    stranger.post(path_of(message))
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_by == "somebody in ops-room"


def test_who_is_logged_in_is_named_by_the_account():
    client = Client()
    client.force_login(User.objects.create_user("anna"))
    message = MessageFactory()
    client.post(path_of(message), {"name": "somebody else"})
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_by == "anna"


def test_to_press_it_twice_changes_nothing(stranger):
    message = MessageFactory()
    stranger.post(path_of(message), {"name": "Nina"})
    assert b"Nina acknowledged it" in stranger.post(path_of(message), {"name": "Otto"}).content
    assert AuditEntry.objects.count() == 1


def test_the_link_of_an_incident_that_is_over_says_so(stranger):
    message = MessageFactory(incident=IncidentFactory(resolved=True))
    assert b"It is over" in stranger.get(path_of(message)).content
    assert b"It is over" in stranger.post(path_of(message)).content
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_at is None


def test_it_is_valid_for_seven_days(stranger, clock):
    message = MessageFactory()
    clock[0] = NOW + 7 * DAY
    assert stranger.get(path_of(message)).status_code == 200
    clock[0] = NOW + 7 * DAY + timedelta(seconds=1)
    assert stranger.get(path_of(message)).status_code == 404
    assert stranger.post(path_of(message)).status_code == 404
    message.incident.refresh_from_db()
    assert message.incident.acknowledged_at is None


def test_a_forged_link_is_none(stranger, django_assert_num_queries):
    message = MessageFactory()
    token = path_of(message).removeprefix("/a/")
    other = MessageFactory()
    forged = [
        token[:-1] + ("a" if token[-1] != "a" else "b"),
        "x",
        token.replace(str(message.pk), "1", 1) + "0",
        "9" * 3000,
    ]
    with django_assert_num_queries(0):
        for one in forged:
            assert stranger.post(f"/a/{one}").status_code == 404
    mixed = sign(other.incident.guid, message.pk, at=NOW)
    assert stranger.post(f"/a/{mixed}").status_code == 404


def test_the_same_message_always_has_the_same_link():
    message = MessageFactory()
    assert acknowledge_link(message) == acknowledge_link(message)
    assert read(path_of(message).removeprefix("/a/"), now=NOW) == (message.incident.guid, message.pk)


@pytest.mark.parametrize("kind", ["resolved", "passed", "acknowledged"])
def test_messages_that_ask_for_nothing_have_none(kind):
    assert acknowledge_link(MessageFactory(kind=kind)) == ""


def test_without_a_public_address_there_is_none(settings):
    settings.PUBLIC_URL = ""
    assert acknowledge_link(MessageFactory()) == ""


def test_the_page_tells_its_address_to_nobody(stranger):
    response = stranger.get(path_of(MessageFactory()))
    assert response["Referrer-Policy"] == "no-referrer"
    assert "no-store" in response["Cache-Control"]
    assert response["X-Robots-Tag"] == "noindex"


class TestAStorm:
    """Three jobs: one that fails, one that somebody looks after, one that has recovered; and one of no storm."""

    @pytest.fixture
    def digest(self):
        project = ProjectFactory(name="Operations")
        storm = StormFactory(project=project)
        digest = MessageFactory(
            storm=storm, incident=None, channel=storm.channel, kind="digest", recipient=storm.recipient
        )
        for slug, columns in (
            ("failing", {}),
            ("seen", {"acknowledged_at": NOW, "acknowledged_by": "Otto"}),
            ("over", {"resolved": True}),
        ):
            member = IncidentFactory(
                monitor_environment__monitor__project=project,
                monitor_environment__monitor__slug=slug,
                monitor_environment__monitor__name="",
                **columns,
            )
            DutyFactory(notification__incident=member, message=digest, channel=storm.channel)
        IncidentFactory(monitor_environment__monitor__project=project)
        return digest

    def acknowledged(self):
        return list(Incident.objects.order_by("id").values_list("acknowledged_by", flat=True))

    def test_its_page_leaves_out_what_is_deleted(self, stranger, digest):
        delete_monitors([Monitor.objects.get(slug="failing").id], now=NOW)
        page = stranger.get(path_of(digest)).content
        assert b"2 jobs of Operations" in page
        assert b"deleted-" not in page

    def test_its_page_counts_and_names_those_that_nobody_looks_after(self, stranger, digest):
        page = stranger.get(path_of(digest)).content.decode()
        assert "3 jobs of Operations" in page
        assert "1 is over" in page
        assert "Nobody has acknowledged 1 of them" in page
        assert "failing (production)" in page
        assert "seen (production)" not in page
        assert self.acknowledged() == ["", "Otto", "", ""]

    def test_one_button_acknowledges_all_that_are_open(self, stranger, digest):
        response = stranger.post(path_of(digest), {"name": "Nina"})
        assert b"All that are open are acknowledged." in response.content
        assert self.acknowledged() == ["Nina", "Otto", "", ""]
        assert AuditEntry.objects.get().action == "acknowledged"

    def test_to_press_it_twice_changes_nothing(self, stranger, digest):
        stranger.post(path_of(digest), {"name": "Nina"})
        stranger.post(path_of(digest), {"name": "Otto"})
        assert AuditEntry.objects.count() == 1

    def test_reminders_and_escalation_of_each_end(self, stranger, digest):
        first = Incident.objects.get(monitor_environment__monitor__slug="failing")
        FollowUp.objects.create(incident=first, kind="reminder", route="", plan={}, done=0, due_at=NOW)
        FollowUp.objects.create(incident=first, kind="escalation", route="r", plan={}, done=0, due_at=NOW)
        stranger.post(path_of(digest))
        first.refresh_from_db()
        assert set(FollowUp.objects.values_list("due_at", flat=True)) == {None}
        assert first.acknowledged_until == NOW + timedelta(hours=4)
        assert Notification.objects.filter(incident=first, transition="acknowledged").exists()

    def test_a_large_one_takes_as_many_statements_as_a_small_one(self, stranger, digest, django_assert_max_num_queries):
        for _ in range(20):
            member = IncidentFactory(monitor_environment__monitor__project=digest.storm.project)
            DutyFactory(notification__incident=member, message=digest, channel=digest.channel)
        with django_assert_max_num_queries(30):
            stranger.post(path_of(digest))
        assert self.acknowledged().count("somebody in " + digest.channel.name) == 21

    def test_the_link_is_of_its_storm_only(self, stranger, digest):
        token = sign(StormFactory().guid, digest.pk, at=NOW)
        assert stranger.post(f"/a/{token}").status_code == 404


def test_a_page_is_in_the_language_of_the_channel(stranger):
    message = MessageFactory(channel=ChannelFactory(language="de"))
    page = stranger.get(path_of(message)).content.decode()
    assert '<html lang="de">' in page
    assert "Niemand hat es bestätigt." in page
    page = stranger.post(path_of(message), {"name": "<b>Nina</b>"}).content.decode()
    assert "&lt;b&gt;Nina&lt;/b&gt; hat es um " in page
