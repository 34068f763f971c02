"""When a job is expected, as tables of exact instants. Expected instants carry the offset that the wall clock shows."""

import locale
import pickle
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from monitors import schedule as schedule_module
from monitors.describing import describe
from monitors.schedule import (
    Anchor,
    IntervalUnit,
    Schedule,
    ScheduleError,
    ScheduleType,
    anchor_for,
    next_slots,
    parse_crontab,
    serves_early,
    slots_between,
)
from tests.slots import first_slot_at_or_after, next_slot, previous_slot

at = datetime.fromisoformat
FIVE_SECONDS = timedelta(seconds=5)
HOURLY = Schedule.from_crontab("0 * * * *")
NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
SAO_PAULO, KATHMANDU = "America/Sao_Paulo", "Asia/Kathmandu"


def every(count, unit, timezone="UTC"):
    return Schedule.from_interval(count, unit, timezone)


def anchored(schedule, text):
    anchor = anchor_for(schedule, at(text))
    assert anchor is not None
    return anchor


def on_the_wall(slots, timezone):
    return [slot.astimezone(ZoneInfo(timezone)).isoformat(timespec="minutes") for slot in slots]


# --- Crontabs: the examples of the behaviour we keep, and boundaries -------------------------------------------------


@pytest.mark.parametrize(
    ("crontab", "after", "expected"),
    [
        pytest.param("0 * * * *", "2026-01-05T05:30:00Z", "2026-01-05T06:00:00Z", id="between two slots"),
        pytest.param("0 * * * *", "2026-01-05T05:59:59.999999Z", "2026-01-05T06:00:00Z", id="just before a slot"),
        pytest.param("0 * * * *", "2026-01-05T06:00:00Z", "2026-01-05T07:00:00Z", id="at a slot"),
        pytest.param("0 * * * *", "2026-01-05T06:00:00.000001Z", "2026-01-05T07:00:00Z", id="just after a slot"),
        pytest.param("* * * * *", "2026-01-05T01:10:20Z", "2026-01-05T01:11:00Z", id="every minute, within a minute"),
        pytest.param("* * * * *", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z", id="over the end of the year"),
        pytest.param("0 0 1-7 * MON", "2026-01-07T00:00:00Z", "2026-01-12T00:00:00Z", id="two day fields: either"),
        pytest.param("0 0 */2 * MON", "2026-01-06T00:00:00Z", "2026-01-19T00:00:00Z", id="two with a star: both"),
        pytest.param("0 0 * * 7", "2026-01-05T00:00:00Z", "2026-01-11T00:00:00Z", id="day of week 7 is Sunday"),
        pytest.param("0 0 * * 0", "2026-01-05T00:00:00Z", "2026-01-11T00:00:00Z", id="day of week 0 is Sunday"),
        pytest.param("0 0 1 jan sun-sat", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z", id="names"),
        pytest.param("0 0 L * *", "2026-02-05T00:00:00Z", "2026-02-28T00:00:00Z", id="last day of the month"),
        pytest.param("0 0 29 2 *", "2026-01-05T00:00:00Z", "2028-02-29T00:00:00Z", id="leap day"),
    ],
)
def test_the_next_slot_of_a_crontab_is_the_first_one_strictly_later(crontab, after, expected):
    assert next_slot(Schedule.from_crontab(crontab), at(after), None) == at(expected)


@pytest.mark.parametrize(
    ("crontab", "before", "expected"),
    [
        pytest.param("30 * * * *", "2026-01-05T05:30:00Z", "2026-01-05T04:30:00Z", id="at a slot"),
        pytest.param("30 * * * *", "2026-01-05T05:29:59.999999Z", "2026-01-05T04:30:00Z", id="just before a slot"),
        pytest.param("30 * * * *", "2026-01-05T05:30:00.000001Z", "2026-01-05T05:30:00Z", id="just after a slot"),
        pytest.param("30 * * * *", "2026-01-05T05:30:01Z", "2026-01-05T05:30:00Z", id="a second after a slot"),
        pytest.param("* * * * *", "2026-01-01T00:00:00Z", "2025-12-31T23:59:00Z", id="over the end of the year"),
        pytest.param("0 0 29 2 *", "2028-02-29T00:00:00Z", "2024-02-29T00:00:00Z", id="leap day"),
    ],
)
def test_the_previous_slot_of_a_crontab_is_the_last_one_strictly_earlier(crontab, before, expected):
    assert previous_slot(Schedule.from_crontab(crontab), at(before), None) == at(expected)


def test_previous_within_one_minute_is_told_apart_although_next_is_not():
    slot, half_past = at("2026-01-05T10:00:00Z"), at("2026-01-05T10:00:30Z")
    assert next_slot(HOURLY, slot, None) == next_slot(HOURLY, half_past, None) == at("2026-01-05T11:00:00Z")
    assert previous_slot(HOURLY, slot, None) == at("2026-01-05T09:00:00Z")
    assert previous_slot(HOURLY, half_past, None) == slot


def test_a_crontab_ignores_an_anchor():
    anchor = Anchor(at("2020-01-01T00:17:00Z"), 1)
    assert next_slot(HOURLY, at("2026-01-05T05:30:00Z"), anchor) == at("2026-01-05T06:00:00Z")
    assert previous_slot(HOURLY, at("2026-01-05T05:30:00Z"), anchor) == at("2026-01-05T05:00:00Z")


# --- Crontabs on days when clocks change -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crontab", "timezone", "after", "expected"),
    [
        pytest.param(
            "* * * * *",
            NEW_YORK,
            "2026-11-01T01:58:00-04:00",
            ["2026-11-01T01:59-04:00", "2026-11-01T01:00-05:00", "2026-11-01T01:01-05:00"],
            id="New York, autumn: one real minute after 01:59 the clock shows 01:00 again",
        ),
        pytest.param(
            "* * * * *",
            NEW_YORK,
            "2026-03-08T01:58:00-05:00",
            ["2026-03-08T01:59-05:00", "2026-03-08T03:00-04:00", "2026-03-08T03:01-04:00"],
            id="New York, spring: one real minute after 01:59 the clock shows 03:00",
        ),
        pytest.param(
            "0 12 * * *",
            NEW_YORK,
            "2026-03-07T00:00:00-05:00",
            ["2026-03-07T12:00-05:00", "2026-03-08T12:00-04:00", "2026-03-09T12:00-04:00"],
            id="New York, spring: noon stays local noon",
        ),
        pytest.param(
            "0 12 * * *",
            NEW_YORK,
            "2026-10-31T00:00:00-04:00",
            ["2026-10-31T12:00-04:00", "2026-11-01T12:00-05:00", "2026-11-02T12:00-05:00"],
            id="New York, autumn: noon stays local noon",
        ),
        pytest.param(
            "30 2 * * *",
            NEW_YORK,
            "2026-03-07T12:00:00-05:00",
            ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"],
            id="New York, spring: a fixed time in the gap runs when the gap ends",
        ),
        pytest.param(
            "0,20,40 2,3 * * *",
            NEW_YORK,
            "2026-03-08T00:00:00-05:00",
            ["2026-03-08T03:00-04:00", "2026-03-08T03:20-04:00", "2026-03-08T03:40-04:00", "2026-03-09T02:00-04:00"],
            id="New York, spring: several fixed times in the gap are one slot",
        ),
        pytest.param(
            "30 1 * * *",
            NEW_YORK,
            "2026-11-01T00:00:00-04:00",
            ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"],
            id="New York, autumn: a fixed time in the repeated hour runs in the first pass only",
        ),
        pytest.param(
            "30 1 * * *",
            NEW_YORK,
            "2026-11-01T01:10:00-05:00",
            ["2026-11-02T01:30-05:00"],
            id="New York, autumn: asked in the second pass, a fixed time has been",
        ),
        pytest.param(
            "*/30 1 * * *",
            NEW_YORK,
            "2026-11-01T00:00:00-04:00",
            [
                "2026-11-01T01:00-04:00",
                "2026-11-01T01:30-04:00",
                "2026-11-01T01:00-05:00",
                "2026-11-01T01:30-05:00",
                "2026-11-02T01:00-05:00",
            ],
            id="New York, autumn: a star in the minute field runs in both passes",
        ),
        pytest.param(
            "*/30 2 * * *",
            NEW_YORK,
            "2026-03-07T12:00:00-05:00",
            ["2026-03-09T02:00-04:00"],
            id="New York, spring: a star in the minute field skips the gap",
        ),
        pytest.param(
            "15 */2 * * *",
            NEW_YORK,
            "2026-03-08T00:00:00-05:00",
            ["2026-03-08T00:15-05:00", "2026-03-08T04:15-04:00"],
            id="New York, spring: a star in the hour field skips the gap",
        ),
        pytest.param(
            "15 * * * *",
            NEW_YORK,
            "2026-11-01T00:30:00-04:00",
            ["2026-11-01T01:15-04:00", "2026-11-01T01:15-05:00", "2026-11-01T02:15-05:00"],
            id="New York, autumn: hourly runs in both passes",
        ),
        pytest.param(
            "30 1 * * *",
            LONDON,
            "2026-03-28T12:00:00+00:00",
            ["2026-03-29T02:00+01:00", "2026-03-30T01:30+01:00"],
            id="London, spring",
        ),
        pytest.param(
            "*/20 1 * * SUN",
            LONDON,
            "2026-10-25T01:20:00+01:00",
            ["2026-10-25T01:40+01:00", "2026-10-25T01:00+00:00", "2026-10-25T01:20+00:00", "2026-10-25T01:40+00:00"],
            id="London, autumn",
        ),
        pytest.param(
            "30 * * * *",
            LORD_HOWE,
            "2026-04-05T00:30:00+11:00",
            ["2026-04-05T01:30+11:00", "2026-04-05T01:30+10:30", "2026-04-05T02:30+10:30"],
            id="Lord Howe, autumn: the half hour from 01:30 is repeated",
        ),
        pytest.param(
            "*/10 2 * * *",
            LORD_HOWE,
            "2026-10-03T12:00:00+10:30",
            ["2026-10-04T02:30+11:00", "2026-10-04T02:40+11:00", "2026-10-04T02:50+11:00", "2026-10-05T02:00+11:00"],
            id="Lord Howe, spring: the half hour from 02:00 does not exist, the other half does",
        ),
        pytest.param(
            "15 2 * * *",
            LORD_HOWE,
            "2026-10-03T12:00:00+10:30",
            ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"],
            id="Lord Howe, spring: a fixed time in the gap",
        ),
        pytest.param(
            "0 0 * * *",
            SAO_PAULO,
            "2018-11-03T00:00:00-03:00",
            ["2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"],
            id="Sao Paulo, spring 2018: there was no midnight",
        ),
        pytest.param(
            "*/15 0-1 * * SUN",
            SAO_PAULO,
            "2018-11-03T00:00:00-03:00",
            ["2018-11-04T01:00-02:00", "2018-11-04T01:15-02:00"],
            id="Sao Paulo, spring 2018: matching begins after the gap",
        ),
        pytest.param(
            "30 23 * * *",
            SAO_PAULO,
            "2018-02-17T23:00:00-02:00",
            ["2018-02-17T23:30-02:00", "2018-02-18T23:30-03:00"],
            id="Sao Paulo, autumn 2018: the last hour of Saturday ran twice",
        ),
        pytest.param(
            "30 23 * * *",
            SAO_PAULO,
            "2019-11-02T23:00:00-03:00",
            ["2019-11-02T23:30-03:00", "2019-11-03T23:30-03:00"],
            id="Sao Paulo, 2019: no clock changes any more",
        ),
        pytest.param(
            "0 6 * * *",
            KATHMANDU,
            "2026-03-08T00:00:00Z",
            ["2026-03-08T06:00+05:45", "2026-03-09T06:00+05:45"],
            id="Kathmandu, 45 minutes off the hour",
        ),
        pytest.param(
            "0 0 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00:00-10:00",
            ["2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00"],
            id="Samoa, 2011: a day that does not exist is one slot with the next",
        ),
    ],
)
def test_a_crontab_follows_the_wall_clock_of_its_zone_in_both_directions(crontab, timezone, after, expected):
    schedule = Schedule.from_crontab(crontab, timezone)
    slots = next_slots(schedule, at(after), None, len(expected))
    assert on_the_wall(slots, timezone) == expected
    backward = [slots[-1]]
    while len(backward) < len(slots):
        backward.append(previous_slot(schedule, backward[-1], None))
    assert backward[::-1] == slots


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("2026-11-01T00:55:00-04:00", "2026-11-01T00:50:00-04:00"),
        ("2026-11-01T01:25:00-04:00", "2026-11-01T01:20:00-04:00"),
        ("2026-11-01T01:00:00-05:00", "2026-11-01T01:50:00-04:00"),
        ("2026-11-01T01:10:00-05:00", "2026-11-01T01:00:00-05:00"),
        ("2026-11-01T02:00:00-05:00", "2026-11-01T01:50:00-05:00"),
    ],
)
def test_looking_back_from_within_and_around_the_repeated_hour(before, expected):
    schedule = Schedule.from_crontab("*/10 * * * *", NEW_YORK)
    assert previous_slot(schedule, at(before), None) == at(expected)


