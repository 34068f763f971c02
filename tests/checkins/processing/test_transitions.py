"""What a message does to its run and environment, with D7, D8, D12, D13, D16.

Source: docs/reference/behaviour.md, sections 6.3, 6.4 and 7.
"""

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from checkins.messages import CheckInStatus, Problem, ProblemKind, Source
from checkins.processing.per_minute import count_towards_limit
from checkins.processing.transitions import CheckInState, EarlierEnd, Verdict, decide_checkin
from monitors.schedule import Anchor, Schedule
from monitors.state import EnvironmentState, EnvironmentStatus, MonitorRules
from tests.messages import make_message, run_id

HERE, ELSEWHERE = 1, 2
RULES = MonitorRules(
    Schedule.from_crontab("0 * * * *"),
    margin_minutes=10,
    max_runtime_minutes=30,
    failure_threshold=1,
    recovery_threshold=1,
)
TRACE, OTHER_TRACE = uuid.UUID(int=1), uuid.UUID(int=2)


def at(text, days=0):
    """An instant on the day of these tests: "10:05" or "10:05:30"."""
    return datetime.fromisoformat(f"2026-01-05T{text}").replace(tzinfo=UTC) + timedelta(days=days)


# The environment heard an ok at 09:58 and waits for 10:00, at the latest 10:10.
WAITING = EnvironmentState(
    status=EnvironmentStatus.OK,
    last_checkin=at("09:58"),
    last_ok_at=at("09:58"),
    pending_slot=at("10:00"),
    next_checkin=at("10:00"),
    next_checkin_latest=at("10:10"),
    ok_streak=1,
)


def a_run(status, *, start="10:00:30", **fields):
    """A stored run of this environment. It began with an opening message, unless it says otherwise."""
    values = {
        "id": 7,
        "guid": run_id(1),
        "environment_id": HERE,
        "status": CheckInStatus(status),
        "date_added": at(start),
        "date_updated": at(start),
        "received_at": at(start),
        "source": Source.SENTRY_ENVELOPE,
        "date_in_progress": at(start),
        "expected_time": at("10:00"),
        "timeout_at": at("10:30") if status == "in_progress" else None,
        "failed_at": at(start) if status in ("error", "missed", "timeout") else None,
    }
    return CheckInState(**{**values, **fields})


# The same environment after that run began: the slot 10:00 counts as served from the opening on.
SERVED = replace(
    WAITING,
    last_checkin=at("10:00:30"),
    pending_slot=at("11:00"),
    next_checkin=at("11:00"),
    next_checkin_latest=at("11:10"),
)


def replace_rules(**changes):
    return dataclasses.replace(RULES, **changes)


def tell(
    status, received, existing=None, environment=SERVED, *, rules=RULES, seconds_early=5, without_id=False, **fields
):
    """Apply one message."""
    received_at = received if isinstance(received, datetime) else at(received)
    message = make_message(status, at=received_at, run=None if without_id else 1, **fields)
    return decide_checkin(
        message,
        existing=existing,
        new_guid=run_id(1),
        environment_id=HERE,
        environment=environment,
        rules=rules,
        early_tolerance=timedelta(seconds=seconds_early),
    )


def changed(before, after):
    """The names and new values of the fields that differ."""
    names = before.__struct_fields__
    return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


# --- A new run --------------------------------------------------------------------------------------------------------


def test_an_opening_message_starts_a_run_with_its_deadline():
    effect = tell("in_progress", "10:04:10", environment=WAITING, trace_id=TRACE)
    assert effect.checkin == CheckInState(
        id=None,
        guid=run_id(1),
        environment_id=HERE,
        status=CheckInStatus.IN_PROGRESS,
        date_added=at("10:04:10"),
        date_updated=at("10:04:10"),
        received_at=at("10:04:10"),
        source=Source.SENTRY_ENVELOPE,
        date_in_progress=at("10:04:10"),
        expected_time=at("10:00"),
        timeout_at=at("10:34:10"),
        trace_id=TRACE,
    )
    assert (effect.verdict, effect.earlier_end, effect.problem) == (Verdict.NOTHING, None, None)


