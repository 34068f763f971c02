"""The lookout of a web process, on real engines: what it sees when they are there, away and back."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from clocktasks.models import Tick
from health import liveness, lookout
from health.facts import Facts, Intake
from health.lookout import STALE_SECONDS, Lookout
from health.problems import find_problems
from lib import valkey
from project.celery import app
from project.local import engines
from project.local.engines import free_port
from tests.factories import NOW, TickFactory

pytestmark = pytest.mark.django_db(transaction=True)

INTAKE = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
MINUTE = timedelta(minutes=1)


class Clock:
    """What the lookout takes for the time."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def looking(clock, transactional_db) -> Iterator[Lookout]:
    """A lookout with its thread, and nobody heard of yet."""
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY, "clock", "housekeeping", "delivery", "notifications")
    started = Lookout(intake=lambda: INTAKE, utcnow=clock)
    yield started
    started.stop()
    started._thread.shutdown(wait=True)
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY, "clock", "housekeeping", "delivery", "notifications")


def look(looking: Lookout) -> Facts:
    looking._thread.submit(looking.look).result(30)
    facts = looking.facts()
    assert facts is not None
    return facts


@pytest.fixture
def small_valkey(tmp_path, settings) -> Iterator[redis.Redis]:
    """A Valkey of its own: the others share theirs with tests that run at the same time."""
    for directory in (tmp_path, tmp_path.parent):
        directory.chmod(0o711)  # The engines run as another user if we are root.
    engine = engines.prepare_valkey(tmp_path / "valkey", port=free_port())
    with engines.running(engine, tmp_path / "valkey.log"):
        settings.REDIS_URL = settings.CELERY_BROKER_URL = engine.url
        valkey.valkey.cache_clear()
        yield valkey.valkey()
    valkey.valkey.cache_clear()


def test_a_valkey_without_memory_is_the_reason_and_not_that_no_worker_runs(looking, clock, small_valkey):
    TickFactory(at=NOW, dispatched_at=NOW)
    small_valkey.config_set("maxmemory-policy", "noeviction")
    small_valkey.config_set("maxmemory", "1")

    clock.now = NOW + 10 * MINUTE
    facts = look(looking)

    said = [finding.what for finding in find_problems(facts) if finding.is_bad]
    assert any("Valkey cannot be used (" in what and "maxmemory" in what for what in said)
    assert not any("No worker runs" in what or "No beat runs" in what for what in said)


def test_it_sees_rows_processes_and_queues(looking, settings):
    settings.ALERT_EMAIL_TO = ["oncall@example.com"]
    TickFactory(at=NOW)
    liveness.say_alive(liveness.Kind.BEAT, NOW - MINUTE, host="a")
    liveness.say_alive(liveness.Kind.BEAT, NOW, host="b")
    liveness.say_alive(liveness.Kind.WORKER, NOW, host="a")
    liveness.say_alive(liveness.Kind.DELIVERY, NOW, host="a")

    facts = look(looking)

    assert facts.rows is not None
    assert facts.rows.newest is not None
    assert facts.rows.newest.at == NOW
    assert facts.heard == {"beat": NOW, "worker": NOW, "delivery": NOW}, (
        "of several beats the one that was heard of last"
    )
    assert facts.queues == {"clock": 0, "housekeeping": 0, "delivery": 0, "notifications": 0}
    assert facts.intake == INTAKE
    assert find_problems(facts) == []


def test_it_counts_the_messages_that_wait(looking):
    with app.connection_for_write(settings.CELERY_BROKER_URL) as broker:
        for _ in range(3):
            app.send_task("clocktasks.tasks.tick", queue="clock", connection=broker)

    assert look(looking).queues == {"clock": 3, "housekeeping": 0, "delivery": 0, "notifications": 0}


def test_before_the_first_look_nothing_is_known_and_nothing_is_said_for_too_long(looking, monkeypatch):
    assert looking.facts() is None

    monkeypatch.setattr(looking, "_started_at", time.monotonic() - STALE_SECONDS - 1)
    facts = looking.facts()
    assert facts is not None
    assert facts.postgres is not None


