"""The link in a mail: whoever opens it sees whose mails it ends, and the button, or a mail service's, ends them."""

import pytest
from django.test import Client

from audit.models import AuditEntry
from dashboard.unsubscribe import views
from incidents.models import Channel, Incident, Message, Unsubscription
from incidents.notifications import delivery
from incidents.notifications.addressing import address
from incidents.notifications.unsubscribe_links import Link, read, sign, unsubscribe_link
from tests.factories import (
    NOW,
    ChannelFactory,
    IncidentFactory,
    MembershipFactory,
    NotificationFactory,
    RouteFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
ADA, BOB = "ada@example.com", "böb+1@example.com"
ONE_CLICK = {"data": "List-Unsubscribe=One-Click", "content_type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def world(monkeypatch, settings):
    settings.PUBLIC_URL, settings.ALERT_EMAIL_TO = "https://watch.example.com", ["ops@example.com"]
    monkeypatch.setattr(views, "utcnow", lambda: NOW)


@pytest.fixture
def stranger():
    """Somebody without an account, whose server insists on CSRF tokens."""
    return Client(enforce_csrf_checks=True)


def mail_channel(**columns):
    return ChannelFactory(kind="email", values={"to": f"{ADA}, {BOB}"}, **columns)


def path_of(channel, to=ADA, topic="alerts"):
    link = unsubscribe_link(channel, to, topic)
    return link.removeprefix("https://watch.example.com")


# --- the link


@pytest.mark.parametrize("to", [ADA, BOB, "x" * 300 + "@example.com"])
def test_a_link_says_which_address_of_which_channel(to):
    channel = mail_channel()
    assert read(path_of(channel, to).removeprefix("/u/")) == (channel.guid, to, "alerts")


def test_a_link_is_always_the_same_so_that_a_repetition_of_a_mail_is():
    channel = mail_channel()
    assert path_of(channel) == path_of(channel)


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000, "a:b", "\x00", "ä:ö"])
def test_what_is_none_of_our_links_is_none(token):
    assert read(token) is None


def test_a_link_for_another_address_cannot_be_made_from_it():
    mine, other = sign(Link(mail_channel().guid, ADA)), sign(Link(mail_channel().guid, BOB))
    forged = other.rpartition(":")[0] + ":" + mine.rpartition(":")[2]
    assert read(forged) is None


@pytest.mark.parametrize("public", ["", "http://watch.example.com"])
def test_without_https_no_link_is_offered(settings, public):
    settings.PUBLIC_URL = public
    assert path_of(mail_channel()) == ""


def test_a_mail_to_an_address_of_the_installation_has_no_link():
    assert unsubscribe_link(None, ADA) == ""


# --- the page


def test_opening_the_page_changes_nothing(stranger):
    channel = mail_channel()
    for ask in (stranger.get, stranger.head):
        assert ask(path_of(channel)).status_code == 200
    page = stranger.get(path_of(channel)).content.decode()
    assert ADA in page
    assert '<form method="post">' in page
    assert not Unsubscription.objects.exists()


def test_a_mail_service_unsubscribes_with_one_request_without_cookies_or_redirect(stranger):
    channel = mail_channel()
    response = stranger.post(path_of(channel), **ONE_CLICK)

    assert response.status_code == 200
    assert not response.cookies
    assert [one.address for one in channel.unsubscriptions.all()] == [ADA]


def test_nothing_of_what_is_posted_is_read(stranger):
    response = stranger.post(path_of(mail_channel()), data=b"\xff" * 3_000_000, content_type="multipart/form-data")
    assert response.status_code == 200
    assert Unsubscription.objects.count() == 1


