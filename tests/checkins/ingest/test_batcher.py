"""P1 and P2 in the micro-batcher: one answer for each request, one row for each acknowledged check-in, come what may.

The batcher runs in a thread as it does in the web process, on the real database and a real spool.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings as django_settings
from django.db import OperationalError, connection, connections

from checkins import nodes, watermarks
from checkins.ingest import batcher as batching
from checkins.ingest import heartbeats, orphans
from checkins.ingest import node as node_module
from checkins.ingest.batcher import Batcher
from checkins.ingest.options import Options
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_spool
from checkins.models import CheckIn, IngestNode, LostSpan, WaitingCheckIn
from checkins.processing import apply as services
from checkins.processing import batch as intake
from checkins.processing.finding import Hints
from checkins.processing.reading import LIGHT_OBJECTS_MAX
from checkins.protocols.request import Answer, IngestRequest
from clocktasks.dispatch import advance_ledger
from lib.metrics import METERS
from monitors.models import Monitor
from tests.checkins.ingest import victim
from tests.clocktasks import shards
from tests.factories import NOW, IngestKeyFactory, MonitorEnvironmentFactory, MonitorFactory
from tests.waiting import PATIENCE_SECONDS, wait_until

"""A process takes half a minute to start on a busy machine; what is awaited is a condition, so this costs nothing."""
PATIENCE = 0.2
"""Of a process that is to lose it; the others have more than a busy machine needs."""
STORED_NOTHING = 503

pytestmark = pytest.mark.django_db(transaction=True)


# --- A process that takes check-ins, its clock, and what may happen to PostgreSQL -------------------------------------


class Clock:
    """Stands at NOW, but for a millisecond each time it is read: so reception times tell requests apart."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        self.now += timedelta(milliseconds=1)
        return self.now


class Process:
    """A batcher on an event loop of its own, and the requests that it was sent."""

    def __init__(self, directory: Path, clock: Clock, **options: Any) -> None:
        self.clock = clock
        bounds: dict[str, Any] = {"spool_bytes_max": 64 << 20, "patience": PATIENCE_SECONDS, **options}
        self.options = Options(spool_directory=directory, **bounds)
        self.requests: list[IngestRequest] = []
        self.is_stopped = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def start(self) -> "Process":
        self.thread.start()
        self.batcher = self.run(self._make())
        self.run(self.batcher.start())
        return self

    def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            self.run(self.batcher.stop())

    def close(self) -> None:
        if self.thread.is_alive():
            self.stop()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_SECONDS)

    async def _make(self) -> Batcher:
        return Batcher(self.options, utcnow=self.clock)

    def send(self, *paths: str) -> list["Future[Answer]"]:
        """Send requests at one moment, as far as the event loop can tell."""
        answers: list[Future[Answer]] = [Future() for _ in paths]

        def submit() -> None:
            for path, answer in zip(paths, answers, strict=True):
                request = make_request(path, at=self.batcher.stamp())
                self.requests.append(request)
                self.batcher.enqueue(request, answer.set_result)

        self.loop.call_soon_threadsafe(submit)
        return answers

    def send_body(self, path: str, body: bytes, key: Any) -> "Future[Answer]":
        """Send a request with a body, with an ingest key."""
        answer: Future[Answer] = Future()

        def submit() -> None:
            headers = {"authorization": f"Bearer {key.public_key}"}
            request = make_request(path, at=self.batcher.stamp(), body=body, headers=headers)
            self.batcher.enqueue(request, answer.set_result)

        self.loop.call_soon_threadsafe(submit)
        return answer

    def ask(self, *paths: str) -> list[int]:
        """Send requests and return the statuses of their answers."""
        return statuses(self.send(*paths))

    def sent_at(self) -> list[Any]:
        return [request.received_at for request in self.requests]

    def becomes_direct(self) -> None:
        wait_until(lambda: self.batcher.is_direct and not self.batcher.spooled_count, "it stores directly again")


def make_request(path: str, *, at: Any, body: bytes = b"", headers: dict[str, str] | None = None) -> IngestRequest:
    path, _, query = path.partition("?")
    return IngestRequest(
        method="POST", path=path, query=query, headers=headers or {}, body=body, body_bytes=len(body), received_at=at
    )


def statuses(answers: list["Future[Answer]"]) -> list[int]:
    return [answer.result(PATIENCE_SECONDS).status for answer in answers]


class Postgres:
    """What an operator, a crash or a slow disk does to PostgreSQL, as seen from a connection of the test's own."""

    def __init__(self) -> None:
        database = django_settings.DATABASES["default"]
        self.name = connection.settings_dict["NAME"]
        keys = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
        address: dict[str, Any] = {key: database[name] for key, name in keys.items()}
        self.server = psycopg.connect(**address, dbname="postgres", autocommit=True)
        self.inside = psycopg.connect(**address, dbname=self.name, autocommit=True)

    def go_away(self) -> None:
        """Break the connections of the batcher, and take no new ones."""
        self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false')
        self.break_connections()

    def come_back(self) -> None:
        self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')

    def break_connections(self) -> None:
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> ALL(%s)",
            [self.name, [self.inside.info.backend_pid, self._own_pid()]],
        )

    def _own_pid(self) -> int:
        connection.ensure_connection()
        return connection.connection.info.backend_pid

    @contextlib.contextmanager
    def locked(self, query: str) -> Iterator[None]:
        """Hold the locks of this statement."""
        with self.inside.transaction():
            self.inside.execute(query)
            yield

    def somebody_waits(self) -> bool:
        row = self.server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))",
            [self.inside.info.backend_pid],
        ).fetchone()
        return row is not None and row[0] > 0

    def watermark(self) -> Any:
        row = self.inside.execute("SELECT watermark FROM checkins_ingestnode").fetchone()
        return row and row[0]

    def close(self) -> None:
        self.inside.close()
        self.come_back()
        self.server.close()


ENVIRONMENTS = "SELECT FROM monitors_monitorenvironment FOR UPDATE"
NODES = "SELECT FROM checkins_ingestnode FOR UPDATE"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    opened = Postgres()
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_process(tmp_path, clock, settings) -> Iterator[Any]:
    """Make a process on the spool directory of this test; what is alive at the end is stopped."""
    settings.CHECKINS_PER_MINUTE = 100_000
    made: list[Process] = []

    def make(**options: Any) -> Process:
        made.append(Process(tmp_path / "spool", clock, **options))
        return made[-1]

    yield make
    for process in made:
        process.close()


