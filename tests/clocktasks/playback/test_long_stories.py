"""Stories of a year and more: what happens together in them, and how few statements they take."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import clocktasks.playback.scenario
from checkins.models import CheckIn
from clocktasks.playback.play import run_scenario
from clocktasks.playback.scenario import Scenario, parse_scenarios, turns


@pytest.fixture(autouse=True)
def always_listening():
    """A story says itself who listens, and when."""


YEAR_BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
DAILY = {"slug": "job", "schedule": "0 3 * * *", "environments": ["production"]}
STATEMENTS_MAX = 200
"""A story of a year is told in this many, and would take a hundred times as many a day at a time."""
STATEMENTS_A_DAY_MAX = 16
"""Where the end of a run waits for a tick each day: the days have to be told one by one, each in a part of a pass."""


def told(events: Any, **fields: Any) -> Scenario:
    story = {"name": "told", "monitors": [DAILY], "events": events, "expect": []} | fields
    (scenario,) = parse_scenarios([json.dumps(story).encode()], file="told.jsonl")
    return scenario


def a_year(*moments):
    """A story with events on each day: a tick, or the status of the day's run, and when, in hours."""
    begin = YEAR_BEGINS + timedelta(hours=4)
    events = [{"at": begin.isoformat(), "action": "checkin", "monitor": "job", "status": "ok"}]
    for day in range(1, 366):
        for what, hours in moments:
            event = {"at": (YEAR_BEGINS + timedelta(days=day, hours=hours)).isoformat(), "action": "tick"}
            if what != "tick":
                event |= {"action": "checkin", "monitor": "job", "status": what, "check_in_id": f"day {day}"}
            events.append(event)
    events.append({"at": (YEAR_BEGINS + timedelta(days=366)).isoformat(), "action": "tick"})
    return told(events)


@pytest.mark.parametrize(
    ("moments", "failures"),
    [
        ([], 365),
        ([("tick", 12)], 365),
        ([("in_progress", 3.01), ("ok", 3.2)], 0),
        ([("in_progress", 3.01)], 365),
        ([("ok", 3.01), ("tick", 12)], 0),
        ([("in_progress", 3.01), ("tick", 3.1), ("ok", 3.2), ("tick", 12)], 0),
    ],
    ids=[
        "missed each day",
        "missed each day, with a tick each day",
        "ok each day",
        "timed out each day",
        "ok and a tick each day",
        "two ticks each day",
    ],
)
def test_a_year_of_a_daily_job_is_told_in_few_statements(db, moments, failures):
    with CaptureQueriesContext(connection) as queries:
        outcome = run_scenario(a_year(*moments))
    assert outcome.state is not None
    assert outcome.state.occurrences == {"job/production": failures}
    assert CheckIn.objects.count() == 366
    assert len(queries) < STATEMENTS_MAX


@pytest.mark.long
@pytest.mark.parametrize(
    ("moments", "recoveries"),
    [
        ([("ok", 3.2), ("tick", 12)], 365),
        ([("ok", 3.2)], 365),
        ([("in_progress", 3.01), ("ok", 3.9)], 0),
        ([("in_progress", 3.01), ("ok", 3.9), ("tick", 12)], 0),
    ],
    ids=["late, with a tick each day", "late each day", "too long each day", "too long, with a tick each day"],
)
def test_a_year_in_which_an_end_waits_for_a_tick_each_day_takes_few_statements_a_day(db, moments, recoveries):
    with CaptureQueriesContext(connection) as queries:
        outcome = run_scenario(a_year(*moments))
    assert outcome.state is not None
    assert outcome.state.occurrences == {"job/production": 365}
    assert outcome.state.resolved_incidents == {"job/production": recoveries}
    assert len(queries) < 365 * STATEMENTS_A_DAY_MAX


def test_ten_years_in_which_nothing_happens_are_told_in_few_statements(db):
    begin, end = YEAR_BEGINS.isoformat(), YEAR_BEGINS.replace(year=2036).isoformat()
    story = told([{"at": at, "action": "tick"} for at in (begin, end)])
    with CaptureQueriesContext(connection) as queries:
        run_scenario(story)
    assert len(queries) < STATEMENTS_MAX


