"""Monitors are snoozed in the list and on their pages."""

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.admin import snoozing
from tests.factories import NOW, MonitorFactory

pytestmark = pytest.mark.django_db
MONITORS = "/admin/monitors/monitor/"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(snoozing, "utcnow", lambda: NOW)


def snoozes(client, monitor, until):
    page = client.post(f"{MONITORS}{monitor.pk}/snooze/", {"until": until}, follow=True)
    monitor.refresh_from_db()
    return page


def test_the_form_takes_an_instant_in_the_zone_of_the_monitor(admin_client):
    monitor = MonitorFactory(timezone="Europe/Berlin")
    page = snoozes(admin_client, monitor, "2026-01-06T08:00").content.decode()
    assert monitor.snoozed_until == datetime(2026, 1, 6, 7, 0, tzinfo=UTC)
    assert "Snoozed 1 monitor." in page


def test_an_empty_field_ends_it(admin_client):
    monitor = MonitorFactory(snoozed_until=NOW + timedelta(hours=1))
    snoozes(admin_client, monitor, "")
    assert monitor.snoozed_until is None


@pytest.mark.parametrize(
    ("until", "problem"),
    [
        ("soon", "is no date and time"),
        ("2027-01-01T00:00", "next 30 days"),
        ("0001-01-01T00:00+14:00", "is no date and time"),
        ("9999-12-31T23:59-12:00", "is no date and time"),
    ],
)
def test_what_cannot_be_is_refused(admin_client, until, problem):
    monitor = MonitorFactory()
    assert problem in snoozes(admin_client, monitor, until).content.decode()
    assert monitor.snoozed_until is None


@pytest.mark.parametrize(
    ("action", "length"),
    [("snooze_an_hour", timedelta(hours=1)), ("snooze_a_day", timedelta(days=1)), ("snooze_a_week", timedelta(days=7))],
)
def test_selected_monitors_are_snoozed_for_a_while(admin_client, action, length):
    monitor = MonitorFactory()
    admin_client.post(MONITORS, {"action": action, "_selected_action": [monitor.pk]})
    monitor.refresh_from_db()
    assert monitor.snoozed_until == NOW + length
    assert ">snoozed<" in admin_client.get(MONITORS).content.decode().replace("\n", "")
    admin_client.post(MONITORS, {"action": "end_snooze", "_selected_action": [monitor.pk]})
    monitor.refresh_from_db()
    assert monitor.snoozed_until is None


def test_who_may_only_look_snoozes_nothing(staff_client):
    monitor = MonitorFactory()
    assert "snooze_form" not in staff_client.get(f"{MONITORS}{monitor.pk}/change/").content.decode()
    assert snoozes(staff_client, monitor, "2026-01-06T08:00").status_code == 403
    assert monitor.snoozed_until is None


def test_opening_its_address_changes_nothing(admin_client):
    assert admin_client.get(f"{MONITORS}{MonitorFactory().pk}/snooze/").status_code == 405
