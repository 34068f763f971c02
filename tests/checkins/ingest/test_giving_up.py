"""D36: what a message brings about is told from what the connection does, and nothing is tried for ever."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection

from checkins.ingest import node as node_module
from checkins.ingest.node import Node
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_spool
from checkins.ingest.spool_entries import ALONE_AFTER_FAILURES, GIVEN_UP_AFTER_DEATHS, GIVEN_UP_AFTER_FAILURES
from checkins.models import CheckIn, WaitingCheckIn
from checkins.nodes import register_node
from checkins.processing import batch
from checkins.processing.finding import Hints
from lib import pg_errors
from lib.pg_errors import is_not_now, use_connection
from monitors.models import Monitor
from tests.checkins.ingest.test_batcher import make_request, ping
from tests.factories import NOW, MonitorEnvironmentFactory, MonitorFactory
from tests.waiting import PATIENCE_SECONDS

BYTES_MAX = 64 << 20


@pytest.fixture
def monitor(db) -> Monitor:
    monitor = MonitorFactory(slug="nightly")
    MonitorEnvironmentFactory(monitor=monitor)
    return monitor


def a_spool(directory: Path, monitor: Monitor, count: int) -> Spool:
    spool = open_spool(directory, bytes_max=BYTES_MAX)
    spool.append([(make_request(ping(monitor, run=number), at=NOW), None) for number in range(1, count + 1)])
    return spool


@pytest.mark.django_db
def test_d36_an_error_without_a_state_is_the_connections_only_if_that_is_gone():
    use_connection()
    with connection.cursor() as cursor, pytest.raises(OperationalError) as caught:
        cursor.execute("SELECT 1 WHERE 1 IN (" + ",".join(["%s"] * 65_536) + ")", [1] * 65_536)
    assert not is_not_now(caught.value), "too many parameters, and they will be too many tomorrow"


@pytest.mark.django_db(transaction=True)
def test_d36_an_error_of_a_connection_that_is_gone_is_not_the_messages():
    use_connection()
    with connection.cursor() as cursor, pytest.raises(OperationalError) as caught:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    connection.close()
    connection.ensure_connection()
    assert is_not_now(caught.value)
    assert is_not_now(OperationalError("connection refused"))


def test_d36_what_was_begun_when_a_process_ended_is_remembered_by_the_next_one(tmp_path, monitor):
    for deaths in range(GIVEN_UP_AFTER_DEATHS):
        spool = a_spool(tmp_path, monitor, 3) if deaths == 0 else open_spool(tmp_path, bytes_max=BYTES_MAX)
        entries = spool.first(500)
        assert [entry.deaths for entry in entries] == [deaths] * len(entries)
        assert len(entries) == (3 if deaths < 2 else 1), "with two deaths it is taken alone"
        spool.begin(entries)
        spool.close()  # as a process that is gone: nothing says how it ended
    spool = open_spool(tmp_path, bytes_max=BYTES_MAX)
    [first] = spool.first(500)
    assert first.is_given_up
    spool.forget(first.seq)
    [second] = spool.first(500)
    assert (second.is_suspect, second.is_given_up) == (True, False)
    spool.close()


def test_d36_a_try_that_ends_in_any_way_is_no_death(tmp_path, monitor):
    spool = a_spool(tmp_path, monitor, 3)
    entries = spool.first(500)
    spool.begin(entries)
    spool.end(entries, failures=1)
    spool.begin(entries)
    spool.forget(entries[0].seq)
    spool.close()
    spool = open_spool(tmp_path, bytes_max=BYTES_MAX)
    assert [(entry.deaths, entry.failures) for entry in spool.first(500)] == [(0, 1)] * 2
    spool.close()


VICTIM = """
import asyncio, os, signal, sys, uuid
import django
django.setup()
from pathlib import Path
from checkins.ingest import batcher as batching
from checkins.processing import apply as services
from lib.wallclock import utcnow

decide = services.decide_checkin

def deadly(message, **facts):
    if message.check_in_id == uuid.UUID(int=2):
        os.kill(os.getpid(), signal.SIGKILL)
    return decide(message, **facts)

services.decide_checkin = deadly

async def live():
    options = batching.Options(spool_directory=Path(sys.argv[1]), spool_bytes_max=64 << 20, patience=20.0)
    batcher = batching.Batcher(options, utcnow=utcnow)
    await batcher.start()
    for _ in range(3600):
        if batcher.is_direct:
            break
        await asyncio.sleep(0.05)
    await batcher.stop()

asyncio.run(live())
"""


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_d36_a_message_that_takes_the_process_with_it_is_kept_as_failed_the_third_time(tmp_path, monitor):
    spool = a_spool(tmp_path, monitor, 3)
    register_node(spool.node_id, watermark=NOW, now=NOW, host="web-1", pid=1)
    spool.close()
    database = connection.settings_dict
    url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    ends = []
    for _ in range(5):
        victim = subprocess.run(
            [sys.executable, "-c", VICTIM, str(tmp_path)],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        ends.append(victim.returncode)
        if victim.returncode == 0:
            break
    assert ends == [-signal.SIGKILL] * GIVEN_UP_AFTER_DEATHS + [0]
    assert CheckIn.objects.count() == 2, "its neighbours are stored"
    row = WaitingCheckIn.objects.get()
    assert (row.reason, "3 times" in row.error, row.slug) == ("failed", True, "nightly")


class Broken:
    """PostgreSQL breaks the connection each time that a certain request is stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
        self.sizes: list[int] = []
        take = batch.take

        def broken(readings, **options):
            self.sizes.append(len(readings))
            if any(reading.request.query == query for reading in readings):
                raise OperationalError("gone") from psycopg.errors.QueryCanceled("statement timeout")
            return take(readings, **options)

        monkeypatch.setattr(node_module, "take", broken)


@pytest.mark.django_db(transaction=True)
def test_d36_a_message_with_which_each_batch_breaks_off_is_taken_alone_and_kept_as_failed(
    tmp_path, monitor, monkeypatch
):
    spool = a_spool(tmp_path, monitor, 4)
    register_node(spool.node_id, watermark=NOW, now=NOW, host="web-1", pid=1)
    broken = Broken(monkeypatch, spool.first(2)[1].request.query)
    monkeypatch.setattr(pg_errors, "is_not_now", lambda _: True)
    node = Node(spool, spool_lock=nullcontext(), hints=Hints())
    tries = 0
    while spool.count:
        tries += 1
        assert tries < 100, "it is tried for ever"
        try:
            node.drain(NOW, count_max=500)
        except OperationalError:
            continue
    spool.close()
    assert broken.sizes[: ALONE_AFTER_FAILURES + 1] == [4] * ALONE_AFTER_FAILURES + [1]
    assert tries <= GIVEN_UP_AFTER_FAILURES + 5
    assert CheckIn.objects.count() == 3
    assert WaitingCheckIn.objects.get().reason == "failed"
