"""What a drill does to what it runs on: real engines, web, workers and beats are frozen, killed and started again.

`installation` starts them.
"""

import contextlib
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from checkins.ingest.process import TITLE
from project.local import children, engines
from project.local import nursery as nurseries

STOP_SECONDS_MAX = 30.0
BACK_SECONDS_MAX = 180.0
"""How long a web may take to start, on a machine that does much else."""
RESTART_SECONDS = 0.2
FROZEN_SECONDS_MIN = 11.0
"""A web that was frozen for longer than ten seconds knows that it was, however fast the time goes."""
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


WEB_WORKER = re.compile(r"^watchclock web worker-\d+|^granian .* worker-\d+|spawn_main")  # The others are old.


@dataclass(frozen=True)
class Silence:
    """A time in which the web did not take check-ins: from `since` until it answered again at `until` (monotonic).

    From `gone` to `back` there was certainly no process that could have taken any; the two are equal if nobody knows.
    """

    since: float
    gone: float
    back: float
    until: float


@dataclass
class World:
    """An installation without its clock, and what has happened to it; times are of `time.monotonic`."""

    postgres: Server
    valkey: Server
    web: children.Child
    listener: socket.socket
    variables: dict[str, str]
    random: random.Random
    away: list[tuple[float, float]] = field(default_factory=list)
    """When PostgreSQL took nothing."""
    kills: list[tuple[float, float]] = field(default_factory=list)
    """When a process of the web was killed, and when it answered again."""
    silences: list[Silence] = field(default_factory=list)
    """Every time in which the web was not there, for whatever reason."""
    programs: list[children.Child] = field(default_factory=list)
    """Workers and beats, if there are any."""
    nursery: nurseries.Nursery | None = None
    nurse: children.Child | None = None
    """The process that they and the web are forked from, where programs fork."""
    logs: Path = Path("logs")
    told: Callable[[str], None] = print
    _is_web_kept_away: bool = False

    @property
    def port(self) -> int:
        """Where the web listens."""
        return int(self.listener.getsockname()[1])

    def live(self, seconds: float) -> None:
        """Let time pass; what has ended is started again, as its supervisor does."""
        until = time.monotonic() + seconds
        while True:
            if not self._is_web_kept_away:
                self.web.revive()
            for program in (*self.programs, *filter(None, [self.nurse])):
                program.revive()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(WATCH_SECONDS, left))

    def start_program(self, name: str, arguments: list[str], **variables: str) -> children.Child:
        """Start a worker or a beat that lives as long as the world, and is started again when it ends."""
        child = children.program_child(name, arguments, self.variables | variables, self.logs, self.nursery)
        # The waits of the supervisor grow with each end: a drill kills more often than anything breaks.
        child.restart_seconds = (RESTART_SECONDS,)
        child.launch()
        self.programs.append(child)
        return child

    def end_programs(self) -> None:
        """End workers and beats as a stop of the service does, those that were started last first."""
        while self.programs:
            end(self.programs.pop())

    @contextlib.contextmanager
    def progress(self, name: str, seconds: float, console: Console, figures: Callable[[], str]) -> Iterator[None]:
        """Show how it goes, with these figures, and tell the faults as they come."""
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[figures]}"),
            console=console,
        ) as progress:  # fmt: skip
            task = progress.add_task(name, total=seconds, figures="")
            over = threading.Event()
            started = time.monotonic()
            self.told = lambda text: progress.console.print(
                f"{time.monotonic() - started:6.1f} s  {text}", markup=False
            )

            def show() -> None:
                while not over.wait(0.5):
                    progress.update(task, completed=time.monotonic() - started, figures=figures())

            thread = threading.Thread(target=show, name="progress")
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    # --- faults ---

    def kill(self, *programs: children.Child) -> None:
        """Kill programs with all their processes at once, as when a host dies. Whoever lets time pass revives them."""
        self.told("kill -9 of " + " and ".join(program.name for program in programs))
        for program in programs:
            if program.process is not None:
                children.end_group(program.process.pid, signal.SIGKILL)
                program.process.wait()

    @contextlib.contextmanager
    def frozen(self, *programs: children.Child) -> Iterator[None]:
        """Stop programs with all their processes for a while, as on a host that swaps or whose machine is moved."""
        stopped = [program.process.pid for program in programs if program.process is not None]
        for pid in stopped:
            children.end_group(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                children.end_group(pid, signal.SIGCONT)

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
        with self.without_postgres():
            for _ in range(kills):
                self.live(seconds / (kills + 1))
                self.kill_web()
            self.live(seconds / (kills + 1))

    @contextlib.contextmanager
    def without_postgres(self) -> Iterator[None]:
        """Have PostgreSQL stopped while this lasts."""
        with self._database_away():
            self.postgres.stop()
            yield
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
        workers = [process for process in everybody if _is_web_worker(process)]
        parts = {
            "all of the web": everybody,
            "the web's main process": [main],
            "the web's worker": workers,
            "the batcher": [process for process in everybody if _command(process) == TITLE],
            "the nursery": [psutil.Process(pid) for pid in self._nursery_pids()],
        }
        name, victims = self.random.choice([(name, victims) for name, victims in parts.items() if victims])
        self.told(f"kill -9 of {name}")
        since = time.monotonic()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        # Whichever it is, the worker ends with it, but for the nursery. Until then it may still answer.
        dying = [] if name == "the nursery" else workers
        while any(_lives(worker) for worker in dying) or not answers(self.port):
            self.live(WATCH_SECONDS)
            if time.monotonic() > since + BACK_SECONDS_MAX:
                raise RuntimeError(f"the web does not come back; its log is {self.web.log}")
        until = time.monotonic()
        self.kills.append((since, until))
        self.silences.append(Silence(since, since, since, until))

    def _nursery_pids(self) -> list[int]:
        return [self.nurse.process.pid] if self.nurse is not None and self.nurse.process is not None else []

    def stop_web(self, seconds: float, *, number: signal.Signals = signal.SIGTERM, **variables: str) -> None:
        """Let there be no web for a while: after an orderly end (SIGTERM), or after a kill. Connections wait.

        The web that comes back has these environment variables instead of its own, until it ends.
        """
        self.told(f"there is no web for {seconds:g} s, {'killed' if number is signal.SIGKILL else 'stopped'}")
        assert self.web.process is not None, "it runs"
        since = time.monotonic()
        self._is_web_kept_away = True
        if number is signal.SIGTERM:
            self.web.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.web.process.wait(STOP_SECONDS_MAX)
        children.end_group(self.web.process.pid, signal.SIGKILL)
        self.web.process.wait()
        gone = time.monotonic()
        self.live(seconds)
        back = time.monotonic()
        self._is_web_kept_away = False
        usual = {name: self.variables[name] for name in variables}
        self.variables.update(variables)  # The web is started with this very dictionary.
        self.web.launch()
        self.variables.update(usual)
        self._wait_for_web()
        self.silences.append(Silence(since, gone, back, time.monotonic()))

    def freeze_web(self, seconds: float) -> None:
        """Stop all processes of the web for a while, with their connections."""
        self.told(f"the web is frozen for {seconds:g} s")
        since = time.monotonic()
        with self.frozen(self.web):
            gone = time.monotonic()
            self.live(seconds)
            back = time.monotonic()
        self._wait_for_web()
        if seconds < FROZEN_SECONDS_MIN:
            gone = back = since  # It does not notice.
        self.silences.append(Silence(since, gone, back, time.monotonic()))

    def _wait_for_web(self) -> None:
        since = time.monotonic()
        while not answers(self.port):
            self.live(WATCH_SECONDS)
            if time.monotonic() > since + BACK_SECONDS_MAX:
                raise RuntimeError(f"the web does not come back; its log is {self.web.log}")

    def deploy(self) -> None:
        """Replace the worker of the web by a new one."""
        assert self.web.process is not None, "it runs"
        self.told("a deploy")
        since = time.monotonic()
        main = psutil.Process(self.web.process.pid)
        before = {process.pid for process in main.children(recursive=True) if _is_web_worker(process)}
        assert before, "a worker runs"
        main.send_signal(signal.SIGHUP)
        # The old worker may be gone before the new one is there; connections wait meanwhile.
        while before & {process.pid for process in main.children(recursive=True)} or not answers(self.port):
            self.live(WATCH_SECONDS)
            if time.monotonic() > since + BACK_SECONDS_MAX:
                raise RuntimeError(f"the old worker does not end; its log is {self.web.log}")
        until = time.monotonic()
        self.kills.append((since, until))
        self.silences.append(Silence(since, since, since, until))

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


def _is_web_worker(process: psutil.Process) -> bool:
    """Whether it is a worker of the web, by its title."""
    return WEB_WORKER.search(_command(process)) is not None


def _lives(process: psutil.Process) -> bool:
    """Whether it has not ended. What has ended may wait for its parent, or the first process, to take note of it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()  # A title is followed by empty words.
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


def end(child: children.Child) -> None:
    """End the web or a program as a stop of the service does, and whatever is left of it after that."""
    if child.process is None:
        return
    child.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(STOP_SECONDS_MAX)
    children.end_group(child.process.pid, signal.SIGKILL)
    child.process.wait()
