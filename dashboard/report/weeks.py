"""When a weekly report is due, and which days it is about (pure)."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

DAY, WEEK = timedelta(days=1), timedelta(days=7)


class Plan(msgspec.Struct, frozen=True):
    """At which hour of which weekday (Monday is 0) a report is wanted, and the day of the newest one."""

    weekday: int
    hour: int
    timezone: str
    last_day: date | None = None


class Week(msgspec.Struct, frozen=True):
    """The seven days before `day`, in UTC from `starts_at` up to `ends_at`, and when their report is due."""

    day: date
    starts_at: datetime
    ends_at: datetime
    due_at: datetime


def newest_week(plan: Plan, *, now: datetime) -> Week:
    """Return the newest week whose report is due. After an outage of a month it is one, not four.

    >>> plan = Plan(weekday=0, hour=8, timezone="Europe/Vienna")
    >>> newest_week(plan, now=datetime(2026, 1, 5, 6, 59, tzinfo=UTC)).day
    datetime.date(2025, 12, 29)
    >>> newest_week(plan, now=datetime(2026, 1, 5, 7, tzinfo=UTC)).day
    datetime.date(2026, 1, 5)
    """
    zone = ZoneInfo(plan.timezone)
    today = now.astimezone(zone).date()
    day = today - DAY * ((today.weekday() - plan.weekday) % 7)
    if _instant(day, plan.hour, zone) > now:
        day -= WEEK
    return Week(day, _instant(day - WEEK, 0, zone), _instant(day, 0, zone), _instant(day, plan.hour, zone))


def due_week(plan: Plan, *, now: datetime) -> Week | None:
    """Return the week to report about now; None if its report exists. There is one report in a calendar week."""
    week = newest_week(plan, now=now)
    if plan.last_day is None:
        return week
    return week if _calendar_week(week.day) > _calendar_week(plan.last_day) else None


def _calendar_week(day: date) -> tuple[int, int]:
    return day.isocalendar()[:2]


def _instant(day: date, hour: int, zone: ZoneInfo) -> datetime:
    """Return when the wall clock shows the hour; in the hour that is skipped in spring, when it would have."""
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
