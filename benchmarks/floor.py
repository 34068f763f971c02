"""What this machine can do at best, measured in the same run: the floor of the time that a benchmark can take.

- `bare_ingest`: the transactions of ingest with nothing read, judged or sent along. Sessions lock 128 environments,
  insert 128 check-ins, update the 128 and commit, over tables with the same columns, indexes and constraints. The rows
  are copies of those that the benchmark stored.
- `empty_answers`: requests a second of the same web server, with an application that answers and does nothing else.
- `bare_tick`: the five writes of a tick (check-ins, environments, issues, incidents, occurrences), copied likewise.
"""

import contextlib
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg

BATCH = 128
CHUNK = 10_000
START_SECONDS_MAX = 60.0
COPIED = {
    "checkins_checkin": "floor_checkin",
    "monitors_monitorenvironment": "floor_environment",
    "incidents_issue": "floor_issue",
    "incidents_incident": "floor_incident",
    "incidents_occurrence": "floor_occurrence",
}
LOCK = "SELECT * FROM floor_environment WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
UPDATE = """
    UPDATE floor_environment SET last_checkin = now(), last_ok_at = now(), next_checkin = next_checkin + interval '1 s',
           next_checkin_latest = next_checkin_latest + interval '1 s', limit_count = limit_count + 1
     WHERE id = ANY(%s)"""
CHECKINS = "INSERT INTO floor_checkin OVERRIDING SYSTEM VALUE SELECT * FROM checkins_checkin"
OF_ENVIRONMENTS = " WHERE monitor_environment_id = ANY(%s)"
OF_INCIDENTS = " WHERE incident_id IN (SELECT id FROM incidents_incident WHERE monitor_environment_id = ANY(%s))"


async def application(
    scope: dict[str, Any],
    _receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer 200 to any request (ASGI), as short as ingest does."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"OK"})


@contextlib.contextmanager
def empty_answers(processes: int, port: int) -> Iterator[None]:
    """Serve `application` on this port by as many processes as the web has; the caller waits until it answers."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", str(processes), "--runtime-mode", "st", "--http", "1", "--no-ws", "--log-level", "warning"),
            "benchmarks.floor:application",
        ]
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(30)


def bare_ingest(database_url: str, *, sessions: int, seconds: float) -> float:
    """Return check-ins a second of that many sessions, each with environments of its own, over the rows stored."""
    with copies(database_url) as connection:
        connection.execute("INSERT INTO floor_environment SELECT * FROM monitors_monitorenvironment")
        environments = [id_ for (id_,) in connection.execute("SELECT id FROM floor_environment ORDER BY id")]
        stored = connection.execute("SELECT min(id), max(id) FROM checkins_checkin").fetchone()
        assert stored is not None, "an aggregate has a row"
        connection.execute("ANALYZE floor_environment")
        first, last = stored
        part = (last - first) // sessions
        works = [
            (_ingest, (environments[n::sessions], first + n * part, first + (n + 1) * part, seconds))
            for n in range(sessions)
        ]
        return _together(database_url, works)


def bare_tick(database_url: str, failed_at: Any, *, sessions: int) -> float:
    """Return what was due a second of that many sessions that write the rows of the tick `failed_at` once more."""
    with copies(database_url) as connection:
        connection.execute("INSERT INTO floor_environment SELECT * FROM monitors_monitorenvironment")
        rows = connection.execute(
            "SELECT monitor_environment_id FROM checkins_checkin WHERE failed_at = %s ORDER BY 1", [failed_at]
        )
        due = [id_ for (id_,) in rows]
        connection.execute("ANALYZE floor_environment")
        return _together(database_url, [(_tick, (due[n::sessions], failed_at)) for n in range(sessions)])


@contextlib.contextmanager
def copies(database_url: str) -> Iterator[psycopg.Connection]:
    """Make empty tables with the columns, indexes and constraints of the product's, and drop them afterwards."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for original, copy in COPIED.items():
            connection.execute(f"DROP TABLE IF EXISTS {copy}")
            connection.execute(f"CREATE TABLE {copy} (LIKE {original} INCLUDING ALL)")
        try:
            yield connection
        finally:
            for copy in COPIED.values():
                connection.execute(f"DROP TABLE {copy}")


def _ingest(connection: psycopg.Connection, environments: Sequence[int], first: int, last: int, seconds: float) -> int:
    count = 0
    started = time.perf_counter()
    for low in range(first, last, BATCH):
        batch = sorted(random.sample(environments, BATCH))
        connection.execute(LOCK, [batch]).fetchall()
        stored = connection.execute(f"{CHECKINS} WHERE id >= %s AND id < %s", [low, min(low + BATCH, last)])
        connection.execute(UPDATE, [batch])
        connection.commit()
        count += stored.rowcount
        if time.perf_counter() - started > seconds:
            break
    return count


def _tick(connection: psycopg.Connection, due: Sequence[int], failed_at: Any) -> int:
    for start in range(0, len(due), CHUNK):
        ids = due[start : start + CHUNK]
        connection.execute(LOCK, [ids]).fetchall()
        connection.execute(f"{CHECKINS} {OF_ENVIRONMENTS} AND failed_at = %s", [ids, failed_at])
        connection.execute(UPDATE, [ids])
        for name, where in (("issue", OF_ENVIRONMENTS), ("incident", OF_ENVIRONMENTS), ("occurrence", OF_INCIDENTS)):
            copied = f"INSERT INTO floor_{name} OVERRIDING SYSTEM VALUE SELECT * FROM incidents_{name}"  # noqa: S608
            connection.execute(copied + where, [ids])
        connection.commit()
    return len(due)


def _together(database_url: str, works: Sequence[tuple[Callable[..., int], tuple[Any, ...]]]) -> float:
    """Do the works at the same time, each in a process with a session; return how many a second they did together."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(works) + 1)
    results: Any = context.Queue()
    processes = [context.Process(target=_work, args=(database_url, work, ready, results)) for work in works]
    for process in processes:
        process.start()
    ready.wait(START_SECONDS_MAX)
    started = time.perf_counter()
    counts = [results.get() for _ in processes]
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return float(sum(counts) / seconds)


def _work(database_url: str, work: tuple[Callable[..., int], tuple[Any, ...]], ready: Barrier, results: Any) -> None:
    function, arguments = work
    with psycopg.connect(database_url) as connection:
        ready.wait(START_SECONDS_MAX)
        results.put(function(connection, *arguments))
