"""Two beats and four workers at once, one of them killed at work, leave the rows of one that does all in order.

Real processes on the real engines, with messages through the broker. The minute is shortened by the test clock.
"""

import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection

from checkins.models import CheckIn
from clocktasks.clock import whole_minute
from clocktasks.dispatch import advance_ledger
from clocktasks.models import AppliedTick, Tick
from incidents.models import Incident
from lib.wallclock import ClockSpeed, utcnow
from monitors.changes import attach_config_snapshots
from monitors.models import Environment, Monitor, MonitorEnvironment
from monitors.sharding import shard_of
from tests.clocktasks.shards import rows, tick_by_tick, undone
from tests.factories import CheckInFactory, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parent.parent.parent
MINUTE = timedelta(minutes=1)
SPEED = 20
"""A minute takes three seconds."""
SHARDS = 16
ENVIRONMENTS = 320
TICKS = 7

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("processes"), pytest.mark.django_db(transaction=True)]


def seed(origin):
    """Jobs of all shards, one slot each, due over the ticks after `origin`; half of them have a run that hangs too."""
    choose = random.Random(20260105)  # noqa: S311 - the same rows in every run
    project = ProjectFactory()
    place = Environment.objects.create(project=project, name="production")
    monitors = [
        MonitorFactory.build(
            id=n + 1, project=project, config=None, slug=f"job-{n}", interval=1, interval_unit="day",
            failure_threshold=1 + n % 2,
        )
        for n in range(ENVIRONMENTS)
    ]  # fmt: skip
    attach_config_snapshots(monitors)
    Monitor.objects.bulk_create(monitors)
    environments = []
    runs = []
    for monitor in monitors:
        slot = origin + choose.randrange(TICKS) * MINUTE
        environment = MonitorEnvironmentFactory.build(
            id=monitor.id, monitor=monitor, environment=place, shard=shard_of(monitor.id, SHARDS),
            last_checkin=origin - timedelta(hours=1), pending_slot=slot, next_checkin=slot,
            next_checkin_latest=slot + MINUTE, anchor_at=slot - timedelta(days=1), anchor_day=slot.day,
        )  # fmt: skip
        environments.append(environment)
        if monitor.id % 4 < 2:
            run = CheckInFactory.build(
                monitor_environment=environment, config=None, config_id=monitor.config_id, status="in_progress",
                date_added=origin - timedelta(minutes=5), timeout_at=origin + choose.randint(1, TICKS) * MINUTE,
            )  # fmt: skip
            runs.append(run)
    MonitorEnvironment.objects.bulk_create(environments)
    CheckIn.objects.bulk_create(runs)
    assert {environment.shard for environment in environments} == set(range(SHARDS))


@pytest.fixture
def start_process(tmp_path, transactional_db):
    """Start `python -m celery -A project ...` on this test's database and broker; all are stopped at the end."""
    running = []
    database = connection.settings_dict
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": os.environ["DATABASE_URL"].rpartition("/")[0] + "/" + database["NAME"],
        "REDIS_URL": django_settings.REDIS_URL,
        "WATCHCLOCK_ALLOW_TEST_CLOCK": "true",
    }
    environment.pop("CELERY_BROKER_URL", None)

    def start(name, *arguments, clock):
        log = tmp_path / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "project", *arguments],
                cwd=ROOT, env=environment | {"WATCHCLOCK_TEST_CLOCK": clock}, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
    for process in running:
        process.wait(PATIENCE_SECONDS)
    with redis.Redis.from_url(django_settings.REDIS_URL) as broker:
        broker.flushdb()


def wait_until(condition, *, what, processes, logs):
    """Return when `condition` holds. Fails in time, or when a process has ended, with what they wrote."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        ended = [process.args for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            tails = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in logs.glob("*.log"))
            pytest.fail(f"waited in vain for {what}; ended: {ended}\n{tails}")
        time.sleep(0.05)


def test_p4_two_beats_and_four_workers_leave_the_rows_of_one_in_order(start_process, tmp_path, settings):
    settings.ALERT_EMAIL_TO = []  # As in the environment of the processes.
    origin = whole_minute(utcnow())
    last = origin + TICKS * MINUTE
    advance_ledger(origin - MINUTE, now=origin)
    seed(origin)
    with undone():
        marked = tick_by_tick(origin, last)
        expected = rows()
    assert marked == ENVIRONMENTS * 3 // 2

    clock = f"{origin.isoformat()}@{SPEED}"
    assert ClockSpeed.parse(clock).at(utcnow()) >= origin
    workers = [
        start_process(
            f"worker-{n}", "worker", "--pool", "solo", "--queues", "clock", "--hostname", f"worker-{n}@%h",
            "--without-gossip", "--without-mingle", "--loglevel", "WARNING", clock=clock,
        )
        for n in range(4)
    ]  # fmt: skip
    beats = [
        start_process(
            f"beat-{n}", "beat", "--schedule", str(tmp_path / f"schedule-{n}"), "--pidfile", "",
            "--loglevel", "WARNING", clock=clock,
        )
        for n in range(2)
    ]  # fmt: skip

    def wait(condition, what):
        wait_until(condition, what=what, processes=[*workers, *beats], logs=tmp_path)

    wait(AppliedTick.objects.exists, "the first tick to be applied")
    killed = workers.pop()
    killed.kill()
    assert sum(AppliedTick.objects.values_list("marked_count", flat=True)) < marked, "it was killed in the middle"
    wait(Tick.objects.filter(at=last, finished_at__isnull=False).exists, f"the tick {last} to be finished")
    for process in [*workers, *beats]:
        process.kill()
        process.wait(PATIENCE_SECONDS)

    found = rows()
    ledger = sorted(tick["at"] for tick in found["Tick"])
    assert ledger == [origin + n * MINUTE for n in range(-1, len(ledger) - 1)], "every minute, once"
    found["Tick"] = [tick for tick in found["Tick"] if tick["at"] <= last]
    assert found == expected
    assert Incident.objects.count() > ENVIRONMENTS / 2


def test_a_worker_keeps_its_connection_and_gets_over_a_broken_one(start_process, tmp_path):
    def backends():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return {pid for (pid,) in cursor.fetchall()}

    clock = f"{whole_minute(utcnow()).isoformat()}@{SPEED}"
    processes = [
        start_process("worker", "worker", "--pool", "solo", "--queues", "clock", "--loglevel", "WARNING", clock=clock),
        start_process("beat", "beat", "--schedule", str(tmp_path / "schedule"), clock=clock),
    ]

    def ticks(count):
        wait_until(lambda: Tick.objects.count() >= count, what=f"{count} ticks", processes=processes, logs=tmp_path)

    ticks(1)
    before = backends()
    assert len(before) == 1
    ticks(3)
    assert backends() == before
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS pid", [list(before)])
    ticks(Tick.objects.count() + 2)
    after = backends()
    assert len(after) == 1
    assert after.isdisjoint(before)