def test_the_slot_counts_as_served_from_the_opening_on():
    effect = tell("in_progress", "10:04:10", environment=WAITING)
    assert changed(WAITING, effect.environment) == {
        "last_checkin": at("10:04:10"),
        "first_timeout_at": at("10:34:10"),
        "pending_slot": at("11:00"),
        "next_checkin": at("11:00"),
        "next_checkin_latest": at("11:10"),
    }


def test_a_whole_ok_run_is_counted_as_ok():
    effect = tell("ok", "10:04:10", environment=WAITING, duration_ms=1_500)
    assert effect.verdict is Verdict.OK
    assert effect.checkin is not None
    run = effect.checkin
    assert (run.status, run.date_added, run.date_updated) == ("ok", at("10:04:10"), at("10:04:10"))
    assert (run.date_in_progress, run.timeout_at, run.duration_ms, run.failed_at) == (None, None, 1_500, None)
    assert changed(WAITING, effect.environment) == {
        "last_checkin": at("10:04:10"),
        "pending_slot": at("11:00"),
        "next_checkin": at("11:00"),
        "next_checkin_latest": at("11:10"),
    }


def test_a_whole_failed_run_is_counted_as_a_failure_found_when_it_was_received():
    effect = tell("error", "10:04:10", environment=WAITING)
    assert effect.verdict is Verdict.FAILED
    assert effect.checkin is not None
    assert (effect.checkin.status, effect.checkin.failed_at) == ("error", at("10:04:10"))
    assert changed(WAITING, effect.environment) == {
        "last_checkin": at("10:04:10"),
        "pending_slot": at("11:00"),
        "next_checkin": at("11:00"),
        "next_checkin_latest": at("11:10"),
    }


@pytest.mark.parametrize("status", ["ok", "error", "in_progress"])
def test_a_duration_does_not_date_a_run_back_and_none_is_made_up(status):
    effect = tell(status, "10:04:10", environment=WAITING)
    assert effect.checkin is not None
    assert (effect.checkin.date_added, effect.checkin.duration_ms) == (at("10:04:10"), None)


def test_the_very_first_run_of_an_environment_has_no_expected_time():
    effect = tell("ok", "10:04:10", environment=EnvironmentState())
    assert effect.checkin is not None
    assert effect.checkin.expected_time is None
    assert effect.environment.pending_slot == at("11:00")


@pytest.mark.parametrize(
    ("received", "served"),
    [
        pytest.param("10:59:54.900000", False, id="5.1 s early"),
        pytest.param("10:59:55", True, id="5.0 s early"),
        pytest.param("10:59:55.100000", True, id="4.9 s early"),
    ],
)
@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d12_a_run_that_begins_up_to_five_seconds_early_serves_the_slot(status, received, served):
    effect = tell(status, received)
    assert effect.environment.pending_slot == (at("12:00") if served else at("11:00"))
    assert effect.checkin is not None
    assert effect.checkin.expected_time == at("11:00")


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d12_the_end_of_a_run_or_a_heartbeat_serves_no_slot_early(status):
    effect = tell(status, "10:59:58", a_run("in_progress", timeout_at=at("11:10")))
    assert effect.environment.pending_slot == at("11:00")


# --- in_progress -> ... -----------------------------------------------------------------------------------------------


def test_a_heartbeat_moves_the_deadline_and_nothing_else_of_the_run():
    run = a_run("in_progress")
    effect = tell("in_progress", "10:20:40", run)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {"date_updated": at("10:20:40"), "timeout_at": at("10:50:40")}
    assert (effect.verdict, effect.environment) == (Verdict.NOTHING, replace(SERVED, first_timeout_at=at("10:50:40")))


