"""What always holds for schedules, whatever the crontab, interval, zone and instant.

Two naive models say what a slot is without sharing code with what they judge: one reads the wall clock of every minute
as a cron daemon does, one counts an interval out step by step.
"""

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st

from monitors import schedule as schedule_module
from monitors.describing import describe
from monitors.schedule import (
    IntervalUnit,
    Schedule,
    ScheduleError,
    anchor_for,
    next_slots,
    parse_crontab,
    serves_early,
    slots_between,
)
from tests.slots import first_slot_at_or_after, next_slot, previous_slot

unhurried = settings(deadline=None)  # A busy machine is no reason to fail.

MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)

CLOCK_CHANGES = {
    "America/New_York": ["2026-03-08T07:00Z", "2026-11-01T06:00Z"],
    "Europe/London": ["2026-03-29T01:00Z", "2026-10-25T01:00Z"],
    "Australia/Lord_Howe": ["2026-04-04T15:00Z", "2026-10-03T15:30Z"],
    "America/Sao_Paulo": ["2018-02-18T02:00Z", "2018-11-04T03:00Z"],
    "Africa/Casablanca": ["2026-02-15T02:00Z", "2026-03-22T02:00Z"],
    "Pacific/Apia": ["2011-09-24T14:00Z", "2011-12-30T10:00Z"],
    "America/Caracas": ["2007-12-09T07:00Z", "2016-05-01T07:00Z"],
    "Asia/Kathmandu": ["1985-12-31T18:30Z"],
    "UTC": ["2024-02-29T00:00Z"],
}
"""Instants at which the clocks of a zone change (for UTC, where they never do, a leap day)."""

zone_names = st.sampled_from(sorted(CLOCK_CHANGES))


