"""The web process: `python -m project.web` serves project/asgi.py, and restarts without refusing a connection.

Clients of a cron monitor send a check-in once, and what is refused is lost. So the listening socket outlives the
processes that accept from it; while none does, connections wait in the kernel:

    parent (systemd or `make run`)   owns the listening socket         outlives a crash or restart of the web
      main process (this module)     holds it, accepts nothing         forks workers, replaces one that has died
        worker                       accepts and answers               ends and begins; all share the one socket
          batcher                    stores what the worker passes on  begins and ends with its worker

The main process has imported everything before it forks. So a worker that was killed is back in milliseconds, and most
of the memory is there once. It runs no code of ours but this module, has no connections, and no threads that do
anything but wait.

Signals to the main process:

    SIGHUP     deploy: it replaces itself by the code as it is on disk now (exec: the same process, the same workers),
               starts new workers, and lets the old ones drain and end
    SIGTERM    drain and end

A worker that is asked to end accepts no more, and answers for WEB_DRAIN_SECONDS what comes on the connections that it
has, each time with `Connection: close`, so that clients which keep connections move over by themselves. Only then it
closes what is left: connections on which nothing was sent for so long. One of these may still meet a request that is on
its way; HTTP/1.1 has no cure for that, and clients look at a kept connection before they use it.

Where programs do not fork (macOS), each worker imports everything for itself.
"""

import argparse
import asyncio
import contextlib
import errno
import gc
import logging.config
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.mp import MPServer

from project import env, logs
from project.version import VERSION

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Send], Awaitable[None]]

BACKLOG_CONNECTIONS = 20_000
"""How many connections may wait to be accepted: cron jobs all start at the full minute. The kernel cuts this to
net.core.somaxconn (4096 on most machines); whoever finds no room is not refused, but tries again after a second."""
CONNECTIONS_MAX = 30_000
"""Open connections of one worker; more wait to be accepted. Fewer if the limit of open files is lower."""
FILES_RESERVED = 512
"""Of the limit of open files, what is kept for everything that is no client's connection."""
REAP_SECONDS = 0.02
SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
"""What the main process and its workers receive. A signal that comes before anybody listens has to wait."""
TITLE = "watchclock web"
SYSTEMD_FIRST_FD = 3
"""SD_LISTEN_FDS_START in sd_listen_fds(3): where systemd puts the first socket that it passes on."""

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until asked to end. Returns the exit code: 1 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m project.web", description="Serve Watchclock over HTTP.")
    parser.add_argument("--fd", type=int, help="number of a listening socket that the parent process has opened")
    parser.add_argument("--replaces", type=int, nargs="*", default=[], help="pids of workers that end when ours serve")
    arguments = parser.parse_args()
    try:
        logging.config.dictConfig(logs.configuration(logs.log_format()))
        with listening_socket(arguments.fd) as listener:
            web = server(listener, arguments.replaces)
            import_everything()
            check_spool_directory()
            web.serve(target_loader=partial(application, listener.fileno()), wrap_loader=False)
    except (ImproperlyConfigured, OSError) as error:
        print(f"The web cannot start: {error}", file=sys.stderr)
        return 1
    return 0


def listening_socket(fd: int | None) -> socket.socket:
    """The socket with number `fd`, or the one that systemd passed on, or a new one at WATCHCLOCK_HOST and _PORT.

    systemd's rules are in sd_listen_fds(3): LISTEN_FDS counts only if LISTEN_PID is this process, since a variable
    may have been inherited from someone else's start.
    """
    if fd is None and os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0":
        fd = SYSTEMD_FIRST_FD
    if fd is not None:
        return socket.socket(fileno=fd)
    host = env.text("WATCHCLOCK_HOST", default="127.0.0.1")
    port = env.whole_number("WATCHCLOCK_PORT", default=8000, minimum=1, maximum=65_535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG_CONNECTIONS)


def import_everything() -> None:
    """Import what workers and batchers need, for all that will be forked. Raises ImproperlyConfigured."""
    gc.disable()  # There is nothing to collect yet, and it looks again and again.
    import project.asgi
    import project.urls  # noqa: F401 - the admin's pages
    from checkins.ingest import batcher, serving  # noqa: F401

    gc.collect()
    gc.freeze()  # A collection would write to all of it, and what is written to is not shared any more.
    gc.enable()


