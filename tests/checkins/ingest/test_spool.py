"""P1 without PostgreSQL: what the spool took is there after kill -9, once and in order; a full one takes nothing."""

import contextlib
import itertools
import logging
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from checkins.exceptions import SpoolFullError, SpoolUnusableError
from checkins.ingest import salvage, spool_directory
from checkins.ingest import spool as spool_module
from checkins.ingest.salvage import find_damage
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_orphan
from checkins.ingest.spool_entries import SpoolEntry
from checkins.protocols.request import IngestRequest
from project.local.children import BASE_DIR
from tests.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
MEBIBYTE = 1 << 20


def make_request(number=0, *, body=b"", at=NOW):
    return IngestRequest(
        method="POST",
        path=f"/ping/{number}",
        query="rid=é",
        headers={"user-agent": "curl/8", "content-type": "text/plain"},
        body=body,
        body_bytes=len(body),
        received_at=at,
    )


def numbers(entries):
    return [int(entry.request.path.rpartition("/")[2]) for entry in entries]


@pytest.fixture
def open_spool(tmp_path):
    """Open a spool of this test's directory; all are closed at the end."""
    opened = []

    def open_one(bytes_max=64 * MEBIBYTE):
        opened.append(spool_directory.open_spool(tmp_path / "spool", bytes_max=bytes_max))
        return opened[-1]

    yield open_one
    for spool in opened:
        spool.close()


# --- Keeping ----------------------------------------------------------------------------------------------------------


def test_what_goes_in_comes_out_oldest_first_and_stays_until_it_is_forgotten(open_spool):
    spool = open_spool()
    requests = [make_request(n, body=bytes([n, 0, 255]), at=NOW + timedelta(microseconds=n)) for n in range(5)]
    spool.append([(request, None) for request in requests[:3]])
    spool.append([(request, None) for request in requests[3:]])
    entries = spool.first(4)
    assert entries == [SpoolEntry(n + 1, None, requests[n]) for n in range(4)]
    assert spool.first(4) == entries
    spool.forget(entries[1].seq)
    assert numbers(spool.first(10)) == [2, 3, 4]


def test_a_text_that_nothing_can_encode_costs_a_request_that_letter_and_the_others_nothing(open_spool):
    spool = open_spool()
    odd = msgspec.structs.replace(
        make_request(1), method="G\ud800", path="/ping/\udfff1", query="\ud800", headers={"user-agent": "a\udc80"}
    )
    spool.append([(make_request(0), None), (odd, None), (make_request(2), None)])
    first, second, third = (entry.request for entry in spool.first(10))
    assert (first, third) == (make_request(0), make_request(2))
    assert (second.method, second.path, second.query, second.headers) == ("G?", "/ping/?1", "?", {"user-agent": "a?"})
    assert second.received_at == odd.received_at


def test_a_request_comes_back_as_it_was(open_spool):
    spool = open_spool()
    body = bytes(range(256)) * 100
    request = make_request(7, body=body, at=datetime(2026, 1, 5, 11, 0, 0, 123_456, tzinfo=UTC))
    spool.append([(request, None)])
    (entry,) = spool.first(1)
    assert entry.request == request
    assert entry.request.received_at.utcoffset() == timedelta(0)


def test_what_is_known_about_the_entries_is_always_right(open_spool):
    spool = open_spool()
    assert (spool.count, spool.oldest_received_at, spool.newest_batch) == (0, None, None)
    spool.append([(make_request(1, at=NOW), None)])
    spool.append([(make_request(2, at=NOW - timedelta(seconds=9)), 3), (make_request(3, at=NOW), 2)])
    assert (spool.count, spool.oldest_received_at, spool.newest_batch) == (3, NOW - timedelta(seconds=9), 3)
    spool.forget(2)
    assert (spool.count, spool.oldest_received_at, spool.newest_batch) == (1, NOW, 2)
    spool.forget(3)
    assert (spool.count, spool.oldest_received_at, spool.newest_batch) == (0, None, None)


def test_nothing_is_stored_for_no_requests(open_spool):
    spool = open_spool()
    spool.append([])
    assert (spool.count, spool.first(1)) == (0, [])