@pytest.fixture
def process(make_process) -> Process:
    return make_process().start()


@pytest.fixture
def monitor() -> Monitor:
    return make_monitor("nightly")


@pytest.fixture
def impatient(make_process) -> Process:
    return make_process(patience=PATIENCE).start()


def make_monitor(slug: str, project: Any = None) -> Monitor:
    monitor = MonitorFactory(slug=slug, **({"project": project} if project else {}))
    MonitorEnvironmentFactory(monitor=monitor, status="active")
    return monitor


def ping(monitor: Monitor, run: int | None = None) -> str:
    return f"/ping/{monitor.guid}" + ("" if run is None else f"?rid={uuid.UUID(int=run)}")


def stored_at() -> list[Any]:
    """When the stored check-ins were received, in the order in which they were stored."""
    return [checkin.received_at for checkin in CheckIn.objects.order_by("id")]


def node() -> IngestNode:
    return IngestNode.objects.get()


# --- Batches ----------------------------------------------------------------------------------------------------------


def test_many_requests_are_stored_in_their_order_and_each_has_its_answer(process):
    monitors = [make_monitor(f"job-{number}") for number in range(3)]
    paths = [f"/ping/{uuid.UUID(int=n)}" if n % 7 == 0 else ping(monitors[n % 3]) for n in range(1200)]

    assert process.ask(*paths) == [404 if n % 7 == 0 else 200 for n in range(1200)]

    assert stored_at() == [at for n, at in enumerate(process.sent_at()) if n % 7 != 0]
    assert node().spool_position == 0, "nothing needed the spool"
    assert 2 < node().batch < 100


def test_what_arrives_while_a_batch_is_stored_is_the_next_batch(make_process, monitor, postgres):
    process = make_process().start()
    with postgres.locked(ENVIRONMENTS):
        first = process.send(ping(monitor))
        wait_until(postgres.somebody_waits, "the first batch is on its way")
        others = [answer for _ in range(20) for answer in process.send(ping(monitor))]
        assert not any(answer.done() for answer in [*first, *others]), "nobody is answered before the commit"
    assert statuses([*first, *others]) == [200] * 21
    assert node().batch == 2


def test_a_batch_goes_to_the_other_thread_and_back_once(process, monitor, monkeypatch):
    """Each way waits for a turn of the event loop, which is busy with requests."""
    calls: list[Any] = []
    in_database = process.batcher._threads.in_database

    def counted(call: Any) -> Any:
        calls.append(call)
        return in_database(call)

    monkeypatch.setattr(process.batcher._threads, "in_database", counted)
    before = node().batch
    process.ask(*[ping(monitor)] * 50)
    assert node().batch == before + 1
    assert [call.func.__name__ for call in calls if isinstance(call, partial)] == ["store"]


def test_a_request_is_not_received_before_an_earlier_one_if_the_hosts_clock_is_set_back(process, monitor, clock):
    process.ask(ping(monitor))
    clock.now -= timedelta(seconds=5)
    process.ask(ping(monitor))
    first, second = stored_at()
    assert second >= first


def test_a_hosts_clock_that_was_wrong_by_an_hour_and_is_set_back_stamps_with_the_right_time(
    process, monitor, clock, caplog
):
    process.ask(ping(monitor))
    clock.now -= timedelta(hours=1)
    right = clock.now
    process.ask(ping(monitor))
    _, second = stored_at()
    assert right <= second < right + timedelta(minutes=1)
    assert "was set back" in caplog.text


# --- PostgreSQL away --------------------------------------------------------------------------------------------------


def test_what_comes_while_postgresql_is_away_is_answered_and_stored_later_in_order(process, monitor, postgres):
    process.ask(ping(monitor))
    postgres.go_away()
    for _ in range(30):
        assert process.ask(ping(monitor), ping(monitor)) == [200, 200]
    assert (process.batcher.is_direct, process.batcher.spooled_count) == (False, 60)

    postgres.come_back()

    process.becomes_direct()
    process.ask(ping(monitor))
    assert stored_at() == process.sent_at()
    assert (node().spool_position, node().spooled_count) == (60, 0)


def test_what_needs_no_database_to_be_refused_is_refused_as_ever(process, monitor, postgres):
    postgres.go_away()
    assert process.ask("/ping/nothing-of-the-kind/and/more", ping(monitor)) == [404, 200]
    assert process.batcher.spooled_count == 1


@pytest.mark.parametrize("state", ["default_transaction_read_only = on", "statement_timeout = 1"])
def test_a_postgresql_that_takes_nothing_is_as_good_as_none(process, monitor, postgres, state):
    process.ask(ping(monitor))
    with postgres.locked(ENVIRONMENTS) if "timeout" in state else contextlib.nullcontext():
        postgres.server.execute(f'ALTER DATABASE "{postgres.name}" SET {state}')
        try:
            postgres.break_connections()
            assert process.ask(ping(monitor)) == [200]
            assert process.ask(ping(monitor)) == [200]
            assert process.batcher.spooled_count == 2
        finally:
            postgres.server.execute(f'ALTER DATABASE "{postgres.name}" RESET {state.split()[0]}')
    postgres.break_connections()
    process.becomes_direct()
    assert stored_at() == process.sent_at()


def test_a_process_starts_without_postgresql_and_is_known_when_that_is_back(make_process, monitor, postgres):
    postgres.go_away()
    process = make_process().start()
    assert process.ask(ping(monitor)) == [200]
    postgres.come_back()
    process.becomes_direct()
    assert stored_at() == process.sent_at()
    assert node().left_at is None


def test_a_process_starts_while_postgresql_hangs(make_process, monitor, postgres):
    process = make_process(patience=PATIENCE)
    with postgres.locked("LOCK TABLE checkins_ingestnode"):
        process.start()
        assert process.ask(ping(monitor)) == [200]
    process.becomes_direct()
    assert stored_at() == process.sent_at()


