"""Finding the times of a crontab costs a bounded number of steps, whatever somebody wrote (D34)."""

import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from monitors import crontab as crontab_module
from monitors import schedule as schedule_module
from monitors.crontab import HORIZON, next_instant, previous_instant
from monitors.schedule import (
    Schedule,
    ScheduleError,
    ScheduleType,
    next_slot,
    next_slots,
    previous_slot,
    slots_between,
)

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
STEPS_MAX = 6_000
"""Lines of Python for one time, from a text never seen before. A line takes a tenth of a microsecond."""

NEVER = [
    ("* 1-2 25-31 3 */7", "Antarctica/Troll"),
    ("* 2 8-14 3 */7", "America/New_York"),
    ("* 2 * 3 SUN#2", "America/New_York"),
    ("*/59 1-2 25-31 3 */7", "Antarctica/Troll"),
    ("* 2 25-31 3 */7", "Europe/Vienna"),
    ("*/30 2 8-14 3 */7", "America/New_York"),
    ("* 2 25-31 3 */7", "Antarctica/Troll"),
    ("* 2 L 3 */7", "Europe/Vienna"),
    ("* 1 25-31 3 */7", "Antarctica/Troll"),
    ("* 2 L 3 */7", "Antarctica/Troll"),
]
"""Crontabs whose every time lies in the gap of a clock change that comes each year, or so often that it nearly does."""

SPARSE = [
    "* 2 8-14 3 */7",
    "* 0-3 * 3 SUN#2",
    "*/59 1-2 25-31 3 */7",
    "* 0 * 10 SUN#1",
    "* 23 * 4 FRI#4",
    "* 2 * 9,10 SUN#5",
    "*/30 0,2 L * */7",
    "0 0 29 2 */7",
    "59 23 31 12 *",
    "30 2 * 2 MON#5",
]