def test_numbers_go_on_after_a_restart_and_are_never_given_twice(open_spool):
    spool = open_spool()
    spool.append([(make_request(1), None), (make_request(2), None)])
    spool.forget(2)
    spool.close()
    again = open_spool()
    assert (again.node_id, again.count) == (spool.node_id, 0)
    again.append([(make_request(3), None)])
    assert [entry.seq for entry in again.first(9)] == [3]


def test_large_requests_are_read_a_few_at_a_time(open_spool, monkeypatch):
    monkeypatch.setattr(spool_module, "READ_BYTES_MAX", 2_500)
    spool = open_spool()
    spool.append([(make_request(n, body=b"x" * 1_000), None) for n in range(5)])
    assert numbers(spool.first(100)) == [0, 1, 2]
    spool.append([(make_request(9, body=b"x" * 9_000), None)])
    spool.forget(5)
    assert numbers(spool.first(100)) == [9], "at least one, however large"


def test_only_its_owner_may_read_it(open_spool):
    spool = open_spool()
    spool.append([(make_request(), None)])
    modes = {path.suffix or path.name: path.stat().st_mode & 0o777 for path in spool.path.parent.iterdir()}
    assert modes == {".lock": 0o600, ".spool": 0o600, ".spool-wal": 0o600}
    assert spool.path.parent.stat().st_mode & 0o777 == 0o700


def test_every_append_is_on_the_disk_when_it_returns(open_spool):
    """What SQLite is told, since no test can pull the plug: see https://www.sqlite.org/pragma.html#pragma_synchronous"""
    spool = open_spool()
    connection = spool._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


def test_another_thread_may_use_it(open_spool):
    spool = open_spool()
    thread = threading.Thread(target=spool.append, args=([(make_request(5), None)],))
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert numbers(spool.first(1)) == [5]


# --- Uncertain batches ------------------------------------------------------------------------------------------------


def test_settling_forgets_what_is_committed_and_keeps_the_rest_as_ordinary_entries(open_spool):
    spool = open_spool()
    batches = [None, 6, 7, 7, 8, None]
    spool.append([(make_request(n), batch) for n, batch in enumerate(batches)])
    assert [entry.batch for entry in spool.first(9)] == batches
    spool.settle(7)
    assert [(n, entry.batch) for n, entry in zip(numbers(spool.first(9)), spool.first(9), strict=True)] == [
        (0, None),
        (4, None),
        (5, None),
    ]
    assert (spool.count, spool.newest_batch) == (3, None)
    spool.settle(99)
    assert spool.count == 3, "what is ordinary once is not taken for committed later"


def test_an_uncertain_batch_is_still_known_after_a_restart(open_spool):
    spool = open_spool()
    spool.append([(make_request(1), 41)])
    spool.close()
    assert open_spool().newest_batch == 41


# --- Full -------------------------------------------------------------------------------------------------------------


def fill(spool, *, requests_a_call=1):
    """Append requests of 50 kB until it is full. Returns how many were taken."""
    taken = 0
    with contextlib.suppress(SpoolFullError):
        while taken < 1_000:
            spool.append([(make_request(taken, body=b"x" * 50_000), None)] * requests_a_call)
            taken += requests_a_call
    assert taken < 1_000, "it was never full"
    return taken


def test_a_full_spool_refuses_the_whole_call_and_keeps_what_it_has(open_spool):
    spool = open_spool(bytes_max=2 * MEBIBYTE)
    kept = fill(spool, requests_a_call=2)
    assert 30 <= kept <= 40
    assert spool.count == kept
    assert len(spool.first(1_000)) == kept
    assert spool.bytes <= 2 * MEBIBYTE
    assert sum(path.stat().st_size for path in spool.path.parent.iterdir()) <= (2 + 6) * MEBIBYTE


def test_a_full_spool_takes_more_when_something_was_forgotten(open_spool):
    spool = open_spool(bytes_max=MEBIBYTE)
    fill(spool)
    spool.forget(spool.first(3)[-1].seq)
    spool.append([(make_request(7_777, body=b"x" * 50_000), None)])
    assert numbers(spool.first(1_000))[-1] == 7_777