def test_looking_back_from_the_repeated_hour_finds_the_first_pass_of_a_fixed_time():
    schedule = Schedule.from_crontab("30 1 * * *", NEW_YORK)
    for before in ("2026-11-01T01:10:00-05:00", "2026-11-01T01:30:00-05:00", "2026-11-01T01:50:00-05:00"):
        assert previous_slot(schedule, at(before), None) == at("2026-11-01T01:30:00-04:00")


def test_looking_back_over_the_gap_finds_its_end_for_a_fixed_time():
    schedule = Schedule.from_crontab("30 2 * * *", NEW_YORK)
    assert previous_slot(schedule, at("2026-03-08T03:00:00-04:00"), None) == at("2026-03-07T02:30:00-05:00")
    assert previous_slot(schedule, at("2026-03-08T03:00:01-04:00"), None) == at("2026-03-08T03:00:00-04:00")


# --- Intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "unit", "start", "expected"),
    [
        pytest.param(2, "hour", "2026-01-05T05:42:50Z", "2026-01-05T07:42:00Z", id="two hours"),
        pytest.param(1, "minute", "2026-01-05T01:10:20Z", "2026-01-05T01:11:00Z", id="a minute"),
        pytest.param(1, "month", "2026-01-01T01:10:20Z", "2026-02-01T01:10:00Z", id="a month"),
        pytest.param(3, "day", "2026-02-27T01:10:20Z", "2026-03-02T01:10:00Z", id="three days"),
        pytest.param(2, "week", "2026-12-20T01:10:20Z", "2027-01-03T01:10:00Z", id="two weeks"),
        pytest.param(13, "month", "2026-12-01T01:10:20Z", "2028-01-01T01:10:00Z", id="thirteen months"),
        pytest.param(1, "year", "2026-05-01T01:10:20Z", "2027-05-01T01:10:00Z", id="a year"),
    ],
)
def test_an_interval_is_counted_from_its_anchor_cut_to_the_minute(count, unit, start, expected):
    schedule = every(count, unit)
    assert next_slot(schedule, at(start), anchored(schedule, start)) == at(expected)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param("2026-01-05T05:29:59.999999Z", "2026-01-05T03:30:00Z", id="just before a slot"),
        pytest.param("2026-01-05T05:30:00Z", "2026-01-05T03:30:00Z", id="at a slot"),
        pytest.param("2026-01-05T05:30:00.000001Z", "2026-01-05T05:30:00Z", id="just after a slot"),
        pytest.param("2026-01-05T05:35:00Z", "2026-01-05T05:30:00Z", id="between slots"),
        pytest.param("2026-01-05T01:30:00Z", "2026-01-04T23:30:00Z", id="the series has no beginning"),
    ],
)
def test_the_previous_slot_of_a_two_hour_interval_from_half_past_one(before, expected):
    schedule = every(2, "hour")
    assert previous_slot(schedule, at(before), anchored(schedule, "2026-01-05T01:30:00Z")) == at(expected)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param("2026-01-05T05:29:59.999999Z", "2026-01-05T05:30:00Z", id="just before a slot"),
        pytest.param("2026-01-05T05:30:00Z", "2026-01-05T07:30:00Z", id="at a slot"),
        pytest.param("2026-01-05T05:30:00.000001Z", "2026-01-05T07:30:00Z", id="just after a slot"),
        pytest.param("2026-01-04T23:29:00Z", "2026-01-04T23:30:00Z", id="before the anchor"),
    ],
)
def test_the_next_slot_of_a_two_hour_interval_from_half_past_one(after, expected):
    schedule = every(2, "hour")
    assert next_slot(schedule, at(after), anchored(schedule, "2026-01-05T01:30:00Z")) == at(expected)


