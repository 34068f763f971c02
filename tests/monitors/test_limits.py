"""D44: limits of runs that end ok, as values and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.limits import (
    Bound,
    Limit,
    LimitError,
    Limits,
    Rule,
    broken,
    parse_bound,
    parse_limits,
    percentile,
    read_limits,
)

MINUTE = 60_000
TWENTY = [MINUTE] * 20


def limits(text):
    return parse_limits(text)


def verdict(text, **run):
    found = broken(limits(text), **run)
    return None if found is None else found.stored


# --- Which limit a run breaks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration_ms", "expected"),
    [(10 * MINUTE - 1, None), (10 * MINUTE, None), (10 * MINUTE + 1, "slow_counted"), (None, None)],
)
def test_d44_a_run_is_slow_if_it_takes_longer_than_a_fixed_time(duration_ms, expected):
    assert verdict("longer than 10m: failure", duration_ms=duration_ms) == expected


@pytest.mark.parametrize(("duration_ms", "expected"), [(4_999, "fast"), (5_000, None), (5_001, None), (None, None)])
def test_d44_a_run_is_fast_if_it_takes_less_than_a_fixed_time(duration_ms, expected):
    assert verdict("shorter than 5s: note", duration_ms=duration_ms) == expected


@pytest.mark.parametrize(
    ("duration_ms", "expected"), [(3 * MINUTE, None), (3 * MINUTE + 1, "slow"), (MINUTE // 2, None), (29_999, "fast")]
)
def test_d44_a_multiple_is_one_of_the_median_before_the_run(duration_ms, expected):
    text = "longer than 3x: note; shorter than 0.5x: note"
    assert verdict(text, duration_ms=duration_ms, before_ms=TWENTY) == expected


@pytest.mark.parametrize(("runs", "expected"), [(19, None), (20, "slow"), (21, "slow")])
def test_d44_a_multiple_is_not_applied_before_there_are_twenty_runs(runs, expected):
    assert verdict("longer than 3x: note", duration_ms=4 * MINUTE, before_ms=[MINUTE] * runs) == expected


def test_d44_it_says_by_what_it_was_judged():
    found = broken(limits("longer than 2.5x: failure"), duration_ms=200_000, before_ms=TWENTY)
    assert found == (Limit.SLOW, True, "2.5x", 150_000, MINUTE)
    found = broken(limits("longer than 3m: failure"), duration_ms=200_000, before_ms=TWENTY)
    assert found == (Limit.SLOW, True, "3m", 180_000, None)


@pytest.mark.parametrize(("overlaps", "expected"), [(False, None), (True, "overlap_counted")])
def test_d44_overlapping_runs(overlaps, expected):
    assert verdict("overlap: failure", duration_ms=None, overlaps=overlaps) == expected
    assert verdict("longer than 5m: failure", duration_ms=1, overlaps=overlaps) is None


def test_d44_of_several_broken_limits_one_that_counts_is_told():
    text = "longer than 1m: failure; overlap: note"
    assert verdict(text, duration_ms=2 * MINUTE, overlaps=True) == "slow_counted"
    assert verdict(text.replace("failure", "note"), duration_ms=2 * MINUTE, overlaps=True) == "overlap"


# --- Percentiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(1, 50, 1), (2, 50, 1), (3, 50, 2), (100, 50, 50), (100, 95, 95), (100, 99, 99), (99, 99, 99), (21, 95, 20)],
)
def test_a_percentile_is_one_of_the_values(count, percent, expected):
    assert percentile(list(range(count, 0, -1)), percent) == expected


def test_nothing_has_no_percentile():
    assert percentile([], 50) is None


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 100))
def test_at_least_so_many_values_do_not_exceed_a_percentile_and_fewer_are_less(values, percent):
    found = percentile(values, percent)
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


# --- Text -------------------------------------------------------------------------------------------------------------

BOUNDS = st.one_of(
    st.builds(Bound, seconds=st.integers(1, 7 * 86_400)), st.builds(Bound, percent=st.integers(101, 100_000))
)
SHORT = st.one_of(st.builds(Bound, seconds=st.integers(1, 7 * 86_400)), st.builds(Bound, percent=st.integers(1, 99)))


def rules(bounds):
    return st.none() | st.builds(Rule, bounds, st.booleans())


@given(st.builds(Limits, rules(BOUNDS), rules(SHORT), st.none() | st.booleans()))
def test_text_says_all_of_the_limits(limits):
    text = limits.text()
    assert parse_limits(text) == limits
    assert (text is None) == (limits == Limits())
    assert len(text or "") <= 100


@pytest.mark.parametrize(
    ("text", "bound"),
    [("90s", "90s"), ("120 s", "2m"), ("60m", "1h"), ("48H", "2d"), ("7d", "7d"), ("2x", "2x"), ("1.01 x", "1.01x")],
)
def test_a_bound_is_written_in_its_largest_unit(text, bound):
    assert str(parse_bound(text, is_upper=True)) == bound


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1.5m", "8d", "1x", "0.5x", "1001x", "2.345x", "x", "10 min"])
def test_what_is_no_upper_bound_is_refused_with_what_is_allowed(text):
    with pytest.raises(LimitError, match=r"a time, 1s to 7d, or a multiple of the median, more than 1x"):
        parse_bound(text, is_upper=True)


@pytest.mark.parametrize("text", ["1x", "2x", "0x", "0.001x"])
def test_what_is_no_lower_bound_is_refused_too(text):
    with pytest.raises(LimitError, match="less than 1x"):
        parse_bound(text, is_upper=False)


@pytest.mark.parametrize(
    "text",
    ["longer than 10m", "overlap 10m: note", "longer than: note", "longer than 1m: note; longer than 2m: note", "x: y"],
)
def test_other_text_is_refused_by_people_and_ignored_in_a_row(text):
    with pytest.raises(LimitError, match="is no limit"):
        parse_limits(text)
    assert read_limits(text) is None


def test_no_text_is_no_limit():
    assert parse_limits(None) == parse_limits(" ; ") == Limits()
    assert read_limits(None) is None
