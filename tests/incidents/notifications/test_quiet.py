"""Quiet hours are judged by the local time of an instant, whatever the clocks do."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.quiet import QuietHours

NIGHT = QuietHours(time(22), time(7), "Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "is_quiet"),
    [
        ("2027-10-31 00:30", True),  # the first 02:30
        ("2027-10-31 01:30", True),  # the second 02:30
        ("2027-10-31 05:59", True),
        ("2027-10-31 06:00", False),
        ("2027-03-28 04:59", True),
        ("2027-03-28 05:00", False),
        ("2027-01-05 20:59", False),
        ("2027-01-05 21:00", True),
    ],
)
def test_an_instant_is_quiet_by_its_local_time(at: str, is_quiet: bool) -> None:
    assert NIGHT.cover(utc(at)) is is_quiet


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2027-03-27 23:00", "2027-03-28 05:00"),  # an hour less
        ("2027-10-30 22:00", "2027-10-31 06:00"),  # an hour more
        ("2027-01-05 21:00", "2027-01-06 06:00"),
        ("2027-01-06 05:59:59", "2027-01-06 06:00"),
    ],
)
def test_they_end_at_their_local_end(at: str, end: str) -> None:
    assert NIGHT.end_after(utc(at)) == utc(end)


def test_an_instant_that_is_not_quiet_has_no_end() -> None:
    assert NIGHT.end_after(utc("2027-01-05 12:00")) is None


def test_an_end_in_a_skipped_hour_is_the_end_of_that_hour() -> None:
    hours = QuietHours(time(22), time(2, 30), "Europe/Berlin")
    assert hours.end_after(utc("2027-03-28 00:30")) == utc("2027-03-28 01:00")


def test_hours_within_a_day() -> None:
    lunch = QuietHours(time(12), time(13, 30), "UTC")
    assert [lunch.cover(utc(f"2027-01-05 {at}")) for at in ("11:59", "12:00", "13:29", "13:30")] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_zone_that_is_not_known_here_is_utc() -> None:
    assert QuietHours(time(12), time(13), "Mars/Olympus").cover(utc("2027-01-05 12:30"))


@given(
    at=st.integers(0, 15 * 366 * 24 * 3600).map(lambda seconds: utc("2020-01-01") + timedelta(seconds=seconds)),
    begin=st.times().map(lambda at: at.replace(second=0, microsecond=0)),
    end=st.times().map(lambda at: at.replace(second=0, microsecond=0)),
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_quiet_always_ends_and_is_over_then(at: datetime, begin: time, end: time, zone: str) -> None:
    hours = QuietHours(begin, end, zone)
    if begin == end or not hours.cover(at):
        return
    over = hours.end_after(at)
    assert over is not None
    assert at < over <= at + timedelta(hours=26)
    assert not hours.cover(over)
    assert hours.cover(over - timedelta(minutes=1)) or over - timedelta(minutes=1) < at