@pytest.mark.parametrize(
    ("count", "unit", "timezone", "start", "expected"),
    [
        pytest.param(
            1,
            "hour",
            NEW_YORK,
            "2026-11-01T00:30:00-04:00",
            ["2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00", "2026-11-01T02:30-05:00"],
            id="hourly over autumn: no double hour",
        ),
        pytest.param(
            1,
            "hour",
            NEW_YORK,
            "2026-03-08T00:30:00-05:00",
            ["2026-03-08T01:30-05:00", "2026-03-08T03:30-04:00", "2026-03-08T04:30-04:00"],
            id="hourly over spring: no lost hour",
        ),
        pytest.param(
            20,
            "minute",
            LORD_HOWE,
            "2026-04-05T01:35:00+11:00",
            ["2026-04-05T01:55+11:00", "2026-04-05T01:45+10:30", "2026-04-05T02:05+10:30"],
            id="minutes over a half-hour change are elapsed time",
        ),
        pytest.param(
            1,
            "day",
            NEW_YORK,
            "2026-03-06T02:30:00-05:00",
            ["2026-03-07T02:30-05:00", "2026-03-08T03:30-04:00", "2026-03-09T02:30-04:00"],
            id="daily in the gap: shifted by the gap that day, back the day after",
        ),
        pytest.param(
            1,
            "day",
            NEW_YORK,
            "2026-10-31T01:30:00-04:00",
            ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"],
            id="daily in the repeated hour: its first pass",
        ),
        pytest.param(
            1,
            "day",
            NEW_YORK,
            "2026-11-01T01:30:00-05:00",
            ["2026-11-02T01:30-05:00", "2026-11-03T01:30-05:00"],
            id="daily from the second pass of the repeated hour",
        ),
        pytest.param(
            1,
            "day",
            LORD_HOWE,
            "2026-10-03T02:15:00+10:30",
            ["2026-10-04T02:45+11:00", "2026-10-05T02:15+11:00"],
            id="daily in a gap of half an hour",
        ),
        pytest.param(
            1,
            "week",
            LONDON,
            "2026-03-23T09:00:00+00:00",
            ["2026-03-30T09:00+01:00", "2026-04-06T09:00+01:00"],
            id="weekly keeps the local time",
        ),
        pytest.param(
            2,
            "week",
            LONDON,
            "2026-10-19T09:00:00+01:00",
            ["2026-11-02T09:00+00:00", "2026-11-16T09:00+00:00"],
            id="fortnightly keeps the local time",
        ),
        pytest.param(
            1,
            "month",
            NEW_YORK,
            "2026-01-31T23:30:00-05:00",
            ["2026-02-28T23:30-05:00", "2026-03-31T23:30-04:00", "2026-04-30T23:30-04:00", "2026-05-31T23:30-04:00"],
            id="monthly from the 31st: clamped, and back",
        ),
        pytest.param(
            1,
            "month",
            "UTC",
            "2028-01-30T06:00:00+00:00",
            ["2028-02-29T06:00+00:00", "2028-03-30T06:00+00:00"],
            id="monthly from the 30th in a leap year",
        ),
        pytest.param(
            5,
            "month",
            "UTC",
            "2026-09-30T06:00:00+00:00",
            ["2027-02-28T06:00+00:00", "2027-07-30T06:00+00:00", "2027-12-30T06:00+00:00"],
            id="every five months, over the end of a year",
        ),
        pytest.param(
            1,
            "month",
            SAO_PAULO,
            "2018-10-04T00:30:00-03:00",
            ["2018-11-04T01:30-02:00", "2018-12-04T00:30-02:00"],
            id="monthly in Sao Paulo's gap after midnight",
        ),
        pytest.param(
            1,
            "year",
            "UTC",
            "2024-02-29T12:00:00+00:00",
            [
                "2025-02-28T12:00+00:00",
                "2026-02-28T12:00+00:00",
                "2027-02-28T12:00+00:00",
                "2028-02-29T12:00+00:00",
            ],
            id="yearly from 29 February",
        ),
        pytest.param(
            1,
            "year",
            KATHMANDU,
            "2026-01-01T00:00:00+05:45",
            ["2027-01-01T00:00+05:45", "2028-01-01T00:00+05:45"],
            id="yearly in Kathmandu, where it is another year than in UTC",
        ),
        pytest.param(
            1,
            "day",
            "Pacific/Apia",
            "2011-12-29T10:00:00-10:00",
            ["2011-12-31T10:00+14:00", "2012-01-01T10:00+14:00"],
            id="daily in Samoa over the day that does not exist",
        ),
    ],
)
def test_d11_intervals_are_exact_in_both_directions(count, unit, timezone, start, expected):
    schedule = every(count, unit, timezone)
    anchor = anchored(schedule, start)
    slots = next_slots(schedule, at(start), anchor, len(expected))
    assert on_the_wall(slots, timezone) == expected
    backward = [slots[-1]]
    while len(backward) < len(slots):
        backward.append(previous_slot(schedule, backward[-1], anchor))
    assert backward[::-1] == slots


