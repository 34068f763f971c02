"""What the clock counts in the workers: once for each task."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from lib.metrics import METERS

task_seconds = Histogram(
    "watchclock_clock_task_seconds",
    "How long a clock task took: dispatch (the ledger, once a minute), or one kind of work in one shard.",
    ["part"],
    registry=METERS,
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300),
)
marked = Counter(
    "watchclock_clock_marked",
    "Check-ins that clock tasks have marked, by the kind of task.",
    ["kind"],
    registry=METERS,
)
dropped = Counter("watchclock_clock_messages_dropped", "Clock tasks that could not be read.", registry=METERS)
heartbeats = Counter(
    "watchclock_heartbeats",
    "Heartbeats to HEARTBEAT_URL: sent, failed, or withheld because something was bad.",
    ["outcome"],
    registry=METERS,
)


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Measure a clock task, also one that fails."""
    started = time.monotonic()
    try:
        yield
    finally:
        task_seconds.labels(part).observe(time.monotonic() - started)