def test_the_log_reports_an_absence_of_postgresql_its_end_and_what_a_stop_leaves(
    make_process, monitor, postgres, caplog
):
    caplog.set_level(logging.INFO, "checkins.ingest.batcher")
    process = make_process(patience=PATIENCE)
    with postgres.locked("LOCK TABLE checkins_ingestnode"):
        process.start()
        assert (
            "PostgreSQL (DATABASE_URL) is away: it has not answered for 0.2 s; check-ins go to the spool in"
            in caplog.text
        )
        assert process.ask(ping(monitor)) == [200]
    process.becomes_direct()
    wait_until(lambda: "PostgreSQL is back" in caplog.text, "the end of it is reported")
    with postgres.locked("LOCK TABLE checkins_ingestnode"):
        assert process.ask(ping(monitor)) == [200]
        process.stop()
    assert "1 requests stay in the spool" in caplog.text


def test_a_node_that_is_not_known_any_more_registers_again(process, monitor):
    process.ask(ping(monitor))
    IngestNode.objects.all().delete()
    assert process.ask(ping(monitor)) == [200]
    process.becomes_direct()
    assert stored_at() == process.sent_at()
    assert node().id is not None


# --- PostgreSQL slow, and COMMITs without an answer -------------------------------------------------------------------


def test_a_batch_that_takes_too_long_is_answered_from_the_spool_and_not_committed_when_it_could_be(
    impatient, monitor, postgres, caplog
):
    impatient.ask(ping(monitor))
    with postgres.locked(ENVIRONMENTS):
        since = time.monotonic()
        assert impatient.ask(ping(monitor)) == [200]
        assert time.monotonic() - since >= PATIENCE
        assert impatient.ask(ping(monitor)) == [200]
    impatient.becomes_direct()
    assert stored_at() == impatient.sent_at()
    assert (node().batch, node().spool_position) == (1, 2), "batch 2 was given up before it could commit"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_batch_that_hangs_in_its_last_statement_and_is_committed_after_all_is_stored_once(
    impatient, monitor, postgres
):
    impatient.ask(ping(monitor))
    with postgres.locked(NODES):
        assert impatient.ask(ping(monitor), ping(monitor)) == [200, 200]
        assert impatient.batcher.spooled_count == 2
    impatient.becomes_direct()
    assert stored_at() == impatient.sent_at()
    assert (node().batch, node().spool_position) == (2, 0), "batch 2 was committed, and its entries forgotten"


def test_a_batch_that_hangs_in_its_last_statement_and_breaks_off_there_is_stored_once(impatient, monitor, postgres):
    impatient.ask(ping(monitor))
    with postgres.locked(NODES):
        assert impatient.ask(ping(monitor), ping(monitor)) == [200, 200]
        postgres.break_connections()
    impatient.becomes_direct()
    assert stored_at() == impatient.sent_at()
    assert node().spool_position == 2


@pytest.fixture
def lose_next_commit(monkeypatch) -> Any:
    """Make the connection break at the next COMMIT of the batcher: right before it, or right after."""
    fate: list[str] = []
    wrapper: Any = type(connections["default"])
    commit = wrapper._commit

    def losing(self: Any) -> None:
        if not fate or threading.current_thread() is threading.main_thread():
            return commit(self)
        when = fate.pop()
        if when == "after":
            commit(self)
        self.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(wrapper, "_commit", losing)
    return fate.append


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_batch_whose_commit_is_not_answered_is_stored_once(process, monitor, lose_next_commit, moment):
    process.ask(ping(monitor))
    lose_next_commit(moment)
    assert process.ask(ping(monitor), ping(monitor, run=1)) == [200, 200]
    process.becomes_direct()
    process.ask(ping(monitor))
    assert stored_at() == process.sent_at()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_d35_what_a_batch_had_no_room_for_is_stored_once_whatever_became_of_its_commit(
    process, monitor, lose_next_commit, monkeypatch, moment
):
    process.ask(ping(monitor))
    monkeypatch.setattr(intake, "BATCH_MESSAGES_MAX", 2)
    lose_next_commit(moment)
    assert process.ask(*[ping(monitor, run=number) for number in range(5)]) == [200] * 5
    process.becomes_direct()
    assert stored_at() == process.sent_at()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_nobody_asks_whether_a_batch_was_committed_before_the_spool_has_it(
    process, monitor, lose_next_commit, monkeypatch, moment
):
    """Else the spool gets entries of a batch about which the question is settled: they would be stored twice, or never
    by the next process."""
    process.ask(ping(monitor))
    append, may_append = Spool.append, threading.Event()
    lock_node, asked = nodes.lock_node, threading.Event()

    def append_slowly(*arguments: Any) -> None:
        assert may_append.wait(PATIENCE_SECONDS)
        append(*arguments)

    def lock_and_tell(node_id: uuid.UUID) -> Any:
        asked.set()
        return lock_node(node_id)

    monkeypatch.setattr(Spool, "append", append_slowly)
    monkeypatch.setattr(nodes, "lock_node", lock_and_tell)
    lose_next_commit(moment)

    answers = process.send(ping(monitor))

    assert not asked.wait(0.3)
    may_append.set()
    assert statuses(answers) == [200]
    process.becomes_direct()
    assert stored_at() == process.sent_at()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_drain_whose_commit_is_not_answered_stores_once_also_if_the_spool_has_grown(
    process, monitor, postgres, lose_next_commit, monkeypatch, moment
):
    process.ask(ping(monitor))
    postgres.go_away()
    process.ask(*[ping(monitor)] * 3)
    grown: list[int] = []
    first = Spool.first

    def first_and_more(spool: Spool, count_max: int) -> Any:
        entries = first(spool, count_max)
        if entries and not grown:
            grown.append(len(entries))
            lose_next_commit(moment)
            spool.append([(make_request(ping(monitor), at=process.batcher.stamp()), None)])
        return entries

    monkeypatch.setattr(Spool, "first", first_and_more)
    postgres.come_back()
    process.becomes_direct()
    assert grown == [3]
    assert len(stored_at()) == len(set(stored_at())) == 5
    assert stored_at() == sorted(stored_at())


