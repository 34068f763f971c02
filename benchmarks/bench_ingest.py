"""How many check-ins a second, and how fast? wrk against the real web process, PostgreSQL and load on one machine.

Starts an embedded PostgreSQL with its own settings for durability and the web process (`python -m project.web`), seeds
monitors, and loads one protocol after the other: at full speed, and at a third of that. At the end every acknowledged
check-in has to be a row. One JSON line for each protocol; `--burst` sends that many pings at once instead.

    checkins_per_s, p50_ms, p99_ms, third_p99_ms   at full speed; p99 at a third of it
    acknowledged, stored, spooled                  stored must equal acknowledged; spooled went through the spool
    server_cpu_s, database_cpu_s                   CPU time of the web process and of PostgreSQL, at full speed
    peak_mb                                        most memory of one process of the web
    floor_answers_per_s, floor_database_per_s      empty answers; bare transactions: benchmarks.floor
    floor_share                                    checkins_per_s as a share of the lower one of these
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from rich.console import Console
from rich.progress import Progress

from benchmarks import floor
from project.local import engines

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS = ("ping", "sentry_envelope", "sentry_http", "cronitor", "uptime_kuma", "rest")
DATABASE = "watchclock_bench_ingest"
SETTLE_SECONDS_MAX = 60.0
START_SECONDS_MAX = 60.0

console = Console(stderr=True)


@dataclass
class Installation:
    """What is under load, and how to reach it."""

    port: int
    database_url: str
    web: psutil.Process
    postgres: psutil.Process
    project: int = 0
    key: str = ""
    monitors: list[tuple[str, str]] = field(default_factory=list)
    peak_bytes: int = 0
    began_at: datetime = field(default_factory=lambda: datetime.min.replace(tzinfo=UTC))

    def workers(self) -> list[psutil.Process]:
        """The processes that serve, and those that store."""
        return self.web.children(recursive=True)

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time so far: of the web and of PostgreSQL, ended processes included where the kernel knows them."""
        return _cpu(self.web), _cpu(self.postgres)


