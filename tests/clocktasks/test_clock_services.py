"""The clock on PostgreSQL: what a tick marks, in which order, in which transaction, and at which cost."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from checkins.editing import delete_environments, delete_monitors, set_monitors_status
from checkins.messages import CheckInMessage, CheckInStatus, Source
from checkins.models import CheckIn, ListeningSpan
from checkins.processing.apply import receive
from clocktasks import shards, tasks
from clocktasks.clock import ClockTask, TaskKind
from clocktasks.dispatch import advance_ledger
from clocktasks.exceptions import UnreadableClockTaskError
from clocktasks.kinds import bounds, missed, timeout, unknown
from clocktasks.ledger import finish_ticks
from clocktasks.messages import decode_clock_task, encode_clock_task
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.shards import SHARD_STATES_SQL, TaskResult, process_clock_task
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors.expectation import expect_nothing
from monitors.hot_rows import lock_environments, save_environments
from monitors.models import MonitorEnvironment
from monitors.state import MonitorStatus
from tests.clocktasks.shards import (
    MINUTE,
    SHARD,
    after,
    drain,
    make_monitor_in,
    positions,
    rows,
    seed_mixed_shards,
    seed_silent,
    tick_by_tick,
    tick_until,
    undone,
)
from tests.connections import in_another_connection
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory

MISSED, TIMEOUT = TaskKind.MISSED, TaskKind.TIMEOUT
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def people_are_told(settings):
    settings.ALERT_EMAIL_TO = ["oncall@example.com"]


@pytest.fixture
def clock(db):
    """A clock that has applied every minute up to 10:00."""
    advance_ledger(NOW, now=NOW)


def make_environment(**columns):
    """A job every five minutes with a margin of one, in SHARD, which was well at 10:00."""
    return MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD, **columns))


def make_run(environment, *, deadline, **columns):
    return CheckInFactory(monitor_environment=environment, status="in_progress", timeout_at=deadline, **columns)


def statuses(environment):
    return list(environment.checkins.order_by("date_added", "id").values_list("status", flat=True))


def ok_of(environment, *, at):
    monitor = environment.monitor
    return CheckInMessage(
        project_id=monitor.project_id,
        slug=monitor.slug,
        raw_slug=monitor.slug,
        environment=environment.environment.name,
        status=CheckInStatus.OK,
        check_in_id=None,
        duration_ms=None,
        trace_id=None,
        sent_at=None,
        received_at=at,
        source=Source.SIMULATION,
        config=None,
        config_problem=None,
        problems=(),
        payload={},
    )


# --- The ledger -------------------------------------------------------------------------------------------------------


def ledger():
    return list(Tick.objects.order_by("at").values_list("at", flat=True))


def test_the_first_tick_ever_is_the_newest_minute(db):
    assert advance_ledger(NOW, now=NOW + timedelta(seconds=2)) == []
    assert ledger() == [NOW]
    assert Tick.objects.get().dispatched_at == NOW + timedelta(seconds=2)
    assert positions() == {(shard, kind.value): NOW for shard in range(16) for kind in TaskKind}


def test_the_first_tick_ever_marks_what_is_due_at_it(db):
    environment = make_environment()
    assert tick_until(after(6)) == 1
    assert statuses(environment) == ["missed"]


def test_the_ledger_has_a_row_for_every_minute_that_a_beat_was_away(clock):
    advance_ledger(after(7), now=after(7))
    assert ledger() == [after(minute) for minute in range(8)]


@pytest.mark.parametrize("until", [after(7), after(6), after(0), after(-3)], ids=lambda at: f"{at:%H:%M}")
def test_a_second_beat_and_a_late_one_leave_the_ledger_as_it_is(clock, until):
    advance_ledger(after(7), now=after(7))
    before = rows(), positions()
    advance_ledger(until, now=after(8))
    assert (rows(), positions()) == before
    assert not Tick.objects.filter(dispatched_at=after(8)).exists()


def test_a_tick_is_finished_when_every_shard_has_applied_it(clock):
    environment = make_environment()
    make_run(environment, deadline=after(6))
    waiting = advance_ledger(after(6), now=after(6))
    assert ledger()[-1] == after(6)
    assert Tick.objects.get(at=after(6)).finished_at is None
    assert Tick.objects.get(at=after(5)).finished_at == after(6), "nothing was due before"
    drain(waiting)
    finish_ticks(now=after(7))
    tick = Tick.objects.get(at=after(6))
    assert (tick.missed_count, tick.timeout_count, tick.finished_at) == (1, 1, NOW)
    assert not Tick.objects.filter(finished_at__isnull=True).exists()


def test_messages_go_to_shards_with_something_due_and_name_its_first_kind(clock):
    make_environment()
    late = make_environment(crontab="0 12 * * *")
    make_run(late, deadline=after(5))
    elsewhere = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD + 2))
    make_run(elsewhere, deadline=after(6))
    assert advance_ledger(after(6), now=after(6)) == [
        ClockTask(TIMEOUT, SHARD, after(6)),
        ClockTask(MISSED, SHARD + 2, after(6)),
    ]


# --- Boundaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "marked"),
    [
        pytest.param(-1, 1, id="a second before the tick"),
        pytest.param(0, 1, id="at the tick"),
        pytest.param(1, 0, id="a second after the tick"),
    ],
)
def test_d20_a_miss_is_due_at_or_before_its_tick(clock, seconds, marked):
    environment = make_environment()
    MonitorEnvironment.objects.filter(id=environment.id).update(
        next_checkin_latest=after(6) + timedelta(seconds=seconds)
    )
    assert tick_until(after(6)) == marked
    assert statuses(environment) == ["missed"] * marked


@pytest.mark.parametrize(
    ("seconds", "marked"),
    [
        pytest.param(-1, 1, id="a second before the tick"),
        pytest.param(0, 1, id="at the tick"),
        pytest.param(1, 0, id="a second after the tick"),
    ],
)
def test_d20_a_timeout_is_due_at_or_before_its_tick(clock, seconds, marked):
    environment = make_environment(crontab="0 12 * * *")
    make_run(environment, deadline=after(6) + timedelta(seconds=seconds))
    assert tick_until(after(6)) == marked
    assert statuses(environment) == ["timeout" if marked else "in_progress"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(-1, ["ok"], id="received a second before the tick"),
        pytest.param(0, ["missed", "ok"], id="received at the tick"),
        pytest.param(1, ["missed", "ok"], id="received a second after the tick"),
    ],
)
def test_d20_a_check_in_received_before_a_tick_is_seen_by_it(clock, seconds, expected):
    environment = make_environment()
    received_at = after(6) + timedelta(seconds=seconds)
    receive([ok_of(environment, at=received_at)], now=received_at)  # The clock is late: it ticks after all of them.
    tick_until(after(6))
    assert statuses(environment) == expected


# --- What a tick writes -----------------------------------------------------------------------------------------------


def test_a_miss_is_dated_at_its_slot_and_opens_incident_issue_and_occurrence(clock):
    environment = make_environment(name="Backup")
    tick_until(after(6))
    missed = environment.checkins.get()
    assert (missed.status, missed.source) == ("missed", "clock")
    assert missed.date_added == missed.date_updated == missed.expected_time == after(5)
    assert missed.received_at == missed.failed_at == after(6)
    assert missed.date_in_progress is missed.timeout_at is missed.duration_ms is None
    incident = Incident.objects.get()
    assert (incident.starting_checkin_id, incident.started_at, incident.opened_at) == (missed.id, after(5), after(6))
    occurrence = Occurrence.objects.get()
    assert (occurrence.incident, occurrence.issue, occurrence.checkin) == (incident, Issue.objects.get(), missed)
    assert occurrence.run_checkin_guids == [missed.guid]
    assert (occurrence.detected_at, occurrence.occurred_at, occurrence.last_ok_at) == (after(6), after(5), NOW)
    assert (
        occurrence.explanation
        | {
            "kind": "missed",
            "reason": "threshold_reached",
            "schedule": "Every 5 minutes (UTC)",
            "expected_at": "2026-01-05T10:05:00Z",
            "deadline_at": "2026-01-05T10:06:00Z",
            "tick": "2026-01-05T10:06:00Z",
            "failure_streak": 1,
        }
        == occurrence.explanation
    )
    environment.refresh_from_db()
    assert (environment.status, environment.pending_slot) == ("error", after(10))
    assert environment.next_checkin_latest == after(11)
    assert environment.last_checkin == NOW, "a miss is no check-in of the job"
    assert Notification.objects.get().transition == "opened"


def test_a_timeout_keeps_its_run_and_moves_no_expected_time(clock):
    environment = make_environment(crontab="0 12 * * *")
    run = make_run(environment, deadline=after(6), date_added=after(1))
    before = MonitorEnvironment.objects.values("pending_slot", "next_checkin", "next_checkin_latest").get()
    tick_until(after(6))
    run.refresh_from_db()
    assert (run.status, run.timeout_at, run.failed_at) == ("timeout", None, after(6))
    assert (run.date_added, run.date_updated, run.duration_ms) == (after(1), after(1), None)
    assert MonitorEnvironment.objects.values("pending_slot", "next_checkin", "next_checkin_latest").get() == before
    explanation = Occurrence.objects.get().explanation
    assert (explanation["kind"], explanation["deadline_at"]) == ("timeout", "2026-01-05T10:06:00Z")


def test_at_one_tick_misses_come_before_timeouts(clock):
    environment = make_environment(failure_threshold=2)
    run = make_run(environment, deadline=after(6), date_added=after(1))
    tick_until(after(6))
    incident = Incident.objects.get()
    # The second failure opens it, and that was the run: so the miss was counted before.
    assert incident.opened_at == after(6)
    assert Occurrence.objects.order_by("id").values_list("failure_reason", flat=True).distinct().get() == (
        "1 timeout and 1 missed check-in in a row"
    )
    assert list(AppliedTick.objects.order_by("id").values_list("kind", flat=True)) == ["missed", "timeout"]
    assert run.guid in Occurrence.objects.earliest("id").run_checkin_guids


def test_d29_a_timeout_counts_at_its_tick_though_a_newer_run_was_ok(clock):
    environment = make_environment(crontab="0 12 * * *")
    run = make_run(environment, deadline=after(6), date_added=NOW - MINUTE)
    tick_until(after(6))
    run.refresh_from_db()
    assert (run.status, run.failed_at) == ("timeout", after(6))
    assert Incident.objects.get().starting_checkin_id == run.id


def test_a_muted_environment_gets_its_incident_but_tells_nobody(clock):
    make_environment(is_muted=True)
    tick_until(after(6))
    assert Incident.objects.get().issue is None
    assert not Issue.objects.exists()
    assert not Occurrence.objects.exists()
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    "switch_off",
    [
        pytest.param(
            lambda e: set_monitors_status([e.monitor_id], MonitorStatus.DISABLED, now=after(1)), id="disabled"
        ),
        pytest.param(lambda e: delete_monitors([e.monitor_id], now=after(1)), id="monitor deleted"),
        pytest.param(lambda e: delete_environments(e.monitor_id, ["production"]), id="environment deleted"),
    ],
)
def test_what_is_disabled_or_deleted_is_never_missed(clock, switch_off):
    environment = make_environment()
    switch_off(environment)
    assert tick_until(after(180)) == 0
    assert statuses(environment) == []


def test_d10_a_re_enabled_monitor_is_not_missed_at_once(clock):
    environment = make_environment()
    set_monitors_status([environment.monitor_id], MonitorStatus.DISABLED, now=after(1))
    tick_until(after(60))
    set_monitors_status([environment.monitor_id], MonitorStatus.ACTIVE, now=after(62))
    assert tick_until(after(65)) == 0
    assert tick_until(after(66)) == 1, "the slot of 11:05 is the first one after it"


def test_an_environment_that_never_heard_from_its_job_is_not_missed(clock):
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD), status="active")
    assert tick_until(after(180)) == 0
    assert statuses(environment) == []


# --- Catching up ------------------------------------------------------------------------------------------------------


def test_d1_after_three_hours_without_a_beat_180_ticks_are_applied_in_order(clock):
    environment = make_environment()
    make_run(environment, deadline=after(90), date_added=after(60))
    tick_until(after(180))
    assert len(ledger()) == 181
    assert not Tick.objects.filter(finished_at__isnull=True).exists()
    applied = list(AppliedTick.objects.order_by("id").values_list("tick", "kind"))
    assert applied == sorted(applied)
    assert [tick for tick, kind in applied if kind == "missed"] == [after(minute) for minute in range(6, 181, 5)]
    slots = environment.checkins.filter(status="missed").order_by("id").values_list("date_added", "received_later_at")
    assert list(slots) == [(after(minute), after(minute + 1)) for minute in range(5, 180, 5)]


def test_catching_up_ninety_minutes_at_once_gives_the_rows_of_90_single_ticks(clock):
    seed_mixed_shards()
    with undone():
        one_at_a_time = tick_by_tick(after(1), after(90))
        expected = rows(), positions()
    assert tick_until(after(90)) == one_at_a_time
    assert (rows(), positions()) == expected
    kinds = {(kind, shard) for kind, shard in AppliedTick.objects.values_list("kind", "shard")}
    judged = {(kind, shard) for kind in ("missed", "timeout") for shard in (SHARD, SHARD + 1)}
    assert kinds == judged | {("unknown", SHARD)}  # The run of a disabled monitor (D23).


def test_a_tick_of_many_chunks_gives_the_rows_of_one(clock, monkeypatch):
    seed_mixed_shards()
    with undone():
        tick_until(after(40))
        expected = rows()
    for name in ("CHUNK_ROWS_MAX", "PASS_ROWS_MAX"):
        monkeypatch.setattr(bounds, name, 2)
    tick_until(after(40))
    assert rows() == expected


def test_what_fell_due_before_the_position_is_done_at_the_next_tick(clock):
    environment = make_environment()
    tick_until(after(4))
    MonitorEnvironment.objects.filter(id=environment.id).update(
        pending_slot=after(0), next_checkin=after(5), next_checkin_latest=after(1)
    )
    assert tick_until(after(4)) == 0
    assert tick_until(after(5)) == 1
    assert environment.checkins.get().received_at == after(5)


# --- Once, and together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TaskKind)
def test_p4_a_tick_that_is_applied_does_nothing_when_applied_again(clock, kind):
    seed_mixed_shards()
    tick_until(after(40))
    before = rows(), positions()
    for shard in range(16):
        assert process_clock_task(ClockTask(kind, shard, after(40))) == TaskResult(0, 0, None)
    assert (rows(), positions()) == before


def test_p4_a_slot_that_was_judged_before_is_not_judged_twice(clock):
    environment = make_environment()
    before = MonitorEnvironment.objects.values("status", "pending_slot", "next_checkin", "next_checkin_latest").get()
    tick_until(after(6))
    counted = Incident.objects.count(), Occurrence.objects.count()
    # As if the row had been restored from yesterday: the miss is there already, under the id of environment and slot.
    MonitorEnvironment.objects.update(
        pending_slot=before["pending_slot"],
        next_checkin=before["next_checkin"],
        next_checkin_latest=before["next_checkin_latest"],
    )
    assert tick_until(after(7)) == 0
    assert statuses(environment) == ["missed"]
    assert (Incident.objects.count(), Occurrence.objects.count()) == counted
    environment.refresh_from_db()
    assert environment.pending_slot == after(10)


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        *product((MISSED, TIMEOUT), ["mark_failed", "save_environments", "_move_clocks"]),
        *product((TaskKind.UNKNOWN,), ["insert_checkins", "save_environments", "_move_clocks"]),
    ],
)
def test_p4_effects_and_position_are_one_transaction(clock, monkeypatch, kind, broken):
    environment = make_environment(crontab="0 12 * * *" if kind is TIMEOUT else "*/5 * * * *")
    if kind is TaskKind.UNKNOWN:
        ListeningSpan.objects.update(until=after(4))
    if kind is TIMEOUT:
        make_run(environment, deadline=after(6))
    task = ClockTask(kind, SHARD, after(6))
    advance_ledger(after(6), now=after(6))
    before = rows(), positions()
    handlers = {MISSED: missed, TIMEOUT: timeout, TaskKind.UNKNOWN: unknown}
    module = shards if broken == "_move_clocks" else handlers[kind]
    done = getattr(module, broken)

    def do_and_die(*args, **kwargs):
        done(*args, **kwargs)
        raise OperationalError("the server closed the connection unexpectedly")

    with monkeypatch.context() as patched:
        patched.setattr(module, broken, do_and_die)
        with pytest.raises(OperationalError):
            process_clock_task(task)
    assert (rows(), positions()) == before
    assert process_clock_task(task) == TaskResult(1, 1, None)
    assert statuses(environment) == [kind.value]
    assert positions()[SHARD, kind.value] == after(6)


def test_a_clock_task_does_every_tick_up_to_the_newest_one_of_the_ledger(clock):
    make_environment()
    advance_ledger(after(30), now=after(30))
    result = process_clock_task(ClockTask(MISSED, SHARD, after(6)))  # However old the message is.
    assert (result.marked_count, result.tick_count) == (5, 5)


def test_a_clock_task_stops_where_the_other_kind_comes_first_and_wakes_it(clock):
    environment = make_environment()
    make_run(environment, deadline=after(8))
    advance_ledger(after(30), now=after(30))
    assert process_clock_task(ClockTask(TIMEOUT, SHARD, after(30))) == TaskResult(
        0, 0, ClockTask(MISSED, SHARD, after(30))
    )
    assert process_clock_task(ClockTask(MISSED, SHARD, after(30))) == TaskResult(
        1, 1, ClockTask(TIMEOUT, SHARD, after(30))
    )
    assert statuses(environment) == ["in_progress", "missed"]


# --- Several at once: real second connections -------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_d7_a_check_in_that_comes_between_finding_and_locking_wins_over_its_miss():
    advance_ledger(NOW, now=NOW)
    environment = make_environment()
    advance_ledger(after(6), now=after(6))
    just_in_time = after(6) - timedelta(seconds=1)
    with in_another_connection(lambda: receive([ok_of(environment, at=just_in_time)], now=just_in_time)) as other:
        result = process_clock_task(ClockTask(MISSED, SHARD, after(6)))
    assert other.was_waited_for
    assert result.marked_count == 0
    assert statuses(environment) == ["ok"]
    environment.refresh_from_db()
    assert (environment.status, environment.pending_slot) == ("ok", after(10))


@pytest.mark.django_db(transaction=True)
def test_what_expects_nothing_any_more_when_it_is_locked_is_no_longer_due():
    """The statement that locks looks again at what the one before has found."""
    advance_ledger(NOW, now=NOW)
    environment = make_environment()
    advance_ledger(after(6), now=after(6))

    def expects_nothing_any_more():
        locked = lock_environments([environment.id])
        locked[environment.id].state = expect_nothing(locked[environment.id].state)
        save_environments(locked.values())

    with in_another_connection(expects_nothing_any_more) as other:
        result = process_clock_task(ClockTask(MISSED, SHARD, after(6)))
    assert other.was_waited_for
    assert (result.marked_count, statuses(environment)) == (0, [])


@pytest.mark.django_db(transaction=True)
def test_d7_an_end_that_comes_between_finding_and_locking_wins_over_the_timeout():
    advance_ledger(NOW, now=NOW)
    environment = make_environment(crontab="0 12 * * *")
    make_run(environment, deadline=after(6))
    advance_ledger(after(6), now=after(6))
    just_in_time = after(6) - timedelta(seconds=1)
    with in_another_connection(lambda: receive([ok_of(environment, at=just_in_time)], now=just_in_time)) as other:
        result = process_clock_task(ClockTask(TIMEOUT, SHARD, after(6)))
    assert other.was_waited_for
    assert result.marked_count == 0
    assert statuses(environment) == ["ok"]
    assert not Incident.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_p4_a_second_worker_leaves_a_clock_that_another_one_holds():
    advance_ledger(NOW, now=NOW)
    make_environment()
    advance_ledger(after(6), now=after(6))
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM clocktasks_shardclock WHERE shard = %s AND kind = 'missed' FOR UPDATE", [SHARD])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")  # Waiting would be an error.
        assert process_clock_task(ClockTask(MISSED, SHARD, after(6))) == TaskResult(0, 0, None)
        assert advance_ledger(after(7), now=after(7)) == [ClockTask(MISSED, SHARD, after(7))], "nor does beat wait"
        assert positions()[SHARD, "missed"] == after(5)
        holder.rollback()
        assert process_clock_task(ClockTask(MISSED, SHARD, after(6))).marked_count == 1
    finally:
        holder.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


# --- Cost -------------------------------------------------------------------------------------------------------------


def statements_of(work):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        work()
    return [query["sql"] for query in queries]


def test_p7_quiet_shards_are_moved_in_one_statement_however_long_it_was_quiet(clock):
    make_environment(crontab="0 23 * * *")
    one_minute = statements_of(lambda: advance_ledger(after(1), now=after(1)))
    an_hour = statements_of(lambda: advance_ledger(after(61), now=after(61)))
    assert len(one_minute) == len(an_hour)
    assert sum(sql.startswith('UPDATE "clocktasks_shardclock"') for sql in an_hour) == 1
    assert set(positions().values()) == {after(61)}


@pytest.mark.parametrize("kind", TaskKind)
def test_a_tick_takes_as_many_statements_for_1000_environments_as_for_10(clock, kind):
    def statements(count):
        with undone():
            seed_silent(count, running=kind is TIMEOUT)
            if kind is TIMEOUT:
                MonitorEnvironment.objects.update(pending_slot=None, next_checkin=None, next_checkin_latest=None)
            if kind is TaskKind.UNKNOWN:
                ListeningSpan.objects.update(until=after(4))
            advance_ledger(after(6), now=after(6))
            sent = statements_of(lambda: process_clock_task(ClockTask(kind, SHARD, after(6))))
            assert AppliedTick.objects.get().marked_count == count
            failed = 0 if kind is TaskKind.UNKNOWN else count
            assert Occurrence.objects.count() == Incident.objects.count() == Notification.objects.count() == failed
        return len(sent)

    few = statements(10)
    assert statements(1000) == few <= 40


def test_p7_what_is_due_is_found_by_index(clock):
    seed_silent(2000, running=True)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE monitors_monitorenvironment, checkins_checkin")
        cursor.execute(f"EXPLAIN {SHARD_STATES_SQL}", {"shard": SHARD})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "monenv_due" in plan
    assert "checkin_deadline" in plan
    assert "Seq Scan on monitors_monitorenvironment" not in plan
    assert "Seq Scan on checkins_checkin_default" not in plan


# --- Messages ---------------------------------------------------------------------------------------------------------


def test_a_clock_task_survives_its_message():
    for kind in TaskKind:
        task = ClockTask(kind, 15, NOW)
        assert decode_clock_task(encode_clock_task(task)) == task


def test_a_tick_in_another_zone_is_the_same_tick():
    message = {"kind": "missed", "shard": 0, "tick": "2026-01-05T15:45+05:45"}
    assert decode_clock_task(message).tick == NOW
    assert decode_clock_task(message).tick.tzinfo is UTC


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "unheard-of"}, "kind 'unheard-of' is not one of missed, timeout, unknown"),
        ({"kind": None}, "kind None is not one of missed, timeout, unknown"),
        ({"kind": ["missed"]}, "kind ['missed'] is not one of missed, timeout, unknown"),
        ({"shard": -1}, "shard -1 is not a number from 0 to 1023"),
        ({"shard": 1024}, "shard 1024 is not a number from 0 to 1023"),
        ({"shard": "3"}, "shard '3' is not a number from 0 to 1023"),
        ({"shard": 3.0}, "shard 3.0 is not a number from 0 to 1023"),
        ({"shard": True}, "shard True is not a number from 0 to 1023"),
        ({"shard": None}, "shard None is not a number from 0 to 1023"),
        ({"tick": "soon"}, "tick 'soon' is not an ISO 8601 instant"),
        ({"tick": 1767607200}, "tick 1767607200 is not an ISO 8601 instant"),
        ({"tick": None}, "tick None is not an ISO 8601 instant"),
        ({"tick": "2026-01-05T10:00:00"}, "tick '2026-01-05T10:00:00' is not a whole minute with a time zone"),
        ({"tick": "2026-01-05T10:00:01Z"}, "tick '2026-01-05T10:00:01Z' is not a whole minute with a time zone"),
        (
            {"tick": "2026-01-05T10:00:00.5Z"},
            "tick '2026-01-05T10:00:00.5Z' is not a whole minute with a time zone",
        ),
        (
            {"tick": "2026-01-05T10:00:00+00:00:30"},
            "tick '2026-01-05T10:00:00+00:00:30' is not a whole minute with a time zone",
        ),
    ],
)
def test_a_message_that_cannot_be_read_says_which_part_and_what_it_takes(change, sentence, caplog):
    message = {"kind": "missed", "shard": 3, "tick": "2026-01-05T10:00:00+00:00"} | change
    with pytest.raises(UnreadableClockTaskError) as refusal:
        decode_clock_task(message)
    assert str(refusal.value) == sentence
    assert tasks.process_clock_task(message) == 0
    assert caplog.messages == [f"clock task dropped: {sentence}"]
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize("missing", ["kind", "shard", "tick"])
def test_a_message_without_a_part_is_dropped_with_a_warning(missing, caplog):
    message = {"kind": "missed", "shard": 3, "tick": "2026-01-05T10:00:00+00:00"}
    del message[missing]
    assert tasks.process_clock_task(message) == 0
    (warning,) = caplog.messages
    assert warning.startswith(f"clock task dropped: {missing} ")


@pytest.mark.parametrize("message", [None, "missed", 7, ["missed", 3, "2026-01-05T10:00Z"]])
def test_a_message_of_another_form_is_dropped_with_a_warning(message, caplog):
    assert tasks.process_clock_task(message) == 0
    (warning,) = caplog.messages
    assert warning.startswith("clock task dropped: ")


def test_the_beat_task_ticks_with_its_grace_and_wakes_who_has_work(clock, monkeypatch):
    make_environment()
    sent: list[ClockTask] = []
    monkeypatch.setattr(tasks, "utcnow", lambda: datetime(2026, 1, 5, 10, 6, 0, 999_999, tzinfo=UTC))
    monkeypatch.setattr(tasks, "send", sent.append)
    assert tasks.tick() == 0
    assert ledger()[-1] == after(5), "a second of grace has not passed"
    monkeypatch.setattr(tasks, "utcnow", lambda: datetime(2026, 1, 5, 10, 6, 1, tzinfo=UTC))
    assert tasks.tick() == 1
    assert sent == [ClockTask(MISSED, SHARD, after(6))]


def test_a_clock_task_wakes_the_other_kind_and_finishes_the_tick(clock, monkeypatch):
    environment = make_environment()
    make_run(environment, deadline=after(6))
    sent: list[ClockTask] = []
    monkeypatch.setattr(tasks, "utcnow", lambda: after(6.5))
    monkeypatch.setattr(tasks, "send", sent.append)
    advance_ledger(after(6), now=after(6))
    assert tasks.process_clock_task(encode_clock_task(ClockTask(MISSED, SHARD, after(6)))) == 1
    assert sent == [ClockTask(TIMEOUT, SHARD, after(6))]
    assert tasks.process_clock_task(encode_clock_task(sent.pop())) == 1
    assert sent == []
    assert Tick.objects.get(at=after(6)).finished_at == after(6.5)
    assert ShardClock.objects.exclude(position=after(6)).count() == 0
    assert CheckIn.objects.filter(failed_at=after(6)).count() == 2