def test_an_empty_spool_gives_its_disk_space_back(open_spool):
    spool = open_spool()
    for n in range(20):
        spool.append([(make_request(n, body=b"x" * 500_000), None)])
    assert spool.path.stat().st_size + spool.path.with_suffix(".spool-wal").stat().st_size > 10 * MEBIBYTE
    spool.forget(20)
    assert spool.path.stat().st_size + spool.path.with_suffix(".spool-wal").stat().st_size < MEBIBYTE
    assert spool.bytes < MEBIBYTE
    spool.append([(make_request(21), None)])
    assert [entry.seq for entry in spool.first(1)] == [21]


LIMITED_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from checkins.exceptions import SpoolFullError
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_spool
from tests.checkins.ingest.test_spool import make_request, numbers
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # A write beyond the limit then fails, as on a full disk.
spool = open_spool(Path({directory!r}), bytes_max=1 << 30)
spool.append([(make_request(1), None)])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for n in range(2, 1000):
    try:
        spool.append([(make_request(n, body=b"x" * 20_000), None)])
    except SpoolFullError as error:
        break
stored = numbers(spool.first(10_000))
assert stored == list(range(1, n)), (stored, n)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append([(make_request(n), None)])
assert numbers(spool.first(10_000)) == list(range(1, n + 1))
print(n)
"""


def test_a_full_disk_refuses_the_call_and_the_spool_goes_on_when_there_is_room(tmp_path):
    script = LIMITED_DISK.format(root=str(BASE_DIR), directory=str(tmp_path / "spool"))
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}, text=True,
        capture_output=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 5 < int(done.stdout) < 100


# --- Damage -----------------------------------------------------------------------------------------------------------


def damage(spool, seq, *, request=None, format_number=None):
    if request is not None:
        spool._connection.execute("UPDATE entry SET request = ? WHERE seq = ?", (request, seq))
    if format_number is not None:
        spool._connection.execute("UPDATE entry SET format = ? WHERE seq = ?", (format_number, seq))


@pytest.mark.parametrize(
    "columns",
    [
        {"request": b""},
        {"request": b"\xc1 is never used"},
        {"request": msgspec.msgpack.encode({"method": "POST"})},
        {"request": msgspec.msgpack.encode(make_request()).replace("é".encode(), b"\xff\xfe")},
        {"format_number": 99},
    ],
    ids=["empty", "not msgpack", "fields are missing", "text that is no text", "a format of another version"],
)
def test_a_damaged_entry_is_set_aside_with_an_error_and_the_others_come(open_spool, caplog, columns):
    spool = open_spool()
    spool.append([(make_request(n, at=NOW + timedelta(seconds=n)), 7) for n in range(3)])
    damage(spool, 1, **columns)
    assert numbers(spool.first(3)) == [1, 2]
    assert numbers(spool.first(3)) == [1, 2]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"entry 1 of the spool {spool.path} is set aside: ")
    assert (spool.lost, spool.oldest_received_at) == (((NOW, NOW),), NOW), "D43: the clock is to know before it goes on"
    spool.forget_losses(spool.lost)
    assert (spool.count, spool.oldest_received_at) == (2, NOW + timedelta(seconds=1)), "the watermark may go on"
    assert spool._connection.execute("SELECT seq, batch FROM damaged").fetchall() == [(1, 7)]


def test_nothing_but_damaged_entries_is_an_empty_spool(open_spool):
    spool = open_spool()
    spool.append([(make_request(n), None) for n in range(5)])
    for seq in range(1, 6):
        damage(spool, seq, request=b"\xc1")
    assert spool.first(2) == []
    assert spool.count == 0


def test_random_bytes_in_entries_never_raise_anything(open_spool, caplog):
    choose = random.Random(20260105)  # noqa: S311 - the same damage in every run
    good = msgspec.msgpack.encode(make_request(3, body=b"hello"))
    spool = open_spool()
    spool.append([(make_request(3, body=b"hello"), None)] * 300)
    for seq in range(1, 301):
        bad = bytearray(good)
        for _ in range(choose.randint(1, 4)):
            bad[choose.randrange(len(bad))] = choose.randrange(256)
        damage(spool, seq, request=bytes(bad))
    read = len(spool.first(1_000))
    assert read + len(caplog.records) == 300
    assert len(caplog.records) > 30


def test_a_file_that_is_no_spool_is_set_aside_and_replaced(open_spool, caplog):
    spool = open_spool()
    spool.append([(make_request(1), None)])
    spool.close()
    spool.path.write_bytes(b"this is not a database" * 1_000)
    again = open_spool()
    assert (again.node_id, again.count) == (spool.node_id, 0)
    assert "is set aside as" in caplog.text
    (kept,) = spool.path.parent.glob("*.spool-damaged")
    assert kept.read_bytes().startswith(b"this is not a database")


def test_a_place_where_nothing_can_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(SpoolUnusableError, match="no spool can be opened in"):
        spool_directory.open_spool(tmp_path / "file" / "spool", bytes_max=MEBIBYTE)


def test_a_spool_that_cannot_be_opened_does_not_keep_a_process_from_starting(open_spool, caplog):
    spool = open_spool()
    spool.close()
    spool.path.unlink()
    spool.path.mkdir()
    again = open_spool()
    assert again.node_id != spool.node_id
    assert "cannot be opened" in caplog.text


# --- Processes --------------------------------------------------------------------------------------------------------


def test_who_waits_for_a_file_in_use_gets_it_as_soon_as_it_is_free(tmp_path):
    dying = spool_directory.open_spool(tmp_path, bytes_max=MEBIBYTE)
    end = threading.Timer(0.2, dying.close)
    end.start()
    follower = spool_directory.open_spool(tmp_path, bytes_max=MEBIBYTE, wait_seconds=PATIENCE_SECONDS)
    end.join()
    assert follower.node_id == dying.node_id
    follower.close()


def test_who_waits_in_vain_has_a_file_of_his_own(tmp_path):
    first = spool_directory.open_spool(tmp_path, bytes_max=MEBIBYTE)
    second = spool_directory.open_spool(tmp_path, bytes_max=MEBIBYTE, wait_seconds=0.05)
    assert second.node_id != first.node_id
    first.close()
    second.close()


def test_two_never_share_a_file_and_who_comes_after_one_adopts_it(open_spool):
    first, second = open_spool(), open_spool()
    assert first.node_id != second.node_id
    first.append([(make_request(1), None)])
    first.close()
    third = open_spool()
    assert (third.node_id, numbers(third.first(9))) == (first.node_id, [1])


def test_an_orphan_is_a_spool_with_entries_that_nobody_uses(open_spool, tmp_path):
    def orphan():
        return open_orphan(tmp_path / "spool", bytes_max=MEBIBYTE)

    mine, dead, empty = open_spool(), open_spool(), open_spool()
    mine.append([(make_request(1), None)])
    dead.append([(make_request(2), None)])
    assert orphan() is None, "all of them are in use"
    empty.close()
    assert orphan() is None, "an empty one is nothing to drain"
    dead.close()
    found = orphan()
    assert found is not None
    assert (found.node_id, numbers(found.first(9))) == (dead.node_id, [2])
    assert orphan() is None, "it is in use by whoever drains it"
    found.forget(1)
    found.close()
    assert orphan() is None


APPENDER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from checkins.ingest.spool import Spool
from checkins.ingest.spool_directory import open_spool
from tests.checkins.ingest.test_spool import make_request
spool = open_spool(Path({directory!r}), bytes_max=1 << 30)
print("node", spool.node_id, flush=True)
number = int(sys.argv[1])
while True:
    size = 1 + number % 7
    spool.append([(make_request(number + n, body=b"x" * (number % 3000)), None) for n in range(size)])
    number += size
    print(number - 1, flush=True)
"""


