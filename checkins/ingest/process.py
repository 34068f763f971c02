"""The process that stores the check-ins of a web worker, which starts it.

Where programs fork (Linux), it is a fork of the worker: there in milliseconds, since everything is imported, and most
of its memory is that of the others. Elsewhere it is a Python of its own.
"""

import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize

import django
import setproctitle
import uvloop

from checkins.ingest.wire import BUFFER_BYTES

PUSH_SECONDS = 5.0
FIRST_FD = 3
"""Above input, output and errors."""
FDS_MAX = 1 << 20
TITLE = "watchclock batcher"


@dataclass(frozen=True)
class BatcherProcess:
    """A batcher's process, and our end of the connection to it."""

    process: BaseProcess
    connection: socket.socket


def start() -> BatcherProcess:
    """Start a batcher. Only for a process that has neither threads nor a running event loop: it may be forked."""
    ours, theirs = socket.socketpair()
    with theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        process = multiprocessing.Process(
            target=main, args=(theirs,), kwargs={"is_forked": multiprocessing.get_start_method() == "fork"}
        )
        process.start()
    # However this process ends: multiprocessing then waits for the batcher, which waits for the end of the connection.
    Finalize(None, _let_go, args=(ours,), exitpriority=0)
    return BatcherProcess(process, ours)


def main(connection: socket.socket, *, is_forked: bool) -> None:
    """Serve this connection until its other end is closed."""
    # Ctrl-C and a stop of the service reach the web as well, which then closes the socket: only after its last answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if is_forked:
        # Also the web's socket, whose clients would wait for one who does not accept, and the web's end of ours.
        os.closerange(FIRST_FD, connection.fileno())
        os.closerange(connection.fileno() + 1, FDS_MAX)
    setproctitle.setproctitle(TITLE)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()

    # Models can be imported only now.
    from checkins.ingest.batcher import Batcher
    from checkins.ingest.options import options_of_settings
    from checkins.ingest.serving import serve_batcher
    from lib.wallclock import utcnow

    threading.Thread(target=push_meters, name="meters", daemon=True).start()

    # What a batch makes is freed as it goes, since it forms no cycles: looking for some took nearly a third of the
    # time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
    with connection:
        uvloop.run(serve_batcher(connection, Batcher(options_of_settings(), utcnow=utcnow)))


def push_meters() -> None:
    """Bring what is counted here to Valkey every few seconds, as long as this process lives."""
    import redis

    from lib import metrics

    while True:
        time.sleep(PUSH_SECONDS)
        with suppress(redis.RedisError):  # The next push brings it.
            metrics.push()


def _let_go(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
