"""The words and data of an occurrence (docs/reference/behaviour.md, section 9, P8)."""

from datetime import UTC, datetime

import pytest

from incidents.explanation import TITLE_LENGTH_MAX, explain, failure_reason, subtitle, title
from incidents.thresholds import FailureKind, Reason
from monitors.schedule import IntervalUnit, Schedule
from monitors.state import EnvironmentState, MonitorRules

TEN = datetime(2026, 7, 6, 10, 0, tzinfo=UTC)
E, M, T = FailureKind.ERROR, FailureKind.MISSED, FailureKind.TIMEOUT


def test_the_title_names_the_monitor():
    assert title("Nightly backup") == "Job failing: Nightly backup"


@pytest.mark.parametrize("length", [TITLE_LENGTH_MAX - 14, TITLE_LENGTH_MAX - 13, TITLE_LENGTH_MAX - 12])
def test_the_title_fits_its_column(length):
    assert title("x" * length) == f"Job failing: {'x' * min(length, TITLE_LENGTH_MAX - 13)}"


def test_the_subtitle_is_a_sentence_with_the_reason():
    assert subtitle(failure_reason([M])) == "No check-in came in time."


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ([E], "The job reported an error"),
        ([M], "No check-in came in time"),
        ([T], "The job did not finish in time"),
        ([E, E], "2 errors in a row"),
        ([M, M, M], "3 missed check-ins in a row"),
        ([E, M], "1 error and 1 missed check-in in a row"),
        ([E, M, T], "1 error, 1 missed check-in and 1 timeout in a row"),
        ([T, E, T, M, E], "2 timeouts, 2 errors and 1 missed check-in in a row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_counts_the_run_by_kind_in_the_order_of_first_appearance(kinds, text):
    assert failure_reason(kinds) == text


def test_a_miss_explains_itself_completely():
    explanation = explain(
        kind=M,
        reason=Reason.THRESHOLD_REACHED,
        rules=MonitorRules(Schedule.from_crontab("30 15 * * *", "Asia/Kathmandu"), 5, 20, 2, 3),
        state=EnvironmentState(
            failure_streak=2,
            failure_streak_started_at=TEN.replace(day=5),
            last_ok_at=TEN.replace(day=4, hour=9, minute=45),
        ),
        started_at=TEN.replace(hour=9, minute=45),
        expected_time=TEN.replace(hour=9, minute=45),
        deadline=TEN.replace(hour=9, minute=50),
        tick=TEN.replace(hour=9, minute=50),
        received_at=None,
    )
    assert explanation == {
        "kind": "missed",
        "reason": "threshold_reached",
        "schedule": "At 15:30 (Asia/Kathmandu)",
        "crontab": "30 15 * * *",
        "interval": None,
        "interval_unit": None,
        "timezone": "Asia/Kathmandu",
        "expected_at": "2026-07-06T09:45:00Z",
        "expected_at_local": "2026-07-06T15:30:00+05:45",
        "margin_minutes": 5,
        "max_runtime_minutes": 20,
        "deadline_at": "2026-07-06T09:50:00Z",
        "tick": "2026-07-06T09:50:00Z",
        "clock_decision": "normal",
        "started_at": "2026-07-06T09:45:00Z",
        "received_at": None,
        "failure_threshold": 2,
        "recovery_threshold": 3,
        "failure_streak": 2,
        "failure_streak_started_at": "2026-07-05T10:00:00Z",
        "last_ok_at": "2026-07-04T09:45:00Z",
    }


def test_an_error_of_a_job_that_was_never_expected_names_no_slot_and_no_clock():
    explanation = explain(
        kind=E,
        reason=Reason.INCIDENT_CONTINUES,
        rules=MonitorRules(Schedule.from_interval(2, "hour"), 1, 30, 1, 1),
        state=EnvironmentState(),
        started_at=TEN,
        expected_time=None,
        deadline=None,
        tick=None,
        received_at=TEN.replace(second=7, microsecond=250_000),
    )
    empty = {"crontab", "expected_at", "expected_at_local", "deadline_at", "tick", "clock_decision", "last_ok_at"}
    assert {key for key, value in explanation.items() if value is None} == empty | {"failure_streak_started_at"}
    assert (explanation["interval"], explanation["interval_unit"]) == (2, IntervalUnit.HOUR)
    assert explanation["schedule"] == "Every 2 hours (UTC)"
    assert explanation["received_at"] == "2026-07-06T10:00:07.250000Z"
