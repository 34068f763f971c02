"""A first job in one minute."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from monitors.models import Monitor
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
ADDRESS = "/new/"


@pytest.fixture
def typed(monitor):
    """What a person types for a nightly backup."""
    return {
        "project": monitor.project_id,
        "name": "Nightly backup",
        "schedule_type": "crontab",
        "crontab": "30 2 * * *",
        "timezone": "Europe/Vienna",
        "checkin_margin": "5",
        "max_runtime": "30",
        "failure_threshold": "1",
        "recovery_threshold": "1",
    }


def test_a_name_and_a_schedule_make_a_monitor_and_lead_to_its_page_which_waits(as_role, typed, monitor):
    page = as_role("editor").post(ADDRESS, typed, follow=True)
    made = Monitor.objects.get(slug="nightly-backup")
    assert (made.crontab, made.timezone, made.checkin_margin) == ("30 2 * * *", "Europe/Vienna", 5)
    assert page.redirect_chain == [(reverse("monitor", args=[monitor.project.slug, "nightly-backup"]), 302)]
    assert "No check-in has been received yet." in words(page)
    assert "data-wait" in page.content.decode()
    entry = AuditEntry.objects.get(kind="monitor", action="created")
    assert (entry.source, entry.object_id) == ("page", made.pk)


def test_an_interval_is_a_schedule_too(as_role, typed):
    typed |= {"schedule_type": "interval", "interval": "15", "interval_unit": "minute", "crontab": ""}
    as_role("editor").post(ADDRESS, typed)
    made = Monitor.objects.get(slug="nightly-backup")
    assert (made.interval, made.interval_unit, made.crontab) == (15, "minute", None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"crontab": "61 * * * *"}, "crontab"),
        ({"crontab": "0 0 30 2 *"}, "crontab"),
        ({"schedule_type": "interval", "interval": "0", "interval_unit": "hour"}, "interval"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"name": ""}, "name"),
        ({"name": "123"}, "slug"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"checkin_margin": "0"}, "checkin_margin"),
        ({"max_runtime": "99999999"}, "max_runtime"),
        ({"project": "0"}, "project"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(as_role, typed, changes, field):
    response = as_role("editor").post(ADDRESS, typed | changes)
    assert (response.status_code, field in response.context["form"].errors) == (422, True)
    assert Monitor.objects.count() == 1


def test_a_slug_that_is_taken_is_refused(as_role, typed, monitor):
    response = as_role("editor").post(ADDRESS, typed | {"slug": monitor.slug})
    assert "The project has a monitor with this slug already." in words(response)


def test_a_project_in_which_the_person_is_no_editor_cannot_be_chosen(as_role, typed):
    other = factories.ProjectFactory()
    response = as_role("editor").post(ADDRESS, typed | {"project": other.pk})
    assert "project" in response.context["form"].errors


def test_a_schedule_is_shown_in_words_with_its_next_times_while_it_is_typed(as_role):
    query = {"schedule_type": "crontab", "crontab": "*/5 * * * *", "timezone": "UTC"}
    response = as_role("viewer").get("/new/schedule", query)
    assert "Every 5 minutes (UTC)" in words(response)
    assert len(response.context["slots"]) == 5


def test_a_schedule_that_cannot_be_used_says_why(as_role):
    query = {"schedule_type": "crontab", "crontab": "* * *", "timezone": "UTC"}
    assert "errorlist" in as_role("viewer").get("/new/schedule", query).content.decode()


def test_the_zone_of_the_reader_is_proposed(as_role):
    client = as_role("editor")
    client.cookies["watchclock_zone"] = "Europe%2FVienna"
    assert 'value="Europe/Vienna"' in client.get(ADDRESS).content.decode()


def test_a_project_has_a_bound(as_role, typed, settings):
    settings.MONITORS_PER_PROJECT = 1
    response = as_role("editor").post(ADDRESS, typed)
    assert "The project has 1 monitors; no more are allowed." in words(response)
    assert Monitor.objects.count() == 1
