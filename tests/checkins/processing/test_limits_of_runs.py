"""D44: a run can be ok and still not right. Through the services, on rows."""

from datetime import timedelta

import pytest

from checkins.editing import update_monitor
from checkins.models import CheckIn, RecentRuns
from checkins.processing.apply import receive
from clocktasks.dispatch import advance_ledger
from incidents.models import Incident, Occurrence
from tests.clocktasks.shards import after, make_monitor_in, tick_by_tick
from tests.factories import NOW, MaintenanceWindowFactory, MonitorEnvironmentFactory, RecentRunsFactory
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE_MS = 60_000


def make_environment(limits, **fields):
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(5, **({"crontab": "0 12 * * *", "max_runtime": 60, "limits": limits} | fields))
    return MonitorEnvironmentFactory(monitor=monitor)


def run(environment, number, minutes, *, begins=0, status="ok"):
    """A run with a start and an end."""
    for word, at in (("in_progress", after(begins)), (status, after(begins + minutes))):
        receive([make_message(word, monitor=environment.monitor, run=number, at=at)], now=at)
    environment.refresh_from_db()


def seen(environment):
    return list(environment.checkins.order_by("date_added", "id").values_list("status", "limit_broken"))


# --- Notes and failures -----------------------------------------------------------------------------------------------


def test_d44_a_slow_run_that_does_not_count_is_ok_with_a_note():
    environment = make_environment("longer than 10m: note")
    run(environment, 1, 10)
    run(environment, 2, 11, begins=20)
    assert seen(environment) == [("ok", None), ("ok", "slow")]
    assert (environment.status, environment.ok_streak, environment.failure_streak) == ("ok", 3, 0)


def test_d44_a_slow_run_that_counts_is_a_failure_and_its_check_in_stays_ok():
    environment = make_environment("longer than 10m: failure")
    run(environment, 1, 11)
    assert seen(environment) == [("ok", "slow_counted")]
    assert (environment.status, environment.ok_streak, environment.failure_streak) == ("error", 0, 1)
    [row] = CheckIn.objects.all()
    assert row.failed_at == after(11)
    [occurrence] = Occurrence.objects.all()
    assert (occurrence.checkin, occurrence.failure_reason) == (row, "The job took too long")
    explanation = occurrence.explanation
    assert {key: explanation[key] for key in ("kind", "duration_ms", "limit", "limit_ms", "median_ms")} == {
        "kind": "slow", "duration_ms": 11 * MINUTE_MS, "limit": "10m", "limit_ms": 10 * MINUTE_MS, "median_ms": None,
    }  # fmt: skip


def test_d44_a_run_that_is_too_fast_counts_too():
    environment = make_environment("shorter than 1m: failure")
    receive([make_message("ok", monitor=environment.monitor, at=after(1), duration_ms=59_999)], now=after(1))
    assert seen(environment) == [("ok", "fast_counted")]
    assert Incident.objects.get().resolved_at is None


def test_d44_a_run_of_which_no_duration_is_known_breaks_no_limit_of_durations():
    environment = make_environment("shorter than 1m: failure; longer than 2m: failure")
    receive([make_message("ok", monitor=environment.monitor, at=after(1))], now=after(1))
    assert seen(environment) == [("ok", None)]


def test_d5_d44_slow_runs_count_towards_the_threshold_together_with_errors():
    environment = make_environment("longer than 10m: failure", failure_threshold=3)
    run(environment, 1, 11)
    run(environment, 2, 1, begins=20, status="error")
    assert not Incident.objects.exists()
    run(environment, 3, 12, begins=30)
    assert [one.failure_reason for one in Occurrence.objects.order_by("number")] == [
        "2 slow runs and 1 error in a row"
    ] * 3
    assert [one.explanation["kind"] for one in Occurrence.objects.order_by("number")] == ["slow", "error", "slow"]


def test_d6_d44_a_slow_run_breaks_a_recovery():
    environment = make_environment("longer than 10m: failure", recovery_threshold=2)
    run(environment, 1, 1, status="error")
    run(environment, 2, 1, begins=10)
    run(environment, 3, 11, begins=20)
    run(environment, 4, 1, begins=40)
    assert Incident.objects.get().resolved_at is None
    run(environment, 5, 1, begins=50)
    assert Incident.objects.get().resolved_at is not None
    assert Incident.objects.get().occurrence_count == 2


def test_d16_d44_an_error_that_became_a_slow_ok_is_one_failure_and_no_recovery():
    environment = make_environment("longer than 10m: failure")
    run(environment, 1, 1, status="error")
    receive([make_message("ok", monitor=environment.monitor, run=1, at=after(12))], now=after(12))
    environment.refresh_from_db()
    assert seen(environment) == [("ok", "slow_counted")]
    assert (environment.status, environment.failure_streak, environment.ok_streak) == ("error", 1, 0)
    assert Occurrence.objects.count() == 1


