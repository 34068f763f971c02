"""What a person prefers: for all pages, and for notifications."""

import re
from datetime import time
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Preferences
from accounts.preferences import address_of
from audit.models import AuditEntry
from incidents.models import Channel, Message
from incidents.notifications.mail_settings import CONSOLE
from lib.valkey import valkey
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
PAGE = "/account/preferences/"
NIGHT = {"timezone": "Europe/Vienna", "quiet_from": "22:00", "quiet_until": "07:00"}


@pytest.fixture
def member(monitor):
    return factories.MembershipFactory(project=monitor.project, user__username="ann", user__email="ann@example.com")


@pytest.fixture
def ann(member):
    return client_of(member.user)


def test_the_own_zone_is_that_of_all_pages_whatever_the_browser_says(ann, member, incident):
    ann.cookies["watchclock_zone"] = "Asia/Tokyo"
    at = f"{incident.started_at:%Y-%m-%d} 11:00:00 Europe/Vienna"
    assert at not in ann.get("/").content.decode()
    assert ann.post(PAGE, {"timezone": "Europe/Vienna"}).status_code == 302
    assert at in ann.get("/").content.decode()


def test_the_own_language_is_that_of_all_pages_and_of_the_login(ann):
    ann.post(PAGE, {"language": "de"})
    response = ann.get("/")
    assert '<html lang="de">' in response.content.decode()
    assert response["Content-Language"] == "de"
    remembered = ann.cookies["watchclock_language"].value
    nobody = Client()
    nobody.cookies["watchclock_language"] = remembered
    assert '<html lang="de">' in nobody.get("/login/").content.decode()
    ann.post(PAGE, {"language": ""})
    assert '<html lang="en">' in ann.get("/").content.decode()


def test_single_keys_are_switched_off_for_all_pages_and_the_help_says_so(ann):
    page = ann.get("/")
    assert "data-without-single-keys" not in page.content.decode()
    assert "Shortcuts of a single key can be switched off." in words(page)
    ann.post(PAGE, {"without_single_keys": "on"})
    page = ann.get("/")
    assert "data-without-single-keys" in page.content.decode()
    assert "You have switched the shortcuts of a single key off" in words(page)
    ann.post(PAGE, {"language": ""})
    assert "data-without-single-keys" not in ann.get("/").content.decode()


def test_a_page_for_everybody_does_not_depend_on_who_opens_it(ann, member):
    factories.PreferencesFactory(user=member.user, language="de")
    link = factories.ShareLinkFactory(project=member.project)
    assert '<html lang="en">' in ann.get(f"/s/{link.address}/").content.decode()


@pytest.fixture
def letters(monkeypatch):
    sent = []
    monkeypatch.setattr("accounts.tasks.send_letter.delay", lambda *letter: sent.append(letter))
    return sent


@pytest.fixture(autouse=True)
def _no_letter_was_sent(engines):
    for key in valkey().scan_iter("watchclock:cache:*"):
        valkey().delete(key)


def link_in(letter):
    [link] = re.findall(r"http://testserver(/\S+)", letter[1])
    return link


def address_of_ann():
    return address_of(User.objects.get(username="ann"))


def test_without_a_mail_server_the_page_says_that_nobody_gets_the_link(ann, letters, settings):
    settings.EMAIL_BACKEND = CONSOLE
    page = words(ann.post(PAGE, {"email": "ann@home.example"}, follow=True))
    assert "Nobody gets this mail: EMAIL_URL names no mail server" in page


def test_a_new_address_is_used_when_its_link_was_opened_and_not_before(ann, member, letters):
    factories.PersonalChannelFactory(member=member)
    page = ann.post(PAGE, {"email": "ann@home.example", "projects": [member.project_id]}, follow=True)
    assert "ann@home.example is not confirmed yet" in words(page)
    assert "Until then you are notified at ann@example.com." in words(page)
    assert address_of_ann() == "ann@example.com"
    assert Channel.objects.get().is_enabled
    [letter] = letters
    assert letter[2] == "ann@home.example"
    assert "Shall you be notified at ann@home.example?" in words(ann.get(link_in(letter)))
    assert address_of_ann() == "ann@example.com"
    page = ann.post(link_in(letter), follow=True)
    assert "You are notified at ann@home.example from now on." in words(page)
    assert "not confirmed" not in words(page)
    assert address_of_ann() == "ann@home.example"
    assert AuditEntry.objects.filter(kind="preferences").latest("id").changes == {
        "email": "changed",
        "unconfirmed_email": "changed",
    }
    assert ann.post(link_in(letter)).status_code == 404


def test_a_link_is_for_the_person_and_the_address_that_waits_for_it(ann, stranger, letters):
    ann.post(PAGE, {"email": "ann@home.example"})
    ann.post(PAGE, {"email": "ann@holiday.example"})
    first, second = map(link_in, letters)
    assert stranger.post(second).status_code == 404
    assert ann.post(first).status_code == 404
    assert Client().post(second)["Location"].startswith("/login/")
    assert ann.post("/account/preferences/confirm/forged/").status_code == 404
    with patch("django.core.signing.time.time", return_value=utcnow().timestamp() + 4 * 86_400):
        assert ann.post(second).status_code == 404
    assert ann.post(second).status_code == 302
    assert address_of_ann() == "ann@holiday.example"