def test_d31_a_heartbeat_under_a_shorter_runtime_leaves_the_deadline_that_the_run_has():
    run = a_run("in_progress", timeout_at=at("11:00:30"))
    effect = tell("in_progress", "10:20:40", run)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {"date_updated": at("10:20:40")}


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_d21_what_follows_the_beginning_of_a_run_serves_no_later_slot(status):
    effect = tell(status, "11:05:00", a_run("in_progress", timeout_at=at("11:30")))
    assert effect.problem is None
    assert effect.environment.pending_slot == at("11:00")


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d21_a_last_word_whose_run_had_no_start_serves_its_slot(status):
    effect = tell(status, "11:05:00")
    assert effect.environment.pending_slot == at("12:00")


@pytest.mark.parametrize(
    ("received", "begins"),
    [
        pytest.param("10:45:00", False, id="before the next slot: a heartbeat"),
        pytest.param("10:59:54.9", False, id="more than five seconds before it"),
        pytest.param("10:59:55", True, id="five seconds before it (D12)"),
        pytest.param("11:00:00", True, id="at the slot"),
        pytest.param("11:30:00", True, id="after it"),
    ],
)
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(SERVED, id="nobody served the slot"),
        pytest.param(
            replace(SERVED, pending_slot=at("12:00"), next_checkin=at("12:00"), next_checkin_latest=at("12:10")),
            id="another run served it, or it was missed",
        ),
    ],
)
def test_d22_a_start_without_id_begins_a_run_once_a_slot_has_come_that_the_open_one_does_not_serve(
    received, begins, environment
):
    running = a_run("in_progress", timeout_at=at("12:30"))
    effect = tell("in_progress", received, running, environment, without_id=True)
    assert effect.checkin is not None
    assert (effect.checkin.id is None) == begins


def test_d22_a_run_that_began_early_serves_the_slot_that_comes():
    running = a_run("in_progress", start="09:59:57", timeout_at=at("12:30"))
    effect = tell("in_progress", "10:00:20", running, without_id=True)
    assert effect.checkin is not None
    assert effect.checkin.id == running.id


@pytest.mark.parametrize(
    ("received", "begins"), [("10:29:54", False), ("10:29:56", True), ("10:30:00", True), ("10:44:00", True)]
)
def test_d22_slots_of_an_interval_are_counted_from_the_newest_beginning(received, begins):
    rules = replace_rules(schedule=Schedule.from_interval(20, "minute"))
    environment = replace(SERVED, pending_slot=at("10:30"), next_checkin=at("10:30"), anchor=Anchor(at("10:10"), 5))
    effect = tell(
        "in_progress",
        received,
        a_run("in_progress", timeout_at=at("12:30")),
        environment,
        rules=rules,
        without_id=True,
    )
    assert effect.checkin is not None
    assert (effect.checkin.id is None) == begins


def test_d22_a_start_with_the_id_of_its_run_is_a_heartbeat_always():
    running = a_run("in_progress", timeout_at=at("12:30"))
    effect = tell("in_progress", "11:30:00", running)
    assert effect.checkin is not None
    assert effect.checkin.id == running.id


def test_a_heartbeat_may_bring_a_duration_and_a_trace_that_was_missing():
    effect = tell("in_progress", "10:20:40", a_run("in_progress"), duration_ms=5, trace_id=TRACE)
    assert effect.checkin is not None
    assert (effect.checkin.duration_ms, effect.checkin.trace_id) == (5, TRACE)


def test_the_first_trace_stays():
    effect = tell("ok", "10:20:40", a_run("in_progress", trace_id=TRACE), trace_id=OTHER_TRACE)
    assert effect.checkin is not None
    assert effect.checkin.trace_id == TRACE