def test_who_comes_while_the_last_of_the_spool_is_stored_does_not_wait_for_a_postgresql_that_hangs(
    impatient, monitor, postgres
):
    impatient.ask(ping(monitor))
    postgres.go_away()
    impatient.ask(ping(monitor))
    with postgres.locked(ENVIRONMENTS):
        postgres.come_back()
        wait_until(postgres.somebody_waits, "the drain hangs")
        for _ in range(3):
            assert impatient.ask(ping(monitor)) == [200]
    impatient.becomes_direct()
    assert stored_at() == impatient.sent_at()


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_is_there_again_when_it_has_room(make_process, monitor, postgres):
    process = make_process(queue_max=3, batch_max=1).start()
    with postgres.locked(ENVIRONMENTS):
        on_its_way = process.send(ping(monitor))
        wait_until(postgres.somebody_waits, "a batch is on its way")
        queued = process.send(*[ping(monitor)] * 3)
        assert process.ask(ping(monitor), ping(monitor)) == [STORED_NOTHING] * 2
    assert statuses([*on_its_way, *queued]) == [200] * 4
    assert process.ask(ping(monitor)) == [200]
    assert len(stored_at()) == 5


def test_d35_the_large_bodies_in_the_queue_are_bounded_and_small_ones_find_room(make_process, monitor, postgres):
    process = make_process(queue_bytes_max=200_000, batch_max=1).start()

    async def submit(size: int) -> int:
        request = make_request(ping(monitor), at=process.batcher.stamp(), body=b"x" * size)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        process.batcher.enqueue(request, answer.set_result)
        return (await answer).status

    with postgres.locked(ENVIRONMENTS):
        on_its_way = process.send(ping(monitor))
        wait_until(postgres.somebody_waits, "a batch is on its way")
        queued = asyncio.run_coroutine_threadsafe(submit(120_000), process.loop)
        assert process.run(submit(80_001)) == STORED_NOTHING
        exactly = asyncio.run_coroutine_threadsafe(submit(80_000), process.loop)
        small = asyncio.run_coroutine_threadsafe(submit(60_000), process.loop)
    assert statuses(on_its_way) == [200]
    assert [one.result(PATIENCE_SECONDS) for one in (queued, exactly, small)] == [200, 200, 200]


def test_a_full_spool_refuses_and_what_it_has_taken_is_stored(make_process, monitor, postgres):
    process = make_process(spool_bytes_max=64 << 10).start()
    process.ask(ping(monitor))
    postgres.go_away()
    answers = [process.ask(ping(monitor))[0] for _ in range(1000)]
    taken = answers.index(STORED_NOTHING)
    assert taken > 10
    assert set(answers[:taken]) == {200}
    assert answers[-1] == STORED_NOTHING

    postgres.come_back()

    process.becomes_direct()
    assert process.ask(ping(monitor)) == [200]
    sent = process.sent_at()
    assert stored_at() == [
        sent[0],
        *(at for at, status in zip(sent[1:], answers, strict=False) if status == 200),
        sent[-1],
    ]


