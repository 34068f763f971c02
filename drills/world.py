"""What a drill runs on, and what it does to it: real engines and the real web, started, stopped, frozen and killed.

Everything is started from one thread, since an engine dies with the thread that started it.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from project import engines, supervisor

STOP_SECONDS_MAX = 30.0
WATCH_SECONDS = 0.05


@dataclass
class Server:
    """An engine, and its process while it runs."""

    engine: engines.Engine
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.process = self.engine.start(self.log)
        engines.wait_until_ready(self.engine, self.process, self.log)

    def stop(self, number: signal.Signals | None = None) -> None:
        """Stop it with its own signal for that, or with another one, and return when it has ended."""
        if self.process is not None:
            self.process.send_signal(number or self.engine.stop_signal)
            self.process.wait(STOP_SECONDS_MAX)
            self.process = None

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the engine."""
        assert self.process is not None, "only what runs is frozen"
        leader = psutil.Process(self.process.pid)
        for process in (leader, *leader.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@dataclass
class World:
    """An installation without its clock, and what has happened to it; times are of `time.monotonic`."""

    postgres: Server
    valkey: Server
    web: supervisor.Child
    port: int
    variables: dict[str, str]
    random: random.Random
    away: list[tuple[float, float]] = field(default_factory=list)
    """When PostgreSQL took nothing."""
    kills: list[tuple[float, float]] = field(default_factory=list)
    """When a process of the web was killed, and when it answered again."""
    told: Callable[[str], None] = print

    def live(self, seconds: float) -> None:
        """Let time pass; a web that has ended is started again, as its supervisor does."""
        until = time.monotonic() + seconds
        while True:
            self.web.revive()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(WATCH_SECONDS, left))

    # --- faults ---

    def restart_postgres(self) -> None:
        """Stop PostgreSQL in an orderly way, or as a crash does, and start it again at once."""
        how = self.random.choice([signal.SIGINT, signal.SIGQUIT])
        self.told(f"PostgreSQL restarts ({'fast shutdown' if how is signal.SIGINT else 'as after a crash'})")
        with self._database_away():
            self.postgres.stop(how)
            self.postgres.start()

    def stop_postgres(self, seconds: float, *, kills: int = 0) -> None:
        """Stop PostgreSQL for a while, in which the web is killed a few times."""
        self.told(f"PostgreSQL is stopped for {seconds:g} s" + (f", and the web killed {kills} times" if kills else ""))
        with self._database_away():
            self.postgres.stop()
            for _ in range(kills):
                self.live(seconds / (kills + 1))
                self.kill_web()
            self.live(seconds / (kills + 1))
            self.postgres.start()

    def make_postgres_read_only(self, seconds: float) -> None:
        """Let PostgreSQL refuse all writes for a while, as a standby does."""
        self.told(f"PostgreSQL is read-only for {seconds:g} s")
        with self._database_away(), psycopg.connect(self.postgres.engine.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
            self.live(seconds)
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")

    def freeze_postgres(self, seconds: float) -> None:
        """Let PostgreSQL hang for a while with all connections open, as on a disk that does not answer."""
        self.told(f"PostgreSQL hangs for {seconds:g} s")
        with self._database_away():
            self.postgres.signal_all(signal.SIGSTOP)
            try:
                self.live(seconds)
            finally:
                self.postgres.signal_all(signal.SIGCONT)

    def kill_web(self) -> None:
        """Kill one process of the web, or all of them; returns when it answers again."""
        assert self.web.process is not None, "it runs"
        main = psutil.Process(self.web.process.pid)
        everybody = [main, *main.children(recursive=True)]
        workers = [process for process in everybody if "spawn_main" in _command(process)]
        parts = {
            "all of the web": everybody,
            "the web's main process": [main],
            "the web's worker": workers,
            "the batcher": [process for process in everybody if "project.batcher" in _command(process)],
        }
        name, victims = self.random.choice([(name, victims) for name, victims in parts.items() if victims])
        self.told(f"kill -9 of {name}")
        since = time.monotonic()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        # Whichever it is, the worker ends with it. Until then it may still answer.
        while any(worker.is_running() for worker in workers) or not answers(self.port):
            self.live(WATCH_SECONDS)
            if time.monotonic() > since + STOP_SECONDS_MAX:
                raise RuntimeError(f"the web does not come back; its log is {self.web.log}")
        self.kills.append((since, time.monotonic()))

    def deploy(self) -> None:
        """Replace the worker of the web by a new one."""
        assert self.web.process is not None, "it runs"
        self.told("a deploy")
        since = time.monotonic()
        main = psutil.Process(self.web.process.pid)
        before = {process.pid for process in main.children(recursive=True) if "spawn_main" in _command(process)}
        main.send_signal(signal.SIGHUP)
        while before & {process.pid for process in main.children(recursive=True)}:
            self.live(WATCH_SECONDS)
            if time.monotonic() > since + STOP_SECONDS_MAX:
                raise RuntimeError(f"the old worker does not end; its log is {self.web.log}")
        self.kills.append((since, time.monotonic()))

    def stop_valkey(self, seconds: float) -> None:
        """Stop Valkey for a while."""
        self.told(f"Valkey is stopped for {seconds:g} s")
        self.valkey.stop()
        self.live(seconds)
        self.valkey.start()

    @contextlib.contextmanager
    def _database_away(self) -> Iterator[None]:
        since = time.monotonic()
        try:
            yield
        finally:
            self.away.append((since, time.monotonic()))


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def answers(port: int) -> bool:
    """Whether the web answers a request within a second; connections alone are taken by the kernel."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /ping/none HTTP/1.0\r\n\r\n")
            return bool(connection.recv(100))
    except OSError:
        return False


@contextlib.contextmanager
def running_world(directory: Path, *, seed: int, speed: float, **variables: str) -> Iterator[World]:
    """Start engines, durable as in production, and a web on them whose clock runs `speed` times as fast."""
    logs = directory / "logs"
    logs.mkdir(parents=True)
    postgres = Server(engines.prepare_postgres(directory / "postgres", port=engines.free_port()), logs / "postgres.log")
    valkey = Server(engines.prepare_valkey(directory / "valkey", port=engines.free_port()), logs / "valkey.log")
    with contextlib.ExitStack() as stack:
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COV_")},
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": postgres.engine.url,
            "REDIS_URL": valkey.engine.url,
            "CELERY_BROKER_URL": valkey.engine.url,
            "SECRET_KEY": "protects nothing in a drill",
            "HTTPS_ONLY": "false",
            "SPOOL_DIRECTORY": str(directory / "spool"),
            "WEB_RESPAWN_SECONDS": "0.5",
            "CHECKINS_PER_MINUTE": "100000",
            **variables,
        }
        if speed != 1:
            environment |= {
                "WATCHCLOCK_TEST_CLOCK": clock_setting(postgres.engine.url, speed),
                "WATCHCLOCK_ALLOW_TEST_CLOCK": "true",
                # Silence is measured with the fast clock, and means as many real seconds as ever.
                "INGEST_NODE_SILENT_SECONDS": str(round(120 * speed)),
            }
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=supervisor.BASE_DIR, env=environment, check=True,
        )  # fmt: skip
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        web = supervisor.web_child(listener, environment, logs)
        web.launch()
        stack.callback(_end_web, web)
        chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        world = World(postgres, valkey, web, listener.getsockname()[1], environment, chance)
        while not answers(world.port):
            world.live(WATCH_SECONDS)
        yield world


def clock_setting(database_url: str, speed: float) -> str:
    """WATCHCLOCK_TEST_CLOCK for a clock that agrees with the database's now and runs `speed` times as fast."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None, "a SELECT without FROM has a row"
    return f"{row[0].isoformat()}@{speed:g}"


def _end_web(web: supervisor.Child) -> None:
    """End the web as a stop of the service does, and whatever is left of it after that."""
    if web.process is None:
        return
    web.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        web.process.wait(STOP_SECONDS_MAX)
    supervisor.end_group(web.process.pid, signal.SIGKILL)
    web.process.wait()