def test_postgresql_goes_away_and_comes_back(looking, clock, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings["default"], "PORT", free_port())
        assert look(looking).rows is None
        clock.now = NOW + MINUTE
        away = look(looking).postgres
    assert away is not None
    assert away.since == NOW, "since it was noticed first"
    assert "refused" in away.error

    facts = look(looking)
    assert facts.postgres is None
    assert facts.rows is not None


def test_a_connection_that_broke_is_replaced_at_once(looking):
    look(looking)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'watchclock lookout' AND datname = current_database()"
        )
        assert cursor.fetchone() == (1,)

    assert look(looking).postgres is None


def test_valkey_and_the_broker_go_away(looking, monkeypatch):
    with monkeypatch.context() as patch:
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        patch.setattr(settings, "REDIS_URL", nowhere)
        patch.setattr(app.conf, "broker_url", nowhere)
        valkey.valkey.cache_clear()
        facts = look(looking)
        assert asyncio.run(looking.sums()) is None
    valkey.valkey.cache_clear()

    assert facts.valkey is not None
    assert facts.broker is not None
    assert facts.rows is not None
    facts = look(looking)
    assert (facts.valkey, facts.broker) == (None, None)


def test_a_database_without_this_versions_migrations_is_not_read(looking):
    rows = MigrationRecorder.Migration.objects
    newest = rows.filter(app="clocktasks", name="0006_tick_for_many_minutes").values("app", "name", "applied")[0]
    rows.filter(app=newest["app"], name=newest["name"]).delete()
    try:
        facts = look(looking)
    finally:
        rows.create(**newest)
    assert facts.missing_migrations == ("clocktasks.0001_squashed_0006",)
    assert facts.rows is None

    assert look(looking).missing_migrations == ()


def test_migrations_that_were_put_together_are_not_missed_where_each_of_them_was_applied(looking):
    rows = MigrationRecorder.Migration.objects
    together = rows.filter(name__startswith="0001_squashed_").values("app", "name", "applied")
    assert len(together) == 4
    rows.filter(name__startswith="0001_squashed_").delete()
    try:
        facts = look(looking)
    finally:
        rows.bulk_create(rows.model(**row) for row in together)
    assert facts.missing_migrations == ()
    assert facts.rows is not None


def test_a_look_that_does_not_come_back_is_a_fact(looking, monkeypatch):
    seen = look(looking)

    monkeypatch.setattr(looking, "_seen_at", time.monotonic() - STALE_SECONDS - 1)
    facts = looking.facts()

    assert facts is not None
    assert facts.postgres is not None
    assert (facts.rows, facts.postgres.since, facts.intake) == (None, seen.now, INTAKE)


def test_it_writes_nothing(looking):
    def write() -> Any:
        return Tick.objects.create(at=NOW, dispatched_at=NOW, decided_at=NOW)

    _, error = looking._thread.submit(looking._ask_postgres, write).result(30)

    assert error is not None
    assert "read-only transaction" in error
    assert not Tick.objects.exists()


def test_the_figures_are_read_when_somebody_asks(looking):
    TickFactory(at=NOW, finished_at=NOW + timedelta(seconds=4))
    assert asyncio.run(looking.figures(NOW)) is None, "before it is known that the tables are there"
    look(looking)

    figures = asyncio.run(looking.figures(NOW + MINUTE))

    assert figures is not None
    assert figures.tick_seconds["whole", 1.0] == 4


def test_the_room_of_the_spool(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "SPOOL_DIRECTORY", tmp_path)
    assert (lookout.free_bytes() or 0) > 0

    monkeypatch.setattr(settings, "SPOOL_DIRECTORY", tmp_path / "gone")
    assert lookout.free_bytes() is None
    assert replace(INTAKE, free_bytes=None).can_take
