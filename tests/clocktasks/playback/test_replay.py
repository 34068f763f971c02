"""Replaying the ticks of a window by hand: the workers' work, no more than once, and rehearsed without a trace."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from checkins.models import CheckIn
from clocktasks.clock import TaskKind
from clocktasks.dispatch import advance_ledger
from clocktasks.models import AppliedTick, ShardClock, Tick
from clocktasks.playback.replay import Window, replay
from clocktasks.shards import process_clock_task
from incidents.models import Incident, Occurrence
from monitors.models import MonitorEnvironment
from tests.factories import NOW, CheckInFactory, EnvironmentFactory, MonitorEnvironmentFactory, MonitorFactory

TEN_PAST = NOW + timedelta(minutes=10)
ALL_SHARDS = range(16)


@pytest.fixture
def silent(db):
    """Two jobs of different shards that were well at 10:00 and say nothing more, and a run that hangs until 10:07."""
    project = EnvironmentFactory().project
    first, second = (
        MonitorEnvironmentFactory(monitor=MonitorFactory(project=project, slug=slug, id=id_))
        for slug, id_ in (("backup", 1_000_001), ("report", 1_000_002))
    )
    CheckInFactory(monitor_environment=first, status="in_progress", timeout_at=NOW + timedelta(minutes=7))
    advance_ledger(NOW, now=NOW)
    return first, second


@pytest.fixture
def command(monkeypatch):
    """Run the command as if it were 10:30; returns what it printed."""
    monkeypatch.setattr(
        "clocktasks.management.commands.replay_ticks.utcnow", lambda: datetime(2026, 1, 5, 10, 30, 10, tzinfo=UTC)
    )

    def run(since="2026-01-05T10:01Z", until="2026-01-05T10:10Z", **options):
        output, errors = io.StringIO(), io.StringIO()
        call_command("replay_ticks", since=since, until=until, stdout=output, stderr=errors, **options)
        return output.getvalue() + errors.getvalue()

    return run


def everything():
    """All that a tick may write, in a comparable form."""
    return {
        model.__name__: sorted(model._default_manager.values_list(*columns))
        for model, columns in {
            CheckIn: ("guid", "status", "date_added", "failed_at"),
            MonitorEnvironment: ("id", "status", "pending_slot", "next_checkin_latest", "failure_streak"),
            Incident: ("guid", "started_at", "opened_at"),
            Occurrence: ("occurred_at", "detected_at", "subtitle"),
            Tick: ("at", "missed_count", "timeout_count"),
            ShardClock: ("shard", "kind", "position"),
            AppliedTick: ("tick", "shard", "kind", "marked_count"),
        }.items()
    }


def tick_by_workers(until):
    tasks = advance_ledger(until, now=until)
    while tasks:
        result = process_clock_task(tasks.pop())
        if result.wake is not None:
            tasks.append(result.wake)
    advance_ledger(until, now=until)


def test_a_window_is_applied_in_order_and_shown(silent, command):
    output = command(json=True)
    *ticks, summary = [json.loads(line) for line in output.splitlines()]
    shards = {row.shard for row in silent}
    assert len(shards) == 2
    assert [(t["tick"][-6:], t["kind"], [one["monitor"] for one in t["marked"]]) for t in ticks] == [
        ("10:06Z", "missed", ["backup"]),
        ("10:07Z", "timeout", ["backup"]),
        ("10:06Z", "missed", ["report"]),
    ]
    assert ticks[0]["marked"] == [{"monitor": "backup", "environment": "production", "at": "2026-01-05T10:05:00Z"}]
    assert summary == {
        "since": "2026-01-05T10:01Z",
        "until": "2026-01-05T10:10Z",
        "shards": list(ALL_SHARDS),
        "dry_run": False,
        "ticks": 2,
        "missed": 2,
        "timeout": 1,
        "unknown": 0,
    }
    assert list(Tick.objects.filter(missed_count=2).values_list("at", flat=True)) == [NOW + timedelta(minutes=6)]
    assert not Tick.objects.filter(finished_at__isnull=True).exists()


def test_people_get_a_table_and_a_sentence(silent, command):
    output = command()
    assert "backup/production" in output
    assert "Applied the ticks from 2026-01-05T10:01Z to 2026-01-05T10:10Z." in output
    assert "Marked: 2 missed, 1 timeout, 0 unknown." in output


def test_p6_replay_does_what_the_workers_do(silent, command):
    before = everything()
    with transaction.atomic():
        tick_by_workers(TEN_PAST)
        by_workers = everything()
        transaction.set_rollback(True)
    assert everything() == before
    command()
    assert everything() == by_workers
    assert by_workers["AppliedTick"]


def test_the_workers_find_nothing_left_after_a_replay(silent, command):
    command()
    replayed = everything()
    tick_by_workers(TEN_PAST)
    assert everything() == replayed


def test_a_replay_finds_nothing_left_after_the_workers(silent, command):
    tick_by_workers(TEN_PAST)
    applied = everything()
    assert command() == "Nothing to do: every tick up to 2026-01-05T10:10Z is applied already.\n"
    assert everything() == applied


def test_a_second_replay_does_nothing_and_says_so(silent, command):
    command()
    once = everything()
    assert command() == "Nothing to do: every tick up to 2026-01-05T10:10Z is applied already.\n"
    assert json.loads(command(json=True))["ticks"] == 0
    assert everything() == once


def test_a_dry_run_shows_the_same_and_changes_nothing(silent, command):
    before = everything()
    *rehearsed, summary = [json.loads(line) for line in command(json=True, dry_run=True).splitlines()]
    assert everything() == before
    assert "Nothing was changed. Applying the ticks from 2026-01-05T10:01Z" in command(dry_run=True)
    *applied, _ = [json.loads(line) for line in command(json=True).splitlines()]
    assert rehearsed == applied
    assert summary["dry_run"] is True
    assert summary["missed"] == 2


def test_a_dry_run_on_an_empty_ledger_leaves_it_empty(db, command):
    command(dry_run=True)
    assert not Tick.objects.exists()
    assert not ShardClock.objects.exists()


def test_the_window_begins_an_empty_ledger(db, command):
    command()
    assert list(Tick.objects.order_by("at").values_list("at", flat=True)) == [
        NOW + timedelta(minutes=minute) for minute in range(1, 11)
    ]
    assert set(ShardClock.objects.values_list("position", flat=True)) == {TEN_PAST}


def test_one_shard_is_applied_and_the_others_stay_where_they_are(silent, command):
    first, second = silent
    output = command(shard=second.shard)
    assert "1 missed, 0 timeout" in output
    first.refresh_from_db()
    assert first.status == "ok"
    positions = dict(ShardClock.objects.filter(kind="missed").values_list("shard", "position"))
    assert positions == {shard: TEN_PAST if shard == second.shard else NOW for shard in ALL_SHARDS}
    assert "1 missed, 1 timeout" in command()


def test_minutes_before_the_window_come_first_and_are_announced(silent, command):
    output = command(since="2026-01-05T10:09Z")
    assert "The clock stands before the window: the minutes from 2026-01-05T10:01Z on come first, in order." in output
    assert "2026-01-05T10:06Z" in output


def test_no_announcement_where_the_clock_stands_right_before_the_window(silent, command):
    assert "before the window" not in command(since="2026-01-05T10:01Z")


def test_a_replay_that_breaks_off_goes_on_where_it_stopped(silent, command):
    effects = replay(Window(NOW + timedelta(minutes=1), TEN_PAST), ALL_SHARDS, now=NOW)
    assert next(effects).kind is TaskKind.MISSED
    del effects
    assert AppliedTick.objects.count() == 1
    assert "1 missed, 1 timeout" in command()


def test_an_interrupted_command_says_that_it_can_be_repeated(silent, command, monkeypatch):
    def interrupted(window, shards, *, now):
        yield next(replay(window, shards, now=now))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clocktasks.management.commands.replay_ticks.replay", interrupted)
        with pytest.raises(CommandError, match="Interrupted") as caught:
            command()
    assert caught.value.returncode == 130
    assert "1 missed, 1 timeout" in command()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"since": "2026-01-05T10:20Z"},
            "until 2026-01-05T10:10Z is before since 2026-01-05T10:20Z: the window is the wrong way round.",
        ),
        (
            {"until": "2026-01-05T10:31Z"},
            "until 2026-01-05T10:31Z lies in the future: the newest minute that may be applied is 2026-01-05T10:30Z.",
        ),
        ({"since": "2026-01-05T10:01"}, "since '2026-01-05T10:01' has no time zone; for UTC write 2026-01-05T10:01Z."),
        ({"until": "2026-01-05T10:10:30Z"}, "until '2026-01-05T10:10:30Z' is not a whole minute, and ticks are."),
        ({"until": "soon"}, "until 'soon' is not an ISO 8601 instant, such as 2026-01-05T10:00Z."),
        (
            {"since": "0001-01-01T00:00+10:00"},
            "since '0001-01-01T00:00+10:00' is not an ISO 8601 instant, such as 2026-01-05T10:00Z.",
        ),
        ({"shard": 16}, "shard 16 does not exist; shards are 0 to 15."),
        ({"shard": -1}, "shard -1 does not exist; shards are 0 to 15."),
    ],
)
def test_a_window_that_cannot_be_replayed_is_refused_in_a_sentence(silent, command, options, sentence):
    before = everything()
    with pytest.raises(CommandError) as caught:
        command(**options)
    assert str(caught.value) == sentence
    assert caught.value.returncode == 1
    assert everything() == before


def test_the_newest_minute_itself_may_be_replayed(silent, command):
    assert "Applied the ticks" in command(until="2026-01-05T10:30Z")


def test_a_window_may_be_given_in_any_time_zone(silent, command):
    assert "Applied the ticks from 2026-01-05T10:01Z to 2026-01-05T10:10Z." in command(
        since="2026-01-05T11:01+01:00", until="2026-01-05T11:10+01:00"
    )