@pytest.mark.parametrize(
    ("received", "deadline"),
    [
        pytest.param(at("09:30:29", days=7), at("10:00:29", days=7), id="half an hour ahead is within seven days"),
        pytest.param(at("09:30:30", days=7), at("10:00:30", days=7), id="half an hour ahead is seven days"),
        pytest.param(at("09:31:00", days=7), at("10:00:30", days=7), id="half an hour ahead would be more"),
    ],
)
def test_no_heartbeat_moves_the_deadline_further_than_seven_days_from_the_start(received, deadline):
    effect = tell("in_progress", received, a_run("in_progress", timeout_at=at("09:45", days=7)))
    assert effect.checkin is not None
    assert effect.checkin.timeout_at == deadline


@pytest.mark.parametrize(("status", "verdict"), [("ok", Verdict.OK), ("error", Verdict.FAILED)])
def test_a_closing_message_ends_the_run(status, verdict):
    run = a_run("in_progress")
    effect = tell(status, "10:10:30.250000", run)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {
        "status": status,
        "date_updated": at("10:10:30.250000"),
        "timeout_at": None,
        "duration_ms": 600_250,
        **({"failed_at": at("10:10:30.250000")} if status == "error" else {}),
    }
    assert effect.verdict is verdict


@pytest.mark.parametrize(
    ("known", "sent", "expected"),
    [
        pytest.param(None, None, 600_000, id="neither: the time between the messages"),
        pytest.param(None, 42, 42, id="the message's own"),
        pytest.param(17, None, 17, id="the one that is known"),
        pytest.param(17, 42, 42, id="the message's own wins"),
        pytest.param(None, 0, 0, id="nought is a duration"),
    ],
)
def test_the_duration_of_a_run_that_ends(known, sent, expected):
    effect = tell("ok", "10:10:30", a_run("in_progress", duration_ms=known), duration_ms=sent)
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == expected


def test_d8_a_heartbeat_does_not_freeze_the_duration():
    beating = tell("in_progress", "10:05:30", a_run("in_progress")).checkin
    ended = tell("ok", "10:10:30", beating).checkin
    assert beating is not None
    assert ended is not None
    assert (beating.duration_ms, ended.duration_ms) == (None, 600_000)


# --- ok / error -> ... ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d16_a_late_opening_message_only_fills_in_the_start(status):
    run = a_run(status, start="10:00:45", date_in_progress=None)
    effect = tell("in_progress", "10:00:46", run)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {"date_in_progress": at("10:00:46"), "duration_ms": 1_000}
    assert (effect.verdict, effect.environment, effect.problem) == (Verdict.NOTHING, SERVED, None)


def test_the_duration_between_swapped_messages_is_never_negative():
    effect = tell("in_progress", "10:00:29", a_run("ok", date_in_progress=None))
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == 1_000


def test_d16_a_late_opening_message_keeps_a_duration_that_is_known():
    effect = tell("in_progress", "10:00:46", a_run("ok", date_in_progress=None, duration_ms=3))
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == 3


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d7_a_second_opening_message_after_the_end_changes_nothing(status):
    effect = tell("in_progress", "10:00:46", a_run(status))
    assert (effect.checkin, effect.verdict, effect.problem, effect.environment) == (None, Verdict.NOTHING, None, SERVED)


@pytest.mark.parametrize(("status", "fields"), [("error", {}), ("ok", {"duration_ms": 1})])
def test_d16_ok_is_final(status, fields):
    effect = tell(status, "10:05:00", a_run("ok"), **fields)
    assert (effect.checkin, effect.verdict, effect.environment) == (None, Verdict.NOTHING, SERVED)
    assert effect.problem is not None
    assert (effect.problem.kind, effect.problem.value) == (ProblemKind.CHECKIN_FINISHED, status)


@pytest.mark.parametrize("duration_ms", [None, 90_000])
@pytest.mark.parametrize("run", [{"status": "ok"}, {"status": "timeout", "finished_at": at("10:40")}])
def test_an_ok_that_is_sent_once_more_changes_nothing_and_is_no_mistake(run, duration_ms):
    finished_status = CheckInStatus.OK if run["status"] == "timeout" else None
    effect = tell(
        "ok", "10:45:30", a_run(**run, finished_status=finished_status, duration_ms=90_000), duration_ms=duration_ms
    )
    assert (effect.checkin, effect.problem, effect.environment) == (None, None, SERVED)


