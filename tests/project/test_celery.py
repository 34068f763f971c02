from datetime import UTC, datetime, timedelta

import pytest
from celery.schedules import schedule

from health import liveness
from health.liveness import Kind
from lib.valkey import valkey
from project.celery import MarkAlive
from project.celery import app as celery_app


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
    assert entry["options"]["countdown"] == 1
    assert entry["options"]["queue"] == "clock"


@pytest.mark.parametrize(
    ("last_run", "now", "seconds_left"),
    [
        pytest.param("12:00:00.4", "12:00:30", 30, id="on time"),
        pytest.param("12:00:47", "12:00:47", 13, id="beat started within a minute"),
        pytest.param("12:00:59.999", "12:01:00", 0, id="just before, then at the minute"),
        pytest.param("12:01:30", "12:01:31", 29, id="after a late run"),
    ],
)
def test_beats_interval_keeps_to_whole_minutes(last_run, now, seconds_left):
    instants = [datetime.fromisoformat(f"2026-01-05T{clock}").replace(tzinfo=UTC) for clock in (last_run, now)]
    every_minute = schedule(60, relative=True, nowfun=lambda: instants[1], app=celery_app)

    assert max(every_minute.remaining_estimate(instants[0]).total_seconds(), 0) == seconds_left


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
