"""Changing the number of shards: nothing is lost, nothing is done twice, and nobody has to stop for it."""

import io
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connection, transaction

from checkins.models import CheckIn
from checkins.processing.apply import receive
from clocktasks import dispatch
from clocktasks.clock import ClockTask, TaskKind
from clocktasks.dispatch import advance_ledger
from clocktasks.exceptions import ReplayWindowError, ShardCountError
from clocktasks.messages import decode_clock_task
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.playback.replay import parse_shards
from clocktasks.resharding import change_shards
from clocktasks.shards import TaskResult, process_clock_task, shard_states
from incidents.models import Incident
from monitors.checks import check_shards
from monitors.models import MonitorEnvironment, ShardLayout
from monitors.services import create_environments
from monitors.shard_count import ignored_setting, shard_count
from tests.clocktasks.shards import (
    SHARD,
    after,
    drain,
    make_monitor_in,
    positions,
    rows,
    seed_mixed_shards,
    tick_by_tick,
    tick_until,
    undone,
)
from tests.connections import in_another_connection, is_waited_for
from tests.factories import NOW, CheckInFactory, MonitorEnvironmentFactory, MonitorFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(db):
    """A clock that has applied every minute up to 10:00."""
    advance_ledger(NOW, now=NOW)


def say_nothing(what, done, total):
    pass


def change(count):
    return change_shards(count, report=say_nothing)


def without_shards(tables):
    """What came of it, whichever shard did it: for a tick and kind, the sum of what all shards marked."""
    tables = {name: [dict(row) for row in table] for name, table in tables.items()}
    for row in (*tables["MonitorEnvironment"], *tables["CheckIn"]):
        del row["shard"]
    marked: dict[tuple[Any, str], int] = {}
    for row in tables.pop("AppliedTick"):
        marked[row["tick"], row["kind"]] = marked.get((row["tick"], row["kind"]), 0) + row["marked_count"]
    return {name: sorted(table, key=repr) for name, table in tables.items()} | {"marked": marked}


def in_order(count):
    """Where all is that carries a shard: environments, runs in progress and clocks agree with the number of shards."""
    assert shard_count() == count
    assert not MonitorEnvironment.objects.extra(where=["shard <> monitor_id %% %s"], params=[count]).exists()
    runs = CheckIn.objects.filter(status="in_progress")
    assert not runs.extra(where=["shard <> monitor_id %% %s"], params=[count]).exists()
    assert set(positions()) == {(shard, kind.value) for shard in range(count) for kind in TaskKind}


# --- The same outcome -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [(64, 5), *(pytest.param(counts, marks=pytest.mark.long) for counts in ((1,), (3,)))],
    ids=str,
)
def test_p4_what_is_due_before_during_and_after_a_change_is_marked_as_without_one(clock, counts):
    seed_mixed_shards()
    with undone():
        tick_by_tick(after(1), after(60))
        expected = without_shards(rows())
    tick_by_tick(after(1), after(9))
    since = 10
    for count in counts:
        # Beat has written what is due, and no worker has come to it.
        assert advance_ledger(after(since + 2), now=NOW)
        changed = change(count)
        assert changed.after == count
        assert changed.position == after(since + 2)
        in_order(count)
        tick_by_tick(after(since + 3), after(since + 15))
        since += 16
    tick_by_tick(after(since), after(60))
    assert without_shards(rows()) == expected
    in_order(counts[-1])
    assert set(positions().values()) == {after(60)}
    assert not Tick.objects.filter(finished_at__isnull=True).exists()


def test_p4_shards_that_stand_apart_come_together_before_rows_move(clock):
    first, second = (MonitorEnvironmentFactory(monitor=make_monitor_in(shard)) for shard in (SHARD, SHARD + 1))
    advance_ledger(after(8), now=NOW)
    process_clock_task(ClockTask(TaskKind.MISSED, SHARD, after(8)))
    assert ShardClock.objects.values("position").distinct().count() > 1
    assert change(7).position == after(8)
    assert set(positions().values()) == {after(8)}
    assert [row.checkins.count() for row in (first, second)] == [1, 1]
    # As before: what was due is told with the tick that it was due at.
    assert set(Incident.objects.values_list("opened_at", flat=True)) == {after(6)}


