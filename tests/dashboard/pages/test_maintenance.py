"""Maintenance windows on pages: the list, the form with its preview, and what the page of a monitor shows of them.

What may be typed is tested with the admin, whose form is the same.
"""

from datetime import time, timedelta

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from checkins.maintenance import replace_window
from monitors.models import MaintenanceWindow
from tests import factories
from tests.dashboard.pages.conftest import words
from tests.factories import NOW

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    for module in ("maintenance", "monitor"):
        monkeypatch.setattr(f"dashboard.pages.{module}.views.utcnow", lambda: NOW)


@pytest.fixture
def project(monitor):
    return monitor.project


@pytest.fixture
def plan(project):
    return lambda **fields: factories.MaintenanceWindowFactory(project=project, **fields)


@pytest.fixture
def address(project):
    """Return the address of a view of the project, or of one of its windows."""
    return lambda view, *rest: reverse(view, args=[project.slug, *rest])


def in_zone(client, zone):
    client.cookies["watchclock_zone"] = zone
    return client


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_in_force_what_comes_and_what_is_over(as_role, monitor, plan, address):
    production = factories.EnvironmentFactory(project=monitor.project, name="production")
    plan(name="upgrade", starts_at=NOW - HOUR / 2, monitor=monitor, environment=production)
    plan(name="night", tag="db", crontab="0 22 * * *", until=time(7, 0), timezone="Europe/Berlin")
    plan(name="move", starts_at=NOW + HOUR)
    plan(name="past", starts_at=NOW - 5 * HOUR)
    page = words(in_zone(as_role("viewer"), "America/New_York").get(address("maintenance")))
    assert f"In force now upgrade maintenance until 05:30 ( in 30 minutes ) {monitor.name} in production" in page
    coming = page.partition("What comes next")[2]
    assert coming.index("move all monitors 06:00 to 07:00 (11:00 to 12:00 UTC)") < coming.index("night monitors tagged")
    night = "16:00 to Tue 06 Jan 01:00 (22:00 to Tue 06 Jan 07:00 Europe/Berlin) Tue 06 Jan 16:00 to"
    assert f"night monitors tagged db At 22:00 (Europe/Berlin), until 07:00 {night}" in page
    assert page.count("Europe/Berlin)") == 4, "its rule, and its next three times"
    assert coming.index("What is over") < coming.index("past all monitors 00:00 to 01:00")


def test_an_occurrence_in_force_is_shown_with_those_that_come_after_it(as_role, plan, address):
    plan(name="mornings", starts_at=NOW - HOUR, crontab="0 9 * * *", minutes=90)
    page = words(as_role("viewer").get(address("maintenance")))
    assert "mornings maintenance until 10:30 ( in 30 minutes ) all monitors At 09:00 (UTC), for 1 hour and 30" in page
    assert "Tue 06 Jan 09:00 to 10:30 (UTC)" in page


def test_a_rule_that_cannot_be_read_covers_nothing(as_role, plan, address):
    plan(crontab="0 3 * * *", timezone="Mars/Olympus")
    assert "It covers nothing." in words(as_role("viewer").get(address("maintenance")))


def test_an_empty_list_says_what_windows_are_for(as_role, address):
    page = as_role("viewer").get(address("maintenance"))
    assert "No maintenance has been planned yet." in words(page)
    assert "Editors of the project plan maintenance." in words(page)
    assert address("new-window") not in page.text
    assert address("new-window") in as_role("editor").get(address("maintenance")).text


def test_the_number_of_statements_does_not_grow_with_the_windows(
    as_role, monitor, plan, address, django_assert_max_num_queries
):
    for at in range(1, 10):
        plan(monitor=monitor, starts_at=NOW + at * HOUR)
        plan(monitor=monitor, starts_at=NOW - (at + 1) * HOUR)
    client = as_role("editor")
    with django_assert_max_num_queries(7):
        client.get(address("maintenance"))


# --- planning, changing, ending ---------------------------------------------------------------------------------------


def typed(**changes):
    times = {"timezone": "Europe/Berlin", "starts": "2026-01-05T12:00", "ends": "2026-01-05T14:00"}
    return {"name": "upgrade"} | times | changes


