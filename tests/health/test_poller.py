"""The poller of a web process, on real engines: what it finds when they are there, away and back."""

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
from health import liveness, poller
from health.facts import Facts, Intake
from health.poller import STALE_SECONDS, Poller
from health.problems import find_problems
from lib import valkey
from project.celery import app
from project.local import engines
from project.local.engines import free_port
from tests.factories import NOW, MonitorFactory, TickFactory

pytestmark = pytest.mark.django_db(transaction=True)

INTAKE = Intake(True, 0, 24_576, 1 << 30, False, False, 1 << 40)
MINUTE = timedelta(minutes=1)


class Clock:
    """The poller's clock."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def polling(clock, transactional_db) -> Iterator[Poller]:
    """A poller with its thread; no process was seen yet."""
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY, "clock", "housekeeping", "delivery", "notifications")
    started = Poller(intake=lambda: INTAKE, utcnow=clock)
    yield started
    started.stop()
    started._thread.shutdown(wait=True)
    valkey.valkey.cache_clear()
    valkey.valkey().delete(liveness.KEY, "clock", "housekeeping", "delivery", "notifications")


def poll(polling: Poller) -> Facts:
    polling._thread.submit(polling.poll).result(30)
    facts = polling.facts()
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


def test_a_valkey_without_memory_is_the_reason_and_not_that_no_worker_runs(polling, clock, small_valkey):
    TickFactory(at=NOW, dispatched_at=NOW)
    small_valkey.config_set("maxmemory-policy", "noeviction")
    small_valkey.config_set("maxmemory", "1")

    clock.now = NOW + 10 * MINUTE
    facts = poll(polling)

    said = [finding.what for finding in find_problems(facts) if finding.is_bad]
    assert any("Valkey cannot be used (" in what and "maxmemory" in what for what in said)
    assert not any("No worker runs" in what or "No beat runs" in what for what in said)


def test_it_sees_rows_processes_and_queues(polling, settings):
    settings.ALERT_EMAIL_TO = ["oncall@example.com"]
    TickFactory(at=NOW)
    liveness.mark_alive(liveness.Kind.BEAT, NOW - MINUTE, host="a")
    liveness.mark_alive(liveness.Kind.BEAT, NOW, host="b")
    liveness.mark_alive(liveness.Kind.WORKER, NOW, host="a")
    liveness.mark_alive(liveness.Kind.DELIVERY, NOW, host="a")

    facts = poll(polling)

    assert facts.rows is not None
    assert facts.rows.newest is not None
    assert facts.rows.newest.at == NOW
    assert facts.last_seen == {"beat": NOW, "worker": NOW, "delivery": NOW}, (
        "of several beats the one that was seen last"
    )
    assert facts.queues == {"clock": 0, "housekeeping": 0, "delivery": 0, "notifications": 0}
    assert facts.intake == INTAKE
    assert find_problems(facts) == []


def test_it_counts_the_messages_that_wait(polling):
    with app.connection_for_write(settings.CELERY_BROKER_URL) as broker:
        for _ in range(3):
            app.send_task("clocktasks.tasks.tick", queue="clock", connection=broker)

    assert poll(polling).queues == {"clock": 3, "housekeeping": 0, "delivery": 0, "notifications": 0}


def test_before_the_first_poll_nothing_is_known_and_nothing_is_said_for_too_long(polling, monkeypatch):
    assert polling.facts() is None

    monkeypatch.setattr(polling, "_started_at", time.monotonic() - STALE_SECONDS - 1)
    facts = polling.facts()
    assert facts is not None
    assert facts.postgres is not None


def test_postgresql_goes_away_and_comes_back(polling, clock, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings["default"], "PORT", free_port())
        assert poll(polling).rows is None
        clock.now = NOW + MINUTE
        away = poll(polling).postgres
    assert away is not None
    assert away.since == NOW, "since it was noticed first"
    assert "refused" in away.error

    facts = poll(polling)
    assert facts.postgres is None
    assert facts.rows is not None


def test_a_connection_that_broke_is_replaced_at_once(polling):
    poll(polling)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'watchclock poller' AND datname = current_database()"
        )
        assert cursor.fetchone() == (1,)

    assert poll(polling).postgres is None


def test_valkey_and_the_broker_go_away(polling, monkeypatch):
    with monkeypatch.context() as patch:
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        patch.setattr(settings, "REDIS_URL", nowhere)
        patch.setattr(app.conf, "broker_url", nowhere)
        valkey.valkey.cache_clear()
        facts = poll(polling)
        assert asyncio.run(polling.sums()) is None
    valkey.valkey.cache_clear()

    assert facts.valkey is not None
    assert facts.broker is not None
    assert facts.rows is not None
    facts = poll(polling)
    assert (facts.valkey, facts.broker) == (None, None)


def test_a_broker_that_refuses_connections_is_asked_once(polling, monkeypatch):
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(app.conf, "broker_url", nowhere)
    slept: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", slept.append)

    assert poll(polling).broker is not None
    assert slept == [], "it sleeps before a second attempt, and pages wait for it"


def test_a_database_without_this_versions_migrations_is_not_read(polling):
    rows = MigrationRecorder.Migration.objects
    newest = rows.filter(app="clocktasks", name="0006_tick_for_many_minutes").values("app", "name", "applied")[0]
    rows.filter(app=newest["app"], name=newest["name"]).delete()
    try:
        facts = poll(polling)
    finally:
        rows.create(**newest)
    assert facts.missing_migrations == ("clocktasks.0001_squashed_0006",)
    assert facts.rows is None

    assert poll(polling).missing_migrations == ()


def test_migrations_that_were_put_together_are_not_missed_where_each_of_them_was_applied(polling):
    rows = MigrationRecorder.Migration.objects
    together = rows.filter(name__startswith="0001_squashed_").values("app", "name", "applied")
    assert len(together) == 4
    rows.filter(name__startswith="0001_squashed_").delete()
    try:
        facts = poll(polling)
    finally:
        rows.bulk_create(rows.model(**row) for row in together)
    assert facts.missing_migrations == ()
    assert facts.rows is not None


def test_a_poll_that_does_not_return_is_a_fact(polling, monkeypatch):
    seen = poll(polling)

    monkeypatch.setattr(polling, "_polled_at", time.monotonic() - STALE_SECONDS - 1)
    facts = polling.facts()

    assert facts is not None
    assert facts.postgres is not None
    assert (facts.rows, facts.postgres.since, facts.intake) == (None, seen.now, INTAKE)


def test_it_writes_nothing(polling):
    def write() -> Any:
        return Tick.objects.create(at=NOW, dispatched_at=NOW, decided_at=NOW)

    _, error = polling._thread.submit(polling._ask_postgres, write).result(30)

    assert error is not None
    assert "read-only transaction" in error
    assert not Tick.objects.exists()


def test_the_figures_are_read_when_somebody_asks(polling):
    TickFactory(at=NOW, finished_at=NOW + timedelta(seconds=4))
    assert asyncio.run(polling.figures(NOW)) is None, "before it is known that the tables are there"
    poll(polling)

    figures = asyncio.run(polling.figures(NOW + MINUTE))

    assert figures is not None
    assert figures.tick_seconds["whole", 1.0] == 4


def test_the_room_of_the_spool(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "SPOOL_DIRECTORY", tmp_path)
    assert (poller.free_bytes() or 0) > 0

    monkeypatch.setattr(settings, "SPOOL_DIRECTORY", tmp_path / "gone")
    assert poller.free_bytes() is None
    assert replace(INTAKE, free_bytes=None).can_take


def test_routes_are_compared_with_monitors_at_the_first_poll_and_then_once_a_minute(polling, monkeypatch, settings):
    settings.ALERT_EMAIL_TO = []
    MonitorFactory()
    assert poll(polling).uncaught.count == 1
    MonitorFactory()
    assert poll(polling).uncaught.count == 1
    monkeypatch.setattr(poller, "LOOKED_AT_EVERY_SECONDS", 0.0)
    assert poll(polling).uncaught.count == 2