def test_a_change_says_what_it_moved(clock):
    stays, moves = (MonitorEnvironmentFactory(monitor=make_monitor_in(shard)) for shard in (3, 9))
    for environment in (stays, moves):
        for status in ("in_progress", "ok"):
            CheckInFactory(monitor_environment=environment, status=status)
    told = []
    changed = change_shards(8, report=lambda *what: told.append(what))
    assert (changed.before, changed.after) == (16, 8)
    assert (changed.environment_count, changed.run_count) == (1, 1)
    assert dict(stays.checkins.values_list("status", "shard")) == {"in_progress": 3, "ok": 3}
    # What is finished has no use for a shard, and stays untouched.
    assert dict(moves.checkins.values_list("status", "shard")) == {"in_progress": 1, "ok": 9}
    assert ("moving environments", 1, 1) in told


def test_many_environments_move_in_several_statements_and_one_transaction(clock, monkeypatch):
    monkeypatch.setattr("clocktasks.resharding.MOVED_ROWS_MAX", 3)
    for n in range(10):
        MonitorEnvironmentFactory(monitor=make_monitor_in(n))
    assert change(1).environment_count == 9
    in_order(1)


def test_a_change_that_breaks_off_changes_nothing(clock):
    seed_mixed_shards()
    tick_until(after(5))
    before = rows(), positions()

    def break_off(what, done, total):
        if what == "moving runs in progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        change_shards(3, report=break_off)
    assert (rows(), positions()) == before
    assert shard_count() == 16
    in_order(16)


def test_the_same_number_is_no_change(clock):
    before = positions()
    changed = change(16)
    assert (changed.before, changed.after, changed.environment_count) == (16, 16, 0)
    assert positions() == before


def test_a_clock_that_has_never_ticked_gets_its_shards_with_its_first_tick(db):
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    assert change(3).position is None
    environment.refresh_from_db()
    assert environment.shard == environment.monitor_id % 3
    assert not ShardClock.objects.exists()
    advance_ledger(NOW, now=NOW)
    in_order(3)


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_there_are_1_to_1024_shards(clock, count):
    with pytest.raises(ShardCountError, match=f"^{count} is not a number of shards from 1 to 1024"):
        change(count)


@pytest.mark.parametrize("count", [1, 1024])
def test_the_fewest_and_the_most_shards(clock, count):
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    change(count)
    in_order(count)
    tick_until(after(6))
    assert environment.checkins.get().status == "missed"


# --- Messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TaskKind)
def test_p3_messages_from_before_the_change_do_no_harm(clock, kind):
    seed_mixed_shards()
    advance_ledger(after(20), now=NOW)
    change(3)
    before = rows(), positions()
    for shard in range(16):
        old = {"kind": kind.value, "shard": shard, "tick": after(20).isoformat()}
        assert process_clock_task(decode_clock_task(old)) == TaskResult(0, 0, None)
    assert (rows(), positions()) == before


def test_p3_an_old_message_may_wake_the_new_shard_of_its_number(clock):
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    change(3)
    advance_ledger(after(6), now=NOW)
    assert process_clock_task(ClockTask(TaskKind.MISSED, SHARD, after(6))) == TaskResult(0, 0, None)
    assert process_clock_task(ClockTask(TaskKind.MISSED, environment.monitor_id % 3, after(6))).marked_count == 1


