"""Maintenance windows: which instants are inside, when windows end, and when their occurrences come."""

from datetime import UTC, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors import maintenance
from monitors.maintenance import (
    STEPS_MAX,
    Recurrence,
    Window,
    deadline_after,
    end_of,
    never_ends,
    occurrences,
    times_with,
    window_at,
    window_of_deadline,
    window_of_slot,
)
from monitors.schedule import next_slot

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)
BERLIN = ZoneInfo("Europe/Berlin")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def z(text):
    """An instant of 5 January 2026 in UTC, or of the day that is given."""
    return datetime.fromisoformat(text if "-" in text else f"2026-01-05T{text}").replace(tzinfo=UTC)


def once(begin, end, name="once"):
    return Window(name, z(begin), z(end))


def by_rule(crontab, timezone="UTC", *, since=LONG_AGO, until=None, minutes=None, to=None):
    return Window("by rule", since, until, Recurrence(crontab, timezone, minutes, to))


def first_after(window, after):
    return next(occurrences(window, after))


def in_berlin(instants):
    return tuple(at.astimezone(BERLIN).isoformat()[:22] for at in instants)


# --- one window -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "is_inside"),
    [("09:59:59.999999", False), ("10:00", True), ("11:59:59.999999", True), ("12:00", False)],
)
def test_a_window_has_its_first_instant_and_not_its_last(at, is_inside):
    assert (window_at([once("10:00", "12:00")], z(at)) is not None) is is_inside


@pytest.mark.parametrize(
    ("deadline", "judged_at"),
    [
        ("09:59:59", "09:59:59"),
        ("10:00", "10:00"),  # All the time that the run had was before.
        ("10:00:00.000001", "12:00"),
        ("12:00", "12:00"),
        ("12:00:00.000001", "12:00:00.000001"),
    ],
)
def test_a_deadline_inside_moves_to_the_end(deadline, judged_at):
    assert deadline_after([once("10:00", "12:00")], z(deadline)) == z(judged_at)


@pytest.mark.parametrize(
    ("slot", "deadline", "is_judged"),
    [
        ("09:50", "10:00", True),  # The margin ends with the last moment before.
        ("09:50", "10:01", False),  # It ends inside.
        ("10:00", "10:05", False),
        ("11:59", "12:30", False),  # It began inside.
        ("12:00", "12:05", True),
        ("09:50", "12:00", False),  # No time is left after the window.
        ("09:50", "12:01", True),  # The job had time before and after.
    ],
)
def test_a_slot_is_not_judged_if_it_or_the_end_of_its_margin_is_inside(slot, deadline, is_judged):
    found = window_of_slot([once("10:00", "12:00")], z(slot), z(deadline))
    assert (found is None) is is_judged


def test_without_windows_nothing_is_asked():
    assert deadline_after([], z("10:00")) == z("10:00")
    assert window_of_slot([], z("10:00"), z("10:05")) is None
    assert window_of_deadline([], z("10:00")) is None


# --- several ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "end"),
    [
        ([once("11:00", "13:00")], "13:00"),  # overlap
        ([once("12:00", "13:00")], "13:00"),  # one after the other
        ([once("12:01", "13:00")], "12:00"),  # a gap
        ([once("13:00", "14:00"), once("12:00", "13:00")], "14:00"),
        ([once("10:30", "11:00")], "12:00"),  # within
    ],
)
def test_windows_without_a_gap_between_them_count_as_one(others, end):
    assert end_of([once("10:00", "12:00"), *others], z("10:30")) == z(end)


def test_the_first_of_several_windows_gives_the_reason():
    windows = [once("10:00", "12:00", "upgrade"), once("09:00", "13:00", "move")]
    assert window_at(windows, z("10:30")) is windows[0]
    assert window_at(windows, z("12:30")) is windows[1]


# --- by a rule: the vectors -------------------------------------------------------------------------------------------