def test_d16_an_ok_after_an_error_of_the_same_run_counts_and_the_error_is_kept():
    run = a_run("error", date_updated=at("10:01"), failed_at=at("10:01"), duration_ms=30_000)
    effect = tell("ok", "10:02:30", run, duration_ms=120_000)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {
        "status": "ok",
        "date_updated": at("10:02:30"),
        "duration_ms": 120_000,
    }
    assert effect.earlier_end == EarlierEnd(CheckInStatus.ERROR, at("10:01"), 30_000)
    assert effect.verdict is Verdict.OK


def test_d16_a_retried_run_without_durations_took_from_its_start_to_its_last_word():
    run = a_run("error", date_updated=at("10:01:30"), failed_at=at("10:01:30"), duration_ms=60_000)
    effect = tell("ok", "10:03:30.0005", run)
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == 180_000
    assert isinstance(effect.checkin.duration_ms, int)
    assert effect.earlier_end == EarlierEnd(CheckInStatus.ERROR, at("10:01:30"), 60_000)


def test_d7_the_same_error_once_more_changes_nothing():
    effect = tell("error", "10:02:30", a_run("error", duration_ms=30_000), duration_ms=30_000)
    assert (effect.checkin, effect.verdict, effect.problem, effect.environment) == (None, Verdict.NOTHING, None, SERVED)


def test_d7_an_error_without_duration_after_an_error_changes_nothing():
    effect = tell("error", "10:02:30", a_run("error", duration_ms=30_000))
    assert (effect.checkin, effect.earlier_end, effect.verdict) == (None, None, Verdict.NOTHING)


def test_d16_another_error_of_a_retried_run_is_its_last_word_but_no_second_failure():
    run = a_run("error", failed_at=at("10:01"), date_updated=at("10:01"), duration_ms=30_000)
    effect = tell("error", "11:02:30", run, duration_ms=45_000)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {"date_updated": at("11:02:30"), "duration_ms": 45_000}
    assert effect.earlier_end == EarlierEnd(CheckInStatus.ERROR, at("10:01"), 30_000)
    assert effect.verdict is Verdict.NOTHING
    assert effect.environment.pending_slot == at("11:00")


def test_d16_celerys_three_words_of_one_run():
    """in_progress, error, error, ok under one id."""
    environment, run, words = WAITING, None, []
    for status, received, duration_ms in [
        ("in_progress", "10:00:30", None),
        ("error", "10:01:00", 30_000),
        ("error", "10:02:00", 31_000),
        ("ok", "10:03:00", 32_000),
    ]:
        effect = tell(status, received, run, environment, duration_ms=duration_ms)
        environment, run = effect.environment, effect.checkin
        words.append((effect.verdict.value, effect.earlier_end and effect.earlier_end.duration_ms))
    assert words == [("nothing", None), ("failed", None), ("nothing", 30_000), ("ok", 31_000)]
    assert run is not None
    assert (run.status, run.duration_ms, run.failed_at) == ("ok", 32_000, at("10:01"))


# --- timeout, missed, unknown -> ... ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ok", "error"])
def test_d8_a_late_end_stays_a_timeout_and_says_how_it_ended_and_how_long_it_took(status):
    run = a_run("timeout", failed_at=at("10:30"))
    effect = tell(status, "10:45:30", run)
    assert effect.checkin is not None
    assert changed(run, effect.checkin) == {
        "date_updated": at("10:45:30"),
        "duration_ms": 2_700_000,
        "finished_status": status,
        "finished_at": at("10:45:30"),
    }
    assert effect.verdict is Verdict.NOTHING


def test_d8_d21_a_late_end_is_no_result_and_serves_nothing():
    effect = tell("ok", "11:05:00", a_run("timeout"))
    assert effect.environment == SERVED


