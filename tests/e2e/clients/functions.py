"""Jobs that are functions under `@monitor`: one ends well, one raises, one hangs.

usage: functions.py DSN back_up|send_invoices|rebuild_index
"""

import sys
import threading
from typing import TYPE_CHECKING

import sentry_sdk
from sentry_sdk.crons import monitor

if TYPE_CHECKING:
    from sentry_sdk._types import MonitorConfig

DAILY: "MonitorConfig" = {"schedule": {"type": "interval", "value": 1, "unit": "day"}}
A_MINUTE_AT_MOST: "MonitorConfig" = {**DAILY, "max_runtime": 1}


@monitor(monitor_slug="back-up", monitor_config=DAILY)
def back_up() -> None:
    pass


@monitor(monitor_slug="send-invoices", monitor_config=DAILY)
def send_invoices() -> None:
    raise RuntimeError("no paper left")


@monitor(monitor_slug="rebuild-index", monitor_config=A_MINUTE_AT_MOST)
def rebuild_index() -> None:
    threading.Event().wait()


if __name__ == "__main__":
    # On a busy machine the SDK's usual 2 s at the end of a process may not be enough to deliver.
    sentry_sdk.init(dsn=sys.argv[1], shutdown_timeout=30)
    {job.__name__: job for job in (back_up, send_invoices, rebuild_index)}[sys.argv[2]]()