def test_elapsed_minutes_begin_when_the_skipped_hour_ends():
    """28 March 2027, 02:00 becomes 03:00: the skipped 02:30 is moved, not dropped."""
    window = by_rule("30 2 * * *", "Europe/Berlin", minutes=60)
    begin, end = first_after(window, z("2027-03-28T00:00"))
    assert (begin, end) == (z("2027-03-28T01:00"), z("2027-03-28T02:00"))
    assert in_berlin((begin, end)) == ("2027-03-28T03:00:00+02", "2027-03-28T04:00:00+02")


def test_elapsed_minutes_are_no_wall_clock_in_autumn():
    """31 October 2027, 03:00 becomes 02:00: one occurrence, from the first 02:30 to the second one."""
    window = by_rule("30 2 * * *", "Europe/Berlin", minutes=60)
    found = list(islice(occurrences(window, z("2027-10-30T12:00")), 2))
    assert found[0] == (z("2027-10-31T00:30"), z("2027-10-31T01:30"))
    assert in_berlin(found[0]) == ("2027-10-31T02:30:00+02", "2027-10-31T02:30:00+01")
    assert found[1][0] == z("2027-11-01T01:30"), "it comes once"


@pytest.mark.parametrize(
    ("day", "by_minutes", "by_the_clock"),
    [("2027-03-27", "08:00", "07:00"), ("2027-10-30", "06:00", "07:00"), ("2027-06-01", "07:00", "07:00")],
)
def test_a_night_ends_by_minutes_or_by_the_wall_clock(day, by_minutes, by_the_clock):
    after = z(f"{day}T12:00")
    ends = [
        first_after(by_rule("0 22 * * *", "Europe/Berlin", **end), after)[1].astimezone(BERLIN).strftime("%H:%M")
        for end in ({"minutes": 540}, {"to": time(7, 0)})
    ]
    assert ends == [by_minutes, by_the_clock]


def test_an_end_by_the_wall_clock_at_the_time_of_the_beginning_is_a_day_later():
    window = by_rule("0 22 * * 5", "Europe/Berlin", to=time(22, 0))
    assert first_after(window, z("2027-06-01T12:00")) == (z("2027-06-04T20:00"), z("2027-06-05T20:00"))


@pytest.mark.parametrize(("at", "is_inside"), [("21:59", False), ("22:00", True), ("06:59", True), ("07:00", False)])
def test_a_rule_covers_each_of_its_occurrences(at, is_inside):
    assert (window_at([by_rule("0 22 * * *", minutes=540)], z(at)) is not None) is is_inside


def test_a_rule_applies_from_its_beginning_to_its_end():
    window = by_rule("0 * * * *", minutes=30, since=z("10:10"), until=z("12:20"))
    assert [
        window_at([window], z(at)) is not None for at in ("10:05", "10:10", "10:30", "12:10", "12:20", "13:10")
    ] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert list(occurrences(window, z("08:00"))) == [
        (z("10:10"), z("10:30")),
        (z("11:00"), z("11:30")),
        (z("12:00"), z("12:20")),
    ]


def test_of_occurrences_that_overlap_the_last_one_says_the_end():
    assert end_of([by_rule("0,20 10 * * *", minutes=30)], z("10:10")) == z("10:50")


@pytest.mark.parametrize("zone", ["Mars/Olympus", ""])
def test_d37_a_rule_that_cannot_be_read_covers_nothing(zone):
    window = by_rule("0 * * * *", zone, minutes=30)
    assert window_at([window], z("10:10")) is None
    assert list(occurrences(window, z("10:10"))) == []


@pytest.mark.parametrize(
    ("crontab", "minutes", "is_endless"),
    [("* * * * *", 1, True), ("0 0 * * *", 1440, True), ("0 0 * * 1-5", 1440, False), ("0 * * * *", 59, False)],
)
def test_a_rule_without_a_gap_never_ends(crontab, minutes, is_endless):
    assert never_ends(Recurrence(crontab, "UTC", minutes), z("10:00")) is is_endless