class FullDisk:
    """The connection of a spool, on a disk that takes no further entry for as long as `is_full`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.is_full = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def executemany(self, query: str, rows: Any) -> Any:
        if self.is_full and query.startswith("INSERT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.connection.executemany(query, rows)


def test_a_full_disk_for_the_spool_refuses_with_the_reason_ends_nothing_and_passes(
    make_process, monitor, postgres, monkeypatch, caplog
):
    process = make_process().start()
    process.ask(ping(monitor))
    postgres.go_away()
    assert process.ask(ping(monitor)) == [200], "spooled while there was room"
    spool = process.batcher._open_spool()
    disk = FullDisk(spool._connection)
    monkeypatch.setattr(spool, "_connection", disk)

    refused = [answer.result(PATIENCE_SECONDS) for answer in process.send(*[ping(monitor)] * 3)]
    refused += [answer.result(PATIENCE_SECONDS) for answer in process.send(ping(monitor))]

    assert [answer.status for answer in refused] == [503] * 4
    assert all(
        b"the spool is full or its disk is: nothing was stored, send it again later" in answer.body
        for answer in refused
    )
    assert process.batcher.is_refusing, "for /readyz"
    said = [record.getMessage() for record in caplog.records if "refused from now on" in record.getMessage()]
    assert len(said) == 1, "and not for each batch"
    assert "database or disk is full" in said[0]

    disk.is_full = False

    assert process.ask(ping(monitor)) == [200], "PostgreSQL is still away"
    postgres.come_back()
    process.becomes_direct()
    assert process.ask(ping(monitor)) == [200]
    sent = process.sent_at()
    assert stored_at() == [sent[0], sent[1], *sent[6:]], "what was acknowledged, once and in order"
    assert not process.batcher.is_refusing


def test_what_becomes_of_requests_is_counted_and_a_spool_that_refuses_says_so(make_process, monitor, postgres):
    def counted(*outcomes: str) -> list[int]:
        name = "watchclock_ingest_requests_total"
        return [int(METERS.get_sample_value(name, {"outcome": outcome}) or 0) for outcome in outcomes]

    outcomes = ("stored", "spooled", "refused")
    before = counted(*outcomes)
    batches = METERS.get_sample_value("watchclock_ingest_batch_seconds_count") or 0
    process = make_process(spool_bytes_max=64 << 10).start()
    process.ask(ping(monitor))
    assert METERS.get_sample_value("watchclock_ingest_batch_seconds_count") == batches + 1
    postgres.go_away()
    process.ask(ping(monitor))
    assert (process.batcher.is_direct, process.batcher.is_refusing) == (False, False)
    said = [process.ask(ping(monitor))[0] for _ in range(1000)]
    assert process.batcher.is_refusing
    assert process.batcher.spool_bytes > 32 << 10

    now = counted(*outcomes)
    assert [later - earlier for later, earlier in zip(now, before, strict=True)] == [
        1,
        1 + said.count(200),
        said.count(STORED_NOTHING),
    ]
    postgres.come_back()
    process.becomes_direct()
    assert not process.batcher.is_refusing


# --- What makes us fail -----------------------------------------------------------------------------------------------


@pytest.fixture
def poison(monkeypatch) -> str:
    """The slug of a monitor whose check-ins make the server fail."""

    def failing(messages: Any, *, apply: Any = services.apply, **options: Any) -> Any:
        if any(message.slug == "poison" for message in messages):
            raise ZeroDivisionError("a bug of ours")
        return apply(messages, **options)

    monkeypatch.setattr(intake, "apply", failing)
    return "poison"


@pytest.mark.parametrize("is_away", [False, True])
def test_d14_a_poisoned_check_in_is_kept_for_a_person_and_its_neighbours_are_stored(
    process, monitor, postgres, poison, is_away
):
    poisoned = make_monitor(poison)
    if is_away:
        postgres.go_away()
    paths = [ping(poisoned if n in (3, 8) else monitor) for n in range(10)]

    assert process.ask(*paths) == [200] * 10

    postgres.come_back()
    process.becomes_direct()
    sent = process.sent_at()
    assert stored_at() == [at for n, at in enumerate(sent) if n not in (3, 8)]
    kept = WaitingCheckIn.objects.order_by("received_at")
    assert [(row.slug, row.received_at, row.reason) for row in kept] == [
        ("poison", sent[3], "failed"),
        ("poison", sent[8], "failed"),
    ]


def test_a_spool_that_fails_in_an_unknown_way_refuses_and_ingest_goes_on(process, monitor, postgres, monkeypatch):
    process.ask(ping(monitor))
    postgres.go_away()
    append = Spool.append

    def failing(*arguments: Any) -> None:
        monkeypatch.setattr(Spool, "append", append)
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(Spool, "append", failing)
    assert process.ask(ping(monitor)) == [STORED_NOTHING]
    assert process.ask(ping(monitor)) == [200]
    postgres.come_back()
    process.becomes_direct()
    assert stored_at() == [process.sent_at()[0], process.sent_at()[2]]


# --- Watermarks (P2) --------------------------------------------------------------------------------------------------


@pytest.fixture
def restless(monkeypatch) -> None:
    """Watermarks are told all the time."""
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.01)


def test_p2_the_watermark_of_an_idle_process_follows_the_time(restless, process, postgres, clock):
    clock.now += timedelta(hours=1)
    later = clock.now
    wait_until(lambda: postgres.watermark() >= later, "the watermark has come that far")


def test_p2_the_watermark_does_not_pass_what_is_on_its_way_or_queued(restless, make_process, monitor, postgres, clock):
    process = make_process(batch_max=1).start()
    with postgres.locked(ENVIRONMENTS):
        answers = process.send(ping(monitor), ping(monitor))
        wait_until(postgres.somebody_waits, "a batch is on its way")
        clock.now += timedelta(hours=1)
        assert postgres.watermark() <= process.sent_at()[0]
    assert statuses(answers) == [200, 200]
    later = clock.now
    wait_until(lambda: postgres.watermark() >= later, "the watermark has come that far")


def test_p2_a_batch_moves_the_watermark_no_further_than_to_what_is_queued_behind_it(
    make_process, monitor, postgres, clock
):
    process = make_process(batch_max=1).start()
    make_monitor("other")
    with postgres.locked(ENVIRONMENTS):
        process.send(ping(monitor))
        wait_until(postgres.somebody_waits, "the first batch is on its way")
        clock.now += timedelta(hours=1)
        second = process.send(ping(monitor))
        clock.now += timedelta(hours=1)
        wait_until(lambda: len(process.sent_at()) == 2, "the second is queued")
    seen = []
    while not second[0].done():
        seen.append((postgres.watermark(), len(stored_at())))
    statuses(second)
    assert all(count == 2 or watermark <= process.sent_at()[count] for watermark, count in seen)


def test_p2_the_watermark_does_not_pass_what_is_spooled_while_nothing_else_comes(
    restless, process, monitor, postgres, clock, monkeypatch
):
    process.ask(ping(monitor))
    with monkeypatch.context() as patch:
        patch.setattr(node_module, "take", refuse_to_take)
        assert process.ask(ping(monitor), ping(monitor)) == [200, 200]
        clock.now += timedelta(hours=1)
        later = clock.now
        wait_until(lambda: node().seen_at >= later, "the process is heard of")
        assert (postgres.watermark(), node().spooled_count) == (process.sent_at()[1], 2)
    later = clock.now
    wait_until(lambda: postgres.watermark() >= later, "the watermark has come that far")
    assert stored_at() == process.sent_at()


def test_p2_a_process_is_heard_of_while_a_batch_takes_long_and_its_watermark_stands(
    restless, process, monitor, postgres, clock, monkeypatch
):
    """Also for minutes: it is not dropped, so nothing that it has acknowledged is judged as missed."""
    go_on = threading.Event()
    take = intake.take

    def take_slowly(*arguments: Any, **options: Any) -> Any:
        assert go_on.wait(PATIENCE_SECONDS)
        return take(*arguments, **options)

    monkeypatch.setattr(node_module, "take", take_slowly)
    answers = process.send(ping(monitor))
    wait_until(lambda: process.sent_at(), "the batch is on its way")
    for _ in range(5):
        clock.now += timedelta(minutes=1)
        later = clock.now
        wait_until(lambda: node().seen_at >= later, "the process is heard of")  # noqa: B023 - it is called at once
        assert watermarks.drop_silent_nodes(clock.now, silent_max=timedelta(minutes=2)) == ()
        assert watermarks.stored_until(clock.now).until <= process.sent_at()[0]
    go_on.set()
    assert statuses(answers) == [200]
    later = clock.now
    wait_until(lambda: postgres.watermark() >= later, "the watermark has come that far")


def test_d35_a_heavy_batch_that_takes_long_is_not_begun_again(impatient, monitor, monkeypatch):
    """What waits behind it goes to the spool at once, and is stored right after it."""
    taken: list[int] = []
    go_on = threading.Event()
    take = intake.take

    def take_slowly(requests: Any, **options: Any) -> Any:
        taken.append(len(requests))
        assert len(taken) > 1 or go_on.wait(PATIENCE_SECONDS)
        return take(requests, **options)

    monkeypatch.setattr(node_module, "take", take_slowly)
    key = IngestKeyFactory(project=monitor.project)
    checkins = [{"monitor": monitor.slug, "status": "ok"} for _ in range(LIGHT_OBJECTS_MAX + 1)]
    heavy = impatient.send_body("/api/v1/checkins", json.dumps(checkins).encode(), key)
    assert heavy.result(PATIENCE_SECONDS).status in {200, 202}
    light = impatient.send(ping(monitor))
    assert statuses(light) == [200]
    go_on.set()
    wait_until(lambda: CheckIn.objects.count() == len(checkins) + 1, "all is stored")
    impatient.becomes_direct()
    assert CheckIn.objects.count() == len(checkins) + 1
    assert len(taken) == 2, "the heavy one once, and what waited behind it"


def test_d35_while_a_heavy_request_is_read_all_others_go_on(impatient, monitor, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    read = intake.read

    def read_slowly(readings: Any, *arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return read(readings, *arguments, **options)

    key = IngestKeyFactory(project=monitor.project)
    monkeypatch.setattr(batching, "read", read_slowly)
    checkins = [{"monitor": monitor.slug, "status": "ok"} for _ in range(LIGHT_OBJECTS_MAX + 1)]
    heavy = impatient.send_body("/api/v1/checkins", json.dumps(checkins).encode(), key)
    assert begun.wait(PATIENCE_SECONDS)
    for count in range(1, 4):
        assert impatient.ask(ping(monitor)) == [200]
        assert CheckIn.objects.count() == count
    assert impatient.batcher.is_direct
    assert not heavy.done()
    go_on.set()
    assert heavy.result(PATIENCE_SECONDS).status in {200, 202}
    impatient.becomes_direct()
    assert CheckIn.objects.count() == 3 + len(checkins)


def test_d36_a_heavy_request_that_cannot_be_read_goes_to_the_spool_and_delays_nobody(
    make_process, monitor, monkeypatch
):
    monkeypatch.setattr(batching, "HEAVY_PATIENCE_SECONDS", 0.1)
    process = make_process().start()

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    key = IngestKeyFactory(project=monitor.project)
    monkeypatch.setattr(batching, "read", fail)
    checkins = [{"monitor": monitor.slug, "status": "ok"} for _ in range(LIGHT_OBJECTS_MAX + 1)]
    heavy = process.send_body("/api/v1/checkins", json.dumps(checkins).encode(), key)
    assert heavy.result(PATIENCE_SECONDS).status == 202
    assert process.ask(ping(monitor)) == [200]
    process.becomes_direct()
    assert CheckIn.objects.count() + WaitingCheckIn.objects.count() == 1 + len(checkins), "the spool could read it"


# --- Requests that stand for many check-ins ---------------------------------------------------------------------------


def send_many(process: Process, key: Any, count: int = 40) -> "Future[Answer]":
    """Send one request that registers so many jobs."""
    schedule = {"schedule": {"type": "crontab", "value": "0 * * * *"}}
    jobs = [{"monitor": f"job-{number}", "status": "ok", "monitor_config": schedule} for number in range(count)]
    return process.send_body("/api/v1/checkins", json.dumps(jobs).encode(), key)


def jobs_stored() -> list[str]:
    """The jobs that `send_many` registers, of each stored check-in."""
    stored = CheckIn.objects.filter(monitor_environment__monitor__slug__startswith="job-")
    return list(stored.values_list("monitor_environment__monitor__slug", flat=True))


@pytest.fixture
def narrow(monkeypatch):
    """A batch takes ten new monitors."""
    monkeypatch.setattr(intake, "BATCH_MESSAGES_MAX", 10 * intake.NEW_MONITOR_MESSAGES)


def test_d35_a_request_that_registers_many_jobs_lets_others_in_between(process, monitor, narrow, monkeypatch):
    """Nobody waits for more than one batch of it; it is answered when the last of it is stored."""
    key = IngestKeyFactory(project=monitor.project)
    stored_before: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    take = intake.take

    def take_and_look(readings: Any, **options: Any) -> Any:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)
        if len(readings) == 1 and not readings[0].is_heavy:
            stored_before.append(len(jobs_stored()))
        return take(readings, **options)

    monkeypatch.setattr(node_module, "take", take_and_look)
    many = send_many(process, key, 75)
    assert begun.wait(PATIENCE_SECONDS)
    light = process.send(ping(monitor))
    wait_until(lambda: process.sent_at(), "the ping waits behind the first batch")
    go_on.set()
    assert statuses(light) == [200]
    assert stored_before == [10]
    answer = many.result(PATIENCE_SECONDS)
    assert answer.status == 202
    assert [one["id"] is not None for one in json.loads(answer.body)["results"]] == [True] * 75, "their outcomes"
    assert sorted(jobs_stored()) == sorted(f"job-{number}" for number in range(75))
    assert node().batch == 9


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("earlier", [0, 2])
def test_d35_a_request_of_which_a_part_is_stored_is_stored_once_whatever_became_of_a_commit(
    process, monitor, narrow, lose_next_commit, monkeypatch, moment, earlier
):
    key = IngestKeyFactory(project=monitor.project)
    process.ask(ping(monitor))
    take, calls = intake.take, []

    def take_and_break(readings: Any, **options: Any) -> Any:
        calls.append(readings)
        if len(calls) == earlier + 1:
            lose_next_commit(moment)
        return take(readings, **options)

    monkeypatch.setattr(node_module, "take", take_and_break)
    answer = send_many(process, key).result(PATIENCE_SECONDS)
    process.becomes_direct()
    assert answer.status == 202
    assert sorted(jobs_stored()) == sorted(f"job-{number}" for number in range(40))


def test_d35_the_rest_of_a_request_survives_its_process(make_process, monitor, postgres, narrow, monkeypatch):
    """PostgreSQL goes away after the first batch of it, and the process ends: the next one stores the rest, once."""
    key = IngestKeyFactory(project=monitor.project)
    process = make_process().start()
    take, calls = intake.take, []

    def take_once(readings: Any, **options: Any) -> Any:
        calls.append(readings)
        if len(calls) > 1:
            refuse_to_take()
        return take(readings, **options)

    monkeypatch.setattr(node_module, "take", take_once)
    assert send_many(process, key).result(PATIENCE_SECONDS).status == 202
    assert len(jobs_stored()) == 10
    process.stop()
    monkeypatch.setattr(node_module, "take", take)
    make_process().start().becomes_direct()
    assert sorted(jobs_stored()) == sorted(f"job-{number}" for number in range(40))


def test_d35_a_monitor_that_is_known_counts_as_one_message_of_a_batch():
    monitor = make_monitor("job-0")
    key = IngestKeyFactory(project=monitor.project)
    config = {"schedule": {"type": "crontab", "value": "* * * * *"}}
    jobs = [{"monitor": f"job-{number}", "status": "ok", "monitor_config": config} for number in (0, 1, 0)]
    headers = {"authorization": f"Bearer {key.public_key}"}
    request = make_request("/api/v1/checkins", at=NOW, body=json.dumps(jobs).encode(), headers=headers)
    hints = Hints()
    intake.take([make_request(ping(monitor), at=NOW)], now=NOW, hints=hints)
    [reading] = intake.prepare([request], hints=hints)
    weights = [intake._weight(message, hints) for message in reading.rest]
    assert weights == [1, intake.NEW_MONITOR_MESSAGES, 1]


def refuse_to_take(*_: Any, **__: Any) -> Any:
    raise OperationalError("not now") from psycopg.errors.AdminShutdown("not now")


def test_p2_while_a_backlog_is_drained_the_watermark_does_not_pass_what_is_left(
    make_process, monitor, postgres, clock, monkeypatch
):
    process = make_process(batch_max=5).start()
    postgres.go_away()
    for _ in range(40):
        process.ask(ping(monitor))
        clock.now += timedelta(minutes=1)
    seen = []
    take = intake.take

    def look(requests: Any, **options: Any) -> Any:
        seen.append((postgres.inside.execute("SELECT count(*) FROM checkins_checkin").fetchone(), postgres.watermark()))
        return take(requests, **options)

    monkeypatch.setattr(node_module, "take", look)
    postgres.come_back()
    process.becomes_direct()
    sent = process.sent_at()
    assert len(seen) >= 8
    assert all(watermark <= sent[count] for (count,), watermark in seen)


# --- Ends -------------------------------------------------------------------------------------------------------------


def test_a_process_that_stops_answers_what_it_has_and_takes_leave(process, monitor):
    answers = process.send(*[ping(monitor)] * 700)
    process.stop()
    assert statuses(answers) == [200] * 700
    assert stored_at() == process.sent_at()
    assert node().left_at is not None


def test_a_process_that_stops_without_postgresql_keeps_its_spool_and_its_place(
    process, make_process, monitor, postgres
):
    process.ask(ping(monitor))
    postgres.go_away()
    assert process.ask(ping(monitor)) == [200]
    process.stop()
    assert node().left_at is None
    postgres.come_back()
    next_one = make_process().start()
    next_one.becomes_direct()
    assert stored_at() == process.sent_at()
    assert (IngestNode.objects.count(), node().spooled_count) == (1, 0)


def test_who_comes_after_the_stop_is_refused(process, monitor):
    process.stop()
    assert process.ask(ping(monitor)) == [STORED_NOTHING]


def test_a_stop_while_postgresql_hangs_does_not_wait_for_it_and_loses_nothing(
    make_process, monitor, postgres, monkeypatch
):
    monkeypatch.setattr(batching, "STOP_SECONDS_MAX", 0.3)
    process = make_process(patience=PATIENCE).start()
    with postgres.locked(ENVIRONMENTS):
        answers = process.send(ping(monitor))
        process.stop()
        assert statuses(answers) == [200]
    next_one = make_process().start()
    next_one.becomes_direct()
    assert stored_at() == process.sent_at()


def test_a_live_process_stores_what_another_one_left_in_its_spool(
    process, make_process, monitor, clock, monkeypatch, tmp_path
):
    monkeypatch.setattr(orphans, "ORPHANS_SECONDS", 0.05)
    left = open_spool(tmp_path / "spool", bytes_max=64 << 20)
    left.append([(make_request(ping(monitor), at=clock()), None) for _ in range(3)])
    left.close()
    successor = make_process().start()  # It adopts that spool; the first process keeps its own.
    successor.becomes_direct()
    assert len(stored_at()) == 3

    left = open_spool(tmp_path / "spool", bytes_max=64 << 20)
    at = [clock() for _ in range(1200)]
    left.append([(make_request(ping(monitor), at=one), None) for one in at])
    left.close()

    wait_until(lambda: CheckIn.objects.count() == 1203, "a live process has adopted the spool")
    wait_until(lambda: IngestNode.objects.get(id=left.node_id).left_at, "its node is not waited for")
    assert stored_at()[3:] == at


def test_p2_the_clock_does_not_wait_for_a_process_that_died_with_an_empty_spool(
    process, make_process, tmp_path, clock, monkeypatch
):
    left = open_spool(tmp_path / "spool", bytes_max=64 << 20)
    nodes.register_node(left.node_id, watermark=clock(), now=clock(), host="web-1", pid=1)
    monkeypatch.setattr(orphans, "ORPHANS_SECONDS", 0.05)
    other = make_process().start()
    assert len(watermarks.stored_until(clock()).live) == 3, "it lives, and another process does not take leave for it"

    left.close()

    wait_until(lambda: IngestNode.objects.get(id=left.node_id).left_at, "somebody takes leave for it")
    live = {row.id for row in watermarks.stored_until(clock()).live}
    assert live == {process.batcher.node_id, other.batcher.node_id}


def test_valkey_away_changes_nothing(process, monitor, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("nobody is there")

    monkeypatch.setattr(redis.connection.AbstractConnection, "connect", refuse)
    key = IngestKeyFactory(project=monitor.project)
    assert process.ask(ping(monitor), ping(monitor) + "/fail", f"/p/{key.public_key}/new?state=fail") == [200] * 3
    assert stored_at() == process.sent_at()


# --- A damaged spool --------------------------------------------------------------------------------------------------


def test_d43_what_comes_after_the_spool_was_damaged_is_stored(make_process, monitor, postgres, tmp_path):
    """PostgreSQL knows the newest number of the spool that is gone; none of the new one may seem to be stored."""
    first = make_process().start()
    postgres.go_away()
    assert first.ask(*[ping(monitor)] * 60) == [200] * 60
    postgres.come_back()
    first.becomes_direct()
    first.close()
    (path,) = (tmp_path / "spool").glob("*.spool")
    path.write_bytes(b"this is not a database" * 1_000)

    second = make_process().start()
    second.becomes_direct()
    postgres.go_away()
    assert second.ask(*[ping(monitor)] * 3) == [200] * 3
    postgres.come_back()
    second.becomes_direct()
    assert stored_at() == [*first.sent_at(), *second.sent_at()]


def damage_entries(path: Path, marks: list[bytes]) -> None:
    """Write over the pages of a spool that hold the bodies with these marks."""
    with path.open("r+b") as file:
        content = file.read()
        for mark in marks:
            file.seek(content.index(mark * 9) // 4096 * 4096)
            file.write(os.urandom(4096))


def judged(environment: Any) -> dict[int, str]:
    """What became of a job's slots, by the minute after NOW."""
    rows = environment.checkins.values_list("date_added", "status")
    return {(added - NOW) // timedelta(minutes=1): status for added, status in rows}


def test_d43_what_falls_due_in_lost_minutes_is_unknown(make_process, clock, tmp_path):
    """A job reported in each minute and was acknowledged; of some minutes the disk has lost the report."""
    ran, silent = (
        MonitorEnvironmentFactory(monitor=shards.make_monitor_in(shards.SHARD, crontab="* * * * *")) for _ in range(2)
    )
    advance_ledger(NOW, now=NOW)
    left = open_spool(tmp_path / "spool", bytes_max=64 << 20)
    nodes.register_node(left.node_id, watermark=NOW, now=NOW, host="web-1", pid=1)
    sent = [
        make_request(ping(ran.monitor), at=shards.after(minute + 0.5), body=b"<%d>" % minute * 1000)
        for minute in range(1, 9)
    ]
    left.append([(request, None) for request in sent])
    left.close()
    damage_entries(left.path, [b"<3>", b"<4>", b"<6>"])
    assert watermarks.stored_until(shards.after(10)).until == NOW, "the clock has waited all the time"
    clock.now = shards.after(10)

    process = make_process().start()
    process.becomes_direct()

    wait_until(lambda: watermarks.stored_until(clock()).until >= shards.after(10), "the clock may go on")
    assert stored_at() == [sent[at].received_at for at in (0, 1, 4, 6, 7)]
    for minute in range(1, 10):
        shards.drain(advance_ledger(shards.after(minute), now=shards.after(10)))
    unknown = {3: "unknown", 4: "unknown", 6: "unknown"}
    assert judged(silent) == {minute: unknown.get(minute, "missed") for minute in range(1, 9)}
    assert judged(ran) == {minute: unknown.get(minute, "ok") for minute in range(1, 9)}


def lose_all(spool: Spool) -> None:
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with spool.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096))
    spool.salvage(sqlite3.DatabaseError("database disk image is malformed"))


