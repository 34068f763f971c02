"""The nursery: a process that has imported everything, and forks the programs of `make run` when the supervisor asks.

A program that is started by itself imports for seconds, and keeps a copy of all that for itself. A fork is there in
milliseconds, and shares what nobody writes to.

    supervisor                                       nursery
        | -- arguments, log, files, a channel ---------> | fork
        | <-- pid, over the channel --- program          |   and the child forks again: the kernel makes the
        | --- begin ------------------> |                |   supervisor its parent

So the supervisor, a "child subreaper" by prctl(2), waits for programs and ends them as if it had started them, and they
live on if the nursery dies. While there is none, and where programs do not fork (macOS), they are started by
themselves.

The nursery holds no connections and has no threads. If a file that it has imported has changed, it begins anew
(exec): whatever is started has the code as it is on the disk.
"""

import fcntl
import gc
import importlib
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import psutil

from project.local import engines

CAN_FORK = sys.platform == "linux"
ANSWER_SECONDS_MAX = 5.0
"""How long a fork may take on a machine that is busy. After that a program is started by itself."""
MESSAGE_BYTES_MAX = 1 << 16
FILES_MAX = 8
HIGH_FD = 500
"""Above the numbers that a program may want for its files."""
LOOK_SECONDS = 0.02
MODULES = (
    *("project.asgi", "project.urls", "checkins.ingest.batcher", "checkins.ingest.serving", "granian.server.mp"),
    *("celery.apps.worker", "celery.apps.beat", "celery.worker.consumer", "celery.worker.autoscale"),
    *("celery.worker.strategy", "celery.concurrency.solo", "celery.app.events", "celery.utils.nodenames"),
    *("celery.worker.consumer.delayed_delivery", "celery.app.log", "celery.app.routes", "celery.app.control"),
    *("celery.events", "kombu.transport.redis", "billiard.pool", "multiprocessing.popen_fork", "encodings.idna"),
    *("project.broker", "project.scheduler"),
)
"""What the programs import. What is missing here works as well, and is there once for each."""
UNUSED = ("rich", "yaml", "greenlet")
"""structlog's colours (5 MiB), messages in YAML, threads of another kind."""
PLACES = re.compile(r"^ +\d+ +(\d+) +[\d,]+ +[\d,]+ +([\d,]+)$", re.MULTILINE)
"""class, size, pools, blocks in use, available blocks: a line of `sys._debugmallocstats`."""
MAKERS: dict[int, Callable[[], object]] = {16: object, 32: lambda: 1 / len(MAKERS)}
"""What makes an object of this size that needs no other one; a larger one is as many bytes, without their head."""
BYTES_HEAD = 33
FILLING: list[object] = []


@dataclass
class Nursery:
    """The supervisor's side: how to start it, and how to have programs forked.

    `variables` is its environment: it forks programs with no other one.
    """

    variables: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    is_ready: bool = False
    _connection: socket.socket = field(default_factory=socket.socket)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it. Our own process becomes the parent of what it will fork."""
        engines.prctl(engines.PR_SET_CHILD_SUBREAPER, 1)
        self._connection.close()
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.is_ready = False
        with theirs, self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "project.local.nursery", str(theirs.fileno())],
                cwd=engines.BASE_DIR,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                preexec_fn=lambda: engines.die_with_parent(signal.SIGKILL),
            )
        return self.process

    def end(self) -> None:
        """End it; what it has forked lives on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._connection.close()
        self.is_ready = False

    def wait_until_ready(self, seconds: float, *, check_stop: Callable[[], None] = engines.no_stop) -> None:
        """Return when it has imported everything, or has ended, or after so many seconds.

        `check_stop` raises what ends the wait.
        """
        deadline = time.monotonic() + seconds
        while not self._look() and time.monotonic() < deadline:
            check_stop()
            if self.process is None or self.process.poll() is not None:
                return
            time.sleep(LOOK_SECONDS)

    def fork(
        self, arguments: list[str], output: int, *, last_signal: signal.Signals, kept_files: tuple[int, ...]
    ) -> "Forked | None":
        """Have `python -m` with these arguments forked; None if that cannot be now."""
        if not self._look():
            return None
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel, suppress(OSError):
            with theirs:
                request = json.dumps([arguments, last_signal, kept_files]).encode()
                socket.send_fds(self._connection, [request], [theirs.fileno(), output, *kept_files])
            channel.settimeout(ANSWER_SECONDS_MAX)
            answer = channel.recv(MESSAGE_BYTES_MAX)
            if answer:
                forked = Forked(int(answer))
                channel.send(b"begin")
                return forked
        self.is_ready = False  # It begins anew, hangs or is gone.
        return None

    def _look(self) -> bool:
        """Take note of its word that it is ready."""
        if not self.is_ready and self.process is not None:
            with suppress(OSError):
                self._connection.setblocking(False)
                self.is_ready = bool(self._connection.recv(MESSAGE_BYTES_MAX))
        return self.is_ready