def check_spool_directory() -> None:
    """Raise ImproperlyConfigured if no spool can be made: without one no check-in is taken.

    The workers would say so too, each of them and again and again. A full disk passes, and is no reason to end.
    """
    from django.conf import settings

    from checkins.ingest.spool_directory import make_directory

    try:
        make_directory(settings.SPOOL_DIRECTORY)
        with tempfile.TemporaryFile(dir=settings.SPOOL_DIRECTORY):
            pass
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise ImproperlyConfigured(
                f"SPOOL_DIRECTORY is {settings.SPOOL_DIRECTORY}, where no spool can be made: {error.strerror}."
            ) from None


def server(listener: socket.socket, replaced: Sequence[int]) -> "SharedSocketServer":
    """A server for project/asgi.py on this socket, with the settings of the environment."""
    # Python's own choice differs between versions. Frameworks of macOS do not bear a fork that goes on.
    multiprocessing.set_start_method("fork" if sys.platform == "linux" else "spawn", force=True)
    # Accepted connections inherit it (Linux). Without it an answer in two parts waits for the client's delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    drain_seconds()  # Refuse a wrong value here, and not in each worker.
    return SharedSocketServer(
        listener,
        replaced,
        process_name=TITLE,
        address=str(listener.getsockname()[0]),  # These two are for people who look at the process table.
        port=int(listener.getsockname()[1]),
        target="project.asgi",
        interface=Interfaces.ASGI,
        workers=env.whole_number("WEB_PROCESSES", default=1, minimum=1, maximum=64),
        runtime_mode=RuntimeModes.st,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG_CONNECTIONS,
        backpressure=connections_max(),
        http1_settings=HTTP1Settings(
            # Also how long a connection may be kept without a request: granian measures both with the same clock.
            header_read_timeout=int(
                1000 * env.seconds("INGEST_HEADER_SECONDS", default=30.0, minimum=1.0, maximum=3600.0)
            ),
            # Request line and headers together: ping URLs carry up to 16 KiB in the query, some proxies as much in
            # cookies.
            max_buffer_size=env.whole_number(
                "INGEST_HEADER_BYTES_MAX", default=64 << 10, minimum=16 << 10, maximum=1 << 20
            ),
        ),
        log_level=LogLevels.warning,
        log_dictconfig=logs.configuration(logs.log_format()),
        # A second death within seconds ends the main process (granian takes it for a crash loop): the parent starts a
        # new one, and the socket waits.
        respawn_failed_workers=True,
        respawn_interval=env.seconds("WEB_RESPAWN_SECONDS", default=3.0, maximum=60.0),
        workers_kill_timeout=env.whole_number("WEB_STOP_SECONDS", default=20, minimum=1, maximum=3600),
    )


def drain_seconds() -> float:
    """How long a worker that was asked to end goes on answering."""
    return env.seconds("WEB_DRAIN_SECONDS", default=1.0, maximum=60.0)