def test_d43_what_a_process_loses_while_it_runs_is_known_before_its_watermark_goes_on(
    make_process, monitor, postgres, monkeypatch
):
    process = make_process().start()
    postgres.go_away()
    assert process.ask(*[ping(monitor)] * 3) == [200] * 3
    spool = process.batcher._open_spool()
    may_tell = threading.Event()

    def keep_later(*arguments: Any, keep: Any = nodes.record_losses) -> None:
        assert may_tell.wait(PATIENCE_SECONDS)
        keep(*arguments)

    monkeypatch.setattr(nodes, "record_losses", keep_later)
    process.run(on_disk(process, lambda: lose_all(spool)))
    postgres.come_back()
    process.becomes_direct()
    assert process.ask(ping(monitor)) == [200]
    assert node().watermark <= process.sent_at()[0]
    may_tell.set()
    wait_until(lambda: node().watermark > process.sent_at()[3], "the watermark goes on")
    (lost,) = LostSpan.objects.all()
    assert lost.since <= process.sent_at()[0]
    assert lost.until >= process.sent_at()[2]


async def on_disk(process: Process, call: Any) -> None:
    await process.batcher._threads.on_disk(call)


# --- kill -9 ----------------------------------------------------------------------------------------------------------

STEPS = [
    ("nodes", "register_node", "before", 1),
    ("nodes", "register_node", "after", 1),
    ("Spool", "settle", "before", 1),
    ("Spool", "settle", "after", 1),
    ("Spool", "first", "before", 1),
    ("Spool", "first", "after", 1),
    ("node", "take", "before", 1),
    ("nodes", "advance", "before", 1),
    ("nodes", "advance", "after", 1),
    ("node", "take", "after", 1),
    *(("connection", "_commit", moment, count) for count in (1, 2, 3) for moment in ("before", "after")),
    *(("Spool", "forget", moment, count) for count in (1, 2) for moment in ("before", "after")),
]


