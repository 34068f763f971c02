"""When failures open an incident and oks resolve it: docs/reference/behaviour.md, section 8 with D5 and D6."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from incidents.thresholds import Decision, Reason, decide_failure, decide_ok
from monitors.state import EnvironmentState, EnvironmentStatus

TEN = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def a_state(status, **fields):
    return EnvironmentState(status=EnvironmentStatus(status), **fields)


def failing(status, streak):
    return a_state(status, failure_streak=streak, failure_streak_started_at=TEN)


def outcome(decision):
    return decision.state.status.value, decision.reason, decision.run_length


# --- The table of docs/reference/behaviour.md, section 8.3 ------------------------------------------------------------


@pytest.mark.parametrize("before", ["active", "ok"])
def test_with_threshold_one_the_first_failure_opens(before):
    decision = decide_failure(a_state(before), failed_at=TEN, threshold=1)
    assert outcome(decision) == ("error", Reason.THRESHOLD_REACHED, 1)
    assert (decision.state.failure_streak, decision.state.failure_streak_started_at) == (1, TEN)


@pytest.mark.parametrize("before", ["active", "ok"])
@pytest.mark.parametrize(
    ("already", "expected"),
    [
        pytest.param(1, ("same", Reason.BELOW_FAILURE_THRESHOLD, 0), id="second of three: below"),
        pytest.param(2, ("error", Reason.THRESHOLD_REACHED, 3), id="third of three: opens, with a run of three"),
        pytest.param(3, ("error", Reason.THRESHOLD_REACHED, 3), id="fourth, the threshold was lowered: opens"),
    ],
)
def test_d5_the_failure_that_reaches_the_threshold_opens(before, already, expected):
    decision = decide_failure(failing(before, already), failed_at=TEN + MINUTE, threshold=3)
    status, reason, run_length = expected
    assert outcome(decision) == (before if status == "same" else status, reason, run_length)
    assert decision.state.failure_streak == already + 1


def test_d5_fewer_failures_than_the_threshold_never_open_whatever_the_history():
    state = a_state("active")
    for number in range(4):
        decision = decide_failure(state, failed_at=TEN + number * MINUTE, threshold=5)
        state = decision.state
        assert outcome(decision) == ("active", Reason.BELOW_FAILURE_THRESHOLD, 0)
    assert (state.failure_streak, state.failure_streak_started_at) == (4, TEN)


@pytest.mark.parametrize("threshold", [1, 3])
def test_a_failure_in_error_is_one_more_occurrence(threshold):
    decision = decide_failure(failing("error", 5), failed_at=TEN + MINUTE, threshold=threshold)
    assert outcome(decision) == ("error", Reason.INCIDENT_CONTINUES, 1)
    assert (decision.state.failure_streak, decision.state.failure_streak_started_at) == (6, TEN)


def test_a_failure_ends_a_run_of_oks():
    decision = decide_failure(a_state("error", ok_streak=2), failed_at=TEN, threshold=1)
    assert (decision.state.ok_streak, decision.state.failure_streak) == (0, 1)


@pytest.mark.parametrize("threshold", [1, 3])
@pytest.mark.parametrize(
    ("before", "reason"), [("active", Reason.FIRST_OK), ("ok", Reason.STILL_OK)], ids=["active", "ok"]
)
def test_an_ok_where_nothing_was_wrong_is_ok_whatever_the_threshold(before, reason, threshold):
    assert outcome(decide_ok(a_state(before), started_at=TEN, received_at=TEN, threshold=threshold)) == (
        "ok",
        reason,
        0,
    )


@pytest.mark.parametrize(
    ("already", "expected"),
    [
        pytest.param(0, ("error", Reason.BELOW_RECOVERY_THRESHOLD, 0), id="first of three: not yet"),
        pytest.param(1, ("error", Reason.BELOW_RECOVERY_THRESHOLD, 0), id="second of three: not yet"),
        pytest.param(2, ("ok", Reason.RECOVERED, 0), id="third of three: recovered"),
        pytest.param(3, ("ok", Reason.RECOVERED, 0), id="fourth, the threshold was lowered: recovered"),
    ],
)
def test_d6_recovery_takes_consecutive_oks(already, expected):
    decision = decide_ok(a_state("error", ok_streak=already), started_at=TEN, received_at=TEN, threshold=3)
    assert outcome(decision) == expected
    assert decision.state.ok_streak == already + 1


@pytest.mark.parametrize("before", ["active", "ok", "error"])
def test_an_ok_ends_a_run_of_failures(before):
    decision = decide_ok(failing(before, 2), started_at=TEN, received_at=TEN, threshold=3)
    state = decision.state
    assert (state.failure_streak, state.failure_streak_started_at, state.ok_streak) == (0, None, 1)


def test_d6_a_failure_in_between_starts_the_count_of_oks_again():
    state = failing("error", 1)
    for word in ["ok", "failure", "ok"]:
        if word == "ok":
            state = decide_ok(state, started_at=TEN, received_at=TEN, threshold=2).state
        else:
            state = decide_failure(state, failed_at=TEN, threshold=1).state
        assert state.status is EnvironmentStatus.ERROR
    assert decide_ok(state, started_at=TEN, received_at=TEN, threshold=2).reason is Reason.RECOVERED


def test_an_environment_that_is_being_deleted_counts_nothing():
    gone = a_state("pending_deletion")
    assert decide_failure(gone, failed_at=TEN, threshold=1) == Decision(gone, Reason.BEING_DELETED)
    assert decide_ok(gone, started_at=TEN, received_at=TEN, threshold=1) == Decision(gone, Reason.BEING_DELETED)


@pytest.mark.parametrize(
    ("known", "newest"),
    [
        pytest.param(None, TEN, id="the first ok"),
        pytest.param(TEN - MINUTE, TEN, id="a newer run"),
        pytest.param(TEN + MINUTE, TEN + MINUTE, id="an older run that ended later"),
    ],
)
def test_the_last_ok_is_the_ok_run_that_began_last(known, newest):
    assert (
        decide_ok(a_state("ok", last_ok_at=known), started_at=TEN, received_at=TEN, threshold=1).state.last_ok_at
        == newest
    )


def test_a_failure_changes_nothing_but_status_and_streaks():
    before = replace(failing("ok", 1), last_checkin=TEN, last_ok_at=TEN, pending_slot=TEN, limit_count=3)
    after = decide_failure(before, failed_at=TEN + MINUTE, threshold=2).state
    assert after == replace(before, status=EnvironmentStatus.ERROR, failure_streak=2)


@pytest.mark.parametrize(
    ("newest_ok", "overtaken"),
    [
        pytest.param(None, False, id="no ok yet"),
        pytest.param(TEN - timedelta(microseconds=1), False, id="of a run that began just before"),
        pytest.param(TEN, False, id="of a run that began at the same time"),
        pytest.param(TEN + timedelta(microseconds=1), True, id="of a run that began just after"),
    ],
)
def test_d26_an_error_does_not_count_once_a_newer_run_was_ok(newest_ok, overtaken):
    before = a_state("ok", last_ok_at=newest_ok)

    decision = decide_failure(before, failed_at=TEN + 9 * MINUTE, threshold=1, error_of=TEN)

    assert decision.counts is not overtaken
    assert not overtaken or decision == Decision(before, Reason.OVERTAKEN_BY_OK)


def test_d26_what_the_clock_found_counts_whatever_run_was_ok():
    before = a_state("ok", last_ok_at=TEN + MINUTE)

    assert decide_failure(before, failed_at=TEN + 9 * MINUTE, threshold=1).reason is Reason.THRESHOLD_REACHED


@pytest.mark.parametrize(
    ("known", "newest"),
    [
        pytest.param(None, TEN, id="the first ok"),
        pytest.param(TEN - MINUTE, TEN, id="a later one"),
        pytest.param(TEN + MINUTE, TEN + MINUTE, id="one that was processed late"),
    ],
)
def test_the_newest_reception_of_an_ok_is_remembered(known, newest):
    before = a_state("ok", last_ok_received_at=known)
    after = decide_ok(before, started_at=TEN - 9 * MINUTE, received_at=TEN, threshold=1).state
    assert after.last_ok_received_at == newest


# --- Against a naive history ------------------------------------------------------------------------------------------


@given(
    words=st.lists(st.sampled_from(["failure", "ok"]), max_size=40),
    failures_to_open=st.integers(1, 5),
    oks_to_recover=st.integers(1, 5),
)
def test_streaks_and_status_are_what_the_whole_history_says(words, failures_to_open, oks_to_recover):
    state = EnvironmentState()
    history: list[str] = []
    status = "active"
    for number, word in enumerate(words):
        history.append(word)
        if word == "ok":
            state = decide_ok(
                state, started_at=TEN + number * MINUTE, received_at=TEN + number * MINUTE, threshold=oks_to_recover
            ).state
            if status != "error" or history[-oks_to_recover:] == ["ok"] * oks_to_recover:
                status = "ok"
        else:
            state = decide_failure(state, failed_at=TEN + number * MINUTE, threshold=failures_to_open).state
            if history[-failures_to_open:] == ["failure"] * failures_to_open:
                status = "error"
        ending = 0
        while ending < len(history) and history[-1 - ending] == word:
            ending += 1
        assert state.status == status
        assert (state.ok_streak, state.failure_streak) == ((ending, 0) if word == "ok" else (0, ending))
        began = TEN + (number - ending + 1) * MINUTE
        assert state.failure_streak_started_at == (began if word == "failure" else None)