def test_to_unsubscribe_twice_is_to_do_it_once(stranger):
    channel = mail_channel()
    for _ in range(2):
        assert b"no more mails" in stranger.post(path_of(channel), **ONE_CLICK).content
    assert (Unsubscription.objects.count(), AuditEntry.objects.count(), Message.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize("way", ["get", "post"])
def test_a_link_that_was_cut_is_said_to_be_so(stranger, way):
    response = getattr(stranger, way)(path_of(mail_channel())[:-3])
    assert response.status_code == 404
    assert b"not valid" in response.content


def test_the_address_of_the_page_is_told_to_nobody(stranger):
    response = stranger.get(path_of(mail_channel()))
    assert response["Referrer-Policy"] == "no-referrer"
    assert "no-store" in response["Cache-Control"]
    assert response["X-Robots-Tag"] == "noindex"


# --- what it does


def told(channel, incident, transition="opened"):
    RouteFactory(project=channel.project, to=[channel])
    NotificationFactory(incident=incident, transition=transition)
    address(["ops@example.com"], now=NOW)
    return set(Message.objects.filter(incident=incident, kind=transition).values_list("recipient", flat=True))


def of_project():
    incident = IncidentFactory()
    return mail_channel(project=incident.monitor_environment.monitor.project), incident


def test_new_incidents_are_told_to_the_others_only(stranger):
    channel, incident = of_project()
    stranger.post(path_of(channel), **ONE_CLICK)

    assert told(channel, incident) == {BOB}


def test_who_wants_no_reports_is_still_told_of_incidents(stranger):
    channel, incident = of_project()
    response = stranger.post(path_of(channel, topic="reports"), **ONE_CLICK)

    assert b"no more weekly reports" in response.content
    assert told(channel, incident) == {ADA, BOB}


def test_the_end_of_what_was_told_before_is_told(stranger):
    channel, incident = of_project()
    assert told(channel, incident) == {ADA, BOB}
    stranger.post(path_of(channel), **ONE_CLICK)
    NotificationFactory(incident=incident, transition="resolved")
    Incident.objects.update(resolved_at=NOW, resolving_checkin=7)
    Message.objects.filter(kind="opened").update(status="sent", finished_at=NOW)
    address([], now=NOW)

    assert set(Message.objects.filter(kind="resolved").values_list("recipient", flat=True)) == {ADA, BOB}


def test_owners_of_the_project_are_told_by_mail_and_the_audit_log_knows(stranger, mailoutbox):
    channel, _ = of_project()
    owner = UserFactory(email="owner@example.com")
    MembershipFactory(project=channel.project, user=owner, role="owner")
    stranger.post(path_of(channel), **ONE_CLICK)
    delivery.deliver(utcnow=lambda: NOW)

    [mail] = mailoutbox
    assert mail.to == ["owner@example.com"]
    assert mail.subject == f"[Watchclock] {ADA} gets no more alerts of {channel.name}"
    entry = AuditEntry.objects.get()
    assert (entry.actor_name, entry.source, entry.action) == (ADA, "link", "unsubscribed")
    assert entry.changes == {"alerts": [ADA, None]}


def test_the_page_of_the_channel_shows_it_and_undoes_it(stranger, admin_client):
    channel, incident = of_project()
    stranger.post(path_of(channel), **ONE_CLICK)
    assert (
        f"{ADA} (alerts, 2026-01-05 10:00 UTC)"
        in admin_client.get(f"/admin/incidents/channel/{channel.pk}/change/").content.decode()
    )

    admin_client.post(
        "/admin/incidents/channel/", {"action": "subscribe_again", "_selected_action": [channel.pk]}, follow=True
    )

    assert not Unsubscription.objects.exists()
    assert AuditEntry.objects.filter(action="subscribed again", actor_name="admin").exists()
    assert told(channel, incident) == {ADA, BOB}


def test_the_list_of_routes_shows_that_somebody_unsubscribed(stranger, admin_client):
    channel, _ = of_project()
    RouteFactory(project=channel.project, to=[channel])
    stranger.post(path_of(channel), **ONE_CLICK)
    assert f"{channel.name} (1 unsubscribed)" in admin_client.get("/admin/incidents/route/").content.decode()


def test_a_channel_that_is_gone_ends_the_link(stranger):
    channel = mail_channel()
    path = path_of(channel)
    Channel.objects.all().delete()
    assert stranger.post(path, **ONE_CLICK).status_code == 404


# --- the mail


def test_a_mail_of_a_channel_offers_it_in_headers_text_and_page(mailoutbox):
    channel, incident = of_project()
    told(channel, incident)
    delivery.deliver(utcnow=lambda: NOW)

    mail = next(mail for mail in mailoutbox if mail.to == [ADA])
    link = f"https://watch.example.com{path_of(channel)}"
    assert mail.extra_headers["List-Unsubscribe"] == f"<{link}>"
    assert mail.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link in mail.body
    assert link in mail.alternatives[0].content


def test_people_who_may_look_at_messages_do_not_see_the_link(staff_client):
    channel, incident = of_project()
    told(channel, incident)
    delivery.deliver(utcnow=lambda: NOW)
    message = Message.objects.get(recipient=ADA)

    page = staff_client.get(f"/admin/incidents/message/{message.pk}/change/").content.decode()

    assert "https://watch.example.com/u/…" in page
    assert path_of(channel) not in page