@pytest.fixture
def start_appender(tmp_path):
    """Start a process that appends numbered requests for ever, and prints the newest number when a call returned."""
    running = []

    def start(first):
        script = APPENDER.format(root=str(BASE_DIR), directory=str(tmp_path / "spool"))
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(first)], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def node_of(process):
    found = re.fullmatch(r"node (\S+)\n", process.stdout.readline())
    assert found, "it has started"
    return uuid.UUID(found.group(1))


def test_p1_whatever_was_acknowledged_is_there_after_kill_9_once_and_in_order(start_appender, open_spool):
    choose = random.Random(20260105)  # noqa: S311 - kills at the same calls in every run, give or take the machine
    first, nodes = 0, set()
    for _ in range(6):
        process = start_appender(first)
        nodes.add(node_of(process))
        calls = choose.randint(1, 200)
        acknowledged = first - 1
        for _ in range(calls):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")  # What it said before it died. The last line may be half a number.
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
        process.wait(PATIENCE_SECONDS)
        spool = open_spool()
        stored = numbers(spool.first(100_000))
        while len(stored) < spool.count:  # `first` reads a bounded number of bytes.
            last = stored[-1]
            stored += numbers([entry for entry in spool.first(100_000) if entry.seq > last + 1])
        assert stored == list(range(len(stored))), "each once, in order, and nothing in between is missing"
        assert acknowledged < len(stored) <= acknowledged + 1 + 7, "and at most the call that was not answered"
        nodes.add(spool.node_id)
        first = len(stored)
        spool.close()
    assert len(nodes) == 1, "each process adopted the file and the node of the one before"
    assert first > 100