def test_other_changes_keep_the_address_that_waits_and_send_no_mail(ann, letters):
    ann.post(PAGE, {"email": "ann@home.example"})
    email = ann.get(PAGE).context["form"].initial["email"]
    ann.post(PAGE, {"email": email, "language": "de"})
    assert Preferences.objects.get().unconfirmed_email == "ann@home.example"
    assert len(letters) == 1


@pytest.mark.parametrize("email", ["", "Ann@example.com"])
def test_the_address_of_the_account_needs_no_link(ann, letters, email):
    ann.post(PAGE, {"email": "ann@home.example"})
    ann.post(PAGE, {"email": email})
    stored = Preferences.objects.get()
    assert (stored.email, stored.unconfirmed_email, len(letters)) == (email, "", 1)


def test_the_link_is_sent_again_a_few_times_an_hour(ann, letters):
    ann.post(PAGE, {"email": "ann@home.example"})
    pages = [words(ann.post(PAGE, {"do": "link"}, follow=True)) for _ in range(5)]
    assert len(letters) == 5
    assert "Too many such mails were sent." in pages[-1]


def test_a_project_that_may_notify_has_the_person_as_a_channel(ann, member, monitor):
    factories.PreferencesFactory(user=member.user, email="ann@home.example", quiet_from=None, quiet_until=None)
    page = ann.post(PAGE, {**NIGHT, "email": "ann@home.example", "projects": [member.project_id]}, follow=True)
    assert "Saved." in words(page)
    assert page.context["form"].initial == {
        "timezone": "Europe/Vienna",
        "language": "",
        "email": "ann@home.example",
        "quiet_from": time(22),
        "quiet_until": time(7),
        "without_single_keys": False,
        "projects": [monitor.project_id],
    }
    assert Channel.objects.get().name == "@ann"
    assert set(AuditEntry.objects.values_list("kind", "source")) == {("preferences", "page"), ("channel", "page")}


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"timezone": "Mars/Base"}, "timezone"),
        ({**NIGHT, "timezone": ""}, "timezone"),
        ({**NIGHT, "quiet_until": ""}, "quiet_until"),
        ({**NIGHT, "quiet_until": "22:00"}, "quiet_until"),
        ({**NIGHT, "quiet_from": "soon"}, "quiet_from"),
        ({"language": "fr"}, "language"),
        ({"email": "ann"}, "email"),
        ({"projects": ["0"]}, "projects"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_stored(ann, typed, field):
    page = ann.post(PAGE, typed)
    assert page.status_code == 422
    assert list(page.context["form"].errors) == [field]
    assert not Preferences.objects.exists()


def test_without_any_address_no_project_can_notify(monitor):
    member = factories.MembershipFactory(project=monitor.project)
    page = client_of(member.user).post(PAGE, {"projects": [member.project_id]})
    assert list(page.context["form"].errors) == ["email"]


def test_a_test_goes_to_the_own_address_once_at_a_time(ann, member):
    assert "No project may notify you yet" in words(ann.post(PAGE, {"do": "test"}, follow=True))
    factories.PersonalChannelFactory(member=member)
    assert "A test is on its way to ann@example.com." in words(ann.post(PAGE, {"do": "test"}, follow=True))
    assert "A test is on its way already." in words(ann.post(PAGE, {"do": "test"}, follow=True))
    assert list(Message.objects.values_list("recipient", "kind")) == [("ann@example.com", "test")]


def test_the_owner_of_a_project_sees_a_person_and_cannot_change_the_person(as_role, member, monitor):
    factories.PreferencesFactory(user=member.user, email="ann@home.example")
    channel = factories.PersonalChannelFactory(member=member)
    address = f"/projects/{monitor.project.slug}/channels/{channel.pk}/"
    owner = as_role("owner")
    page = owner.get(address)
    assert "This is ann, who is notified at the own address." in words(page)
    assert "home.example" not in page.content.decode()
    assert owner.post(address, {"name": "x"}).status_code == 403
    assert "Send a test" in words(page)


def test_the_channel_of_a_person_is_to_be_looked_at_only_in_the_admin(admin_client, member):
    channel = factories.PersonalChannelFactory(member=member)
    page = admin_client.get(f"/admin/incidents/channel/{channel.pk}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()


def test_a_route_says_that_it_tells_owners(as_role, monitor):
    editor = as_role("editor")
    new = f"/projects/{monitor.project.slug}/routes/new/"
    assert editor.post(new, {"name": "mine", "tells_owner": "on"}).status_code == 302
    assert "the owner and the assignee" in words(editor.get(f"/projects/{monitor.project.slug}/channels/"))


def test_preferences_are_read_once_for_a_page(ann, member):
    factories.PreferencesFactory(user=member.user)
    with CaptureQueriesContext(connection) as queries:
        ann.get("/")
    assert sum('"accounts_preferences"' in query["sql"] for query in queries) == 1
