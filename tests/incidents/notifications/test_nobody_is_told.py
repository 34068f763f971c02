"""That nobody is told of incidents is said wherever a person may look."""

import pytest
from django.urls import reverse

from health.facts import Facts, Rows
from health.problems import find_problems
from incidents.checks import check_recipients
from incidents.notifications.addressees import NOBODY_NOTIFIED, recipients, why_nobody
from incidents.notifications.previewing import Uncaught
from project.local.supervisor import who_is_notified
from tests.factories import NOW, ChannelFactory, MessageFactory, MonitorFactory, NotificationFactory, RouteFactory

CONSOLE = "django.core.mail.backends.console.EmailBackend"


@pytest.mark.parametrize(
    ("addresses", "backend", "reason"),
    [
        ([], "incidents.notifications.channels.email.EmailBackend", "ALERT_EMAIL_TO is empty"),
        (["ops@example.com"], CONSOLE, "consolemail:// prints to the log"),
        (["ops@example.com"], "incidents.notifications.channels.email.EmailBackend", ""),
    ],
)
def test_no_address_and_mail_into_a_log_are_both_nobody(settings, addresses, backend, reason):
    settings.ALERT_EMAIL_TO, settings.EMAIL_BACKEND, settings.PUBLIC_URL = addresses, backend, "https://example.com"

    assert bool(why_nobody()) is bool(reason)
    assert reason in why_nobody()
    assert recipients() == ([] if reason else addresses)
    assert [found.id for found in check_recipients()] == (["incidents.W001"] if reason else [])


def test_the_deploy_check_asks_for_the_address_that_mails_link_to(settings):
    settings.ALERT_EMAIL_TO, settings.PUBLIC_URL = ["ops@example.com"], ""

    assert [found.id for found in check_recipients()] == ["incidents.W002"]


def test_banner_and_readiness_say_so_as_a_note():
    reason = "Nobody is notified about incidents: ALERT_EMAIL_TO is empty."

    [finding] = find_problems(Facts(now=NOW, watched_since=NOW, why_nobody=reason))

    assert not finding.is_bad
    assert "Nobody is notified" in finding.what
    assert "send_test_alert" in finding.todo


@pytest.mark.parametrize(
    ("uncaught", "missed", "says"),
    [
        (Uncaught(), 0, ""),
        (Uncaught(2, ("web of shop", "mails of shop")), 0, "failures of 2 monitors: web of shop, mails of shop."),
        (Uncaught(), 1, "1 notification reached nobody: no route with a channel that works caught them."),
    ],
)
def test_a_narrow_route_does_not_hide_the_monitors_that_it_does_not_catch(uncaught, missed, says):
    rows = Rows(has_routes=True, unnotified_count=missed)
    facts = Facts(now=NOW, watched_since=NOW, rows=rows, why_nobody="ALERT_EMAIL_TO is empty.", uncaught=uncaught)
    found = [finding.what for finding in find_problems(facts) if "Channels and routes" in finding.todo]
    assert len(found) == bool(says)
    assert all(says in what for what in found)
    assert not any("ALERT_EMAIL_TO is empty." in what for what in found)


@pytest.mark.django_db
@pytest.mark.parametrize("listed", ["route", "channel"])
def test_the_lists_of_routes_and_channels_warn_of_monitors_that_no_route_catches(settings, admin_client, listed):
    settings.ALERT_EMAIL_TO = []
    monitor = MonitorFactory(slug="backup")
    page = admin_client.get(reverse(f"admin:incidents_{listed}_changelist")).text
    assert f"failures of 1 monitor: backup of {monitor.project.slug}." in page
    RouteFactory(project=monitor.project, to=[ChannelFactory(project=monitor.project)])
    assert "Nobody would be notified" not in admin_client.get(reverse(f"admin:incidents_{listed}_changelist")).text


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "nobody: ALERT_EMAIL_TO is empty."),
        ({"ALERT_EMAIL_TO": "a@example.com"}, "nobody: EMAIL_URL names no mail server."),
        (
            {"ALERT_EMAIL_TO": "a@example.com, b@example.com", "EMAIL_URL": "smtp://mail"},
            "a@example.com, b@example.com",
        ),
    ],
)
def test_the_greeting_of_make_run_says_who_is_notified(variables, said):
    assert who_is_notified(variables).startswith(said)


@pytest.mark.django_db
def test_an_incident_says_that_nobody_was_told(admin_client):
    notification = NotificationFactory(nobody_since=NOW)
    page = reverse("admin:incidents_incident_change", args=[notification.incident_id])

    assert NOBODY_NOTIFIED in admin_client.get(page).text.replace("&#x27;", "'")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("addressed_at", "shows", "said"),
    [(NOW, False, "no message of its own"), (NOW, True, "not yet: see Messages"), (None, False, "not yet")],
)
def test_an_acknowledgement_that_no_channel_shows_is_not_waited_for(admin_client, addressed_at, shows, said):
    notification = NotificationFactory(transition="acknowledged", addressed_at=addressed_at)
    if shows:
        MessageFactory(incident=notification.incident, kind="acknowledged")

    assert said in admin_client.get(reverse("admin:incidents_incident_change", args=[notification.incident_id])).text