@st.composite
def zones_and_instants(draw):
    """A zone, with an instant that is as likely near one of its clock changes as anywhere."""
    timezone = draw(zone_names)
    if draw(st.booleans()):
        change = datetime.fromisoformat(draw(st.sampled_from(CLOCK_CHANGES[timezone])))
        offset = draw(st.timedeltas(min_value=timedelta(hours=-30), max_value=timedelta(hours=30)))
        instant = change + offset
    else:
        instant = draw(st.datetimes(datetime(1975, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    if draw(st.booleans()):
        instant = instant.replace(second=0, microsecond=0)
    return timezone, instant


def crontab_fields(low, high):
    """A text for one field, with the numbers it means."""
    numbers = st.integers(low, high)
    every = set(range(low, high + 1))
    return st.one_of(
        st.just(("*", every)),
        numbers.map(lambda number: (str(number), {number})),
        st.integers(1, high).map(lambda step: (f"*/{step}", set(range(low, high + 1, step)))),
        st.tuples(numbers, numbers)
        .map(sorted)
        .map(lambda ends: (f"{ends[0]}-{ends[1]}", set(range(*ends)) | {ends[1]})),
        st.sets(numbers, min_size=2, max_size=4).map(lambda some: (",".join(map(str, sorted(some))), some)),
    )


crontabs = st.tuples(
    crontab_fields(0, 59), crontab_fields(0, 23), crontab_fields(1, 31), crontab_fields(1, 12), crontab_fields(0, 6)
)
frequent_crontabs = st.tuples(
    crontab_fields(0, 59),
    crontab_fields(0, 23),
    st.one_of(st.just(("*", set(range(1, 32)))), crontab_fields(1, 31)),
    st.just(("*", set(range(1, 13)))),
    st.one_of(st.just(("*", set(range(7)))), crontab_fields(0, 6)),
)


def text_of(crontab):
    return " ".join(text for text, _ in crontab)


@st.composite
def crontab_schedules(draw, timezone):
    try:
        return Schedule.from_crontab(text_of(draw(crontabs)), timezone)
    except ScheduleError:
        reject()  # 31 February and the like


@st.composite
def interval_schedules(draw, timezone):
    unit = draw(st.sampled_from(list(IntervalUnit)))
    most = {"minute": 3000, "hour": 500, "day": 400, "week": 60, "month": 30, "year": 8}[unit]
    return Schedule.from_interval(draw(st.integers(1, most)), unit, timezone)


@st.composite
def questions(draw):
    """A schedule, its anchor (for an interval: within four years of the instant), and an instant to ask about."""
    timezone, instant = draw(zones_and_instants())
    schedule = draw(st.one_of(crontab_schedules(timezone), interval_schedules(timezone)))
    distance = draw(st.timedeltas(min_value=timedelta(days=-1500), max_value=timedelta(days=1500)))
    anchor = anchor_for(schedule, instant + distance)
    # What has no time for ten years is a matter of its own (test_crontab).
    coming = next_slots(schedule, instant, anchor, 10)
    assume(len(coming) == 10)
    before = schedule_module.previous_slot(schedule, coming[0], anchor)
    assume(before is not None and schedule_module.previous_slot(schedule, before, anchor) is not None)
    return schedule, anchor, instant


# --- Order -----------------------------------------------------------------------------------------------------------


@unhurried
@given(questions())
def test_slots_are_utc_on_whole_minutes(question):
    schedule, anchor, instant = question
    for slot in (next_slot(schedule, instant, anchor), previous_slot(schedule, instant, anchor)):
        assert slot.tzinfo is UTC
        assert (slot.second, slot.microsecond) == (0, 0)


@unhurried
@given(questions())
def test_the_next_slot_is_strictly_later_and_minimal(question):
    schedule, anchor, instant = question
    slot = next_slot(schedule, instant, anchor)
    assert slot > instant
    # Minimal: the last slot before it is not after the instant, and no instant up to it is answered with another.
    assert previous_slot(schedule, slot, anchor) <= instant
    assert next_slot(schedule, slot - MICROSECOND, anchor) == slot


@unhurried
@given(questions())
def test_the_previous_slot_is_strictly_earlier_and_maximal(question):
    schedule, anchor, instant = question
    slot = previous_slot(schedule, instant, anchor)
    assert slot < instant
    assert next_slot(schedule, slot, anchor) >= instant
    assert previous_slot(schedule, slot + MICROSECOND, anchor) == slot


@unhurried
@given(questions())
def test_previous_and_next_are_inverse_from_a_slot(question):
    schedule, anchor, instant = question
    slot = next_slot(schedule, instant, anchor)
    assert previous_slot(schedule, next_slot(schedule, slot, anchor), anchor) == slot
    assert next_slot(schedule, previous_slot(schedule, slot, anchor), anchor) == slot


@unhurried
@given(questions(), st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=800)))
def test_a_later_question_never_gets_an_earlier_answer(question, later):
    schedule, anchor, instant = question
    assert next_slot(schedule, instant, anchor) <= next_slot(schedule, instant + later, anchor)
    assert previous_slot(schedule, instant, anchor) <= previous_slot(schedule, instant + later, anchor)


@unhurried
@given(questions(), zone_names)
def test_the_zone_in_which_an_instant_is_written_makes_no_difference(question, timezone):
    schedule, anchor, instant = question
    elsewhere = instant.astimezone(ZoneInfo(timezone))
    for ask in (next_slot, previous_slot, first_slot_at_or_after):
        assert ask(schedule, elsewhere, anchor) == ask(schedule, instant, anchor)
    assert anchor_for(schedule, elsewhere) == anchor_for(schedule, instant)
    slots = next_slots(schedule, instant, anchor, 2)
    until_elsewhere = slots[-1].astimezone(ZoneInfo(timezone))
    assert slots_between(schedule, elsewhere, until_elsewhere, anchor) == slots
    half_hour = timedelta(minutes=30)
    assert serves_early(schedule, elsewhere, until_elsewhere, anchor, half_hour) == serves_early(
        schedule, instant, slots[-1], anchor, half_hour
    )


@unhurried
@given(questions())
def test_the_first_slot_at_or_after_is_a_slot_itself_or_the_next_one(question):
    schedule, anchor, instant = question
    slot = next_slot(schedule, instant, anchor)
    assert first_slot_at_or_after(schedule, slot, anchor) == slot
    assert first_slot_at_or_after(schedule, slot - MICROSECOND, anchor) == slot
    assert first_slot_at_or_after(schedule, slot + MICROSECOND, anchor) == next_slot(schedule, slot, anchor)
    assert first_slot_at_or_after(schedule, instant, anchor) in (instant, slot)


@unhurried
@given(questions(), st.integers(0, 12))
def test_slots_between_are_the_next_slots_one_by_one(question, count):
    schedule, anchor, instant = question
    slots = next_slots(schedule, instant, anchor, count + 1)
    assert slots == sorted(set(slots))
    assert slots_between(schedule, instant, slots[-1], anchor) == slots
    assert slots_between(schedule, instant, slots[-1] - MICROSECOND, anchor) == slots[:-1]
    assert slots_between(schedule, instant, slots[-1], anchor, limit=count) == slots[:count]


@unhurried
@given(questions())
def test_an_interval_that_starts_again_at_one_of_its_slots_goes_on_as_before(question):
    """D11: served on time, a series does not drift, also through months too short for its day."""
    schedule, anchor, instant = question
    assume(anchor is not None)
    slot = next_slot(schedule, instant, anchor)
    wall = slot.astimezone(ZoneInfo(schedule.timezone))
    if schedule.interval_unit not in (IntervalUnit.MINUTE, IntervalUnit.HOUR):
        # Where the clock changed, the slot shows another wall time than the series means; it starts from what it shows.
        start = anchor.at.astimezone(ZoneInfo(schedule.timezone))
        assume(wall.time() == start.time() and wall.fold == start.fold == 0)
    again = anchor_for(schedule, slot, anchor)
    assert next_slots(schedule, slot, again, 5) == next_slots(schedule, slot, anchor, 5)


@unhurried
@given(questions(), st.timedeltas(min_value=timedelta(0), max_value=timedelta(minutes=30)))
def test_d12_an_early_message_serves_the_nearest_slot_or_none(question, tolerance):
    schedule, anchor, instant = question
    pending = next_slot(schedule, instant, anchor)
    served = serves_early(schedule, instant, pending, anchor, tolerance)
    close = pending - instant <= tolerance
    nearer = pending - instant <= instant - previous_slot(schedule, pending, anchor)
    assert served == (pending if close and nearer else None)


# --- Against naive models --------------------------------------------------------------------------------------------


def runs_of_a_cron_daemon(crontab, timezone, since, until):
    """Reads the clock every minute, as crontab(5) and cron(8) on Debian describe it."""
    zone = ZoneInfo(timezone)
    (minute_text, minutes), (hour_text, hours), (day_text, days), (_, months), (weekday_text, weekdays) = crontab
    has_a_star = minute_text.startswith("*") or hour_text.startswith("*")
    both_days = day_text.startswith("*") or weekday_text.startswith("*")

    def matches(wall):
        day_matches, weekday_matches = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (
            wall.minute in minutes
            and wall.hour in hours
            and wall.month in months
            and (day_matches and weekday_matches if both_days else day_matches or weekday_matches)
        )

    runs = []
    now = since
    while now < until:
        before, now = now, now + MINUTE
        local = now.astimezone(zone)
        wall, last_wall = local.replace(tzinfo=None), before.astimezone(zone).replace(tzinfo=None)
        if has_a_star:
            if matches(wall):
                runs.append(now)
        elif local.fold == 0:
            # Fixed times that the clock has jumped over are made up for; in a repeated hour they have already been.
            while last_wall < wall:
                last_wall += MINUTE
                if matches(last_wall):
                    runs.append(now)
                    break
    return runs


@unhurried
@given(frequent_crontabs, zone_names, st.data())
def test_a_crontab_runs_exactly_when_a_cron_daemon_would(crontab, timezone, data):
    try:
        schedule = Schedule.from_crontab(text_of(crontab), timezone)
    except ScheduleError:
        reject()  # a day that never comes
    change = datetime.fromisoformat(data.draw(st.sampled_from(CLOCK_CHANGES[timezone])))
    since = change - timedelta(minutes=data.draw(st.integers(1, 600)))
    until = change + timedelta(minutes=data.draw(st.integers(1, 2000)))
    expected = runs_of_a_cron_daemon(crontab, timezone, since, until)
    assert slots_between(schedule, since, until, None) == expected

    backward, slot = [], previous_slot(schedule, until + MINUTE, None)
    while slot > since:
        backward.append(slot)
        slot = previous_slot(schedule, slot, None)
    assert backward[::-1] == expected


def series_counted_out(schedule, start, day, until):
    """Steps from `start` (a wall time for calendar units) one by one, up to the first slot after `until`."""
    zone = ZoneInfo(schedule.timezone)
    unit, count = schedule.interval_unit, schedule.interval
    slots = [start]
    wall = start.astimezone(zone).replace(tzinfo=None, fold=0)
    year, month = wall.year, wall.month
    while slots[-1] <= until:
        if unit in (IntervalUnit.MINUTE, IntervalUnit.HOUR):
            for _ in range(count):
                start += MINUTE if unit is IntervalUnit.MINUTE else timedelta(hours=1)
            slots.append(start)
            continue
        if unit in (IntervalUnit.DAY, IntervalUnit.WEEK):
            for _ in range(count if unit is IntervalUnit.DAY else 7 * count):
                wall += timedelta(days=1)
        else:
            for _ in range(count if unit is IntervalUnit.MONTH else 12 * count):
                year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            length = len([week_day for week in calendar.monthcalendar(year, month) for week_day in week if week_day])
            wall = wall.replace(year=year, month=month, day=min(day, length))
        slots.append(wall.replace(tzinfo=zone, fold=0).astimezone(UTC))
    return slots


@unhurried
@given(zones_and_instants(), st.data(), st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=40)))
def test_an_interval_is_what_counting_it_out_gives(place, data, distance):
    timezone, start = place
    schedule = data.draw(interval_schedules(timezone))
    start = start.replace(second=0, microsecond=0)
    unit = schedule.interval_unit
    stretch = {"minute": 0.02, "hour": 1, "day": 10, "week": 50, "month": 100, "year": 500}[unit]
    until = start + stretch * distance
    anchor = anchor_for(schedule, start)
    assert anchor is not None
    counted = sorted(set(series_counted_out(schedule, start, anchor.day, until)))
    expected = [slot for slot in counted if start < slot <= until]
    assert slots_between(schedule, start, until, anchor) == expected
    assert next_slot(schedule, until, anchor) == counted[-1]
    backward = [counted[-1]]
    for _ in expected:
        backward.append(previous_slot(schedule, backward[-1], anchor))
    assert backward[::-1] == [*expected, counted[-1]]


# --- Input from outside ----------------------------------------------------------------------------------------------


crontab_looking_texts = st.lists(
    st.text(alphabet="0123456789*/,-#LlWMONJAn?", min_size=1, max_size=6), min_size=5, max_size=5
).map(" ".join)


@unhurried
@given(st.text() | crontab_looking_texts)
@example("9" * 5000 + " * * * *")
@example("* * * * mon#")
@example("* * L/ * *")
@example("@")
@example("0 0 1 1 l")
def test_any_text_is_either_refused_or_walkable_and_describable(text):
    try:
        crontab = parse_crontab(text)
    except ScheduleError:
        return
    schedule = Schedule.from_crontab(crontab)
    instant = datetime(2026, 1, 5, tzinfo=UTC)
    assert previous_slot(schedule, instant, None) < instant < next_slot(schedule, instant, None)
    assert parse_crontab(crontab) == crontab
    assert describe(schedule)


@unhurried
@given(questions())
def test_a_schedule_that_was_accepted_can_be_described(question):
    schedule, _, _ = question
    words = describe(schedule)
    assert words.endswith(f" ({schedule.timezone})")
    assert words == describe(schedule)
