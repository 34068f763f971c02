"""A job that does its work every other second, and checks in each time, until it is told to stop.

usage: heartbeat.py DSN SLUG MONITOR_CONFIG_AS_JSON
"""

import json
import signal
import sys
import threading

import sentry_sdk
from sentry_sdk.crons import capture_checkin


def main(dsn: str, slug: str, config: str) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    sentry_sdk.init(dsn=dsn)
    while not stopped.is_set():
        capture_checkin(monitor_slug=slug, status="ok", monitor_config=json.loads(config))
        stopped.wait(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
