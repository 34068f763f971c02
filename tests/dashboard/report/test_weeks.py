"""A report a week, whatever was down meanwhile, on the days of the project's zone."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dashboard.report.weeks import DAY, WEEK, Plan, due_week, newest_week

BERLIN = Plan(weekday=0, hour=8, timezone="Europe/Berlin")
MONDAY = date(2026, 1, 5)


def utc(year, month, day, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def with_last(day, weekday=0):
    return Plan(weekday, 8, "Europe/Berlin", day)


def test_it_is_due_at_the_hour_of_the_zone_and_is_about_the_seven_days_before():
    assert due_week(with_last(MONDAY - WEEK), now=utc(2026, 1, 5, 6, 59)) is None
    week = due_week(with_last(MONDAY - WEEK), now=utc(2026, 1, 5, 7))
    assert week is not None
    assert (week.day, week.starts_at, week.ends_at) == (MONDAY, utc(2025, 12, 28, 23), utc(2026, 1, 4, 23))


def test_there_is_one_only():
    assert due_week(with_last(MONDAY), now=utc(2026, 1, 11, 23)) is None
    assert due_week(with_last(MONDAY), now=utc(2026, 1, 12, 7)) is not None


def test_after_a_month_without_a_worker_the_newest_week_is_reported_and_no_other():
    week = due_week(with_last(MONDAY), now=utc(2026, 2, 5, 12))
    assert week is not None
    assert week.day == date(2026, 2, 2)


def test_who_moves_the_weekday_gets_no_second_report_in_the_same_calendar_week():
    assert due_week(with_last(MONDAY, weekday=3), now=utc(2026, 1, 9)) is None
    moved = due_week(with_last(MONDAY, weekday=3), now=utc(2026, 1, 16))
    assert moved is not None
    assert moved.day == date(2026, 1, 15)


def test_a_week_with_a_change_of_clocks_has_its_days():
    spring = newest_week(BERLIN, now=utc(2027, 3, 29, 12))
    autumn = newest_week(BERLIN, now=utc(2027, 11, 1, 12))
    assert spring.ends_at - spring.starts_at == timedelta(hours=167)
    assert autumn.ends_at - autumn.starts_at == timedelta(hours=169)


def test_an_hour_that_is_skipped_in_spring_is_due_all_the_same():
    sunday = Plan(weekday=6, hour=2, timezone="Europe/Berlin")
    assert newest_week(sunday, now=utc(2027, 3, 28, 1)).due_at == utc(2027, 3, 28, 1)


@given(
    weekday=st.integers(0, 6),
    hour=st.integers(0, 23),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_newest_week_is_over_and_the_next_one_is_not_due(weekday, hour, zone, now):
    plan = Plan(weekday, hour, zone)
    week = newest_week(plan, now=now)

    assert week.starts_at < week.ends_at <= week.due_at <= now
    assert now - week.due_at <= WEEK + 3 * timedelta(hours=1)
    assert week.day.weekday() == weekday
    assert newest_week(plan, now=week.due_at).day == week.day
    assert newest_week(plan, now=week.due_at - timedelta(seconds=1)).day == week.day - 7 * DAY
