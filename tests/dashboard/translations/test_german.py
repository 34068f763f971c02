"""What a reader of German gets: pages in German, and values that browsers and the server read as ever."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django import forms
from django.template import Context, Template
from django.urls import reverse
from django.utils import translation

from dashboard.moments import from_now, wall_clock
from lib.wallclock import utcnow
from tests import factories
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import environment as environment
from tests.dashboard.pages.conftest import incident as incident
from tests.dashboard.pages.conftest import monitor as monitor
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
GERMAN = {"headers": {"accept-language": "de-AT,de;q=0.9,en;q=0.5"}}


@pytest.fixture
def owner(monitor):
    return client_of(factories.MembershipFactory(project=monitor.project, role="owner").user)


@pytest.fixture
def of_monitor(monitor):
    """Return the address of a page about the monitor."""
    return lambda name: reverse(name, args=[monitor.project.slug, monitor.slug])


def test_a_browser_that_asks_for_german_gets_it(owner, of_monitor):
    now, page = owner.get("/", **GERMAN), owner.get(of_monitor("monitor"), **GERMAN)
    for response in (now, page):
        assert '<html lang="de">' in response.content.decode()
        assert response["Content-Language"] == "de"
        assert "Accept-Language" in response["Vary"]
    assert "1 Job braucht jemanden" in words(now)
    assert "Fehler gemeldet um 10:00 UTC." in words(now)
    assert "Alle 5 Minuten (UTC)" in words(page)


def test_texts_of_packages_do_not_replace_ours(owner, monitor):
    assert "Speichern" in words(owner.get(reverse("project", args=[monitor.project.slug]), **GERMAN))


def test_what_the_reader_chose_wins_over_the_browser(owner):
    owner.cookies["watchclock_language"] = "en"
    assert "1 job needs a person" in words(owner.get("/", **GERMAN))
    owner.cookies["watchclock_language"] = "de"
    assert "1 Job braucht jemanden" in words(owner.get("/", headers={"accept-language": "en"}))


def test_the_admin_stays_english(admin_client):
    admin_client.cookies["watchclock_language"] = "de"
    response = admin_client.get("/admin/monitors/monitor/add/")
    assert '<html lang="en"' in response.content.decode()
    assert "Save and add another" in words(response)


def test_a_page_that_there_is_not_is_german_too(owner):
    response = owner.get("/nothing/", **GERMAN)
    assert (response.status_code, "Diese Seite gibt es nicht" in words(response)) == (404, True)


def test_numbers_keep_the_point_since_drawings_and_fields_have_them_too():
    with translation.override("de"):
        assert (
            Template("{{ number }} {{ form }}").render(
                Context({"number": 1234.5, "form": forms.FloatField(localize=True).widget.render("x", 0.5)})
            )
            == '1234.5 <input type="text" name="x" value="0.5">'
        )


def test_a_time_that_a_form_proposes_can_be_sent_as_it_is(owner, of_monitor, monitor):
    page = owner.get(of_monitor("ping-address"), **GERMAN).content.decode()
    found = re.search(r'type="datetime-local"[^>]*|name="ends_at"[^>]*', page)
    assert found is not None
    proposed = re.search(r'value="([^"]*)"', found[0])
    assert proposed is not None
    assert abs(datetime.fromisoformat(f"{proposed[1]}Z") - utcnow() - timedelta(days=1)) < timedelta(minutes=2)
    sent = {"do": "replace", "ends_at": proposed[1]}
    response = owner.post(of_monitor("ping-address"), sent, follow=True, **GERMAN)
    assert "Der Monitor hat eine neue Adresse." in words(response)
    assert monitor.guid != type(monitor).objects.get().guid


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (timedelta(days=3, hours=2), "in 3 Tagen und 2 Stunden"),
        (-timedelta(days=1, hours=1), "vor 1 Tag und 1 Stunde"),
        (-timedelta(days=2), "vor 2 Tagen"),
    ],
)
def test_days_have_the_form_that_follows_a_preposition(ahead, text):
    now = utcnow()
    with translation.override("de"):
        assert from_now(now + ahead, now=now) == text


def test_another_day_of_the_year_is_written_as_in_german():
    now = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
    with translation.override("de"):
        assert wall_clock(now - timedelta(days=1), now=now) == "So 29. Nov 12:00"
