"""P4, P9: a clock that catches up does many ticks in one pass, and leaves the rows that it would have left in time."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkins.editing import update_monitor
from checkins.models import CheckIn, ListeningSpan
from checkins.processing.apply import receive
from clocktasks import shards
from clocktasks.clock import ClockTask, ShardState, TaskKind, last_in_turn
from clocktasks.dispatch import advance_ledger
from clocktasks.kinds import HANDLERS, bounds, missed
from clocktasks.ledger import stretch, write_ticks
from clocktasks.models import Tick
from clocktasks.shards import process_clock_task
from clocktasks.volume import VolumeDecision
from monitors.models import MonitorEnvironment
from tests.clocktasks.shards import (
    MINUTE,
    SHARD,
    after,
    drain,
    make_monitor_in,
    rows,
    rows_in_order,
    tick_until,
    undone,
)
from tests.factories import NOW, CheckInFactory, ListeningSpanFactory, MonitorEnvironmentFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db
MISSED, TIMEOUT, UNKNOWN = TaskKind


@pytest.fixture(autouse=True)
def clock(db):
    """A clock that has come to 10:00."""
    advance_ledger(NOW, now=NOW)


def job(crontab="*/10 * * * *", **columns):
    return MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD, crontab=crontab, **columns))


def run(environment, minutes, **columns):
    return CheckInFactory(
        monitor_environment=environment, status="in_progress", date_added=NOW, timeout_at=after(minutes), **columns
    )


def passes(monkeypatch):
    """Return a list that grows by kind, first and last tick of each pass, in minutes."""
    seen = []

    def observed(kind, handler):
        def handle(shard, first, last):
            done = handler(shard, first, last)
            seen.append((kind.value, (first - NOW) // MINUTE, (done.until - NOW) // MINUTE))
            return done

        return handle

    for kind, handler in list(HANDLERS.items()):
        monkeypatch.setitem(HANDLERS, kind, observed(kind, handler))
    return seen


# --- any history ------------------------------------------------------------------------------------------------------

HOURS = 2
jobs = st.fixed_dictionaries(
    {
        "crontab": st.sampled_from(["*/7 * * * *", "*/10 * * * *", "0 * * * *", "5-20 * * * *"]),
        "checkin_margin": st.sampled_from([1, 1, 12, 40]),
        "max_runtime": st.sampled_from([1, 15, 50]),
        "failure_threshold": st.integers(1, 3),
        "recovery_threshold": st.integers(1, 2),
        "is_muted": st.sampled_from([False, False, True]),
    }
)
moments = st.integers(1, HOURS * 3600 - 1)
words = st.tuples(
    moments, st.integers(0, 2), st.sampled_from(["in_progress", "in_progress", "ok", "error"]), st.integers(1, 6)
)
edits = st.tuples(
    moments,
    st.integers(0, 2),
    st.sampled_from(
        [
            {"crontab": "*/20 * * * *"},
            {"checkin_margin": 25},
            {"failure_threshold": 2},
            {"status": "disabled"},
            {"status": "active"},
        ]
    ),
)
silences = st.tuples(st.integers(1, 40), st.integers(1, 30))
"""Minutes: since when, and for how long. The longest margin is over before the story is: until then, a slot waits."""


def tell(monitors, story):
    """Let check-ins and edits come in order, with the clock at rest. A check-in's run has a name of its job's own."""
    for seconds, number, what, *run_number in sorted(story, key=lambda event: event[0]):
        now = NOW + timedelta(seconds=seconds)
        monitor = monitors[number % len(monitors)]
        if run_number:
            name = 10 * monitors.index(monitor) + run_number[0]
            receive([make_message(what, monitor=monitor, at=now, run=name)], now=now)
        else:
            update_monitor(monitor.id, what, now=now)


def catch_up():
    """Apply all that is open; return what came of it."""
    drain(advance_ledger(after(HOURS * 60), now=NOW))
    return rows_in_order()


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    columns=st.lists(jobs, min_size=1, max_size=3),
    story=st.lists(st.one_of(words, words, edits), max_size=14),
    rows_max=st.sampled_from([1, 4, 2_000]),
    rounds_max=st.sampled_from([1, 2, 100]),
)
def test_p4_many_ticks_in_one_pass_leave_the_rows_of_tick_by_tick_in_their_order(columns, story, rows_max, rounds_max):
    with undone(), pytest.MonkeyPatch.context() as patch:
        monitors = [job(**column).monitor for column in columns]
        tell(monitors, story)
        write_ticks(after(HOURS * 60), now=NOW)
        patch.setattr(bounds, "PASS_ROWS_MAX", rows_max)
        patch.setattr(bounds, "ROUNDS_MAX", rounds_max)
        with undone():
            at_once = catch_up()
        patch.setattr(shards, "stretch", lambda tick, **_: tick)
        assert catch_up() == at_once


@pytest.mark.long
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    columns=st.lists(jobs, min_size=1, max_size=3),
    story=st.lists(st.one_of(words, words, edits), max_size=10),
    deaf=silences,
    incident=silences,
)
def test_p4_the_same_with_minutes_that_are_deaf_or_have_far_too_few_check_ins(columns, story, deaf, incident):
    def decide(tick):
        since, length = incident
        is_incident = after(since) <= tick < after(since + length)
        return VolumeDecision.INCIDENT if is_incident else VolumeDecision.NORMAL

    with undone(), pytest.MonkeyPatch.context() as patch:
        monitors = [job(**column).monitor for column in columns]
        tell(monitors, story)
        ListeningSpan.objects.update(until=after(deaf[0]))
        ListeningSpanFactory(since=after(sum(deaf)))
        write_ticks(after(HOURS * 60), now=NOW, decide_as=decide)
        with undone():
            catch_up()
            at_once = rows()
        patch.setattr(shards, "stretch", lambda tick, **_: tick)
        catch_up()
        assert rows() == at_once


# --- what a pass is ---------------------------------------------------------------------------------------------------


def test_a_clock_in_time_does_one_tick_and_asks_nothing_more(monkeypatch):
    seen = passes(monkeypatch)
    job("* * * * *")
    tick_until(after(2))
    (task,) = advance_ledger(after(3), now=NOW)
    with CaptureQueriesContext(connection) as queries:
        process_clock_task(task)
    assert seen == [("missed", 2, 2), ("missed", 3, 3)]
    assert not any("ORDER BY at LIMIT" in query["sql"] for query in queries if "LATERAL" not in query["sql"])


def test_misses_go_on_up_to_the_tick_of_a_timeout_and_timeouts_to_before_one_of_a_miss(monkeypatch):
    seen = passes(monkeypatch)
    environment = job()
    for minutes in (31, 36, 38, 44):
        run(environment, minutes)
    tick_until(after(60))
    assert seen == [
        ("missed", 11, 31),
        ("timeout", 31, 40),
        ("missed", 41, 44),
        ("timeout", 44, 50),
        ("missed", 51, 60),
    ]


def test_a_pass_ends_before_minutes_of_another_kind(monkeypatch):
    seen = passes(monkeypatch)
    job("* * * * *")
    ListeningSpan.objects.update(until=after(30))
    ListeningSpanFactory(since=after(40))
    tick_until(after(60))
    assert seen == [("missed", 2, 30), ("unknown", 31, 40), ("missed", 41, 60)]


@pytest.mark.parametrize(
    ("rounds_max", "expected"),
    [(1, [(11, 11), (21, 21), (31, 60)]), (2, [(11, 21), (31, 60)]), (3, [(11, 60)])],
)
def test_a_pass_has_a_round_for_each_tick_after_which_ends_of_runs_are_counted(monkeypatch, rounds_max, expected):
    """D29: an ok that was received after a tick is counted after it, and before the next one."""
    monkeypatch.setattr(bounds, "ROUNDS_MAX", rounds_max)
    seen = passes(monkeypatch)
    environment = job()
    receive([make_message("ok", monitor=environment.monitor, at=after(25))], now=after(25))
    tick_until(after(60))
    assert seen == [("missed", *minutes) for minutes in expected]


@pytest.mark.parametrize(("rounds_max", "expected"), [(1, [(5, 5), (25, 60)]), (2, [(5, 60)])])
def test_so_has_a_pass_over_runs_that_take_too_long(monkeypatch, rounds_max, expected):
    monkeypatch.setattr(bounds, "ROUNDS_MAX", rounds_max)
    seen = passes(monkeypatch)
    monitor = job("0 12 * * *", max_runtime=5).monitor
    for number, minutes in ((1, 0), (2, 20)):
        receive([make_message("in_progress", monitor=monitor, at=after(minutes), run=number)], now=after(minutes))
    receive([make_message("ok", monitor=monitor, at=after(22), run=3)], now=after(22))
    tick_until(after(60))
    assert seen == [("timeout", *minutes) for minutes in expected]


@pytest.mark.parametrize(("rows_max", "ends"), [(1, [11, 21, 31, 41]), (2, [21, 41]), (3, [31, 41]), (4, [41])])
def test_a_pass_ends_with_the_tick_at_which_it_comes_to_much(monkeypatch, rows_max, ends):
    monkeypatch.setattr(bounds, "PASS_ROWS_MAX", rows_max)
    seen = passes(monkeypatch)
    job()
    tick_until(after(41))
    assert [end for *_, end in seen] == ends


@pytest.mark.parametrize(("kind", "ends"), [(MISSED, [10, 20, 30]), (TIMEOUT, [10, 29, 40])])
def test_a_pass_holds_no_more_environments_than_it_may_but_all_of_its_first_tick(monkeypatch, kind, ends):
    monkeypatch.setattr(bounds, "PASS_ROWS_MAX", 2)
    seen = passes(monkeypatch)
    for minutes in (10, 10, 10, 20, 20, 30, 30):
        environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD, crontab="0 12 * * *"))
        if kind is TIMEOUT:
            run(environment, minutes)
        else:
            MonitorEnvironment.objects.filter(id=environment.id).update(
                pending_slot=NOW, next_checkin=NOW, next_checkin_latest=after(minutes)
            )
    tick_until(after(40))
    assert seen == [(kind.value, first, end) for first, end in zip((10, 20, 30), ends, strict=True)]


def test_what_fails_in_a_pass_leaves_nothing_of_it(monkeypatch):
    job()
    tick_until(after(5))
    (task,) = advance_ledger(after(60), now=NOW)
    monkeypatch.setattr(missed, "save_environments", lambda _: 1 / 0)
    before = rows_in_order()
    with pytest.raises(ZeroDivisionError):
        process_clock_task(task)
    assert rows_in_order() == before


def test_a_year_that_the_clock_makes_up_for_takes_statements_by_the_thousand_slots():
    """An hourly job is missed 8,760 times in a year."""
    job("0 * * * *")
    Tick.objects.create(
        at=after(365 * 1440), covers_from=NOW, dispatched_at=NOW, decided_at=NOW, volume=0, is_listened=True
    )
    with CaptureQueriesContext(connection) as queries:
        result = process_clock_task(ClockTask(MISSED, SHARD, after(365 * 1440)))
    assert result.marked_count == result.tick_count == CheckIn.objects.count() == 365 * 24 - 1
    assert len(queries) < 200


@pytest.mark.parametrize(("kind", "last"), [(MISSED, 12), (TIMEOUT, 9)])
def test_the_other_kinds_turn_bounds_a_pass(kind, last):
    state = ShardState(
        {MISSED: after(5), TIMEOUT: after(5), UNKNOWN: after(5)}, {MISSED: after(9.5), TIMEOUT: after(11.2)}
    )
    assert last_in_turn(state, kind, until=after(60)) == after(last)
    assert last_in_turn(state, kind, until=after(7)) == after(7)


@pytest.mark.parametrize(("first", "last"), [(1, 10), (5, 10), (11, 20), (21, 21), (22, 30)])
def test_a_stretch_is_of_one_nature(first, last):
    def decide(tick):
        return VolumeDecision.INCIDENT if tick == after(21) else VolumeDecision.NORMAL

    ListeningSpan.objects.update(until=after(10))
    ListeningSpanFactory(since=after(20))
    write_ticks(after(40), now=NOW, decide_as=decide)
    assert stretch(after(first), until=after(30), rows_max=1440) == after(last)
    assert stretch(after(first), until=after(30), rows_max=3) == after(min(first + 2, last))