RUNS = ["a", "b", None, "zero"]
CONFIGURATION = {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}
story_events = st.lists(
    st.one_of(
        st.just("tick"),
        st.tuples(
            st.sampled_from(["job", "unknown", "late"]),
            st.sampled_from(["in_progress", "in_progress", "ok", "error", "rubbish"]),
            st.sampled_from(RUNS),
            st.sampled_from([False, False, False, True]),
        ),
    ),
    min_size=2,
    max_size=12,
)


@pytest.mark.long
@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(happened=story_events, steps=st.lists(st.sampled_from([5, 50, 300, 2000]), min_size=12, max_size=12))
def test_what_happens_together_ends_as_if_it_had_happened_one_by_one(db, happened, steps):
    at, events = datetime(2026, 1, 5, 10, tzinfo=UTC), []
    for what, step in zip(happened, steps, strict=False):
        at += timedelta(seconds=step)
        event: dict[str, Any] = {"at": at.isoformat(), "action": "tick"}
        if what != "tick":
            event |= {"action": "checkin", "monitor": what[0], "status": what[1], "check_in_id": what[2]}
            event |= {"monitor_config": CONFIGURATION} if what[3] else {}
        events.append(event)
    events.append({"at": (at + timedelta(hours=1)).isoformat(), "action": "tick"})
    scenario = told(events, monitors=[DAILY | {"schedule": "*/10 * * * *"}])
    states = []
    for together_max, in_time_max in ((1, 500), (500, 500), (500, 0)):
        with transaction.atomic(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(clocktasks.playback.scenario, "TOGETHER_MAX", together_max)
            patch.setattr(clocktasks.playback.scenario, "TURNS_IN_TIME_MAX", in_time_max)
            states.append(run_scenario(scenario).state)
            transaction.set_rollback(True)
    assert states[0] == states[1] == states[2]


@pytest.mark.parametrize(
    ("events", "expected", "together"),
    [
        (["ok", "ok", "tick", "tick", "ok"], [], [[0, 1], [2, 3], [4]]),
        (["ok", "ok", "ok"], [1], [[0, 1], [2]]),
        (["in_progress a", "ok a", "in_progress a"], [], [[0, 1], [2]]),
        (["in_progress zero", "ok zero", "in_progress zero"], [], [[0, 1, 2]]),
        (["ok", "ok with a configuration", "ok"], [], [[0], [1], [2]]),
    ],
)
def test_events_happen_together_if_nobody_can_tell(events, expected, together):
    def event(number, words):
        at = {"at": (YEAR_BEGINS + timedelta(hours=number)).isoformat()}
        if words == "tick":
            return at | {"action": "tick"}
        status, *more = words.split(maxsplit=1)
        has_configuration = more == ["with a configuration"]
        return at | {
            "action": "checkin",
            "monitor": "job",
            "status": status,
            **({"monitor_config": {}} if has_configuration else {"check_in_id": more[0] if more else None}),
        }

    story = told(
        [event(number, words) for number, words in enumerate(events)],
        expect=[{"after_event": number} for number in expected],
    )
    assert turns(story) == together


def test_in_a_long_story_check_ins_and_ticks_happen_together():
    story = a_year(("ok", 3.01), ("tick", 12))
    assert [len(turn) for turn in turns(story)] == [500, 232]
    short = Scenario(name="short", events=story.events[:101], expect=[])
    assert len(turns(short)) == 100


@pytest.mark.parametrize(
    "fields",
    [
        {"volume": [{"from": "2026-02-01T00:00:00Z", "until": "2026-02-01T01:00:00Z", "decision": "incident"}]},
        {"deaf": {"action": "deaf", "from": "2026-02-01T00:00:00Z", "until": "2026-02-01T01:00:00Z"}},
    ],
    ids=["volume", "deaf"],
)
def test_where_a_late_clock_could_be_told_from_one_in_time_a_long_story_has_one_in_time(fields):
    events = [json.loads(msgspec.json.encode(event)) for event in a_year(("ok", 3.01), ("tick", 12)).events]
    deaf = fields.pop("deaf", None)
    assert len(turns(told([*events, *([deaf] if deaf else [])], **fields))) > 700
