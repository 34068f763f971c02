"""What the ingest counts: per batch, not per check-in, so that it costs next to nothing."""

from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from lib.metrics import METERS

outcomes = Counter(
    "watchclock_ingest_requests",
    "Requests that were answered, by where they went: stored (PostgreSQL), spooled (the local disk), refused (503).",
    ["outcome"],
    registry=METERS,
)
stored, spooled, refused = (outcomes.labels(outcome) for outcome in ("stored", "spooled", "refused"))
budget_refused = Counter(
    "watchclock_key_budget_refused",
    "What was refused or only counted since its key had used up a budget, by budget.",
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
    "How long PostgreSQL took for a batch, or how long was waited for it in vain.",
    registry=METERS,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
wait_seconds = Histogram(
    "watchclock_ingest_wait_seconds",
    "How long the oldest request of a batch had waited for its turn: with the batch, the longest that a client waited.",
    registry=METERS,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)


def observe_refused(counts: Mapping[str, int]) -> None:
    """Count what keys could not pay for, by budget."""
    for budget, count in counts.items():
        budget_refused.labels(budget).inc(count)


def observe_batch(requests: int, *, waited: float, seconds: float) -> None:
    """Count a batch that was sent to PostgreSQL: how many, how long its oldest had waited, and how long it took."""
    batch_requests.observe(requests)
    wait_seconds.observe(waited)
    batch_seconds.observe(seconds)