def test_d8_d16_a_late_ok_after_a_late_error_is_the_last_word():
    run = a_run("timeout", finished_status=CheckInStatus.ERROR, finished_at=at("10:40"), duration_ms=5)
    effect = tell("ok", "10:45:30", run, duration_ms=9)
    assert effect.checkin is not None
    finish = effect.checkin.finished_status, effect.checkin.finished_at, effect.checkin.duration_ms
    assert finish == ("ok", at("10:45:30"), 9)
    assert effect.earlier_end == EarlierEnd(CheckInStatus.ERROR, at("10:40"), 5)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param(None, 2_700_000, id="the first word after the deadline measures the run"),
        pytest.param(17, 17, id="unless its duration was told before"),
    ],
)
def test_d8_how_long_a_late_run_took(known, expected):
    effect = tell("ok", "10:45:30", a_run("timeout", duration_ms=known))
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == expected


def test_d8_d16_a_late_word_after_a_late_word_measures_the_run_anew():
    """It went on after all: the earlier end says nothing about how long it took."""
    run = a_run("timeout", finished_status=CheckInStatus.ERROR, finished_at=at("10:40:30"), duration_ms=2_400_000)
    effect = tell("ok", "10:45:30", run)
    assert effect.checkin is not None
    assert effect.checkin.duration_ms == 2_700_000


@pytest.mark.parametrize(("status", "fields"), [("error", {}), ("ok", {"duration_ms": 1})])
def test_d8_a_late_ok_is_final(status, fields):
    run = a_run("timeout", finished_status=CheckInStatus.OK, finished_at=at("10:40"))
    effect = tell(status, "10:45:30", run, **fields)
    assert effect.problem is not None
    assert (effect.problem.kind, effect.checkin, effect.environment) == (ProblemKind.CHECKIN_FINISHED, None, SERVED)


def test_a_run_that_timed_out_cannot_be_reopened():
    effect = tell("in_progress", "10:45:30", a_run("timeout"))
    assert effect.problem is not None
    assert (effect.problem.kind, effect.checkin, effect.environment) == (ProblemKind.CHECKIN_FINISHED, None, SERVED)


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_a_miss_takes_no_message(status):
    effect = tell(status, "10:45:30", a_run("missed", date_in_progress=None))
    assert effect.problem is not None
    assert (effect.problem.kind, effect.checkin, effect.environment) == (ProblemKind.CHECKIN_FINISHED, None, SERVED)


@pytest.mark.parametrize(
    ("status", "deadline", "verdict"),
    [("in_progress", at("11:15:30"), Verdict.NOTHING), ("ok", None, Verdict.OK), ("error", None, Verdict.FAILED)],
)
def test_an_unknown_run_takes_messages_as_a_running_one_does(status, deadline, verdict):
    effect = tell(status, "10:45:30", a_run("unknown"))
    assert effect.checkin is not None
    assert (effect.checkin.status, effect.checkin.timeout_at, effect.verdict) == (status, deadline, verdict)


def test_an_unknown_run_without_an_opening_message_gets_its_start():
    effect = tell("in_progress", "10:45:30", a_run("unknown", date_in_progress=None))
    assert effect.checkin is not None
    assert effect.checkin.date_in_progress == at("10:45:30")


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["in_progress", "ok", "error", "timeout", "missed", "unknown"])
@pytest.mark.parametrize("new", ["in_progress", "ok", "error"])
def test_d9_an_id_of_another_environment_is_refused_whatever_its_run(old, new):
    effect = tell(new, "10:05:00", a_run(old, environment_id=ELSEWHERE))
    assert effect.problem is not None
    assert effect.problem == Problem(
        ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH,
        "check_in_id",
        str(run_id(1)),
        f"check_in_id {run_id(1)} belongs to a run of another monitor or environment of this project; "
        "each run needs an id of its own.",
    )
    assert (effect.checkin, effect.verdict, effect.environment) == (None, Verdict.NOTHING, SERVED)


