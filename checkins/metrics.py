"""Metrics of ingest: counted per batch, not per check-in, so they cost next to nothing."""

from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from lib.metrics import METERS

outcomes = Counter(
    "watchclock_ingest_requests",
    "Answered requests by outcome: stored (PostgreSQL), spooled (the local disk), refused (503).",
    ["outcome"],
    registry=METERS,
)
stored, spooled, refused = (outcomes.labels(outcome) for outcome in ("stored", "spooled", "refused"))
budget_refused = Counter(
    "watchclock_key_budget_refused",
    "Messages refused or only counted because their key had used up a budget, by budget.",
    ["budget"],
    registry=METERS,
)
batch_requests = Histogram(
    "watchclock_ingest_batch_requests",
    "Requests of a batch for PostgreSQL.",
    registry=METERS,
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000),
)
batch_seconds = Histogram(
    "watchclock_ingest_batch_seconds",
    "How long a batch took in PostgreSQL, or how long it waited until it failed.",
    registry=METERS,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
wait_seconds = Histogram(
    "watchclock_ingest_wait_seconds",
    "How long the oldest request of a batch had waited for its turn; with the batch, the longest wait of a client.",
    registry=METERS,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)


def observe_refused(counts: Mapping[str, int]) -> None:
    """Count messages beyond the budgets of keys, by budget."""
    for budget, count in counts.items():
        budget_refused.labels(budget).inc(count)


def observe_batch(requests: int, *, waited: float, seconds: float) -> None:
    """Record a batch sent to PostgreSQL: its requests, the wait of the oldest one, and its duration."""
    batch_requests.observe(requests)
    wait_seconds.observe(waited)
    batch_seconds.observe(seconds)