# --- Beside everything else that runs -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_change_waits_for_a_worker_in_the_middle_of_a_tick():
    advance_ledger(NOW, now=NOW)
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    advance_ledger(after(6), now=NOW)
    with in_another_connection(lambda: process_clock_task(ClockTask(TaskKind.MISSED, SHARD, after(6)))) as worker:
        changed = change(3)
    assert worker.was_waited_for
    assert changed.position == after(6)
    assert environment.checkins.get().status == "missed"
    assert AppliedTick.objects.get().shard == SHARD
    in_order(3)


@pytest.mark.django_db(transaction=True)
def test_workers_and_beats_do_not_wait_for_a_change():
    advance_ledger(NOW, now=NOW)
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    advance_ledger(after(5), now=NOW)
    with in_another_connection(lambda: change(3)) as changing:
        assert process_clock_task(ClockTask(TaskKind.MISSED, SHARD, after(5))) == TaskResult(0, 0, None)
        assert advance_ledger(after(6), now=NOW) == [ClockTask(TaskKind.MISSED, SHARD, after(6))]
        assert set(positions().values()) == {after(5)}
        assert not changing.was_waited_for
        MonitorEnvironment.objects.filter(id=environment.id).update(is_muted=False)  # What has to wait ends the change.
    assert changing.was_waited_for
    in_order(3)
    assert tick_until(after(6)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_beat_that_looks_while_the_change_begins_moves_no_shard_past_what_comes_into_it(monkeypatch):
    advance_ledger(NOW, now=NOW)
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    assert environment.monitor_id % 3 != SHARD, "before the change nothing is due in that shard"
    advance_ledger(after(5), now=NOW)
    look = shard_states

    def change_elsewhere():
        try:
            change(3)
        finally:
            connection.close()

    changing = threading.Thread(target=change_elsewhere)

    def look_and_be_overtaken(*shards):
        states = look(*shards)
        if threading.current_thread() is threading.main_thread() and changing.ident is None:
            changing.start()
            while changing.is_alive() and not is_waited_for():
                changing.join(0.01)
        return states

    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "shard_states", look_and_be_overtaken)
        advance_ledger(after(6), now=NOW)
        changing.join(20)
    drain(advance_ledger(after(7), now=NOW))
    assert shard_count() == 3
    assert AppliedTick.objects.get().tick == after(6)


@pytest.mark.django_db(transaction=True)
def test_environments_that_are_being_created_get_their_new_shard():
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(SHARD)
    with in_another_connection(lambda: change(3)) as changing, transaction.atomic():
        create_environments([(monitor, "staging")], now=NOW)
    assert changing.was_waited_for
    assert MonitorEnvironment.objects.get().shard == monitor.id % 3 != SHARD


@pytest.mark.django_db(transaction=True)
def test_a_change_waits_for_environments_that_are_being_created():
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(SHARD)
    with in_another_connection(lambda: create_environments([(monitor, "staging")], now=NOW)) as creating:
        assert change(3).environment_count == 1
    assert creating.was_waited_for
    in_order(3)


def start_of(environment, *, at, run):
    fields = {"slug": environment.monitor.slug, "raw_slug": environment.monitor.slug}
    return make_message(
        "in_progress", at=at, run=run, environment="production", project_id=environment.monitor.project_id, **fields
    )


@pytest.mark.django_db(transaction=True)
def test_a_run_of_a_batch_that_waited_for_the_change_is_in_the_new_shard():
    advance_ledger(NOW, now=NOW)
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    at = NOW + timedelta(seconds=20)
    with in_another_connection(lambda: change(3)) as changing:
        receive([start_of(environment, at=at, run=1)], now=at)
    assert changing.was_waited_for
    assert CheckIn.objects.get(status="in_progress").shard == environment.monitor_id % 3 != SHARD
    in_order(3)


@pytest.mark.django_db(transaction=True)
def test_a_run_of_a_batch_that_the_change_waited_for_is_in_the_new_shard():
    advance_ledger(NOW, now=NOW)
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    at = NOW + timedelta(seconds=20)
    with in_another_connection(lambda: receive([start_of(environment, at=at, run=1)], now=at)) as batch:
        assert change(3).run_count == 1
    assert batch.was_waited_for
    in_order(3)