@pytest.mark.parametrize(
    ("received", "refused"),
    [
        pytest.param(at("10:00:29", days=7), False, id="a second before seven days from the start"),
        pytest.param(at("10:00:30", days=7), True, id="seven days from the start"),
        pytest.param(at("10:00:31", days=7), True, id="a second after"),
    ],
)
@pytest.mark.parametrize(
    ("old", "new"),
    [("in_progress", "in_progress"), ("in_progress", "ok"), ("error", "ok"), ("timeout", "error"), ("unknown", "ok")],
)
def test_no_message_changes_a_run_seven_days_after_its_start(old, new, received, refused):
    run = a_run(old, timeout_at=at("10:30", days=7) if old == "in_progress" else None)
    effect = tell(new, received, run)
    assert (effect.problem is not None, effect.checkin is None) == (refused, refused)
    if effect.problem is not None:
        assert effect.problem.kind is ProblemKind.CHECKIN_FINISHED
        assert effect.environment == SERVED


def test_a_refusal_says_what_was_sent_and_why():
    effect = tell("error", "10:05:00", a_run("ok"))
    assert effect.problem is not None
    assert effect.problem.field == "status"
    assert (
        effect.problem.message
        == "status 'error' was sent for a run that is over (it ended as ok); nothing was changed."
    )


@pytest.mark.parametrize(
    ("run", "why"),
    [
        pytest.param(a_run("timeout"), "it ended as timeout", id="timeout"),
        pytest.param(a_run("missed"), "it ended as missed", id="missed"),
        pytest.param(a_run("in_progress"), "its deadline has passed", id="deadline"),
        pytest.param(a_run("ok", date_added=at("09:00", days=-8)), "it began 7 days or more before", id="old"),
        pytest.param(
            a_run("timeout", finished_status=CheckInStatus.OK, finished_at=at("10:40")),
            "it timed out and ended ok later",
            id="late ok",
        ),
    ],
)
def test_a_refusal_names_the_reason(run, why):
    status = "error" if run.finished_status else "in_progress"
    effect = tell(status, "10:50", run)
    assert effect.problem is not None
    assert effect.problem.message == f"status {status!r} was sent for a run that is over ({why}); nothing was changed."


# --- Order of runs ----------------------------------------------------------------------------------------------------


def test_an_ok_of_an_older_run_still_counts_and_dates_nothing_back():
    before = replace(SERVED, last_checkin=at("10:03"), last_ok_at=at("10:03"), pending_slot=at("11:00"))
    effect = tell("ok", "10:05:00", a_run("in_progress"), before)
    assert (effect.verdict, effect.environment) == (Verdict.OK, before)


@pytest.mark.parametrize("status", ["in_progress", "ok", "error"])
def test_a_message_older_than_the_newest_run_moves_nothing_back(status):
    """Two processes may apply messages in another order than that of their reception."""
    before = replace(
        SERVED,
        last_checkin=at("12:01"),
        pending_slot=at("13:00"),
        next_checkin=at("13:00"),
        next_checkin_latest=at("13:10"),
    )
    effect = tell(status, "11:05:00", a_run("in_progress", timeout_at=at("11:30")), before)
    moved = changed(before, effect.environment)
    assert moved.keys() <= {"first_timeout_at"}


# --- D20: what came after a deadline that the clock has not applied yet -----------------------------------------------


@pytest.mark.parametrize(
    ("received", "in_time"),
    [
        pytest.param("10:29:59.999999", True, id="just before the deadline"),
        pytest.param("10:30:00", False, id="at the deadline"),
        pytest.param("10:30:01", False, id="just after the deadline"),
    ],
)
@pytest.mark.parametrize("status", ["ok", "error"])
def test_d20_an_end_received_at_the_deadline_or_later_is_late_though_the_tick_was_not_applied(
    status, received, in_time
):
    run = a_run("in_progress")
    effect = tell(status, received, run)
    assert effect.checkin is not None
    assert effect.problem is None
    if in_time:
        assert (effect.checkin.status, effect.checkin.timeout_at) == (status, None)
        assert effect.verdict is not Verdict.NOTHING
    else:
        assert changed(run, effect.checkin) == {
            "date_updated": at(received),
            "duration_ms": effect.checkin.duration_ms,
            "finished_status": status,
            "finished_at": at(received),
        }
        assert effect.verdict is Verdict.NOTHING


