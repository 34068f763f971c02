"""The page of an incident."""

import re

import pytest
from django.urls import reverse

from accounts.roles import Role
from audit.models import AuditEntry
from checkins.editing import delete_monitors
from incidents.models import Comment
from incidents.notifications.delivery import deliver
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(incident):
    return reverse("incident", args=[incident.pk])


@pytest.fixture
def act(incident):
    return reverse("act-on-incident", args=[incident.pk])


def test_it_says_why_since_when_and_what_happened(as_role, address):
    page = words(as_role("viewer").get(address))
    assert "Reported an error at 10:00 UTC." in page
    assert "Failing since Mon 05 Jan 10:00" in page
    assert "Acknowledged by nobody" in page


def test_incident_and_issue_of_a_deleted_monitor_are_gone(as_role, incident, address):
    """Their rows are removed later."""
    delete_monitors([incident.monitor_environment.monitor_id], now=factories.NOW)
    owner = as_role("owner")
    assert owner.get(address).status_code == 404
    assert owner.get(reverse("issue", args=[incident.issue_id])).status_code == 404


def test_it_says_that_nobody_was_notified_and_why(as_role, incident, address):
    assert "Nobody was notified: the environment was muted, or the issue archived." in words(
        as_role("viewer").get(address)
    )
    notification = factories.NotificationFactory(incident=incident, nobody_since=factories.NOW)
    assert "Nobody was notified: no route catches this monitor" in words(as_role("viewer").get(address))
    notification.nobody_since, notification.addressed_at = None, factories.NOW
    notification.save()
    assert "Nobody was notified" not in words(as_role("viewer").get(address))


@pytest.mark.parametrize("role", Role)
def test_everybody_sees_who_was_notified_and_no_viewer_an_address(as_role, incident, monitor, address, role):
    channel = factories.ChannelFactory(project=monitor.project, name="night shift")
    notification = factories.NotificationFactory(incident=incident)
    message = factories.MessageFactory(
        incident=incident, channel=channel, recipient=str(channel.guid), status="failed", last_error="503 of in.example"
    )
    factories.DutyFactory(notification=notification, channel=channel, message=message, reason="route 'all'")
    mail = factories.MessageFactory(incident=incident, recipient="ann@example.com", status="sent")
    factories.DutyFactory(notification=notification, message=mail)
    sees_addresses = role is not Role.VIEWER
    for page in (address, reverse("issue", args=[incident.issue_id])):
        text = words(as_role(role).get(page))
        assert "night shift (route 'all')" in text
        assert "failed" in text
        assert ("ann@example.com" in text, "503 of in.example" in text) == (sees_addresses, sees_addresses)
        assert str(channel.guid) not in text
    assert "Who was notified" in words(as_role(role).get(address))


def test_the_link_in_a_mail_leads_to_the_end_of_the_log_and_a_second_one_to_all_of_it(
    as_role, incident, settings, mailoutbox
):
    settings.ALERT_EMAIL_TO, settings.PUBLIC_URL = ["ops@example.com"], "https://watchclock.example.com"
    lines = [f"file {number} copied" for number in range(90)]
    body = "\n".join([*lines, "no space left on device"]).encode()
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=body)
    factories.NotificationFactory(incident=incident)
    deliver(utcnow=lambda: factories.NOW)
    [mail] = mailoutbox
    client = as_role("viewer")

    page = client.get(re.findall(r"Open incident: https://watchclock.example.com(\S+)", mail.body)[0])
    assert "no space left on device" in words(page)
    assert "file 0 copied" not in words(page)

    [run] = re.findall(r'href="(/m/[^"]+/runs?/[^"]+)"', page.text)
    assert "file 0 copied" in words(client.get(run))


def test_acknowledging_is_recorded_with_the_person_and_the_page(as_role, incident, act, address):
    client = as_role("responder")
    page = words(client.post(act, {"do": "acknowledge"}, follow=True))
    incident.refresh_from_db()
    assert incident.acknowledged_by in page
    assert incident.acknowledged_via == "its page"
    entry = AuditEntry.objects.get(kind="incident", action="acknowledged")
    assert (entry.source, entry.actor_name) == ("page", incident.acknowledged_by)


def test_a_second_acknowledgement_says_that_it_is_too_late(as_role, act):
    client = as_role("responder")
    client.post(act, {"do": "acknowledge"})
    assert "Not done: already acknowledged." in words(client.post(act, {"do": "acknowledge"}, follow=True))


def test_an_acknowledgement_can_be_withdrawn(as_role, act, incident):
    client = as_role("responder")
    client.post(act, {"do": "acknowledge"})
    client.post(act, {"do": "withdraw"})
    incident.refresh_from_db()
    assert incident.acknowledged_at is None


def test_a_comment_is_stored_and_shown(as_role, act):
    client = as_role("responder")
    page = words(client.post(act, {"do": "comment", "text": "the disk was full"}, follow=True))
    assert "the disk was full" in page
    assert Comment.objects.get().text == "the disk was full"


def test_an_empty_comment_is_refused_with_what_is_allowed(as_role, act):
    page = words(as_role("responder").post(act, {"do": "comment", "text": " "}, follow=True))
    assert "A comment has 1 to 4,000 characters; this one has 0." in page


def test_a_comment_that_is_refused_is_not_lost(as_role, act):
    response = as_role("responder").post(act, {"do": "comment", "text": "so long " * 1_000})
    assert response.status_code == 422
    assert "so long so long" in words(response)


def test_it_is_assigned_to_a_member_and_not_to_a_stranger(as_role, act, incident):
    member = factories.MembershipFactory(project=incident.issue.project)
    client = as_role("responder")
    client.post(act, {"do": "assign", "member": member.pk})
    incident.issue.refresh_from_db()
    assert incident.issue.assignee == member
    for nobody in (factories.MembershipFactory().pk, "x", "9" * 5_000):
        assert client.post(act, {"do": "assign", "member": nobody}).status_code == 302
    incident.issue.refresh_from_db()
    assert incident.issue.assignee == member


def test_a_button_that_there_is_not_does_nothing(as_role, act):
    assert "'explode' cannot be done here." in words(as_role("owner").post(act, {"do": "explode"}, follow=True))


@pytest.mark.parametrize(("role", "is_seen"), [("viewer", False), ("responder", True)])
def test_a_private_log_is_not_shown_to_viewers(as_role, incident, monitor, address, role, is_seen):
    monitor.has_private_logs = True
    monitor.save()
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=b"password=hunter2")
    assert ("hunter2" in words(as_role(role).get(address))) == is_seen


def test_the_log_of_a_monitor_that_is_not_private_is_shown_to_viewers(as_role, incident, address):
    factories.CheckInLogFactory(checkin=incident.starting_checkin, body=b"no space left on device")
    assert "no space left on device" in words(as_role("viewer").get(address))


@pytest.mark.parametrize(
    ("next_", "goes_to"),
    [("/?x=1", "/?x=1"), ("https://evil.example/", None), ("//evil.example/", None), ("javascript:alert(1)", None)],
)
def test_a_button_leads_back_to_pages_of_this_server_only(as_role, act, address, next_, goes_to):
    response = as_role("responder").post(act, {"do": "acknowledge", "next": next_})
    assert response["Location"] == (goes_to or address)


def test_the_number_of_statements_is_bounded(as_role, incident, address, django_assert_max_num_queries):
    client = as_role("responder")
    for _ in range(5):
        environment, issue = incident.monitor_environment, incident.issue
        factories.IncidentFactory(monitor_environment=environment, issue=issue, resolved=True)
    with django_assert_max_num_queries(18):
        client.get(address)