def test_an_editor_plans_a_window_of_a_monitor_in_an_environment(as_role, monitor, environment, address):
    name = environment.environment.name
    page = as_role("editor").post(address("new-window"), typed(monitor=monitor.slug, environment=name), follow=True)
    assert page.redirect_chain == [(address("maintenance"), 302)]
    assert "upgrade is planned." in words(page)
    window = MaintenanceWindow.objects.get()
    assert (window.starts_at, window.ends_at) == (NOW + HOUR, NOW + 3 * HOUR)
    assert (window.monitor, window.environment) == (monitor, environment.environment)
    entry = AuditEntry.objects.get(kind="maintenance window")
    assert (entry.action, entry.source, entry.changes["monitor_id"]) == ("planned", "page", [None, monitor.pk])


def test_an_editor_plans_a_window_by_a_rule_for_a_tag(as_role, address):
    rule = {"tag": "db", "starts": "", "ends": "", "crontab": "@daily", "until": "07:00"}
    as_role("editor").post(address("new-window"), typed(**rule))
    window = MaintenanceWindow.objects.get()
    assert (window.crontab, window.until, window.minutes, window.tag) == ("0 0 * * *", time(7, 0), None, "db")
    assert (window.starts_at, window.ends_at, window.timezone) == (NOW + MINUTE, None, "Europe/Berlin")


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"monitor": "theirs"}, "monitor", "The project has no monitor with the slug “theirs”."),
        ({"environment": "no"}, "environment", "The project has no environment with the name “no”."),
        ({"monitor": "a\x00b"}, "monitor", "Null characters are not allowed."),
        ({"starts": "0001-01-01T00:00"}, "starts", "Enter a time in the years 2000 to 2999."),
        ({"until": "07:00"}, "until", "07:00 is for a window that repeats: fill in the crontab too."),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_field(as_role, address, changes, field, told):
    factories.MonitorFactory(slug="theirs")
    response = as_role("editor").post(address("new-window"), typed(**changes))
    assert (response.status_code, response.context["form"].errors) == (422, {field: [told]})
    assert not MaintenanceWindow.objects.exists()


def test_the_address_of_the_form_names_what_it_is_about(as_role, monitor, address):
    page = as_role("editor").get(address("new-window"), {"monitor": monitor.slug, "tag": "db"})
    assert [page.context["form"][name].value() for name in ("monitor", "tag")] == [monitor.slug, "db"]


@pytest.fixture
def held(monitor, plan):
    """A window in force, and its form as a browser sends it."""
    window = plan(name="upgrade", monitor=monitor, starts_at=NOW - HOUR, ends_at=NOW + HOUR)
    sent = {"monitor": monitor.slug, "timezone": "UTC", "starts": "2026-01-05T09:00", "ends": "2026-01-05T11:00"}
    return window, typed(**sent)


def test_a_change_ends_the_window_and_plans_another(as_role, address, held):
    window, sent = held
    page = as_role("editor").post(address("window", window.pk), sent | {"ends": "2026-01-05T12:00"}, follow=True)
    assert "upgrade is planned anew from the next minute on." in words(page)
    new = MaintenanceWindow.objects.latest("id")
    window.refresh_from_db()
    assert (window.ends_at, new.starts_at, new.ends_at) == (NOW + MINUTE, NOW + MINUTE, NOW + 2 * HOUR)
    assert new.monitor == window.monitor
    entries = AuditEntry.objects.filter(kind="maintenance window").order_by("id")
    assert [(entry.action, entry.source) for entry in entries] == [("ended", "page"), ("planned", "page")]


def test_a_form_that_is_saved_as_it_was_changes_nothing(as_role, address, held):
    window, sent = held
    assert "Nothing was changed." in words(as_role("editor").post(address("window", window.pk), sent, follow=True))
    assert list(MaintenanceWindow.objects.values_list("pk", "ends_at")) == [(window.pk, NOW + HOUR)]


def test_of_two_changes_at_once_the_second_is_refused(as_role, address, held):
    window, sent = held
    longer = {"name": "theirs", "starts_at": NOW, "ends_at": NOW + 5 * HOUR}
    replace_window(window.pk, MaintenanceWindow(project=window.project, **longer), now=NOW)
    response = as_role("editor").post(address("window", window.pk), sent | {"ends": "2026-01-05T12:00"})
    assert response.status_code == 422
    assert "somebody else has just changed it: plan a new one." in words(response)
    assert MaintenanceWindow.objects.count() == 2


def test_a_window_that_is_over_is_not_changed(as_role, plan, address):
    window = plan(name="past", starts_at=NOW - 5 * HOUR)
    for send in (as_role("editor").get, as_role("editor").post):
        assert "past is over, and stays as it was" in words(send(address("window", window.pk), follow=True))