def connections_max() -> int:
    """How many connections a worker may hold; raises the limit of open files as far as the system lets us.

    granian stops accepting for good if it runs out of files, so it must never come to that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + FILES_RESERVED
    files = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(files - FILES_RESERVED, files // 2)


class SharedSocketServer(MPServer):
    """granian, whose workers accept from one socket that exists already.

    On Linux granian gives every worker a socket of its own (SO_REUSEPORT), and the connections that wait on it are
    reset when its worker ends. Elsewhere it shares one; these are the fields through which it does.
    """

    _ssp: Any
    _sfd: Any
    _shd: Any

    def __init__(self, listener: socket.socket, replaced: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self._listener = listener
        self._replaced = list(replaced)

    def _init_shared_socket(self) -> None:
        self._ssp = None
        self._sfd = self._listener.fileno()
        unix_socket = False
        backlog = (self.backlog,) if sys.platform == "linux" else ()  # Elsewhere granian leaves it as it is.
        self._shd = SocketHolder(self._sfd, unix_socket, *backlog)  # type: ignore[call-arg]
        self._sso = self._listener  # Travels to the workers with its file descriptor, which keeps its number there.

    def _spawn_workers(self, *arguments: Any) -> None:
        with signals_held():
            super()._spawn_workers(*arguments)  # type: ignore[no-untyped-call]
        if self._replaced:
            threading.Thread(target=self._end_replaced, args=(self.respawn_interval,), daemon=True).start()

    def _respawn_workers(self, *arguments: Any, **options: Any) -> None:
        with signals_held():
            super()._respawn_workers(*arguments, **options)

    def _stop_workers(self) -> None:
        for pid in self._replaced:
            send_signal(pid, signal.SIGTERM)
        super()._stop_workers()  # type: ignore[no-untyped-call]
        self._end_replaced(0)

    def _end_replaced(self, after_seconds: float) -> None:
        """End the workers that were here before this code, when ours have had time to begin. Kills what hangs."""
        time.sleep(after_seconds)
        for pid in self._replaced:
            send_signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + (self.workers_kill_timeout or 0)
        while left := [pid for pid in self._replaced if not has_ended(pid)]:
            if time.monotonic() > deadline:
                for pid in left:
                    send_signal(pid, signal.SIGKILL)
            time.sleep(REAP_SECONDS)
        self._replaced = []

    def _reload(self, *_: Any) -> None:
        """Begin anew with the code on the disk, unless it cannot even be imported: then the old one goes on."""
        self.reload_signal = False
        self.main_loop_interrupt.clear()
        can_be_imported = not subprocess.run([sys.executable, "-c", "import project.asgi"], check=False).returncode
        with signals_held():  # One that comes from here on is handled by the new code.
            if can_be_imported and not self.interrupt_signal:
                self._become_new_code()
        if self.interrupt_signal:
            self.main_loop_interrupt.set()  # It came before the line above that clears this, or while we looked.
        else:
            logger.error("The new code cannot be imported, see above; the old one goes on serving.")

    def _become_new_code(self) -> None:
        workers = [*self._replaced, *(worker.inner.pid for worker in self.wrks if worker.is_alive())]  # type: ignore[no-untyped-call]
        os.set_inheritable(self._listener.fileno(), True)
        command = ["-m", "project.web", "--fd", str(self._listener.fileno()), "--replaces", *map(str, workers)]
        os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - ours, and it needs no shell


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back while workers are forked: a worker lets them in when it listens to them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a child that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def has_ended(pid: int) -> bool:
    """Return whether a child has ended, and record that."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def application(listener_fd: int) -> "DrainingApplication":
    """What a worker serves; called in the worker, before it has threads or an event loop that runs."""
    from checkins.ingest import process

    batcher = process.start()
    from project.asgi import Application as Served

    return DrainingApplication(Served(batcher), listener_fd=listener_fd, drain_seconds=drain_seconds())


class DrainingApplication:
    """Passes everything on to `application`, and drains this worker when it is asked to end (SIGTERM)."""

    def __init__(self, application: Application, *, listener_fd: int, drain_seconds: float) -> None:
        self.application = application
        self.listener_fd = listener_fd
        self.drain_seconds = drain_seconds
        self.draining = False

    def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
    ) -> Awaitable[None]:
        """Serve one request, or the life of the worker."""
        if scope["type"] == "lifespan":
            # The server has taken its signals already, and this takes one of them back.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.drain)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            return self.application(scope, receive, partial(self.report_start, send))

        def send_and_close(event: dict[str, Any]) -> Awaitable[None]:
            # Asked at the answer, since a slow request may have come before the signal. What is asked here is asked ten
            # thousand times a second, hence no coroutine.
            if self.draining and event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], (b"connection", b"close")]}
            return send(event)

        return self.application(scope, receive, send_and_close)

    def report_start(self, send: Send, event: dict[str, Any]) -> Awaitable[None]:
        """Pass an event of the worker's life on, and log that it serves once it does."""
        if event["type"] == "lifespan.startup.complete":
            with socket.socket(fileno=os.dup(self.listener_fd)) as listener:
                host, port = listener.getsockname()[:2]
            logger.info("Watchclock %s serves http://%s:%d/", VERSION, f"[{host}]" if ":" in host else host, port)
        return send(event)

    def drain(self) -> None:
        """Accept no more, announce the end with each answer, and end after `drain_seconds`."""
        if self.draining:
            return
        self.draining = True
        # granian stops accepting and closes connections at one stroke, also those which it has just accepted and not
        # yet read: under load every few deploys lost a request. It has no earlier signal, so its listener becomes
        # another one to which nobody connects; the real one stays open in the other processes.
        with socket.create_server(("127.0.0.1", 0)) as deserted:
            deserted.setblocking(False)
            os.dup2(deserted.fileno(), self.listener_fd, inheritable=False)
        # SIGINT is the server's other signal to end; nobody has taken that one.
        asyncio.get_running_loop().call_later(self.drain_seconds, os.kill, os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