class Forked:
    """A process that the nursery has forked for us, with those methods of `subprocess.Popen` that are needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended. Raises subprocess.TimeoutExpired."""
        try:
            return int(self._process.wait(timeout) or 0)
        except psutil.TimeoutExpired:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


# --- the nursery's side ---------------------------------------------------------------------------------------------


def main() -> None:
    """Import everything, then fork what is asked for until the supervisor is gone."""
    number = int(sys.argv[1])
    supervisor = os.getppid()
    import_everything()
    times = file_times()
    connection = socket.socket(fileno=number)
    connection.send(b"ready")
    while True:
        request, files, _, _ = socket.recv_fds(connection, MESSAGE_BYTES_MAX, FILES_MAX)
        if not request:
            return
        if file_times() != times:
            os.set_inheritable(number, True)
            os.execv(sys.executable, [sys.executable, "-m", "project.local.nursery", str(number)])  # noqa: S606 - ours
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            connection.close()
            arguments, last_signal, numbers = json.loads(request)
            if was_asked_to_begin(supervisor, signal.Signals(last_signal), files, numbers):
                gc.enable()
                sys.argv = arguments
                runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
            return
        for file in files:
            os.close(file)
        os.waitpid(between, 0)


def import_everything() -> None:
    """Import what web, batcher, worker and beat do, and keep the collector away from it."""
    import django
    import setproctitle

    setproctitle.setproctitle("watchclock nursery")
    gc.disable()
    with without_extras():
        django.setup()
        for module in MODULES:
            importlib.import_module(module)
    from project.celery import app

    app.loader.import_default_modules()
    app.finalize()
    rehearse()
    gc.collect()
    fill_gaps()
    gc.freeze()


@contextmanager
def without_extras() -> Iterator[None]:
    """Import what libraries import if it is installed, and no program here uses, only if somebody asks for it."""
    sys.modules |= dict.fromkeys(UNUSED)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in UNUSED:
            del sys.modules[name]


def rehearse() -> None:
    """Connect to everything once and let go: what libraries set up at the first use is there before the forks."""
    import redis

    from lib.valkey import valkey
    from project import starting
    from project.celery import app

    for part in ("amqp.router", "control", "backend"):
        attrgetter(part)(app)
    # It reads its version from the disk whenever it connects.
    redis.utils.get_lib_version = lambda: redis.__version__
    starting.find_absent_engines()  # What is away will be there later, or its programs report it.
    with suppress(redis.RedisError):
        valkey().ping()
    valkey().connection_pool.disconnect()


def fill_gaps() -> None:
    """Fill what is free among the objects that are here: else each fork would put its own there, and copy these pages.

    Python keeps objects of a size together, in steps of 16 bytes, and uses the free places between them first.
    """
    for size, free in free_places().items():
        make = MAKERS.get(size, lambda size=size: bytes(size - BYTES_HEAD))
        FILLING.extend(make() for _ in range(free))


def free_places() -> dict[int, int]:
    """How many free places there are for objects of each size, by CPython's own account; none by another Python."""
    with tempfile.TemporaryFile() as account:
        errors = os.dup(2)
        os.dup2(account.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(errors, 2)
            os.close(errors)
        account.seek(0)
        rows = PLACES.findall(account.read().decode())
    return {int(size): int(free.replace(",", "")) for size, free in rows}


def file_times() -> dict[str, int]:
    """When each file that is imported was changed last."""
    times = {}
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None:
            with suppress(OSError):
                times[file] = Path(file).stat().st_mtime_ns
    return times


def was_asked_to_begin(supervisor: int, last_signal: signal.Signals, files: list[int], numbers: list[int]) -> bool:
    """Make this process a child of the supervisor, with a group, an output and these files of its own."""
    os.setsid()
    with socket.socket(fileno=fcntl.fcntl(files[0], fcntl.F_DUPFD, HIGH_FD)) as channel:
        for standard in (1, 2):
            os.dup2(files[1], standard)
        for file in files[:2]:
            os.close(file)
        for file, number in zip(files[2:], numbers, strict=True):
            if file != number:
                os.dup2(file, number, inheritable=False)
                os.close(file)
        # It comes with the death of whoever is the parent now, so it is asked for when that is the supervisor.
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while os.getppid() != supervisor and time.monotonic() < deadline:
            time.sleep(0.001)
        engines.die_with_parent(last_signal)
        channel.send(str(os.getpid()).encode())
        return bool(channel.recv(MESSAGE_BYTES_MAX))  # Nothing comes if it took too long, and another one was started.


if __name__ == "__main__":
    main()
