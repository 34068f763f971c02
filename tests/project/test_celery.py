import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from health import liveness
from health.liveness import Kind
from lib.valkey import valkey
from project.beats import EveryMinute
from project.celery import MarkAlive
from project.celery import app as celery_app
from project.local.children import BASE_DIR


def test_messages_are_hints_acknowledged_late_and_redelivered_soon():
    conf = celery_app.conf

    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.task_ignore_result
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options["visibility_timeout"] <= 120
    assert conf.accept_content == ["json"]
    assert conf.enable_utc
    assert str(conf.timezone) == "UTC"


def test_each_queue_gets_only_its_own_messages():
    keys = {queue.name: queue.routing_key for queue in celery_app.conf.task_queues}

    assert keys == {name: name for name in ("clock", "housekeeping", "delivery", "notifications")}
    assert celery_app.conf.task_default_queue == "clock"


def test_a_mistyped_queue_is_an_error():
    with pytest.raises(KeyError):
        celery_app.amqp.queues["klock"]


def test_beat_sends_one_tick_a_minute_after_the_grace_time():
    entry = celery_app.conf.beat_schedule["tick"]

    assert entry["task"] == "clocktasks.tasks.tick"
    assert entry["schedule"].run_every == timedelta(minutes=1)
    assert seconds_until_due(entry["schedule"], "12:00:30", now="12:00:30") == 31
    assert entry["options"]["queue"] == "clock"


def test_nothing_waits_in_a_worker_that_may_have_begun_something_else_when_it_is_due():
    assert not [name for name, entry in celery_app.conf.beat_schedule.items() if "countdown" in entry["options"]]


def seconds_until_due(schedule, last_run, *, now):
    instants = [datetime.fromisoformat(f"2026-01-05T{clock}").replace(tzinfo=UTC) for clock in (last_run, now)]
    schedule.app = celery_app
    with time_machine.travel(instants[1], tick=False):
        is_due, seconds = schedule.is_due(instants[0])
        assert is_due == (schedule.remaining_estimate(instants[0]).total_seconds() <= 0)
    return 0 if is_due else seconds


@pytest.mark.parametrize(
    ("last_run", "now", "after", "seconds_left"),
    [
        pytest.param("12:00:00.4", "12:00:30", 0, 30, id="on time"),
        pytest.param("12:00:47", "12:00:47", 0, 13, id="beat started within a minute"),
        pytest.param("12:00:59.999", "12:01:00", 0, 0, id="just before, then at the minute"),
        pytest.param("12:01:30", "12:01:31", 0, 29, id="after a late run"),
        pytest.param("12:00:01.4", "12:00:30", 1, 31, id="a second later, on time"),
        pytest.param("12:00:01.4", "12:01:00", 1, 1, id="a second later, at the minute"),
        pytest.param("12:00:01.4", "12:01:01", 1, 0, id="a second later, due"),
        pytest.param("12:00:00", "12:00:00", 1, 1, id="a second later, beat started at the minute"),
        pytest.param("12:00:45", "12:00:50", 30, 40, id="half a minute later"),
    ],
)
def test_beats_interval_keeps_to_whole_minutes(last_run, now, after, seconds_left):
    assert seconds_until_due(EveryMinute(after_seconds=after, speed=1), last_run, now=now) == seconds_left


@pytest.mark.parametrize(("now", "seconds_left"), [("12:00:06", 0.1), ("12:00:06.1", 0)])
def test_a_clock_of_ten_times_the_speed_has_minutes_of_six_seconds(now, seconds_left):
    every_minute = EveryMinute(after_seconds=1, speed=10)

    assert seconds_until_due(every_minute, "12:00:00.2", now=now) == pytest.approx(seconds_left)


HANGING = """
import time
from types import SimpleNamespace
import django
from celery import signals
from django.conf import settings
django.setup()
from project import celery
settings.CELERY_TASK_TIME_LIMIT = 1
signals.worker_process_init.send(sender=None)
for _ in range(2):
    signals.task_prerun.send(sender=None, task_id="1", task=SimpleNamespace(name="a task"))
    print("begun", flush=True)
    {does}
    signals.task_postrun.send(sender=None, task_id="1")
time.sleep(3)
print("ended", flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("does", "exit_code", "said"),
    [
        pytest.param("time.sleep(60)", -signal.SIGALRM, ["begun"], id="hangs"),
        pytest.param("pass", 0, ["begun", "begun", "ended"], id="returns"),
    ],
)
def test_a_worker_that_runs_its_tasks_itself_is_ended_when_one_hangs(does, exit_code, said):
    code = HANGING.replace("{does}", does)
    ended = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout.split()) == (exit_code, said), ended.stderr


@pytest.mark.parametrize(
    ("queues", "kinds"),
    [
        ({"clock", "housekeeping"}, {Kind.WORKER}),
        ({"delivery"}, {Kind.DELIVERY}),
        ({"clock", "delivery"}, {Kind.WORKER, Kind.DELIVERY}),
    ],
)
def test_a_worker_marks_itself_alive_in_valkey_and_touches_its_file(settings, tmp_path, queues, kinds):
    settings.ALIVE_FILE = tmp_path / "alive"
    valkey().delete(liveness.KEY)
    step = MarkAlive(None)
    step._queues = queues

    step._mark()

    assert set(liveness.last_seen()) == kinds
    assert settings.ALIVE_FILE.exists()


def test_a_file_that_cannot_be_touched_ends_no_worker(settings, tmp_path):
    settings.ALIVE_FILE = tmp_path / "nowhere" / "alive"
    step = MarkAlive(None)
    step._queues = {"clock"}

    step._mark()

    assert Kind.WORKER in set(liveness.last_seen())