@pytest.mark.parametrize(
    ("starts_at", "told", "left"),
    [
        pytest.param(NOW - HOUR / 2, "upgrade ends with this minute", [NOW + MINUTE], id="in force"),
        pytest.param(NOW + HOUR, "upgrade was deleted.", [], id="to come"),
        pytest.param(NOW - 5 * HOUR, "upgrade is over already.", [NOW - 4 * HOUR], id="over"),
    ],
)
def test_a_window_is_ended_or_deleted(as_role, plan, address, starts_at, told, left):
    window = plan(name="upgrade", starts_at=starts_at)
    page = as_role("editor").post(address("act-on-window", window.pk), {"do": "end"}, follow=True)
    assert told in words(page)
    assert list(MaintenanceWindow.objects.values_list("ends_at", flat=True)) == left


# --- the preview ------------------------------------------------------------------------------------------------------


def test_the_preview_shows_the_next_times_and_what_is_covered(as_role, monitor, address):
    factories.MonitorFactory(project=monitor.project, name="Backup of the shop", tags=["db"])
    factories.MonitorFactory(name="of others", tags=["db"])
    rule = {"tag": "db", "crontab": "0 22 * * 5", "minutes": "60", "timezone": "UTC"}
    page = words(as_role("viewer").get(address("preview-window"), rule))
    assert "At 22:00, only on Friday (UTC), for 1 hour Fri 09 Jan 22:00 to 23:00" in page
    assert "monitors tagged db 1 of 2 monitors Backup of the shop Monitors that get the tag later" in page


def test_the_preview_says_what_is_wrong_and_shows_the_rest(as_role, monitor, address):
    page = words(as_role("viewer").get(address("preview-window"), {"monitor": "none", "crontab": "1 1 * *"}))
    assert "Repeats: " in page
    assert "Monitor: The project has no monitor with the slug “none”." in page
    page = words(as_role("viewer").get(address("preview-window"), {"monitor": monitor.slug}))
    assert "Say until when it is" in page
    assert f"{monitor.name} 1 of 1 monitor {monitor.name}" in page


def test_the_preview_counts_monitors_that_run_in_the_environment(as_role, environment, address):
    factories.MonitorFactory(project=environment.monitor.project)
    page = words(as_role("viewer").get(address("preview-window"), {"environment": environment.environment.name}))
    assert f"all monitors in {environment.environment.name} 1 of 2 monitors" in page


# --- the page of a monitor --------------------------------------------------------------------------------------------


@pytest.fixture
def page_of_monitor(monitor):
    return reverse("monitor", args=[monitor.project.slug, monitor.slug])


def test_the_page_of_a_monitor_shows_windows_that_concern_its_environment(as_role, monitor, plan, page_of_monitor):
    elsewhere = factories.EnvironmentFactory(project=monitor.project, name="elsewhere")
    plan(name="upgrade", starts_at=NOW - HOUR / 2)
    plan(name="move", starts_at=NOW + 3 * HOUR, monitor=monitor)
    plan(name="not here", environment=elsewhere)
    plan(name="not this", tag="other")
    page = words(as_role("viewer").get(page_of_monitor))
    assert "maintenance upgrade until 10:30 ( in 30 minutes ) move 13:00 to 14:00" in page
    assert "not here" not in page
    assert "not this" not in page
    assert "for 1 hour" not in page


@pytest.fixture
def press(as_role, monitor, environment):
    """Return the page after an editor has pressed the button that begins maintenance."""
    act = reverse("act-on-monitor", args=[monitor.project.slug, monitor.slug])
    sent = {"do": "maintain", "for": "1", "environment": environment.pk}
    return lambda role="editor", **changes: as_role(role).post(act, sent | changes, follow=True)


def test_maintenance_begins_with_a_button_of_the_page_of_a_monitor(press, monitor, environment):
    assert f"{monitor.name} is in maintenance from the next minute on" in words(press())
    window = MaintenanceWindow.objects.get()
    assert (window.monitor, window.environment) == (monitor, environment.environment)
    assert (window.starts_at, window.ends_at) == (NOW + MINUTE, NOW + MINUTE + HOUR)
    assert AuditEntry.objects.get(kind="maintenance window").source == "page"


def test_what_the_button_does_not_offer_is_refused(press, settings):
    assert "'9' is no number of hours of the button; it has 1, 4." in words(press(**{"for": "9"}))
    assert "There is no such environment." in words(press(environment="0"))
    assert press("responder").status_code == 403
    settings.MAINTENANCE_WINDOWS_MAX = 0
    assert "may have no more" in words(press())
    assert not MaintenanceWindow.objects.exists()