def test_processes_that_start_at_once_have_a_file_each(start_appender):
    processes = [start_appender(1_000 * n) for n in range(4)]
    nodes = [node_of(process) for process in processes]
    assert len(set(nodes)) == 4
    for process in processes:
        assert int(process.stdout.readline()) >= 0


def test_how_fast_it_is(open_spool, capsys):
    spool = open_spool()
    batch = [(make_request(n, body=b"x" * 300), None) for n in range(100)]
    began = time.monotonic()
    longest = 0.0
    for _ in range(50):
        at = time.monotonic()
        spool.append(batch)
        longest = max(longest, time.monotonic() - at)
    appended = time.monotonic() - began
    began = time.monotonic()
    while entries := spool.first(500):
        spool.forget(entries[-1].seq)
    drained = time.monotonic() - began
    with capsys.disabled():
        print(  # noqa: T201
            f"\nspool: {5_000 / appended:,.0f} requests/s in hundreds, slowest call {longest * 1000:.1f} ms, "
            f"read and forgotten {5_000 / drained:,.0f}/s"
        )
    assert spool.count == 0


def test_it_is_what_sqlite_itself_calls_sound(open_spool):
    spool = open_spool()
    spool.append([(make_request(n, body=b"x" * 10_000), n) for n in range(50)])
    spool.settle(20)
    spool.forget(30)
    spool.close()
    with sqlite3.connect(spool.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_d43_a_damaged_spool_gives_up_what_is_damaged_and_nothing_else(tmp_path, caplog):
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    body = b"x" * 3000
    sent = [make_request(n, body=body) for n in range(400)]
    spool.append([(request, None) for request in sent])
    spool.close()
    with spool.path.open("r+b") as file:
        pages = file.read()
        leaves = [
            at
            for at in range(4096, len(pages), 4096)
            if pages[at] == LEAF_OF_A_TABLE and body[:500] in pages[at : at + 4096]
        ]
        for at in leaves[50:250:10]:
            file.seek(at)
            file.write(os.urandom(4096))
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    with caplog.at_level(logging.ERROR):
        entries = drained(spool)
    assert 360 <= len(entries) < 400
    assert entries == [request for request in sent if request in entries], "in order"
    assert "could be read" in caplog.text
    spool.append([(sent[0], None)])
    assert drained(spool) == [sent[0]], "and what comes afterwards does not wait"
    assert list(tmp_path.glob("*.spool-damaged"))
    assert find_damage(tmp_path) == (1, 400 - len(entries)), "for /readyz/all"
    spool.close()


def test_d43_without_its_first_page_a_spool_still_gives_up_what_it_has(tmp_path, caplog):
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    sent = [make_request(n, body=b"x" * 3000) for n in range(100)]
    spool.append([(request, None) for request in sent])
    spool.forget(40)
    spool.close()
    overwrite(spool.path, 0)
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    assert [entry.seq for entry in spool.first(100)] == list(range(41, 101))
    assert drained(spool) == sent[40:]
    assert "60 entries of it could be read and are stored, 0 could not" in caplog.text
    spool.close()


def test_d43_a_spool_that_is_damaged_where_a_try_had_begun_gives_up_nothing_else(tmp_path, caplog):
    """The note of the try is read while the file is opened, and so is the damage: no connection of that holds it."""
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(n, body=b"n%02d" % n * 1000, at=second(n)), None) for n in range(1, 61)])
    spool.begin(spool.first(60))
    spool.close()  # as a process that is gone
    overwrite(spool.path, page_of(spool.path.read_bytes(), 30))
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    assert "59 entries of it could be read and are stored, 1 could not" in caplog.text
    assert [entry.seq for entry in spool.first(99)] == [*range(1, 30), *range(31, 61)]
    assert spool.lost == ((second(30), second(30)),)
    assert [entry.deaths for entry in spool.first(99)] == [1] * 59
    spool.close()