def _cpu(parent: psutil.Process) -> float:
    seconds = 0.0
    for process in (parent, *parent.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocols", default=",".join(PROTOCOLS), help="which, with commas between them")
    parser.add_argument("--seconds", type=int, default=10, help="of load, for each protocol and speed")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--monitors", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2, help="WEB_PROCESSES of the installation")
    parser.add_argument("--burst", type=int, help="send this many pings at once, and nothing else")
    options = parser.parse_args()
    if not options.burst and shutil.which("wrk") is None:
        sys.exit("bench-ingest makes its load with wrk, which is not installed: apt install wrk")
    with installation(options.processes) as target:
        seed(target, options.monitors)
        with watched_memory(target):
            if options.burst:
                print(json.dumps(measure_burst(target, options.burst)))
                return
            measured = [measure(target, protocol, options) for protocol in options.protocols.split(",")]
        floors = measure_floors(target, options)
        for figures in measured:
            share = figures["checkins_per_s"] / min(floors.values())
            print(json.dumps({**figures, **floors, "floor_share": round(share, 2)}))


@contextlib.contextmanager
def installation(processes: int) -> Iterator[Installation]:
    """A fresh PostgreSQL and a web process on it; both end with the context."""
    with tempfile.TemporaryDirectory(prefix="watchclock-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port())
        server = postgres.start(directory / "postgres.log")
        stack.callback(stop, server, postgres.stop_signal)
        engines.wait_until_ready(postgres, server, directory / "postgres.log")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        variables = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": postgres.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "SECRET_KEY": "protects nothing in a benchmark",
            "SPOOL_DIRECTORY": str(directory / "spool"),
            "CHECKINS_PER_MINUTE": "100000",  # Each monitor gets as many check-ins as all of its kind together would.
            "MONITORS_PER_PROJECT": "1000000",
            "WEB_PROCESSES": str(processes),
        }
        os.environ |= variables
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, check=True, env=variables)
        log = stack.enter_context((directory / "web.log").open("wb"))
        web = subprocess.Popen(
            [sys.executable, "-m", "project.web", "--fd", str(listener.fileno())],
            cwd=ROOT, env=variables, pass_fds=[listener.fileno()], stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        stack.callback(stop, web, signal.SIGTERM)
        target = Installation(
            listener.getsockname()[1], postgres.url, psutil.Process(web.pid), psutil.Process(server.pid)
        )
        wait_for_answer(target.port)
        try:
            yield target
        finally:
            if text := (directory / "web.log").read_text().strip():
                console.print("[dim]the web process said:[/dim]", text[-2000:], markup=False)


def stop(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Tell a process to end, and wait for that."""
    process.send_signal(number)
    process.wait(30)


def wait_for_answer(port: int) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX) as connection:
                connection.sendall(b"GET /ping/none HTTP/1.0\r\n\r\n")
                connection.recv(100)
                return
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def seed(target: Installation, count: int) -> None:
    """Make monitors as clients make them, by their first check-in, and wait for statistics as autovacuum would."""
    import django

    django.setup()
    from django.db import connection

    from checkins.messages import Source
    from checkins.processing.apply import receive
    from checkins.protocols.fields import parse_checkin
    from lib.wallclock import utcnow
    from monitors.models import IngestKey, Monitor, Project

    now = target.began_at = utcnow()
    project = Project.objects.create(name="Benchmark", slug="benchmark", created_at=now)
    target.project, target.key = project.id, IngestKey.objects.create(project=project, created_at=now).public_key
    config = {
        "schedule": {"type": "crontab", "value": "*/5 * * * *"}, "timezone": "Europe/Vienna", "checkin_margin": 2,
        "max_runtime": 10, "failure_issue_threshold": 2, "recovery_threshold": 1,
    }  # fmt: skip
    with Progress(console=console) as progress:
        task = progress.add_task("seeding monitors", total=count)
        for first in range(0, count, 1000):
            payloads = (
                {"monitor_slug": f"job-{n}", "status": "ok", "monitor_config": config}
                for n in range(first, min(first + 1000, count))
            )
            receive(
                [
                    parse_checkin(payload, project_id=project.id, received_at=now, source=Source.REST)
                    for payload in payloads
                ],
                now=now,
            )
            progress.advance(task, 1000)
    target.monitors = [(str(guid), slug) for guid, slug in Monitor.objects.values_list("guid", "slug")]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    connection.close()


@contextlib.contextmanager
def watched_memory(target: Installation) -> Iterator[None]:
    """Note the most memory that a serving process takes."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for worker in target.workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    target.peak_bytes = max(target.peak_bytes, worker.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


def measure(target: Installation, protocol: str, options: argparse.Namespace) -> dict[str, Any]:
    """Load one protocol at full speed and at a third of it."""
    console.print(f"{protocol}: full speed for {options.seconds} s, then a third of it")
    before = count_rows(target)
    server, database = target.cpu_seconds()
    full = run_wrk(target, protocol, options.seconds, options.connections, rate=0)
    server_after, database_after = target.cpu_seconds()
    rate = full["acknowledged"] / options.seconds
    third = run_wrk(target, protocol, options.seconds, 64, rate=rate / 3)
    acknowledged = full["acknowledged"] + third["acknowledged"]
    stored, spooled = settled(target, before, acknowledged)
    return {
        "protocol": protocol,
        "checkins_per_s": round(rate),
        "p50_ms": full["p50_ms"],
        "p99_ms": full["p99_ms"],
        "third_p99_ms": third["p99_ms"],
        "acknowledged": acknowledged,
        "stored": stored,
        "spooled": spooled,
        "failed": full["failed"] + third["failed"],
        "server_cpu_s": round(server_after - server, 1),
        "database_cpu_s": round(database_after - database, 1),
        "peak_mb": round(target.peak_bytes / 1e6),
        "connections": options.connections,
        "web_processes": options.processes,
    }


def measure_floors(target: Installation, options: argparse.Namespace) -> dict[str, int]:
    """Measure what this machine can do at best with the same load: see `benchmarks.floor`."""
    console.print(f"the floor: an empty answer, then bare transactions, {options.seconds} s each")
    port = engines.free_port()
    with floor.empty_answers(options.processes, port):
        wait_for_answer(port)
        answers = run_wrk(dataclasses.replace(target, port=port), "ping", options.seconds, options.connections, rate=0)
    stored = floor.bare_ingest(target.database_url, sessions=options.processes, seconds=options.seconds)
    return {
        "floor_answers_per_s": round(answers["acknowledged"] / options.seconds),
        "floor_database_per_s": round(stored),
    }


def run_wrk(target: Installation, protocol: str, seconds: int, connections: int, *, rate: float) -> dict[str, Any]:
    """Run wrk for these seconds and one more, in which the last answers arrive."""
    with tempfile.NamedTemporaryFile("w", suffix=".monitors") as file:
        file.writelines(f"{guid} {slug}\n" for guid, slug in target.monitors)
        file.flush()
        outcome = subprocess.run(
            [
                str(shutil.which("wrk")), "-t1", f"-c{connections}", f"-d{seconds + 1}s", "--timeout", "30s", "-s",
                str(Path(__file__).with_name("ingest.lua")), f"http://127.0.0.1:{target.port}", "--",
                protocol, file.name, str(target.project), target.key, str(seconds), str(rate), str(connections),
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    figures: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    return figures


def count_rows(target: Installation) -> int:
    """Check-ins in the database since the installation began. (There may be millions from before.)"""
    with psycopg.connect(target.database_url) as connection:
        query = "SELECT count(*) FROM checkins_checkin WHERE date_added >= %s"
        row = connection.execute(query, [target.began_at]).fetchone()
        assert row is not None
        return int(row[0])


def settled(target: Installation, before: int, acknowledged: int) -> tuple[int, int]:
    """Return how many check-ins were stored, once nothing waits in the spool, and how many went through that."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        with psycopg.connect(target.database_url) as connection:
            row = connection.execute(
                "SELECT max(spooled_count), max(spool_position) FROM checkins_ingestnode"
            ).fetchone()
            assert row is not None
        stored = count_rows(target) - before
        if (row[0] == 0 and stored >= acknowledged) or time.monotonic() > deadline:
            return stored, int(row[1])
        time.sleep(0.2)


# --- a burst --------------------------------------------------------------------------------------------------------


def measure_burst(target: Installation, count: int) -> dict[str, Any]:
    """Send that many pings at once, each on a connection of its own, and wait for the last answer."""
    before = count_rows(target)
    server, database = target.cpu_seconds()
    pipe, other_end = multiprocessing.Pipe()
    guids = [target.monitors[n % len(target.monitors)][0] for n in range(count)]
    sender = multiprocessing.get_context("fork").Process(target=send_burst, args=(target.port, guids, other_end))
    sender.start()
    figures: dict[str, Any] = pipe.recv()
    sender.join()
    stored, spooled = settled(target, before, figures["acknowledged"])
    server_after, database_after = target.cpu_seconds()
    return {
        "protocol": "ping",
        "burst": count,
        **figures,
        "stored": stored,
        "spooled": spooled,
        "server_cpu_s": round(server_after - server, 1),
        "database_cpu_s": round(database_after - database, 1),
        "peak_mb": round(target.peak_bytes / 1e6),
    }


def send_burst(port: int, guids: list[str], answers: Any) -> None:
    """Connect and send without waiting for anybody, then read all answers; runs in a process of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    at_once = min(len(guids), hard - 100)
    waiting = list(reversed(guids))
    selector = selectors.DefaultSelector()
    latencies: list[float] = []
    refused = 0
    started = time.perf_counter()

    def connect() -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_WRITE, (waiting.pop(), time.perf_counter()))

    for _ in range(at_once):
        connect()
    while selector.get_map():
        for key, events in selector.select(5):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            guid, since = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    connection.send(f"GET /ping/{guid} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
                    selector.modify(connection, selectors.EVENT_READ, key.data)
                    continue
                answer = connection.recv(1000)
                if answer.startswith(b"HTTP/1.1 200 "):
                    latencies.append(time.perf_counter() - since)
                else:
                    refused += 1
            except OSError:
                refused += 1
            selector.unregister(connection)
            connection.close()
            if waiting:
                connect()
    latencies.sort()
    answers.send(
        {
            "connections_at_once": at_once,
            "seconds_to_last_answer": round(time.perf_counter() - started, 2),
            "acknowledged": len(latencies),
            "refused": refused,
            "p50_ms": round(latencies[len(latencies) // 2] * 1000, 1),
            "p99_ms": round(latencies[len(latencies) * 99 // 100] * 1000, 1),
        }
    )


if __name__ == "__main__":
    main()
