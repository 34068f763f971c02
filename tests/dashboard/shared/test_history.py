"""The last 90 days of a monitor."""

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.shared.history import DAY, DAYS, first_day, history

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
START = first_day(NOW)


def test_the_last_day_contains_now():
    assert START + (DAYS - 1) * DAY <= NOW < START + DAYS * DAY


def test_days_before_the_monitor_are_empty_and_days_with_an_incident_stand_out():
    found = history({88: 60.0}, begins_at=START + 87 * DAY, now=NOW)
    assert found.cells == ("",) * 87 + ("ok", "error", "ok")
    assert found.failed_days == 1


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [({}, "100.00 %"), ({89: 0.5}, "99.99 %"), ({89: 21_600.0}, "50.00 %"), ({88: 99_999.0, 89: 9_999.0}, "0.00 %")],
)
def test_the_share_is_rounded_down(seconds, percent):
    assert history(seconds, begins_at=NOW - timedelta(hours=12), now=NOW).percent == percent


def test_what_never_reported_has_no_history():
    found = history({}, begins_at=None, now=NOW)
    assert (set(found.cells), found.percent) == ({""}, "")