def test_d43_what_a_full_disk_keeps_from_being_salvaged_is_salvaged_when_there_is_room(tmp_path, monkeypatch):
    a_damaged_spool(tmp_path, "leaf 30")
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_number_from", full_disk)
        for _ in range(2):
            with pytest.raises(SpoolFullError):
                spool.first(99)
    assert [entry.seq for entry in spool.first(99)] == [*range(21, 30), *range(31, 61)]
    assert find_damage(tmp_path) == (1, 1)
    spool.close()


def test_d43_a_start_that_a_full_disk_keeps_from_salvaging_goes_on_with_another_spool(tmp_path, monkeypatch):
    a_damaged_spool(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_number_from", full_disk)
        other = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
        assert (other.count, open_orphan(tmp_path, bytes_max=64 << 20)) == (0, None)
    spool = open_orphan(tmp_path, bytes_max=64 << 20)
    assert spool is not None
    assert [entry.seq for entry in spool.first(99)] == list(range(21, 61))
    spool.close()
    other.close()


def full_disk(*_):
    raise sqlite3.OperationalError("database or disk is full")


def test_d43_whenever_a_process_is_killed_while_it_salvages_the_next_one_does_it_anew(tmp_path):
    """Each step on the disk is the first that is not done any more, in turn."""
    for step in itertools.count():
        directory = tmp_path / str(step)
        leave_a_damaged_spool_with_a_log(directory)
        status = salvage_and_die_before(step, directory)
        assert_nothing_else_is_lost(directory)
        if status == 0:
            break
    last = step - 1
    # The next one puts back what this one has done; it may be killed as well, before each of its steps.
    for step in itertools.count():
        directory = tmp_path / f"{last}-{step}"
        leave_a_damaged_spool_with_a_log(directory)
        assert salvage_and_die_before(last, directory) == 9
        status = salvage_and_die_before(step, directory)
        assert_nothing_else_is_lost(directory)
        if status == 0:
            break
    assert step > last > 5


def assert_nothing_else_is_lost(directory):
    spool = spool_directory.open_spool(directory, bytes_max=64 << 20)
    assert [entry.seq for entry in spool.first(99)] == [*range(21, 30), *range(31, 62)], directory.name
    spool.close()
    assert not list(directory.glob("*-salvaging")) + list(directory.glob("*-head"))


def salvage_and_die_before(step, directory):
    """Open a spool in a process that ends at a step; returns its exit status, 0 if there is no such step."""
    child = os.fork()
    if not child:
        die_before(step)
        spool_directory.open_spool(directory, bytes_max=64 << 20)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leave_a_damaged_spool_with_a_log(directory):
    """Its newest entry, number 61, is in the log only; the first page and that of entry 30 are damaged."""
    used = directory.with_name(f"{directory.name}-used")
    a_damaged_spool(used)
    spool = spool_directory.open_spool(used, bytes_max=64 << 20)
    spool.append([(make_request(61), None)])
    shutil.copytree(used, directory)
    spool.close()
    (path,) = directory.glob("*.spool")
    overwrite(path, page_of(path.read_bytes(), 30))
    overwrite(path, 0)


def die_before(step):
    """Let this process end without a word at its step of that number: what it does with names, marks and new files."""
    steps = itertools.count()

    def dying(call):
        def call_or_die(*arguments, **options):
            if next(steps) == step:
                os._exit(9)
            return call(*arguments, **options)

        return call_or_die

    for name in ("rename", "touch", "unlink", "write_bytes", "write_text"):
        setattr(Path, name, dying(getattr(Path, name)))
    spool_module._connect = dying(spool_module._connect)


def test_d43_a_page_that_the_disk_cannot_read_is_damage_and_a_full_disk_is_none():
    def error(code):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        return error

    is_damage = salvage.is_damage
    assert is_damage(error(sqlite3.SQLITE_IOERR_READ))
    assert is_damage(error(sqlite3.SQLITE_CORRUPT_VTAB))
    for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC):
        assert not is_damage(error(code))
    assert not is_damage(sqlite3.ProgrammingError("Cannot operate on a closed database."))


