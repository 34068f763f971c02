"""Maintenance windows in the admin: what may be typed, what becomes of it, and where people read of them."""

import html
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from monitors.models import MaintenanceWindow
from tests import factories
from tests.dashboard.wall import set_clock
from tests.factories import NOW

LIST = reverse("admin:monitors_maintenancewindow_changelist")
ADD = reverse("admin:monitors_maintenancewindow_add")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    now = [NOW]
    set_clock(monkeypatch, lambda: now[0])
    return now


@pytest.fixture
def project(db):
    return factories.ProjectFactory()


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def typed(project, **changes):
    values = {"project": project.pk, "name": "upgrade", "starts": "2026-01-05 12:00", "ends": "2026-01-05 14:00"}
    return values | changes


def errors_of(response):
    assert response.status_code == 200, response.status_code
    return {field: list(messages) for field, messages in response.context["adminform"].form.errors.items()}


def text(client, url):
    return html.unescape(client.get(url).text)


# --- what may be typed ------------------------------------------------------------------------------------------------


def test_a_window_is_planned_on_the_wall_clock_of_its_zone(admin_client, project):
    monitor = factories.MonitorFactory(project=project)
    response = admin_client.post(ADD, typed(project, timezone="Europe/Berlin", monitor=monitor.pk))
    window = MaintenanceWindow.objects.get()
    assert response.url == f"../{window.pk}/change/"
    assert (window.starts_at, window.ends_at) == (NOW + HOUR, NOW + 3 * HOUR)
    assert (window.monitor, window.timezone, window.crontab) == (monitor, "Europe/Berlin", "")