def test_d26_d44_a_slow_run_that_a_newer_ok_has_overtaken_does_not_count():
    environment = make_environment("longer than 10m: failure")
    start = make_message("in_progress", monitor=environment.monitor, run=1, at=after(0))
    receive([start], now=after(0))
    run(environment, 2, 1, begins=5)
    receive([make_message("ok", monitor=environment.monitor, run=1, at=after(30))], now=after(30))
    environment.refresh_from_db()
    assert seen(environment) == [("ok", "slow_counted"), ("ok", None)]
    assert environment.status == "ok"
    assert CheckIn.objects.filter(failed_at__isnull=False).count() == 0


# --- Multiples of the median ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "expected"), [(19, None), (20, "slow_counted")])
def test_d44_a_multiple_of_the_median_is_judged_by_the_runs_before_this_one(runs, expected):
    environment = make_environment("longer than 3x: failure")
    RecentRunsFactory(monitor_environment=environment, durations_ms=[MINUTE_MS] * runs)
    run(environment, 1, 3.5)
    assert seen(environment) == [("ok", expected)]


def test_d29_d44_runs_of_one_batch_are_judged_one_after_the_other():
    environment = make_environment("longer than 3x: note", crontab="0 0 1 1 *")
    messages = [
        make_message("ok", monitor=environment.monitor, run=number, at=after(number), duration_ms=duration_ms)
        for number, duration_ms in enumerate([*[1_000] * 19, 9_000, 9_000, 2_000], 1)
    ]
    receive(messages, now=after(30))
    assert [limit for _, limit in seen(environment)] == [None] * 20 + ["slow", None]


@pytest.mark.parametrize("is_late", [False, True])
def test_d29_d44_the_verdict_does_not_depend_on_how_late_the_clock_looked(is_late):
    """A miss is due before the ends, which wait for the clock: they are judged in their order."""
    environment = make_environment("longer than 3x: failure", crontab="*/10 * * * *", checkin_margin=1)
    RecentRunsFactory(monitor_environment=environment, durations_ms=[MINUTE_MS] * 20)
    for number, (at, duration_ms) in enumerate([(12, 120_000), (13, 200_000), (14, 100_000)]):
        if not is_late:
            tick_by_tick(after(1), after(at))
        message = make_message("ok", monitor=environment.monitor, run=number, at=after(at), duration_ms=duration_ms)
        receive([message], now=after(at))
    tick_by_tick(after(1), after(15))

    environment.refresh_from_db()
    assert seen(environment) == [("missed", None), ("ok", None), ("ok", "slow_counted"), ("ok", None)]
    assert (environment.status, environment.ok_streak) == ("ok", 1)
    assert recent(environment)[0] == [MINUTE_MS] * 20 + [120_000, 200_000, 100_000]
    assert Incident.objects.count() == 2


# --- Overlapping runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("begins", "expected"), [(4.9, "overlap_counted"), (5, None), (5.1, None)])
def test_d44_a_run_overlaps_if_it_began_before_an_earlier_one_had_ended(begins, expected):
    environment = make_environment("overlap: failure")
    words = [("in_progress", 1, 0), ("ok", 1, 5), ("in_progress", 2, begins), ("ok", 2, 8)]
    for status, number, at in sorted(words, key=lambda word: word[2]):
        message = make_message(status, monitor=environment.monitor, run=number, at=after(at))
        receive([message], now=after(at))
    assert seen(environment) == [("ok", None), ("ok", expected)]


def test_d44_a_run_overlaps_one_that_still_goes_on_and_one_that_was_given_up_later():
    environment = make_environment("overlap: note", max_runtime=10)
    run(environment, 1, 1)
    receive([make_message("in_progress", monitor=environment.monitor, run=2, at=after(5))], now=after(5))
    run(environment, 3, 2, begins=7)
    tick_by_tick(after(1), after(20))
    run(environment, 4, 2, begins=21)
    assert seen(environment) == [("ok", None), ("timeout", None), ("ok", "overlap"), ("ok", None)]