@pytest.mark.parametrize(
    ("unit", "next_one", "previous_one"),
    [
        ("minute", "6026-03-15T12:01:00Z", "6026-03-15T11:59:00Z"),
        ("hour", "6026-03-15T13:00:00Z", "6026-03-15T11:00:00Z"),
        ("day", "6026-03-16T12:00:00Z", "6026-03-14T12:00:00Z"),
        ("week", "6026-03-22T12:00:00Z", "6026-03-08T12:00:00Z"),
        ("month", "6026-04-15T12:00:00Z", "6026-02-15T12:00:00Z"),
        ("year", "6027-03-15T12:00:00Z", "6025-03-15T12:00:00Z"),
    ],
)
def test_d11_a_slot_four_thousand_years_away_costs_no_walk(unit, next_one, previous_one):
    schedule = every(1, unit)
    anchor = anchored(schedule, "2026-03-15T12:00:00Z")
    far = at("6026-03-15T12:00:00Z")
    assert far.weekday() == anchor.at.weekday()
    for ask, expected in ((next_slot, next_one), (previous_slot, previous_one)):
        calls: list[str] = []

        def count(frame, event, _, calls=calls):
            if event == "call" and frame.f_code.co_filename == schedule_module.__file__:
                calls.append(frame.f_code.co_name)

        sys.setprofile(count)
        try:
            slot = ask(schedule, far, anchor)
        finally:
            sys.setprofile(None)
        assert slot == at(expected)
        assert 5 < len(calls) < 25, calls