@pytest.mark.parametrize(("received", "in_time"), [("10:29:59.999999", True), ("10:30:00", False), ("10:30:01", False)])
def test_d20_a_heartbeat_at_the_deadline_or_later_reopens_nothing(received, in_time):
    effect = tell("in_progress", received, a_run("in_progress"))
    if in_time:
        assert effect.problem is None
    else:
        assert effect.problem is not None
        assert effect.problem.kind is ProblemKind.CHECKIN_FINISHED
        assert "its deadline has passed" in effect.problem.message
        assert (effect.checkin, effect.environment) == (None, SERVED)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        pytest.param("10:09:59", "10:00", id="the margin is still running: the waiting slot"),
        pytest.param("10:10:00", "11:00", id="the margin is over: the next one"),
        pytest.param("10:10:01", "11:00", id="later: the next one"),
    ],
)
def test_d20_a_run_belongs_to_the_oldest_slot_that_it_can_still_serve(received, expected):
    effect = tell("ok", received, environment=WAITING)
    assert effect.checkin is not None
    assert effect.checkin.expected_time == at(expected)
    # The slot that it came too late for stays where the clock will find it.
    assert effect.environment.pending_slot == (at("11:00") if expected == "10:00" else at("10:00"))


# --- D13 --------------------------------------------------------------------------------------------------------------


def count(state, text, most=6):
    return count_towards_limit(state, received_at=at(text), per_minute_max=most)


def test_d13_the_first_check_in_of_a_minute_is_counted_as_one():
    assert count(EnvironmentState(), "10:00:30") == EnvironmentState(limit_minute=at("10:00"), limit_count=1)


@pytest.mark.parametrize(
    ("already", "counted"), [(5, 6), (6, None), (7, None)], ids=["the sixth", "the seventh", "the eighth"]
)
def test_d13_six_in_a_minute_are_allowed(already, counted):
    state = count(EnvironmentState(limit_minute=at("10:00"), limit_count=already), "10:00:59")
    assert (state and state.limit_count) == counted


def test_d13_a_minute_is_a_whole_one_whatever_the_fraction_of_a_second():
    assert count(EnvironmentState(), "10:00:30.123456") == EnvironmentState(limit_minute=at("10:00"), limit_count=1)


def test_d13_the_next_minute_starts_again():
    full = EnvironmentState(limit_minute=at("10:00"), limit_count=6)
    assert count(full, "10:01:00") == EnvironmentState(limit_minute=at("10:01"), limit_count=1)


def test_d13_a_backlog_is_counted_in_the_minutes_in_which_it_was_received():
    state: EnvironmentState | None = EnvironmentState()
    for minute in range(60):
        for _ in range(6):
            assert state is not None
            state = count(state, f"10:{minute:02}:30")
    assert state is not None
    assert state.limit_count == 6


@pytest.mark.parametrize("status", ["ok", "error"])
def test_a_heartbeat_that_is_stored_after_a_late_end_and_came_before_it_makes_it_an_end_in_time(status):
    run = a_run("in_progress", finished_status=CheckInStatus(status), finished_at=at("10:31:30"))
    effect = tell("in_progress", "10:20", run)
    ended = effect.checkin
    assert (ended.status, ended.date_updated, ended.timeout_at) == (status, at("10:31:30"), None)
    assert (ended.finished_status, ended.finished_at) == (None, None)
    assert effect.ended_at == at("10:31:30")
    assert effect.verdict is (Verdict.OK if status == "ok" else Verdict.FAILED)
    assert ended.failed_at == (at("10:31:30") if status == "error" else None)
