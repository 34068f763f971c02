"""The time that housekeeping goes by: what a wrong clock may cost, and when a clock that has jumped is believed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.housetime import APART_MAX, BELIEVED_AFTER, HouseTime, advance
from tests.factories import NOW

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
IN_2040 = datetime(2040, 1, 1, tzinfo=UTC)
IN_1970 = datetime(1970, 1, 1, tzinfo=UTC)
EVERY = 10 * MINUTE


def looks(house, *, since, lasting, every=EVERY):
    """What housekeeping has come to after a clock has gone on from `since`, and what it removed at most until."""
    at, removed_until = since, datetime.min.replace(tzinfo=UTC)
    while at <= since + lasting:
        house = advance(house, at)
        removed_until = max(removed_until, house.removes_until(at))
        at += every
    return house, removed_until


def test_a_clock_that_is_right_is_followed():
    house, removed_until = looks(advance(None, NOW), since=NOW, lasting=30 * DAY)
    assert removed_until == NOW + 30 * DAY
    assert not house.apart(NOW + 30 * DAY)


@pytest.mark.parametrize("wrong", [IN_2040, NOW + 2 * DAY, NOW + 400 * DAY], ids=str)
def test_a_clock_that_is_far_ahead_for_six_days_removes_nothing_that_a_right_one_would_not(wrong):
    house, removed_until = looks(advance(None, NOW), since=wrong, lasting=6 * DAY)
    assert removed_until <= NOW + 6 * DAY + APART_MAX
    right = NOW + 6 * DAY
    house, removed_until = looks(house, since=right, lasting=DAY)
    assert house.reached == right + DAY, "when it is right again it is followed at once"


def test_what_passes_while_the_clock_is_wrong_passes_all_the_same():
    _, removed_until = looks(advance(None, NOW), since=IN_2040, lasting=3 * DAY)
    assert NOW + 3 * DAY - HOUR <= removed_until <= NOW + 3 * DAY + HOUR


@pytest.mark.parametrize("since", [IN_2040, IN_1970, NOW + 40 * DAY], ids=["2040", "1970", "off for forty days"])
def test_a_clock_that_goes_on_for_a_week_is_believed(since):
    house, _ = looks(advance(None, NOW), since=since, lasting=BELIEVED_AFTER - HOUR)
    assert house.apart(since + BELIEVED_AFTER - HOUR)
    house, _ = looks(house, since=since + BELIEVED_AFTER - HOUR, lasting=2 * HOUR)
    assert house.reached == since + BELIEVED_AFTER + HOUR


def test_no_jump_counts_as_time_that_has_passed():
    """From 2040 to 2041 a year has passed by that clock, and two looks in truth."""
    house = advance(advance(None, NOW), IN_2040)
    house = advance(house, IN_2040 + 366 * DAY)
    house = advance(house, IN_2040 + 800 * DAY)
    assert house.reached <= NOW + HOUR
    assert house.apart_for == timedelta()


def test_a_clock_that_is_behind_removes_nothing_and_changes_nothing_when_it_is_right_again():
    house, removed_until = looks(advance(None, NOW), since=IN_1970, lasting=DAY)
    assert removed_until < IN_1970 + 2 * DAY
    house, removed_until = looks(house, since=NOW + DAY, lasting=HOUR)
    assert removed_until == NOW + DAY + HOUR


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 20)), max_size=12))
def test_whatever_a_clock_says_for_less_than_a_week_in_all_costs_a_day_at_most(phases):
    """Looks come every ten minutes of true time; before each phase the clock jumps to any hour of a century."""
    house, true = advance(None, NOW), NOW
    for hours, count in phases:
        wrong = datetime(1970, 1, 1, tzinfo=UTC) + hours * HOUR
        if abs(wrong - true) <= 2 * APART_MAX:
            continue
        for _ in range(count):
            true, wrong = true + EVERY, wrong + EVERY
            house = advance(house, wrong)
            assert house.removes_until(wrong) <= true + APART_MAX


def test_two_looks_at_once_count_no_time_twice():
    house = HouseTime(NOW, IN_2040)
    assert advance(advance(house, IN_2040), IN_2040).reached == NOW