@pytest.mark.parametrize("unit", list(IntervalUnit))
def test_the_longest_interval_stays_inside_the_calendar(unit):
    longest = {"minute": 52_560_000, "hour": 876_000, "day": 36_500, "week": 5_200, "month": 1_200, "year": 100}[unit]
    schedule = every(longest, unit)
    anchor = anchored(schedule, "2026-03-01T00:00:00Z")
    assert next_slot(schedule, anchor.at, anchor).year in (2125, 2126)
    assert previous_slot(schedule, anchor.at, anchor).year in (1926,)


def test_an_interval_without_an_anchor_has_no_slots():
    for ask in (next_slot, previous_slot, first_slot_at_or_after):
        with pytest.raises(ValueError, match=r"^an interval has no slots without an anchor$"):
            ask(every(1, "hour"), at("2026-01-05T05:30:00Z"), None)


# --- Anchors ---------------------------------------------------------------------------------------------------------


def test_a_crontab_needs_no_anchor():
    assert anchor_for(HOURLY, at("2026-01-05T05:30:00Z")) is None


def test_an_anchor_is_cut_to_the_minute_and_keeps_the_local_day_of_month():
    anchor = anchor_for(every(1, "month", NEW_YORK), at("2026-02-01T03:04:59.999999Z"))
    assert anchor == Anchor(at("2026-02-01T03:04:00Z"), 31)
    assert anchor.at.tzinfo is UTC


@pytest.mark.parametrize(
    ("unit", "timezone", "served", "previous_day", "day"),
    [
        pytest.param("month", "UTC", "2026-02-28T06:00:00Z", 31, 31, id="February is too short for the 31st"),
        pytest.param("month", "UTC", "2026-04-30T06:00:00Z", 31, 31, id="April is too short for the 31st"),
        pytest.param("month", "UTC", "2028-02-29T06:00:00Z", 30, 30, id="a leap February is too short for the 30th"),
        pytest.param("month", "UTC", "2028-02-28T06:00:00Z", 31, 28, id="the 28th of a leap February is not its last"),
        pytest.param("month", "UTC", "2026-02-27T06:00:00Z", 31, 27, id="a day early is a new day of month"),
        pytest.param("month", "UTC", "2026-03-01T06:00:00Z", 31, 1, id="a day late is a new day of month"),
        pytest.param("month", "UTC", "2026-02-28T06:00:00Z", 28, 28, id="the 28th was meant"),
        pytest.param("month", "UTC", "2026-01-31T06:00:00Z", 28, 31, id="the series was moved to the 31st"),
        pytest.param("month", "UTC", "2026-02-28T06:00:00Z", None, 28, id="nothing known before"),
        pytest.param("month", NEW_YORK, "2026-03-01T02:00:00Z", 31, 31, id="the last day in the zone, not in UTC"),
        pytest.param("month", NEW_YORK, "2026-02-28T02:00:00Z", 31, 27, id="the last day in UTC, not in the zone"),
        pytest.param("year", "UTC", "2026-02-28T06:00:00Z", 29, 29, id="yearly on 29 February"),
        pytest.param("day", "UTC", "2026-02-28T06:00:00Z", 31, 28, id="days know no month"),
        pytest.param("hour", "UTC", "2026-02-28T06:00:00Z", 31, 28, id="hours know no month"),
    ],
)
def test_d11_the_original_day_of_month_is_kept_through_short_months(unit, timezone, served, previous_day, day):
    schedule = every(1, unit, timezone)
    previous = None if previous_day is None else Anchor(at("2026-01-01T06:00:00Z"), previous_day)
    assert anchor_for(schedule, at(served), previous) == Anchor(at(served), day)


def test_d11_a_monthly_job_of_the_31st_that_ran_on_28_february_is_expected_on_31_march():
    schedule = every(1, "month")
    january = anchor_for(schedule, at("2026-01-31T06:00:00Z"))
    february = anchor_for(schedule, at("2026-02-28T06:00:05Z"), january)
    assert next_slot(schedule, at("2026-02-28T06:00:05Z"), february) == at("2026-03-31T06:00:00Z")


# --- Several slots ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ("2026-01-05T05:59:59.999999Z", "2026-01-05T06:00:00Z"),
        ("2026-01-05T06:00:00Z", "2026-01-05T06:00:00Z"),
        ("2026-01-05T06:00:00.000001Z", "2026-01-05T07:00:00Z"),
    ],
)
@pytest.mark.parametrize("schedule", [HOURLY, every(1, "hour")], ids=["crontab", "interval"])
def test_the_first_slot_at_or_after_an_instant_may_be_that_instant(schedule, ask, expected):
    anchor = anchor_for(schedule, at("2020-01-01T00:00:00Z"))
    assert first_slot_at_or_after(schedule, at(ask), anchor) == at(expected)


def test_the_first_slot_at_or_after_an_instant_in_the_second_pass_of_a_repeated_hour():
    second_pass = at("2026-11-01T06:00:00Z").astimezone(ZoneInfo(NEW_YORK))
    assert second_pass.fold == 1
    assert first_slot_at_or_after(HOURLY, second_pass, None) == at("2026-11-01T06:00:00Z")


def test_slots_between_excludes_the_start_and_includes_the_end():
    six, seven, eight = (at(f"2026-01-05T0{hour}:00:00Z") for hour in (6, 7, 8))
    microsecond = timedelta(microseconds=1)
    assert slots_between(HOURLY, six, eight, None) == [seven, eight]
    assert slots_between(HOURLY, six - microsecond, eight - microsecond, None) == [six, seven]
    assert slots_between(HOURLY, six, seven - microsecond, None) == []
    assert slots_between(HOURLY, six, six, None) == []
    assert slots_between(HOURLY, eight, six, None) == []


def test_slots_between_stops_at_its_limit():
    start, end = at("2026-01-05T00:00:00Z"), at("2026-01-06T00:00:00Z")
    assert len(slots_between(HOURLY, start, end, None)) == 24
    assert slots_between(HOURLY, start, end, None, limit=2) == next_slots(HOURLY, start, None, 2)
    assert len(slots_between(HOURLY, start, end, None, limit=24)) == 24
    assert len(slots_between(HOURLY, start, end, None, limit=25)) == 24
    assert slots_between(HOURLY, start, end, None, limit=0) == []