def test_a_window_by_a_rule_needs_no_beginning_and_no_end(admin_client, project):
    rule = {"crontab": "@daily", "until": "07:00", "starts": "", "ends": "", "tag": "night"}
    admin_client.post(ADD, typed(project, **rule))
    window = MaintenanceWindow.objects.get()
    assert (window.crontab, window.until, window.minutes, window.tag) == ("0 0 * * *", time(7, 0), None, "night")
    assert (window.starts_at, window.ends_at) == (NOW + timedelta(minutes=1), None)


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        pytest.param({"name": ""}, "name", "This field is required.", id="no name"),
        pytest.param({"ends": ""}, "ends", "A window that does not repeat needs an end.", id="no end"),
        pytest.param(
            {"ends": "2026-01-05 12:00"},
            "ends",
            "2026-01-05 12:00 is not after 2026-01-05 12:00, when it begins.",
            id="no length",
        ),
        pytest.param(
            {"starts": "2026-01-04 12:00", "ends": "2026-01-05 09:00"},
            "ends",
            "2026-01-05 09:00 is not after 2026-01-05 10:01, when it begins.",
            id="over",
        ),
        pytest.param(
            {"starts": "noon"}, "starts", "Enter a date and a time of day, such as 2026-12-24 22:00.", id="no date"
        ),
        pytest.param(
            {"timezone": "Mars/Olympus"},
            "timezone",
            "timezone 'Mars/Olympus' cannot be used: it takes a name of the tz database, such as Europe/Vienna or UTC.",
            id="no zone",
        ),
        pytest.param(
            {"minutes": "30"}, "minutes", "30 is for a window that repeats: fill in the crontab too.", id="no rule"
        ),
        pytest.param(
            {"crontab": "0 3 * * *"},
            "minutes",
            "Each occurrence has a length in minutes or an end, it has neither now.",
            id="neither",
        ),
        pytest.param(
            {"crontab": "0 3 * * *", "minutes": "30", "until": "07:00"},
            "minutes",
            "Each occurrence has a length in minutes or an end, it has both 30 minutes and until 07:00 now.",
            id="both",
        ),
        pytest.param(
            {"crontab": "0 3 * * *", "minutes": "10081"},
            "minutes",
            "Ensure this value is less than or equal to 10080.",
            id="too long",
        ),
        pytest.param(
            {"crontab": "0 0 * * *", "minutes": "1440"},
            "crontab",
            "0 0 * * *: each occurrence goes on until the next one begins, so it never ends.",
            id="endless",
        ),
        pytest.param(
            {"crontab": "0 3 * * *", "until": "7 am"},
            "until",
            "Enter a time of day, such as 07:00.",
            id="no time of day",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(admin_client, project, changes, field, told):
    errors = errors_of(admin_client.post(ADD, typed(project, **changes)))
    assert errors.get(field) == [told], errors
    assert not MaintenanceWindow.objects.exists()


def test_an_unreadable_crontab_is_refused_at_its_field(admin_client, project):
    assert "crontab" in errors_of(admin_client.post(ADD, typed(project, crontab="every day", minutes="5")))


def test_a_monitor_of_another_project_is_refused(admin_client, project):
    monitor = factories.MonitorFactory(name="theirs")
    errors = errors_of(admin_client.post(ADD, typed(project, monitor=monitor.pk)))
    assert errors["monitor"] == [f"theirs is of the project {monitor.project}, the window of {project}."]


def test_a_monitor_and_a_tag_are_refused_together(admin_client, project):
    monitor = factories.MonitorFactory(project=project, name="backup")
    errors = errors_of(admin_client.post(ADD, typed(project, monitor=monitor.pk, tag="night")))
    assert errors["tag"] == ["A window is about a monitor or about a tag: empty one of backup and night."]


def test_a_window_beyond_the_limit_is_refused(admin_client, project, settings):
    settings.MAINTENANCE_WINDOWS_MAX = 1
    factories.MaintenanceWindowFactory(project=project)
    (told,) = errors_of(admin_client.post(ADD, typed(project)))["__all__"]
    assert told.startswith("The project has 1 maintenance windows that have not ended")


# --- editing and ending -----------------------------------------------------------------------------------------------


def edited(client, window, **changes):
    form = client.get(page_of(window)).context["adminform"].form
    held = {name: form[name].value() for name in form.fields}
    return client.post(
        page_of(window), {name: "" if value is None else value for name, value in (held | changes).items()}
    )


def test_an_edit_ends_the_window_and_plans_another(admin_client, project, clock):
    old = factories.MaintenanceWindowFactory(project=project)
    clock[0] = NOW + HOUR / 2
    response = edited(admin_client, old, ends="2026-01-05 16:00")
    old.refresh_from_db()
    new = MaintenanceWindow.objects.exclude(pk=old.pk).get()
    assert response.url == f"../../{new.pk}/change/"
    minute = NOW + timedelta(minutes=31)
    assert (old.ends_at, new.starts_at, new.ends_at) == (minute, minute, NOW + 6 * HOUR)


def test_a_page_that_is_saved_without_a_change_changes_nothing(admin_client, project):
    window = factories.MaintenanceWindowFactory(project=project, crontab="0 3 * * *")
    edited(admin_client, window)
    assert list(MaintenanceWindow.objects.values_list("pk", "ends_at")) == [(window.pk, None)]


def test_a_window_that_has_ended_is_shown_and_not_edited(admin_client, project):
    window = factories.MaintenanceWindowFactory(project=project, starts_at=NOW - 2 * HOUR)
    page = admin_client.get(page_of(window))
    assert page.status_code == 200
    assert "_save" not in page.text


def test_windows_are_ended_from_the_list(admin_client, project):
    going_on = factories.MaintenanceWindowFactory(project=project)
    to_come = factories.MaintenanceWindowFactory(project=project, starts_at=NOW + HOUR)
    data = {"action": "end_now", "_selected_action": [going_on.pk, to_come.pk]}
    page = admin_client.post(LIST, data, follow=True)
    assert "Ended 2 maintenance windows." in page.text
    assert list(MaintenanceWindow.objects.values_list("ends_at", flat=True)) == [NOW + timedelta(minutes=1)]


# --- where people read of windows -------------------------------------------------------------------------------------


def test_active_windows_come_first(admin_client, project):
    names: dict[str, dict[str, Any]] = {
        "over": {"starts_at": NOW - 2 * HOUR},
        "to come": {"starts_at": NOW + HOUR},
        "by day": {"starts_at": NOW - HOUR, "crontab": "0 9 * * *", "minutes": 90},
        "now": {"starts_at": NOW - HOUR / 2},
        "between": {"starts_at": NOW, "crontab": "0 3 * * *"},
    }
    for name, fields in names.items():
        factories.MaintenanceWindowFactory(project=project, name=name, **fields)
    listed = [row.name for row in admin_client.get(LIST).context["cl"].result_list]
    assert listed == ["now", "by day", "between", "to come", "over"]


def test_the_next_three_occurrences_are_shown(admin_client, project):
    window = factories.MaintenanceWindowFactory(
        project=project, crontab="0 22 * * *", until=time(7, 0), timezone="Europe/Berlin"
    )
    page = text(admin_client, page_of(window))
    for day in (5, 6, 7):
        assert f"2026-01-{day:02} 22:00" in page
    assert "2026-01-08 22:00" not in page


def test_the_page_of_a_monitor_says_until_when_it_is_in_maintenance(admin_client, project):
    monitor = factories.MonitorFactory(project=project, tags=["night"])
    factories.MaintenanceWindowFactory(project=project, name="upgrade", tag="night")
    factories.MaintenanceWindowFactory(project=project, name="move", starts_at=NOW + 3 * HOUR)
    factories.MaintenanceWindowFactory(project=project, name="elsewhere", tag="day")
    page = admin_client.get(page_of(monitor))
    lines = page.context["maintenance"]
    assert len(lines) == 2
    assert lines[0].startswith("In maintenance until ")
    assert lines[0].endswith(": upgrade.")
    assert lines[1].startswith("Next maintenance: ")
    assert lines[1] in page.text


def test_the_page_of_a_check_in_names_the_window(admin_client, project):
    window = factories.MaintenanceWindowFactory(project=project, name="upgrade")
    row = factories.MonitorEnvironmentFactory(monitor__project=project)
    slot = factories.CheckInFactory(
        monitor_environment=row, status="unknown", unknown_because="maintained", date_added=NOW + HOUR / 2
    )
    error = factories.CheckInFactory(
        monitor_environment=row, status="error", unknown_because="maintained", failed_at=None, date_updated=NOW
    )
    for checkin in (slot, error):
        assert "it was in maintenance: upgrade" in text(admin_client, page_of(checkin))
    window.delete()
    assert "it was in maintenance" in text(admin_client, page_of(slot))
    assert "upgrade" not in text(admin_client, page_of(slot))


def test_the_page_of_a_run_says_when_it_is_judged(admin_client, project):
    factories.MaintenanceWindowFactory(project=project)
    row = factories.MonitorEnvironmentFactory(monitor__project=project)
    run = factories.CheckInFactory(monitor_environment=row, status="in_progress", timeout_at=NOW + HOUR / 2)
    assert "2026-01-05 11:00" in text(admin_client, page_of(run))


def test_a_rule_that_cannot_be_read_is_shown_as_such(admin_client, project):
    factories.MaintenanceWindowFactory(project=project, crontab="0 3 * * *", timezone="Mars/Olympus")
    assert "cannot be read" in text(admin_client, LIST)


def test_tags_that_are_edited_are_remembered(admin_client, project):
    monitor = factories.MonitorFactory(project=project, tags=["night"])
    held = admin_client.get(page_of(monitor)).context["adminform"].form.initial
    data = {name: "" if value is None else value for name, value in held.items() if value is not False}
    admin_client.post(page_of(monitor), data | {"tags": "day", "is_config_locked": "unknown"})
    monitor.refresh_from_db()
    until = datetime(2026, 1, 5, 10, 1, tzinfo=UTC)
    assert (monitor.tags, monitor.former_tags) == (["day"], [[until.isoformat(), ["night"]]])


# --- the audit log ----------------------------------------------------------------------------------------------------


def test_planning_editing_and_ending_are_recorded(admin_client, project, clock):
    admin_client.post(ADD, typed(project, timezone="UTC"))
    window = MaintenanceWindow.objects.get()
    clock[0] = NOW + timedelta(minutes=150)
    admin_client.post(page_of(window), typed(project, timezone="UTC", ends="2026-01-05 15:00"))
    admin_client.post(LIST, {"action": "end_now", "_selected_action": [MaintenanceWindow.objects.latest("id").pk]})

    entries = AuditEntry.objects.order_by("id")
    assert [entry.action for entry in entries] == ["planned", "ended", "planned", "removed"]
    assert {(entry.kind, entry.object_name, entry.actor_name) for entry in entries} == {
        ("maintenance window", "upgrade", "admin")
    }
    assert entries[0].changes["ends_at"] == [None, "2026-01-05T14:00:00+00:00"]
