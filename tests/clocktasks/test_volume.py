"""Volume: what a minute should have had, whether it had far less, and what the clock makes of a row of such minutes."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from clocktasks.volume import (
    VolumeClass,
    VolumeDecision,
    VolumeRules,
    classify,
    compared_minutes,
    decide,
    deviation_percent,
    expected_volume,
    next_decisions,
    settled,
)

GOOD, LOW, LOST = VolumeClass.NORMAL, VolumeClass.ABNORMAL, VolumeClass.INCIDENT
NORMAL, ABNORMAL, RECOVERING, INCIDENT = VolumeDecision
RULES = VolumeRules()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WEDNESDAY = datetime(2026, 3, 4, 10, 7, tzinfo=UTC)
SATURDAY = WEDNESDAY + 3 * DAY


def history_of(volume, minute: datetime = WEDNESDAY, *, days: int = 28, without: Iterable[datetime] = ()):
    """The volumes that tell what to expect in `minute`: a number, or for each earlier minute its own."""
    begin = minute - days * DAY - 6 * HOUR
    return {
        earlier: volume(earlier) if callable(volume) else volume
        for earlier in compared_minutes(minute)
        if earlier >= begin and earlier not in set(without)
    }


def quiet_weekends(minute: datetime) -> int:
    return 400 if minute.weekday() >= 5 else 1000


def unsteady(minute: datetime) -> int:
    return (900, 1000, 1100)[minute.toordinal() % 3]


# --- What to expect ---------------------------------------------------------------------------------------------------


def test_few_minutes_are_compared_each_once_and_all_of_them_earlier():
    minutes = compared_minutes(WEDNESDAY)

    assert len(minutes) == len(set(minutes)) == 76
    assert max(minutes) == WEDNESDAY - HOUR
    assert min(minutes) == WEDNESDAY - 28 * DAY - 6 * HOUR
    assert {minute.minute for minute in minutes} == {WEDNESDAY.minute}


def test_nothing_but_the_compared_minutes_is_looked_at():
    class Asked(dict[datetime, int]):
        asked: set[datetime] = set()

        def get(self, minute, default=None):
            self.asked.add(minute)
            return super().get(minute, default)

        def __getitem__(self, minute):
            self.asked.add(minute)
            return super().__getitem__(minute)

    classify(0, WEDNESDAY, Asked(history_of(1000)), RULES)

    assert Asked.asked == set(compared_minutes(WEDNESDAY))


def test_a_steady_minute_is_expected_to_be_what_it_always_was():
    assert expected_volume(WEDNESDAY, history_of(1000), RULES) == 1000


@pytest.mark.parametrize(("days", "expected"), [(0, None), (1, None), (2, 250), (3, 250), (6, 250), (7, 1000)])
def test_two_days_are_needed_and_a_weekday_that_was_never_seen_may_be_a_day_off(days, expected):
    assert expected_volume(WEDNESDAY, history_of(1000, days=days), RULES) == expected


@pytest.mark.parametrize(("usual", "expected"), [(99, None), (100, 100), (101, 101)])
def test_where_few_check_ins_are_usual_nothing_is_expected(usual, expected):
    assert expected_volume(WEDNESDAY, history_of(usual), RULES) == expected


def test_a_quiet_weekday_is_expected_to_be_quiet_and_a_busy_one_busy():
    assert expected_volume(SATURDAY, history_of(quiet_weekends, SATURDAY), RULES) == 400
    assert expected_volume(WEDNESDAY, history_of(quiet_weekends), RULES) == 1000


@pytest.mark.parametrize("bad_days", [1, 2, 3])
def test_a_few_days_of_silence_do_not_change_what_is_expected(bad_days):
    silent = {WEDNESDAY - day * DAY for day in range(1, bad_days + 1)}

    assert expected_volume(WEDNESDAY, history_of(lambda minute: 0 if minute in silent else 1000), RULES) == 1000


def test_minutes_that_nobody_listened_to_are_left_out():
    deaf = [WEDNESDAY - day * DAY for day in (1, 2, 3, 4)] + [WEDNESDAY - hour * HOUR for hour in (1, 2)]

    assert expected_volume(WEDNESDAY, history_of(1000, without=deaf), RULES) == 1000


def test_without_any_of_the_last_hours_the_days_alone_tell_what_to_expect():
    deaf = [WEDNESDAY - hour * HOUR for hour in range(1, 7)]

    assert expected_volume(WEDNESDAY, history_of(1000, without=deaf), RULES) == 1000


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(1, 1000), (2, 1000), (3, 800), (4, 600), (6, 600)],
)
def test_a_drop_that_lasts_becomes_what_is_expected_after_some_hours(hours, expected):
    """Somebody has removed four of ten monitors: not an incident until their minutes leave the history of days."""
    low_since = WEDNESDAY - hours * HOUR
    history = history_of(lambda minute: 600 if minute >= low_since else 1000)

    assert expected_volume(WEDNESDAY, history, RULES) == pytest.approx(expected)


def test_d3_silence_that_lasts_does_not_become_what_is_expected():
    history = history_of(lambda minute: 0 if minute >= WEDNESDAY - 6 * HOUR else 1000)

    assert expected_volume(WEDNESDAY, history, RULES) == 200
    assert classify(0, WEDNESDAY, history, RULES) == (LOST, -100)


def test_more_than_usual_in_the_last_hours_is_not_expected_to_go_on():
    history = history_of(lambda minute: 9000 if minute >= WEDNESDAY - 6 * HOUR else 1000)

    assert expected_volume(WEDNESDAY, history, RULES) == 1000


# --- How a minute looks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("volume", "deviation"), [(0, -100), (700, -30), (1000, 0), (1500, 50)])
def test_a_deviation_is_the_difference_in_percent_of_what_was_expected(volume, deviation):
    assert deviation_percent(volume, 1000) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("volume", "looks"),
    [(0, LOST), (6999, LOST), (7000, LOST), (7001, LOW), (8999, LOW), (9000, LOW), (9001, GOOD), (10_000, GOOD)],
)
def test_a_large_drop_is_an_incident_and_a_small_one_abnormal(volume, looks):
    assert classify(volume, WEDNESDAY, history_of(10_000), RULES)[0] is looks


def test_more_than_expected_is_normal():
    assert classify(1_000_000, WEDNESDAY, history_of(1000), RULES) == (GOOD, 99_900)


@pytest.mark.parametrize("usual", [100, 1000, 10_000])
def test_d3_total_silence_in_a_minute_that_always_had_some_is_minus_100_percent_and_an_incident(usual):
    assert classify(0, WEDNESDAY, history_of(usual), RULES) == (LOST, -100)


def test_d3_silence_is_noticed_in_the_first_week_too():
    assert classify(0, WEDNESDAY, history_of(1000, days=3), RULES) == (LOST, -100)


def test_a_quiet_first_weekend_is_no_incident():
    assert classify(400, SATURDAY, history_of(quiet_weekends, SATURDAY, days=3), RULES)[0] is GOOD


@pytest.mark.parametrize("volume", [0, 99])
def test_a_minute_in_which_few_check_ins_are_usual_says_nothing(volume):
    assert classify(volume, WEDNESDAY, history_of(99), RULES) == (GOOD, None)


def test_a_minute_that_nobody_listened_to_says_nothing():
    assert classify(None, WEDNESDAY, history_of(1000), RULES) == (GOOD, None)


def test_a_minute_without_a_history_says_nothing():
    assert classify(0, WEDNESDAY, {}, RULES) == (GOOD, None)


@pytest.mark.parametrize(("volume", "looks"), [(50, LOST), (51, GOOD), (60, GOOD)])
def test_a_drop_that_chance_explains_is_normal_and_its_deviation_is_kept(volume, looks):
    """Of 100 independent check-ins it may be ten more or fewer (Poisson); five times that is no chance."""
    assert classify(volume, WEDNESDAY, history_of(100), RULES) == (looks, volume - 100)


@pytest.mark.parametrize(("volume", "looks"), [(400, GOOD), (200, LOST)])
def test_where_days_differ_a_lot_it_takes_more_to_be_noticed(volume, looks):
    assert classify(volume, WEDNESDAY, history_of(unsteady), RULES)[0] is looks
    assert classify(400, WEDNESDAY, history_of(1000), RULES)[0] is LOST


def test_an_hour_that_nobody_listened_to_on_any_day_does_not_hide_how_much_the_others_differ():
    nobody = [minute for minute in compared_minutes(WEDNESDAY) if minute.hour in {4, 7}]

    assert classify(400, WEDNESDAY, history_of(unsteady, without=nobody), RULES)[0] is GOOD
    assert classify(400, WEDNESDAY, history_of(1000, without=nobody), RULES)[0] is LOST


def test_how_much_days_differ_is_taken_from_all_hours_not_from_the_last():
    def unsteady_but_at_one_hour(minute: datetime) -> int:
        return 1000 if minute.hour == 4 else unsteady(minute)

    assert classify(400, WEDNESDAY, history_of(unsteady_but_at_one_hour), RULES)[0] is GOOD


# --- What the clock makes of it (table 13.2) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("previous", "classes", "decision"),
    [
        pytest.param(NORMAL, [GOOD] * 5, NORMAL, id="as before: normal"),
        pytest.param(NORMAL, [LOW, GOOD, GOOD, GOOD, GOOD], ABNORMAL, id="A: abnormality started"),
        pytest.param(ABNORMAL, [GOOD, GOOD, GOOD, GOOD, LOW], ABNORMAL, id="as before: one good minute too few"),
        pytest.param(ABNORMAL, [GOOD, GOOD, GOOD, GOOD, GOOD], NORMAL, id="B: abnormality recovered"),
        pytest.param(ABNORMAL, [LOW, LOW, LOW, LOW, LOW], ABNORMAL, id="as before: still abnormal"),
        pytest.param(INCIDENT, [GOOD, LOST, LOST, LOST, LOST], RECOVERING, id="C: incident recovering"),
        pytest.param(INCIDENT, [GOOD, GOOD, GOOD, GOOD, GOOD], RECOVERING, id="C: even if the window is good"),
        pytest.param(INCIDENT, [LOW, LOST, LOST, LOST, LOST], INCIDENT, id="as before: abnormal is no recovery"),
        pytest.param(INCIDENT, [LOST, LOST, LOST, LOST, LOST], INCIDENT, id="as before: an incident goes on"),
        pytest.param(RECOVERING, [GOOD, GOOD, GOOD, GOOD, LOST], RECOVERING, id="as before: one good minute too few"),
        pytest.param(RECOVERING, [GOOD, GOOD, GOOD, GOOD, GOOD], NORMAL, id="D: incident recovered"),
        pytest.param(RECOVERING, [LOW, GOOD, GOOD, GOOD, LOST], INCIDENT, id="E: recovery failed, abnormal"),
        pytest.param(RECOVERING, [LOST, GOOD, GOOD, GOOD, LOST], INCIDENT, id="E: recovery failed, incident"),
        pytest.param(NORMAL, [LOST, GOOD, GOOD, GOOD, GOOD], INCIDENT, id="F: incident started"),
        pytest.param(ABNORMAL, [LOST, LOW, GOOD, GOOD, GOOD], INCIDENT, id="F: incident after an abnormality"),
        pytest.param(ABNORMAL, [GOOD], NORMAL, id="B: a young ledger has no bad minutes"),
        pytest.param(ABNORMAL, [GOOD, LOW], ABNORMAL, id="as before: a young ledger with a bad minute"),
        pytest.param(ABNORMAL, [GOOD] * 5 + [LOST], NORMAL, id="B: what is older than the window does not matter"),
    ],
)
def test_the_decision_follows_from_the_one_before_and_the_last_minutes(previous, classes, decision):
    assert decide(previous, classes, rules=RULES) is decision


@pytest.mark.parametrize(
    ("decision", "becomes"), [(NORMAL, NORMAL), (INCIDENT, INCIDENT), (ABNORMAL, None), (RECOVERING, None)]
)
def test_a_final_decision_is_that_of_the_ticks_that_waited_for_it(decision, becomes):
    assert settled(decision) is becomes
    assert decision.is_final is (becomes is not None)


# --- Whole stories ----------------------------------------------------------------------------------------------------

TRACE_RULES = VolumeRules(anomaly_percent=-5, incident_percent=-25)
LETTERS = {"n": NORMAL, "a": ABNORMAL, "r": RECOVERING, "i": INCIDENT}
LETTER = {decision: letter for letter, decision in LETTERS.items()}


def looks(metric: float, rules: VolumeRules) -> VolumeClass:
    """The class of a metric that is given: chance has no part in these stories."""
    return LOST if metric <= rules.incident_percent else LOW if metric <= rules.anomaly_percent else GOOD


def story(metrics: Iterable[float], rules: VolumeRules = TRACE_RULES) -> tuple[str, str, list[int | None]]:
    """Return the decision at each tick, what became of it, and after how many ticks that was settled (None: open)."""
    classes: list[VolumeClass] = []
    decisions: list[VolumeDecision] = []
    final: dict[datetime, VolumeDecision] = {}
    settled_at: dict[datetime, int] = {}
    pending: list[datetime] = []
    for number, metric in enumerate(metrics):
        tick = WEDNESDAY + number * MINUTE
        classes = [looks(metric, rules), *classes]
        decisions.append(decide(decisions[-1] if decisions else NORMAL, classes, rules=rules))
        now_final = next_decisions(pending, tick, decisions[-1], rules=rules)
        pending = [waiting for waiting in [*pending, tick] if waiting not in now_final]
        settled_at |= dict.fromkeys(now_final, number)
        final |= now_final
    ticks = [WEDNESDAY + number * MINUTE for number in range(len(decisions))]
    return (
        "".join(LETTER[decision] for decision in decisions),
        "".join(LETTER[final[tick]] if tick in final else "?" for tick in ticks),
        [settled_at[tick] - number if tick in settled_at else None for number, tick in enumerate(ticks)],
    )


def test_an_abnormality_ends_after_five_good_minutes_and_was_none():
    decisions, final, _ = story([0, 0, -6, -7, -4, -3, -3, -4, -1])

    assert decisions == "nnaaaaaan"
    assert final == "nnnnnnnnn"


def test_an_incident_starts_at_once_and_recovery_is_dated_back_to_the_first_good_minute():
    decisions, final, waited = story([0, -35, -80, -50, -3, -2, -4, -1, -4])

    assert decisions == "niiirrrrn"
    assert final == "niiinnnnn"
    assert waited == [0, 0, 0, 0, 4, 3, 2, 1, 0]


def test_an_incident_after_an_abnormality_is_dated_back_to_its_first_minute():
    decisions, final, waited = story([0, -6, -7, -4, -3, -10, -30])

    assert decisions == "naaaaai"
    assert final == "niiiiii"
    assert waited == [0, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("relapse", [-6, -30])
def test_a_recovery_that_fails_was_part_of_the_incident(relapse):
    decisions, final, _ = story([0, -35, -3, -2, relapse, 0])

    assert decisions == "nirrir"
    assert final == "niiii?"


def test_d4_a_suspicion_holds_its_ticks_until_it_is_decided():
    assert story([0, -6, 0])[1:] == ("n??", [0, None, None])


def test_d4_a_tick_waits_for_five_ticks_at_most_and_is_normal_then():
    decisions, final, waited = story([0, -6, -6, -6, -6, -6, -6, -6])

    assert decisions == "naaaaaaa"
    assert final == "nnn?????"
    assert waited[:3] == [0, 5, 5]


def test_d4_what_became_normal_by_waiting_stays_so_when_an_incident_follows():
    decisions, final, _ = story([0, -6, -6, -6, -6, -6, -6, -40])

    assert decisions == "naaaaaai"
    assert final == "nniiiiii"


def test_with_a_window_of_one_tick_a_suspicion_waits_for_one_tick():
    rules = VolumeRules(anomaly_percent=-5, incident_percent=-25, decision_window=1)

    assert story([0, -6, -6, 0, -30, 0, 0], rules) == ("naanirn", "nnnninn", [0, 1, 1, 0, 0, 1, 0])


@pytest.mark.parametrize(
    "rules",
    [
        {"incident_percent": -100.0},
        {"anomaly_percent": -30.0},
        {"anomaly_percent": -0.5},
        {"decision_window": 1},
        {"minimum_expected": 0.5},
    ],
)
def test_rules_may_go_to_their_limits(rules):
    assert VolumeRules(**rules) != RULES


@pytest.mark.parametrize(
    "rules",
    [
        {"anomaly_percent": 10.0},
        {"anomaly_percent": 0.0},
        {"anomaly_percent": 0.5},
        {"anomaly_percent": -40.0},
        {"incident_percent": -101.0},
        {"decision_window": 0},
        {"minimum_expected": 0.0},
    ],
)
def test_rules_that_contradict_themselves_are_refused(rules):
    with pytest.raises(AssertionError, match="VolumeRules"):
        VolumeRules(**rules)