def test_a_question_takes_a_bounded_number_of_steps(monkeypatch):
    asked = []

    def previous_minute(_schedule, before, _anchor):
        asked.append(before)
        return before.replace(second=0, microsecond=0)

    monkeypatch.setattr(maintenance, "previous_slot", previous_minute)
    end_of([by_rule("* * * * *", minutes=1)], z("10:00"))
    assert len(asked) == STEPS_MAX


# --- parts of a window ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "part"),
    [
        (None, None, ("10:00", "12:00")),
        ("11:00", None, ("11:00", "12:00")),
        (None, "11:00", ("10:00", "11:00")),
        ("09:00", "13:00", ("10:00", "12:00")),
        ("12:00", None, None),
        (None, "10:00", None),
    ],
)
def test_a_window_is_clipped_to_a_time(since, until, part):
    clipped = once("10:00", "12:00").clipped(since and z(since), until and z(until))
    assert clipped == (part and once(*part))


def test_a_monitor_has_a_tag_in_the_times_between_edits():
    former = [(z("10:00"), ["a"]), (z("11:00"), []), (z("12:00"), ["a", "b"])]
    assert list(times_with("a", ["a"], former)) == [
        (None, z("10:00")),
        (z("11:00"), z("12:00")),
        (z("12:00"), None),
    ]
    assert list(times_with("b", [], former)) == [(z("11:00"), z("12:00"))]
    assert list(times_with("c", ["c"], [])) == [(None, None)]


# --- compared with a model that looks at every minute -----------------------------------------------------------------

DAY = z("2027-10-30T00:00")
"""Two days around a clock change in Berlin."""
MINUTES = 2 * 1440

starts = st.sampled_from(["0 * * * *", "*/45 * * * *", "30 2 * * *", "15 0,12 * * *", "0 22 * * 6"])
rules = st.builds(
    lambda crontab, minutes, to, by_minutes, since, length: by_rule(
        crontab,
        "Europe/Berlin",
        minutes=minutes if by_minutes else None,
        to=None if by_minutes else to,
        since=DAY + since * MINUTE,
        until=None if length is None else DAY + (since + length) * MINUTE,
    ),
    starts,
    st.integers(1, 200),
    st.times().map(lambda at: at.replace(second=0, microsecond=0)),
    st.booleans(),
    st.integers(-200, 900),
    st.none() | st.integers(1, 2000),
)
one_offs = st.builds(
    lambda begin, length: Window("once", DAY + begin * MINUTE, DAY + (begin + length) * MINUTE),
    st.integers(0, MINUTES),
    st.integers(1, 600),
)


def minutes_inside(window):
    """The minutes of the two days that are inside: found by going from every minute that begins an occurrence."""
    if window.recurrence is None:
        return {at for at in range(MINUTES) if window.starts_at <= DAY + at * MINUTE < window.ends_at}
    rule, inside = window.recurrence, set()
    for number in range(-2 * 1440, MINUTES):
        begin = DAY + number * MINUTE
        if begin != next_slot(rule.schedule, begin - MOMENT, None):
            continue
        for later in range(number, MINUTES + 1440):
            at = DAY + later * MINUTE
            if rule.minutes is not None and later - number >= rule.minutes:
                break
            if rule.minutes is None and later > number and is_the_time(at, rule.until):
                break
            if at >= window.starts_at and (window.ends_at is None or at < window.ends_at):
                inside.add(later)
    return inside


def is_the_time(at, wanted):
    """Whether the wall clock shows that time for the first time that day."""
    local = at.astimezone(BERLIN)
    return (local.hour, local.minute, local.fold) == (wanted.hour, wanted.minute, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(rules | one_offs, min_size=1, max_size=3))
def test_each_minute_is_inside_as_a_model_says_that_looks_at_every_minute(windows):
    inside = set().union(*map(minutes_inside, windows))
    for number in range(MINUTES):
        at = DAY + number * MINUTE
        assert (window_at(windows, at) is not None) is (number in inside), at
    for number in range(0, MINUTES, 97):
        end = number
        while end in inside and end - number < 1440:
            end += 1
        if end - number < 1440 and end < MINUTES:
            assert end_of(windows, DAY + number * MINUTE) == DAY + end * MINUTE
