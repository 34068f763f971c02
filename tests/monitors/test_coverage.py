"""Which minutes were listened to, and what becomes of slots whose window was deaf in part or wholly (D2)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.coverage import MISSED, UNKNOWN, DeafMinutes, SlotVerdict, deaf_minutes, judge_slot

TEN = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minute, second=0.0):
    return TEN + timedelta(minutes=minute, seconds=second)


def deaf_between(*spans, first=0, last=9):
    heard = [(at(*since), at(*until)) for since, until in spans]
    return [(minute - TEN) // MINUTE for minute in deaf_minutes(heard, first=at(first), last=at(last))]


# --- Minutes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "deaf"),
    [
        pytest.param([], [0, 1, 2, 3], id="nobody ever"),
        pytest.param([((-5, 0), (9, 0))], [], id="all the time"),
        pytest.param([((0, 0), (4, 0))], [], id="exactly these minutes"),
        pytest.param([((0, 10), (3, 50))], [], id="but for ten seconds at either end"),
        pytest.param([((0, 10.1), (3, 49.9))], [0, 3], id="but for more than that"),
        pytest.param([((-5, 0), (1, 57)), ((2, 3), (9, 0))], [], id="a restart across a minute"),
        pytest.param([((-5, 0), (1, 30)), ((1, 45), (9, 0))], [1], id="a pause within a minute"),
        pytest.param([((-5, 0), (1, 20)), ((1, 26), (1, 40)), ((1, 46), (9, 0))], [1], id="two pauses add up"),
        pytest.param([((-5, 0), (1, 0)), ((3, 0), (9, 0))], [1, 2], id="two minutes of nobody"),
        pytest.param([((-5, 0), (2, 0)), ((1, 0), (9, 0))], [], id="two who take turns"),
        pytest.param([((0, 0), (9, 0)), ((1, 0), (2, 0))], [], id="one within the other"),
        pytest.param([((-9, 0), (-1, 0)), ((7, 0), (8, 0))], [0, 1, 2, 3], id="before and after"),
    ],
)
def test_a_minute_is_deaf_if_nobody_listened_for_more_than_ten_seconds_of_it(spans, deaf):
    assert deaf_between(*spans, last=3) == deaf


@given(st.lists(st.tuples(st.integers(-60, 660), st.integers(0, 400)), max_size=6))
def test_deaf_minutes_are_those_in_which_too_many_seconds_had_no_listener(spans):
    heard = {second for since, length in spans for second in range(since, since + length)}
    expected = [minute for minute in range(10) if sum(minute * 60 + s not in heard for s in range(60)) > 10]
    assert deaf_between(*[((0, since), (0, since + length)) for since, length in spans]) == expected


# --- Slots ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "tick", "deaf", "verdict"),
    [
        pytest.param(5, 5, [], MISSED, id="everything was heard"),
        pytest.param(5, 5, [0, 1, 2, 3, 4], UNKNOWN, id="nothing was heard"),
        pytest.param(1, 1, [0], UNKNOWN, id="a margin of one minute, deaf"),
        pytest.param(5, 5, [-1], MISSED, id="deaf before the slot"),
        pytest.param(5, 5, [3, 4], SlotVerdict(wait_until=at(7)), id="deaf at its end: as many minutes more"),
        pytest.param(5, 5, [1], SlotVerdict(wait_until=at(6)), id="deaf in its middle"),
        pytest.param(5, 7, [3, 4], MISSED, id="a whole margin was listened to by now"),
        pytest.param(5, 7, [3, 4, 5, 6], SlotVerdict(wait_until=at(9)), id="deaf again while it waited"),
        pytest.param(5, 10, [2, 3, 4, 5, 6, 7, 8, 9], SlotVerdict(wait_until=at(13)), id="deaf far beyond its end"),
        pytest.param(5, 9, [0, 1, 2, 3, 4, 5], UNKNOWN, id="found late: its own window counts"),
        pytest.param(5, 9, [6, 7], MISSED, id="found late, deaf after its window"),
    ],
)
def test_d2_the_window_of_a_slot_decides(margin, tick, deaf, verdict):
    minutes = DeafMinutes.of([at(minute) for minute in deaf])
    assert judge_slot(TEN, margin_minutes=margin, tick=at(tick), deaf=minutes) == verdict


@given(st.sets(st.integers(0, 40)), st.integers(1, 12))
def test_d2_a_slot_waits_for_a_whole_margin_of_listening_and_no_longer(deaf, margin):
    minutes = DeafMinutes.of([at(minute) for minute in sorted(deaf)])
    tick = at(margin)
    while (verdict := judge_slot(TEN, margin_minutes=margin, tick=tick, deaf=minutes)).wait_until is not None:
        assert verdict.wait_until > tick
        tick = verdict.wait_until
    window = set(range(margin))
    assert verdict.is_unknown == (window <= deaf)
    if not verdict.is_unknown:
        listened = [minute for minute in range(100) if minute not in deaf][:margin]
        assert tick == at(max(listened[-1] + 1, margin))