def test_d43_what_only_the_log_of_a_damaged_spool_has_is_not_lost(tmp_path):
    """As after a `kill -9`: the newest entries are in the write-ahead log, and the log belongs to the file."""
    spool = spool_directory.open_spool(tmp_path / "spool", bytes_max=64 << 20)
    spool.append([(make_request(n, body=b"x" * 3000), None) for n in range(20)])
    spool.close()
    spool = spool_directory.open_spool(tmp_path / "spool", bytes_max=64 << 20)
    spool.append([(make_request(20), None)])
    (tmp_path / "left").mkdir()
    for path in (tmp_path / "spool").iterdir():
        shutil.copy(path, tmp_path / "left")
    spool.close()
    overwrite(tmp_path / "left" / spool.path.name, 0)
    left = spool_directory.open_spool(tmp_path / "left", bytes_max=64 << 20)
    assert len(drained(left)) == 21
    left.close()


def a_damaged_spool(directory, *pages):
    """A closed spool of 60 requests, one for each second and each leaf of its table, and these of its pages damaged.

    Those up to 20 are stored and forgotten. Page 0 is the first of the file, "leaf 30" that of entry 30.
    """
    spool = spool_directory.open_spool(directory, bytes_max=64 << 20)
    spool.append([(make_request(n, body=b"n%02d" % n * 1000, at=second(n)), None) for n in range(1, 61)])
    spool.forget(20)
    spool.close()
    content = spool.path.read_bytes()
    for page in pages:
        if isinstance(page, str):
            page = page_of(content, int(page.removeprefix("leaf ")))
        overwrite(spool.path, page)


def page_of(content, n):
    """Return which page of a spool holds request n, whose body is full of that."""
    body = b"n%02d" % n * 100
    return next(
        at // 4096
        for at in range(4096, len(content), 4096)
        if content[at] == LEAF_OF_A_TABLE and body in content[at : at + 4096]
    )


def second(n):
    return NOW + timedelta(seconds=n)


@pytest.mark.parametrize(
    ("pages", "lost"),
    [
        ([], []),
        (["leaf 30"], [(30, 30)]),
        (["leaf 30", "leaf 31", "leaf 40"], [(30, 31), (40, 40)]),
        # Without the first page nobody finds the index, and what is lost was between what is not.
        ([0], []),
        ([0, "leaf 30", "leaf 31"], [(29, 32)]),
        ([0, "leaf 21"], [(None, 22)]),
        ([0, "leaf 60"], [(59, None)]),
        ([0, 2, "leaf 60"], [(59, None)]),
        ([0, 1], [(None, None)]),
    ],
)
def test_d43_a_damaged_spool_says_in_which_time_something_was_lost(tmp_path, monkeypatch, pages, lost):
    monkeypatch.setattr(spool_module, "utcnow", lambda: second(100))
    a_damaged_spool(tmp_path, *pages)
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    drained(spool)
    begin, end = datetime(1970, 1, 1, tzinfo=UTC), second(100)
    expected = [(begin if a is None else second(a), end if b is None else second(b)) for a, b in lost]
    assert sorted(spool.lost) == expected
    spool.close()
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    assert sorted(spool.lost) == expected, "until somebody knows it"
    spool.forget_losses(spool.lost)
    assert (spool.lost, spool.oldest_received_at) == ((), None)
    spool.close()


