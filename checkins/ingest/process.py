"""The process that stores the check-ins of a web worker, which starts it: `python -m checkins.ingest.process FD`."""

import gc
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

import django
import uvloop

PUSH_SECONDS = 5.0


def main() -> None:
    """Serve the socket with this number until its other end is closed."""
    # Ctrl-C and a stop of the service reach the web as well, which then closes the socket: only after its last answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
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
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        uvloop.run(serve_batcher(connection, Batcher(options_of_settings(), utcnow=utcnow)))


def push_meters() -> None:
    """Bring what is counted here to Valkey every few seconds, as long as this process lives."""
    import redis

    from lib import metrics

    while True:
        time.sleep(PUSH_SECONDS)
        with suppress(redis.RedisError):  # The next push brings it.
            metrics.push()


if __name__ == "__main__":
    main()