@pytest.mark.parametrize("together", [False, True], ids=["counted before the later end", "with it"])
def test_d44_a_run_overlaps_one_that_ended_late_whatever_later_end_replaced_that(together):
    environment = make_environment("overlap: failure", max_runtime=1)
    words = [("in_progress", 1, 0), ("error", 1, 3), ("in_progress", 2, 2.5), ("ok", 2, 3.2), ("ok", 1, 5)]
    messages = [
        make_message(status, monitor=environment.monitor, run=number, at=after(at))
        for status, number, at in sorted(words, key=lambda word: word[2])
    ]
    for part in [messages] if together else [messages[:4], messages[4:]]:
        receive(part, now=part[-1].received_at)
        tick_by_tick(after(1), after(int((part[-1].received_at - NOW).total_seconds() // 60)))
    tick_by_tick(after(1), after(7))
    assert seen(environment) == [("timeout", None), ("ok", "overlap_counted")]


def test_d44_a_slot_without_a_check_in_overlaps_nothing():
    environment = make_environment("overlap: failure", crontab="*/10 * * * *", checkin_margin=1)
    tick_by_tick(after(1), after(12))
    run(environment, 1, 1, begins=12)
    assert seen(environment) == [("missed", None), ("ok", None)]


# --- Whose limits -----------------------------------------------------------------------------------------------------


def test_d32_d44_a_run_is_judged_by_the_limits_that_held_when_it_ended():
    environment = make_environment("longer than 10m: failure", crontab="*/10 * * * *", checkin_margin=1)
    # The miss at 10:11 is due before this end, which therefore waits for the clock; meanwhile somebody edits.
    receive(
        [make_message("ok", monitor=environment.monitor, run=1, at=after(12), duration_ms=11 * MINUTE_MS)],
        now=after(12),
    )
    update_monitor(environment.monitor_id, {"limits": None}, now=after(13))
    tick_by_tick(after(1), after(14))
    assert seen(environment)[-1] == ("ok", "slow_counted")


def test_d40_a_check_in_changes_no_limit():
    environment = make_environment("longer than 10m: failure")
    message = make_message("ok", monitor=environment.monitor, config=make_config("*/7 * * * *"))
    receive([message], now=NOW)
    environment.monitor.refresh_from_db()
    assert (environment.monitor.crontab, environment.monitor.limits) == ("*/7 * * * *", "longer than 10m: failure")


# --- What is remembered -----------------------------------------------------------------------------------------------


def recent(environment):
    row = RecentRuns.objects.filter(monitor_environment=environment).first()
    return None if row is None else (row.durations_ms, row.delays_ms)


def test_the_newest_hundred_durations_are_remembered_in_order():
    environment = make_environment(None)
    RecentRunsFactory(monitor_environment=environment, durations_ms=list(range(99)))
    messages = [
        make_message("ok", monitor=environment.monitor, run=number, at=after(number), duration_ms=1000 + number)
        for number in range(1, 4)
    ]
    receive(messages, now=after(5))
    assert recent(environment)[0] == [*range(2, 99), 1001, 1002, 1003]


def test_a_delay_is_the_time_from_the_slot_to_the_start():
    environment = make_environment(None, crontab="*/10 * * * *", checkin_margin=5)
    run(environment, 1, 1, begins=12)
    whole = make_message("ok", monitor=environment.monitor, at=after(23), duration_ms=MINUTE_MS)
    receive([whole], now=after(23))
    assert recent(environment) == ([MINUTE_MS, MINUTE_MS], [2 * MINUTE_MS, 2 * MINUTE_MS])


def test_what_did_not_end_ok_is_not_remembered():
    environment = make_environment(None, max_runtime=5)
    run(environment, 1, 1, status="error")
    receive([make_message("in_progress", monitor=environment.monitor, run=2, at=after(2))], now=after(2))
    tick_by_tick(after(1), after(10))
    receive([make_message("ok", monitor=environment.monitor, run=2, at=after(11))], now=after(11))
    assert recent(environment) is None


def test_d16_a_duration_that_is_known_once_the_start_is_told_is_remembered_then():
    environment = make_environment(None)
    receive([make_message("ok", monitor=environment.monitor, run=1, at=after(3))], now=after(3))
    assert recent(environment) in (None, ([], []))
    receive([make_message("in_progress", monitor=environment.monitor, run=1, at=after(1))], now=after(4))
    assert recent(environment)[0] == [2 * MINUTE_MS]


@pytest.mark.parametrize(("at", "expected"), [(9, "slow_counted"), (10, "slow"), (69, "slow"), (70, "slow_counted")])
def test_d44_in_a_maintenance_window_no_limit_counts(at, expected):
    environment = make_environment("longer than 1m: failure")
    MaintenanceWindowFactory(project=environment.monitor.project, starts_at=after(10))
    message = make_message("ok", monitor=environment.monitor, at=after(at), duration_ms=2 * MINUTE_MS)
    receive([message], now=after(at))
    environment.refresh_from_db()
    assert seen(environment) == [("ok", expected)]
    assert environment.status == ("error" if expected == "slow_counted" else "ok")