def test_the_preview_lists_as_many_slots_as_asked_for():
    schedule = every(15, "minute")
    anchor = anchored(schedule, "2026-01-05T00:10:00Z")
    assert [f"{slot:%H:%M}" for slot in next_slots(schedule, at("2026-01-05T09:00:00Z"), anchor, 3)] == [
        "09:10",
        "09:25",
        "09:40",
    ]
    assert next_slots(schedule, at("2026-01-05T09:00:00Z"), anchor, 0) == []


def test_the_same_instant_in_another_zone_gives_the_same_utc_slot():
    elsewhere = at("2026-11-01T06:15:00Z").astimezone(ZoneInfo(NEW_YORK))  # 01:15, shown twice that night
    for schedule in (HOURLY, every(1, "hour")):
        anchor = anchor_for(schedule, elsewhere)
        for slot in (next_slot(schedule, elsewhere, anchor), previous_slot(schedule, elsewhere, anchor)):
            assert slot.tzinfo is UTC
            assert abs(slot - at("2026-11-01T06:15:00Z")) <= timedelta(hours=1)
            assert slot != elsewhere


def test_a_naive_datetime_is_refused():
    naive = datetime(2026, 1, 5, 5, 30)  # noqa: DTZ001
    for ask in (next_slot, previous_slot):
        with pytest.raises(
            ValueError,
            match=r"^an aware datetime is needed, datetime\.datetime\(2026, 1, 5, 5, 30\) has no time zone$",
        ):
            ask(HOURLY, naive, None)


def test_d34_a_stored_crontab_that_never_matches_has_no_times():
    stored = Schedule(ScheduleType.CRONTAB, "0 0 */31 * 1#3", None, None)
    for ask in (schedule_module.next_slot, schedule_module.previous_slot):
        assert ask(stored, at("2026-01-05T05:30:00Z"), None) is None


def test_one_computation_serves_every_environment_that_shares_a_crontab():
    """A million environments: the answers of one minute are one object, so they were computed once."""
    first = next_slot(Schedule.from_crontab("17 4 * * *", LONDON), at("2026-01-05T05:30:10Z"), None)
    assert next_slot(Schedule.from_crontab("17 4 * * *", LONDON), at("2026-01-05T05:30:50Z"), None) is first
    last = previous_slot(Schedule.from_crontab("17 4 * * *", LONDON), at("2026-01-05T05:30:10Z"), None)
    assert previous_slot(Schedule.from_crontab("17 4 * * *", LONDON), at("2026-01-05T05:31:00Z"), None) is last


# --- A second early (D12) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "serves"),
    [
        pytest.param("2026-01-05T10:59:54.999999Z", None, id="earlier than the tolerance"),
        pytest.param("2026-01-05T10:59:55Z", "2026-01-05T11:00:00Z", id="exactly the tolerance"),
        pytest.param("2026-01-05T10:59:59.999999Z", "2026-01-05T11:00:00Z", id="just before the slot"),
        pytest.param("2026-01-05T11:00:00Z", None, id="at the slot is not early"),
        pytest.param("2026-01-05T11:00:00.000001Z", None, id="after the slot"),
    ],
)
@pytest.mark.parametrize("schedule", [HOURLY, every(1, "hour")], ids=["crontab", "interval"])
def test_d12_a_message_within_the_tolerance_serves_the_coming_slot(schedule, received, serves):
    anchor = anchor_for(schedule, at("2026-01-05T10:00:00Z"))
    pending = at("2026-01-05T11:00:00Z")
    assert serves_early(schedule, at(received), pending, anchor, FIVE_SECONDS) == (serves and at(serves))


@pytest.mark.parametrize(
    ("received", "serves"),
    [
        pytest.param("2026-01-05T10:59:29.999999Z", None, id="nearer to the slot before"),
        pytest.param("2026-01-05T10:59:30Z", "2026-01-05T11:00:00Z", id="half-way"),
        pytest.param("2026-01-05T10:59:30.000001Z", "2026-01-05T11:00:00Z", id="nearer to the coming slot"),
    ],
)
@pytest.mark.parametrize(
    "schedule", [Schedule.from_crontab("* * * * *"), every(1, "minute")], ids=["crontab", "interval"]
)
def test_d12_a_large_tolerance_never_reaches_over_half_the_gap(schedule, received, serves):
    anchor = anchor_for(schedule, at("2026-01-05T10:00:00Z"))
    pending = at("2026-01-05T11:00:00Z")
    outcome = serves_early(schedule, at(received), pending, anchor, timedelta(minutes=10))
    assert outcome == (serves and at(serves))


def test_d12_the_pending_slot_of_a_crontab_is_not_asked():
    received = at("2026-01-05T10:59:58Z")
    assert serves_early(HOURLY, received, None, None, FIVE_SECONDS) == at("2026-01-05T11:00:00Z")
    assert serves_early(HOURLY, received, at("2026-01-05T10:59:59Z"), None, FIVE_SECONDS) == at("2026-01-05T11:00:00Z")


def test_d12_the_first_message_of_an_interval_serves_no_slot():
    assert serves_early(every(1, "hour"), at("2026-01-05T10:59:58Z"), None, None, FIVE_SECONDS) is None