@pytest.mark.long
@pytest.mark.parametrize("is_committed", [True, False], ids=["batch-committed", "batch-not-committed"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[2]}-{step[1]}-{step[3]}")
def test_p1_killed_at_any_step_of_a_drain_everything_is_stored_once(
    make_process, monitor, postgres, tmp_path, clock, is_committed, step
):
    """The spool holds an uncertain batch, committed or not, and then entries for two drains and more."""
    assert stored_at() == [], "a run that was killed left rows in the database: once with --create-db"
    spool = open_spool(tmp_path / "spool", bytes_max=64 << 20)
    nodes.register_node(spool.node_id, watermark=clock(), now=clock(), host="web-1", pid=1)
    uncertain = [make_request(ping(monitor), at=clock()) for _ in range(3)]
    certain = [make_request(ping(monitor), at=clock()) for _ in range(12)]
    if is_committed:
        intake.take(uncertain, now=clock(), before_commit=lambda _: advance_to(7, spool, clock))
    spool.append([*((request, 7) for request in uncertain), *((request, None) for request in certain)])
    spool.close()
    postgres.break_connections()  # What the killed process holds must be gone before the next one is judged.

    process = victim.start(tmp_path / "spool", step, database_url=database_url())
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL

    make_process().start().becomes_direct()
    assert stored_at() == [request.received_at for request in (*uncertain, *certain)]


def advance_to(batch: int, spool: Spool, clock: Clock) -> None:
    nodes.advance(spool.node_id, batch=batch, watermark=clock.now, now=clock.now, spooled_count=0)


def database_url() -> str:
    database = connection.settings_dict
    return (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