def steps(function, *arguments):
    """How many lines of Python a call runs through, and what it returns."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = function(*arguments)
    finally:
        sys.settrace(before)
    return count, result


@pytest.mark.parametrize(("text", "timezone"), NEVER)
def test_d34_the_worst_crontabs_that_were_sent_cost_a_bounded_number_of_steps(text, timezone):
    for search in (next_instant, previous_instant):
        crontab_module._compiled.cache_clear()
        count, _ = steps(search, text, ZoneInfo(timezone), NOW)
        assert count <= STEPS_MAX


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("text", SPARSE)
def test_d34_sparse_crontabs_cost_a_bounded_number_of_steps_in_any_zone(text, every):
    for timezone in sorted(zoneinfo.available_timezones())[::every]:
        for search in (next_instant, previous_instant):
            crontab_module._compiled.cache_clear()
            count, slot = steps(search, text, ZoneInfo(timezone), NOW)
            assert count <= STEPS_MAX
            assert slot is None or abs(slot - NOW) <= HORIZON + timedelta(days=31)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("text", SPARSE)
def test_d34_a_sparse_crontab_in_any_zone_has_the_times_that_reading_the_clock_gives(text, every):
    """Each time matches the wall clock, and none lies between; where the clock leaves all out, there is none."""
    minute = text.split()[0]
    for timezone in sorted(zoneinfo.available_timezones())[::every]:
        zone = ZoneInfo(timezone)
        slot = next_instant(text, zone, NOW)
        walls = iter(CronSim(text, NOW.astimezone(zone).replace(tzinfo=None)))
        wall = next(walls)
        while minute.startswith("*") and not exists(wall, zone) and wall.year < 2037:
            wall = next(walls)
        if slot is None:
            assert wall - NOW.replace(tzinfo=None) > HORIZON - timedelta(days=1)
        else:
            assert slot.astimezone(zone).replace(tzinfo=None) == wall or not exists(wall, zone)
            assert previous_instant(text, zone, slot + timedelta(minutes=1)) == slot


def exists(wall, zone):
    return wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall


crontab_texts = st.tuples(
    st.sampled_from(["*", "0", "59", "*/7", "3-50/9", "1,2,30"]),
    st.sampled_from(["*", "0", "23", "*/5", "22-23", "1,13"]),
    st.sampled_from(["*", "1", "31", "L", "LW", "*/9", "29,30", "8-14"]),
    st.sampled_from(["*", "2", "feb-apr", "*/5", "12"]),
    st.sampled_from(["*", "0", "7", "mon-fri", "*/2", "5L", "SUN#2", "1#5,3L"]),
).map(" ".join)


@settings(deadline=None)
@given(
    crontab_texts,
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - CronSim reads the wall clock
)
def test_the_times_are_those_of_cronsim(text, wall):
    wall = wall.replace(second=0, microsecond=0)
    try:
        Schedule.from_crontab(text)
    except ScheduleError:
        reject()
    for search, is_reverse in ((next_instant, False), (previous_instant, True)):
        found = search(text, ZoneInfo("UTC"), wall.replace(tzinfo=UTC))
        expected = next(CronSim(text, wall, reverse=is_reverse))
        if found is None:
            assert abs(expected - wall) > HORIZON
        else:
            assert found.replace(tzinfo=None) == expected


@pytest.mark.parametrize(("text", "timezone"), NEVER)
def test_d34_a_crontab_without_a_time_in_ten_years_is_refused_with_that_reason(text, timezone):
    slot = next_instant(text, ZoneInfo(timezone), NOW)
    if slot is not None:  # The change comes a week later in some year: then there is a time.
        assert Schedule.from_crontab(text, timezone, now=NOW).crontab == text
        return
    with pytest.raises(ScheduleError, match=r"has no time in the next ten years in the zone ") as caught:
        Schedule.from_crontab(text, timezone, now=NOW)
    assert (caught.value.field, caught.value.value) == ("crontab", text)
    assert timezone in str(caught.value)


def test_d34_the_same_crontab_is_taken_where_the_clock_does_not_change():
    assert Schedule.from_crontab("* 2 8-14 3 */7", "UTC", now=NOW).timezone == "UTC"


def test_d34_a_failure_is_remembered_as_an_answer_is():
    schedule = Schedule(ScheduleType.CRONTAB, "* 2 8-14 3 */7", None, None, "America/New_York")
    at = datetime(2026, 3, 5, 11, 7, tzinfo=UTC)
    assert next_slot(schedule, at, None) is None
    before = schedule_module._next_crontab_slot.cache_info()
    assert next_slot(schedule, at + timedelta(seconds=59), None) is None
    after = schedule_module._next_crontab_slot.cache_info()
    assert (after.hits - before.hits, after.misses - before.misses) == (1, 0)


def test_d34_a_text_that_is_no_crontab_is_remembered_as_one_that_is(monkeypatch):
    read: list[str] = []
    parse = crontab_module._parse

    def counted(text: str) -> str:
        read.append(text)
        return parse(text)

    monkeypatch.setattr(crontab_module, "_parse", counted)
    for _ in range(3):
        with pytest.raises(ScheduleError, match="0 0 31 2 1,2,99"):
            Schedule.from_crontab("0 0 31 2 1,2,99")
    assert len(read) == 1


def test_d34_a_time_later_than_ten_years_away_is_none_and_no_exception():
    leap_sundays = Schedule.from_crontab("0 0 29 2 */7", now=NOW)
    last = datetime(2032, 2, 29, tzinfo=UTC)
    assert next_slot(leap_sundays, NOW, None) == last
    assert next_slot(leap_sundays, last, None) is None  # 2060
    assert previous_slot(leap_sundays, last, None) is None  # 2004
    assert next_slots(leap_sundays, NOW, None, 10) == [last]
    assert slots_between(leap_sundays, NOW, last + 100 * HORIZON / 10, None) == [last]


def test_d34_there_are_no_times_after_the_last_year():
    end = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert next_slot(Schedule.from_crontab("* * * * *", "America/New_York"), end, None) is None