# --- Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (every(1, "minute"), "Every minute (UTC)"),
        (every(5, "minute"), "Every 5 minutes (UTC)"),
        (every(2, "hour", NEW_YORK), "Every 2 hours (America/New_York)"),
        (every(1, "month", LONDON), "Every month (Europe/London)"),
        (Schedule.from_crontab("0 12 * * *", NEW_YORK), "At 12:00 (America/New_York)"),
        (Schedule.from_crontab("30 17 * * mon-fri"), "At 17:30, Monday through Friday (UTC)"),
        (Schedule.from_crontab("*/5 * * * *"), "Every 5 minutes (UTC)"),
        (Schedule.from_crontab("@hourly"), "Every hour (UTC)"),
        (Schedule.from_crontab("0 0 l * *"), "At 00:00, on the last day of the month (UTC)"),
        (Schedule.from_crontab("0 0 * * 7"), "At 00:00, only on Sunday (UTC)"),
        (Schedule.from_crontab("0 9 13 * FRI"), "At 09:00, on day 13 of the month, or on Friday (UTC)"),
        (
            Schedule.from_crontab("0 0 1 * 1-5"),
            "At 00:00, on day 1 of the month, Monday through Friday, on days that match either (UTC)",
        ),
        (Schedule.from_crontab("0 0 */2 * MON"), "At 00:00, every 2 days, on Monday, on days that match both (UTC)"),
        (
            Schedule.from_crontab("0 0 13 * */2"),
            "At 00:00, on day 13 of the month, every 2 days of the week, on days that match both (UTC)",
        ),
        (Schedule.from_crontab("0 0 1-7 * *,1"), "Crontab 0 0 1-7 * *,1 (UTC)"),
        (Schedule.from_crontab("*/90 * * * *"), "Every hour (UTC)"),
        (Schedule.from_crontab("*/45 * * * *"), "At 0 and 45 minutes past the hour (UTC)"),
        (Schedule.from_crontab("0 */30 * * *"), "At 00:00 (UTC)"),
        (Schedule.from_crontab("0 0 15,L * *"), "At 00:00, on day 15 and the last day of the month (UTC)"),
        (Schedule.from_crontab("0 0 L,15 * *"), "At 00:00, on the last day and 15 of the month (UTC)"),
        (Schedule.from_crontab("0 0 1,LW * *"), "At 00:00, on day 1 and the last weekday of the month (UTC)"),
        (Schedule.from_crontab("0 0 * * 1#2,3L"), "Crontab 0 0 * * 1#2,3L (UTC)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_in_words(schedule, words):
    assert describe(schedule) == words


def test_words_are_english_whatever_the_locale_of_the_machine(monkeypatch):
    monkeypatch.setattr(locale, "getlocale", lambda: ("de_DE", "UTF-8"))
    assert describe(Schedule.from_crontab("0 7 * * SUN", LONDON)) == "At 07:00, only on Sunday (Europe/London)"


# --- What comes from outside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0 * * * *", "0 * * * *"),
        ("  */5   *\t* *\n* ", "*/5 * * * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        (" @daily ", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@midnight", "0 0 * * *"),
        ("@DAILY", "0 0 * * *"),
        ("0 0 * * saturday", "0 0 * * sat"),
        ("0 0 1 January,Sept Tues-Thursday", "0 0 1 jan,sep tue-thu"),
        ("0 0 * * fri-mon", "0 0 * * fri-sat,sun-mon"),
        ("0 0 * * sat-sun", "0 0 * * sat,sun"),
        ("0 0 * * Friday-Sunday", "0 0 * * fri-sat,sun"),
        ("0 0 * * 7-2", "0 0 * * 0-2"),
        ("0 23-6 * * *", "0 23,0-6 * * *"),
        ("0 22-5/2 * * *", "0 22,0,2,4 * * *"),
        ("5-1 * * * *", "5-59,0-1 * * * *"),
        ("0 0 25-5 nov-feb *", "0 0 25-31,1-5 nov-dec,jan-feb *"),
        ("0 0 * jan sun-sat", "0 0 * jan sun-sat"),
        ("0 0 * * 7", "0 0 * * 7"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 2 MON", "0 0 31 2 MON"),
        ("0 0 LW * 5L", "0 0 LW * 5L"),
    ],
)
def test_a_crontab_is_kept_in_one_spelling(text, stored):
    assert Schedule.from_crontab(text) == Schedule(ScheduleType.CRONTAB, stored, None, None, "UTC")


FIELDS = (
    "five fields (minute, hour, day of month, month, day of week) or one of "
    "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly."
)
MINUTES = ", it takes numbers from 0 to 59, ranges, lists and steps (*/5)."
NEVER = "it never matches, it takes a day that some month has."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@reboot", "this nickname is not known, it takes " + FIELDS),
        ("@every 5m", "it is an interval: choose the type interval, with a count and a unit."),
        ("0 * * * * *", "it has 6 fields: a field for seconds is not supported, it takes " + FIELDS),
        ("0 0 12 ? * MON-FRI", "it has 6 fields: a field for seconds is not supported, it takes " + FIELDS),
        ("0 12 1 1 * 2027", "it has 6 fields: a field for the year (2027) is not supported, it takes " + FIELDS),
        ("0 10 * * ? *", "it has 6 fields: a field for the year (*) is not supported, it takes " + FIELDS),
        ("0 10 99 * * x", "it has 6 fields, and what the last one (x) means is not known, it takes " + FIELDS),
        ("", "it has 0 fields, it takes " + FIELDS),
        ("hourly", "it has 1 field, it takes " + FIELDS),
        ("* * * *", "it has 4 fields, it takes " + FIELDS),
        (
            "* * * * * * *",
            "it has 7 fields: fields for seconds and for the year are not supported, it takes " + FIELDS,
        ),
        ("60 * * * *", "the field for the minute holds '60'" + MINUTES),
        (
            "* 24 * * *",
            "the field for the hour holds '24', it takes numbers from 0 to 23, ranges, lists and steps (*/5).",
        ),
        (
            "* * 0 * *",
            "the field for the day of month holds '0', it takes numbers from 1 to 31, L for the last day and LW for "
            "the last working day, ranges, lists and steps (*/5).",
        ),
        (
            "* * * 13 *",
            "the field for the month holds '13', it takes numbers from 1 to 12 and names (jan to dec), ranges, lists "
            "and steps (*/5).",
        ),
        (
            "* * * * someday",
            "the field for the day of week holds 'someday', it takes numbers from 0 to 6 (or 7), names (sun to sat), "
            "the second Monday as mon#2 and the last Friday as 5L, ranges, lists and steps (*/5).",
        ),
        ("*/0 * * * *", "the field for the minute holds '*/0'" + MINUTES),
        ("1,,2 * * * *", "the field for the minute holds ''" + MINUTES),
        (
            "? * * * *",
            "the field for the minute holds '?', it takes numbers from 0 to 59, ranges, lists and steps (*/5); "
            "write * for ?.",
        ),
        ("0 0 31 2 *", NEVER),
        ("0 0 30 2 *", NEVER),
        ("0 0 31 4,6,9,11 *", NEVER),
        ("0 0 */31 * 1#3", NEVER),
        (None, "it takes a text of " + FIELDS),
        (["0 * * * *"], "it takes a text of " + FIELDS),
    ],
)
def test_a_crontab_that_cannot_be_used_is_refused_in_one_sentence(text, reason):
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_crontab(text)
    assert str(caught.value) == f"crontab {text!r} cannot be used: {reason}"
    assert (caught.value.field, caught.value.value, caught.value.allowed + ".") == ("crontab", text, reason)


