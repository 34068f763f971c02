"""What always holds for decisions about volume, whatever came in: they end, they stay, and drops alone matter."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from clocktasks.volume import (
    VolumeClass,
    VolumeDecision,
    VolumeRules,
    classify,
    compared_minutes,
    decide,
    expected_volume,
    next_decisions,
)

unhurried = settings(deadline=None)  # A busy machine is no reason to fail.

MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 4, 10, 7, tzinfo=UTC)
SEVERITY = list(VolumeClass)

classes_of_minutes = st.lists(st.sampled_from(VolumeClass), min_size=1, max_size=60)
windows = st.integers(1, 12)
volumes = st.integers(0, 5_000)
histories = st.lists(st.none() | volumes, min_size=76, max_size=76).map(
    lambda counts: {
        minute: count for minute, count in zip(compared_minutes(START), counts, strict=True) if count is not None
    }
)


class Ledger:
    """Ticks with their decisions, as the clock goes through them. It refuses to decide a tick twice."""

    def __init__(self, rules: VolumeRules) -> None:
        self.rules = rules
        self.classes: list[VolumeClass] = []
        self.previous = VolumeDecision.NORMAL
        self.pending: list[datetime] = []
        self.final: dict[datetime, VolumeDecision] = {}

    def tick(self, seen: VolumeClass) -> None:
        tick = START + len(self.classes) * MINUTE
        self.classes.insert(0, seen)
        self.previous = decide(self.previous, self.classes[: self.rules.decision_window], rules=self.rules)
        settled = next_decisions(self.pending, tick, self.previous, rules=self.rules)
        assert not settled.keys() & self.final.keys()
        assert all(decision.is_final for decision in settled.values())
        self.pending = [waiting for waiting in [*self.pending, tick] if waiting not in settled]
        self.final |= settled


@given(classes_of_minutes, windows)
def test_a_tick_waits_for_a_window_at_most_and_what_is_final_stays(seen, window):
    ledger = Ledger(VolumeRules(decision_window=window))
    for number, look in enumerate(seen):
        ledger.tick(look)

        assert len(ledger.pending) <= window
        assert sorted(ledger.final) + ledger.pending == [START + minute * MINUTE for minute in range(number + 1)]


@given(classes_of_minutes, windows)
def test_a_minute_that_looks_like_an_incident_is_part_of_one(seen, window):
    ledger = Ledger(VolumeRules(decision_window=window))
    for number, look in enumerate(seen):
        ledger.tick(look)
        if look is VolumeClass.INCIDENT:
            assert ledger.final[START + number * MINUTE] is VolumeDecision.INCIDENT


@given(classes_of_minutes, windows)
def test_without_a_minute_that_looks_like_an_incident_nobody_is_spared(seen, window):
    ledger = Ledger(VolumeRules(decision_window=window))
    for look in seen:
        ledger.tick(VolumeClass.ABNORMAL if look is VolumeClass.INCIDENT else look)

    assert set(ledger.final.values()) <= {VolumeDecision.NORMAL}


@given(classes_of_minutes, windows)
def test_after_two_windows_of_good_minutes_everything_is_decided_and_normal(seen, window):
    ledger = Ledger(VolumeRules(decision_window=window))
    for look in seen + [VolumeClass.NORMAL] * (2 * window):
        ledger.tick(look)

    assert not ledger.pending
    assert ledger.previous is VolumeDecision.NORMAL


@unhurried
@given(histories, volumes)
def test_a_minute_with_no_fewer_check_ins_than_any_before_is_normal(history, volume):
    most = max(history.values(), default=0)

    assert classify(most + volume, START, history, VolumeRules())[0] is VolumeClass.NORMAL


@unhurried
@given(histories, volumes, st.integers(1, 1_000))
def test_more_check_ins_never_look_worse(history, volume, more):
    few, many = (classify(count, START, history, VolumeRules())[0] for count in (volume, volume + more))

    assert SEVERITY.index(many) <= SEVERITY.index(few)


@unhurried
@given(histories, volumes, st.integers(2, 100))
def test_scaling_all_volumes_keeps_the_deviation_and_leaves_less_to_chance(history, volume, scale):
    """Above the minimum only proportions count; of more check-ins, the same share is missing by chance less easily."""
    rules = VolumeRules(minimum_expected=1)
    small, deviation = classify(volume, START, history, rules)
    large_history = {minute: count * scale for minute, count in history.items()}
    large, large_deviation = classify(volume * scale, START, large_history, rules)

    if deviation is not None:
        assert large_deviation is not None
        assert abs(large_deviation - deviation) < 1e-6 * (1 + abs(deviation))
        # A deviation on a threshold may fall to either side by the last bit of a float.
        on_a_threshold = any(
            abs(deviation - threshold) < 1e-6 for threshold in (rules.anomaly_percent, rules.incident_percent)
        )
        assert on_a_threshold or SEVERITY.index(large) >= SEVERITY.index(small)


@unhurried
@given(histories)
def test_what_is_expected_lies_between_a_fraction_of_the_least_and_the_most_of_the_same_minute(history):
    expected = expected_volume(START, history, VolumeRules(minimum_expected=1))
    if expected is not None:
        same_minute = [count for minute, count in history.items() if minute.hour == START.hour]
        assert min(same_minute) * 0.25 * 0.2 <= expected <= max(same_minute)


@unhurried
@given(histories)
def test_d3_silence_is_minus_100_percent_wherever_something_is_expected(history):
    rules = VolumeRules()
    _, deviation = classify(0, START, history, rules)

    assert deviation == (None if expected_volume(START, history, rules) is None else -100)