@pytest.mark.django_db(transaction=True)
def test_two_changes_at_once_come_one_after_the_other():
    advance_ledger(NOW, now=NOW)
    MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    advance_ledger(after(6), now=NOW)
    with in_another_connection(lambda: change(3)) as first:
        assert change(64).before == 3
    assert first.was_waited_for
    in_order(64)
    assert AppliedTick.objects.get().marked_count == 1


# --- The number of shards ---------------------------------------------------------------------------------------------


def test_a_new_installation_takes_the_setting(db, settings):
    settings.CLOCK_SHARDS = 5
    assert shard_count() == 5
    assert not ShardLayout.objects.exists(), "a look changes nothing"
    monitor = MonitorFactory(id=1_000_009)
    create_environments([(monitor, "production")], now=NOW)
    assert MonitorEnvironment.objects.get().shard == 4
    advance_ledger(NOW, now=NOW)
    in_order(5)


def test_later_the_database_rules_and_says_so(clock, settings):
    everybody = [DEFAULT_DB_ALIAS]
    assert check_shards(databases=everybody) == []
    assert ignored_setting() is None
    settings.CLOCK_SHARDS = 5
    environment = MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    advance_ledger(after(1), now=NOW)
    assert shard_count() == 16
    (warning,) = [found for found in checks.run_checks(databases=everybody) if found.id == "monitors.W001"]
    assert warning.msg == "CLOCK_SHARDS is 5, but there are 16 shards; the setting is ignored."
    assert check_shards(databases=None) == []
    change(5)
    assert check_shards(databases=everybody) == []
    environment.refresh_from_db()
    assert environment.shard == environment.monitor_id % 5


def test_replay_knows_the_shards_there_are(clock):
    change(3)
    assert list(parse_shards(None)) == [0, 1, 2]
    assert list(parse_shards(2)) == [2]
    with pytest.raises(ReplayWindowError, match="shard 3 does not exist; shards are 0 to 2"):
        parse_shards(3)


# --- The command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    output, errors = io.StringIO(), io.StringIO()
    call_command("change_shards", *arguments, stdout=output, stderr=errors)
    return output.getvalue(), errors.getvalue()


def test_the_command_says_what_it_did_and_what_is_left_to_do(clock):
    MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD))
    output, errors = run("1")
    assert output.startswith(
        "There are 1 shards now instead of 16, all of them at 2026-01-05T10:00Z. "
        "Moved 1 monitor environments and 0 runs in progress; no tick was applied for "
    )
    assert errors == (
        "CLOCK_SHARDS is 16, but there are 1 shards; the setting is ignored. Set CLOCK_SHARDS=1 to match.\n"
    )
    assert run("1")[0] == "Nothing to do: there are 1 shards.\n"
    assert run("16")[1] == ""


def test_programs_get_one_object(clock):
    CheckInFactory(monitor_environment=MonitorEnvironmentFactory(monitor=make_monitor_in(SHARD)), status="in_progress")
    told = json.loads(run("1", "--json")[0])
    assert told.pop("waited_seconds") >= 0
    assert told.pop("locked_seconds") > 0
    assert told == {"before": 16, "after": 1, "position": "2026-01-05T10:00Z", "environments": 1, "runs": 1}


def test_the_command_refuses_what_cannot_be(clock):
    with pytest.raises(CommandError, match="0 is not a number of shards from 1 to 1024") as caught:
        run("0")
    assert caught.value.returncode == 1


def test_an_interrupted_command_says_that_nothing_has_changed(clock, monkeypatch):
    def interrupted(count, *, report):
        raise KeyboardInterrupt

    monkeypatch.setattr("clocktasks.management.commands.change_shards.change_shards", interrupted)
    with pytest.raises(CommandError, match=r"Interrupted\. The number of shards is what it was\.") as caught:
        run("3")
    assert caught.value.returncode == 130