def test_d43_what_was_lost_holds_the_watermark_until_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "utcnow", lambda: second(100))
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(at=second(5)), None)])
    spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(spool.path, 1)
    spool.salvage(sqlite3.DatabaseError("database disk image is malformed"))
    assert (spool.count, spool.lost, spool.oldest_received_at) == (0, ((second(5), second(100)),), second(5))
    spool.forget_losses(spool.lost)
    assert spool.oldest_received_at is None
    spool.close()


def test_d43_a_spool_that_is_gone_may_have_had_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "utcnow", lambda: second(100))
    for make_go in (Path.unlink, lambda path: path.write_bytes(b"")):
        spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
        spool.forget_losses(spool.lost)
        spool.close()
        make_go(spool.path)
        again = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
        assert again.lost == ((datetime(1970, 1, 1, tzinfo=UTC), second(100)),)
        again.close()


def test_d43_a_sender_cannot_make_a_minute_count_as_lost(tmp_path):
    """What ends the process each time is set aside too, if it cannot even be kept (D36)."""
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(), None)])
    spool.set_aside([(1, "it ends the process")])
    assert spool.lost == ()
    spool.close()


@pytest.mark.parametrize("is_lost", ["all", "sequence", "file"])
def test_d43_no_number_is_given_again_after_damage(tmp_path, is_lost):
    """PostgreSQL takes an entry for stored whose number is not above the newest that it knows: it would be lost."""
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(n), None) for n in range(60)])
    spool.forget(60)
    spool.close()
    match is_lost:
        case "all":
            spool.path.write_bytes(b"this is not a database" * 1_000)
        case "sequence":
            overwrite(spool.path, 0)
            overwrite(spool.path, 2)
        case "file":
            spool.path.unlink()
    again = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    assert again.node_id == spool.node_id
    again.append([(make_request(60), None)])
    (entry,) = again.first(9)
    assert entry.seq > 60
    again.close()


def test_d43_a_spool_that_is_damaged_while_it_is_used_goes_on_with_its_numbers(tmp_path):
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(n), None) for n in range(60)])
    spool.forget(60)
    spool.salvage(sqlite3.DatabaseError("database disk image is malformed"))
    spool.append([(make_request(60), None)])
    assert [entry.seq for entry in spool.first(9)] == [61]
    spool.close()


def test_d36_what_was_tried_in_vain_stays_so_when_the_spool_moves_into_a_new_file(tmp_path):
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.append([(make_request(n), None) for n in range(3)])
    for _ in range(2):
        spool.begin(spool.first(1))
        spool.close()  # as a process that is gone
        spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    spool.salvage(sqlite3.DatabaseError("database disk image is malformed"))
    assert [entry.deaths for entry in spool.first(9)] == [2]
    spool.begin(spool.first(9))
    spool.salvage(sqlite3.DatabaseError("database disk image is malformed"))
    assert [entry.deaths for entry in spool.first(9)] == [2], "this process lives"
    spool.close()
    spool = spool_directory.open_spool(tmp_path, bytes_max=64 << 20)
    assert [entry.is_given_up for entry in spool.first(9)] == [True]
    spool.close()


def overwrite(path, page):
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))


LEAF_OF_A_TABLE = 0x0D


def drained(spool: Spool) -> list[IngestRequest]:
    requests = []
    while entries := spool.first(50):
        requests += [entry.request for entry in entries]
        spool.forget(entries[-1].seq)
    return requests