def test_a_crontab_may_have_255_characters():
    longest = ",".join(["0"] * 124) + " * * * *"
    assert len(longest) == 255
    assert parse_crontab(longest) == longest
    for longer in ("0" + longest, "9" * 100_000 + " * * * *"):
        with pytest.raises(
            ScheduleError, match=r"^crontab '.+' cannot be used: it takes at most 255 characters\.$"
        ) as caught:
            parse_crontab(longer)
        assert caught.value.value == longer


@pytest.mark.parametrize(
    ("count", "unit", "stored"),
    [
        (1, "minute", (1, IntervalUnit.MINUTE)),
        (2, "hour", (2, IntervalUnit.HOUR)),
        ("2", "day", (2, IntervalUnit.DAY)),
        (3, IntervalUnit.WEEK, (3, IntervalUnit.WEEK)),
        (1200, "month", (1200, IntervalUnit.MONTH)),
        ("100", "year", (100, IntervalUnit.YEAR)),
    ],
)
def test_an_interval_is_a_count_and_a_unit(count, unit, stored):
    schedule = Schedule.from_interval(count, unit, LONDON)
    assert schedule == Schedule(ScheduleType.INTERVAL, None, stored[0], stored[1], LONDON)
    assert type(schedule.interval) is int
    assert Schedule.from_interval(count, unit).timezone == "UTC"


@pytest.mark.parametrize(
    ("count", "unit", "most"),
    [
        (0, "minute", 52_560_000),
        (0, "hour", 876_000),
        (-1, "day", 36_500),
        (52_560_001, "minute", 52_560_000),
        (876_001, "hour", 876_000),
        (36_501, "day", 36_500),
        (5_201, "week", 5_200),
        (1_201, "month", 1_200),
        (101, "year", 100),
        (1.5, "year", 100),
        (True, "year", 100),
        (None, "year", 100),
        ("0", "year", 100),
        ("101", "year", 100),
        ("two", "year", 100),
        ("-2", "year", 100),
        ("\u00b2", "year", 100),  # a superscript two
        ("\u0663", "year", 100),  # an Arabic-Indic three
        ("1.5", "year", 100),
    ],
)
def test_an_interval_count_that_cannot_be_used_is_refused_in_one_sentence(count, unit, most):
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_interval(count, unit)
    allowed = f"it takes a whole number from 1 to {most} for the unit {unit}"
    assert str(caught.value) == f"interval {count!r} cannot be used: {allowed}."
    assert (caught.value.field, caught.value.value, caught.value.allowed) == ("interval", count, allowed)


@pytest.mark.parametrize("unit", ["fortnight", "hours", "", None, 5, []])
def test_an_interval_unit_that_cannot_be_used_is_refused_in_one_sentence(unit):
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_interval(1, unit)
    allowed = "it takes one of minute, hour, day, week, month, year"
    assert str(caught.value) == f"interval_unit {unit!r} cannot be used: {allowed}."
    assert (caught.value.field, caught.value.value, caught.value.allowed) == ("interval_unit", unit, allowed)


@pytest.mark.parametrize(
    ("given", "stored"), [("Europe/Vienna", "Europe/Vienna"), ("", "UTC"), (None, "UTC"), ("Etc/UTC", "Etc/UTC")]
)
def test_a_zone_is_a_name_of_the_tz_database_and_nothing_means_utc(given, stored):
    assert Schedule.from_crontab("@daily", given).timezone == stored
    assert Schedule.from_interval(1, "day", given).timezone == stored


@pytest.mark.parametrize(
    "name",
    [
        "Mars/Olympus",
        "America",
        "../etc/passwd",
        "/etc/localtime",
        "localtime",
        "Factory",
        "right/UTC",
        "posix/UTC",
        " UTC",
        "europe/vienna",
        "+02:00",
        "a\0b",
        1,
        ["UTC"],
    ],
)
def test_an_unknown_zone_is_refused_in_one_sentence(name):
    with pytest.raises(ScheduleError) as caught:
        Schedule.from_crontab("@daily", name)
    assert str(caught.value) == (
        f"timezone {name!r} cannot be used: it takes a name of the tz database, such as Europe/Vienna or UTC."
    )
    assert (caught.value.field, caught.value.value) == ("timezone", name)


def test_a_refusal_survives_the_way_between_processes_and_shortens_what_is_long():
    error = pickle.loads(pickle.dumps(ScheduleError("crontab", "9" * 5000, "it takes less")))  # noqa: S301
    assert str(error) == "crontab '999999999999...9999999999999' cannot be used: it takes less."
    assert (error.field, len(error.value), error.allowed) == ("crontab", 5000, "it takes less")
    assert error.args == (error.field, error.value, error.allowed)
