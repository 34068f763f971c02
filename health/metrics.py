"""What `/metrics` reports: the state of the whole installation from rows, and what all processes have counted (pure).

Every web process gives the same answer, but for its own spool. What cannot be known, since the engine that holds it is
away, is left out, and `watchclock_up` shows that. Names and meanings: docs/reference/metrics.md, held to this.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# So that their meters are known here too.
import checkins.metrics  # noqa: F401
import clocktasks.metrics  # noqa: F401
import incidents.metrics  # noqa: F401
from health.facts import Facts, Rows
from health.problems import find_problems
from health.queries import Figures
from lib.metrics import summed_up


class Gauge(NamedTuple):
    """A name, what it means, and its labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


GAUGES = {
    gauge.name: gauge
    for gauge in (
        Gauge("watchclock_up", "Whether postgres, valkey and the broker answer (1) or not (0).", ("part",)),
        Gauge("watchclock_findings", "What is wrong, as /readyz says it, by part.", ("part", "severity")),
        Gauge("watchclock_takes_check_ins", "Whether the process that answers takes check-ins (1)."),
        Gauge("watchclock_clock_lag_seconds", "Now minus the newest finished tick; at rest 1 to 61."),
        Gauge("watchclock_ledger_lag_seconds", "Now minus the newest tick that was written; at rest 1 to 61."),
        Gauge("watchclock_tick_seconds", "Ticks of the last hour: wait, apply, whole.", ("part", "quantile")),
        Gauge("watchclock_tick_marked", "Check-ins that the newest finished tick marked.", ("status",)),
        Gauge("watchclock_due_environments", "Due at the newest tick and not judged yet; counted up to 10,000."),
        Gauge("watchclock_unfinished_tick_seconds", "How long ago the oldest unfinished tick was written; 0 if none."),
        Gauge("watchclock_held_tick_seconds", "How long a minute has waited for ingest nodes; 0 if none does."),
        Gauge("watchclock_undecided_ticks", "Ticks that wait for the decision about the volume of check-ins."),
        Gauge("watchclock_clock_incident", "Whether Watchclock takes itself for deaf (1)."),
        Gauge("watchclock_shards_behind", "Shards that have not come to the newest tick, by kind.", ("kind",)),
        Gauge("watchclock_watermark_age_seconds", "How far back an ingest node's watermark is.", ("node", "host")),
        Gauge("watchclock_node_silence_seconds", "Since when an ingest node was not seen.", ("node", "host")),
        Gauge("watchclock_spooled_requests", "Requests in an ingest node's spool.", ("node", "host")),
        Gauge("watchclock_dropped_nodes", "Ingest nodes that the clock no longer waits for, with a spool to store."),
        Gauge("watchclock_spool_bytes", "Size of the spool of the process that answers."),
        Gauge("watchclock_spool_bytes_max", "SPOOL_BYTES_MAX of the process that answers."),
        Gauge("watchclock_spool_disk_free_bytes", "Room on the disk of that spool."),
        Gauge("watchclock_outbox_unsent", "Notifications that are not sent yet; counted up to 10,000."),
        Gauge("watchclock_outbox_oldest_seconds", "Age of the oldest of them; 0 if there is none."),
        Gauge("watchclock_failing_channels", "Channels that are left alone since they fail; counted up to 100."),
        Gauge("watchclock_untold_failures", "Failures of channels that nobody could be notified of over another one."),
        Gauge("watchclock_waiting_check_ins", "Check-ins that are kept but not applied; up to 10,000.", ("reason",)),
        Gauge("watchclock_processing_errors_per_minute", "Processing errors of the last whole minute.", ("kind",)),
        Gauge("watchclock_queue_messages", "Messages that wait in a queue of the broker.", ("queue",)),
        Gauge("watchclock_heard_seconds", "Since when beat, or any worker, was not seen.", ("process",)),
    )
}

Sample = tuple[str, tuple[str, ...], float]


def render(facts: Facts, figures: Figures | None, sums: Mapping[str, str] | None, *, now: datetime) -> bytes:
    """Return the metrics as of `now` in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Installation(facts, figures, sums, now=now))
    return generate_latest(registry)


class _Installation(Collector):
    def __init__(self, facts: Facts, figures: Figures | None, sums: Mapping[str, str] | None, *, now: datetime) -> None:
        self.samples = [*_samples(facts, now), *(() if figures is None else _figure_samples(figures))]
        self.sums = sums

    def describe(self) -> Sequence[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for name, labels, value in self.samples:
            gauge = GAUGES[name]
            family = families.setdefault(name, GaugeMetricFamily(name, gauge.meaning, labels=gauge.labels))
            family.add_metric(labels, value)
        yield from families.values()
        if self.sums is not None:
            yield from summed_up(self.sums)


def _samples(facts: Facts, now: datetime) -> Iterator[Sample]:
    yield "watchclock_up", ("postgres",), float(facts.postgres is None)
    yield "watchclock_up", ("valkey",), float(facts.valkey is None)
    yield "watchclock_up", ("broker",), float(facts.broker is None)
    counts: dict[tuple[str, str], int] = {}
    for finding in find_problems(facts):
        key = finding.part.value, finding.severity.value
        counts[key] = counts.get(key, 0) + 1
    for labels, count in counts.items():
        yield "watchclock_findings", labels, count
    intake = facts.intake
    if intake is not None:
        yield "watchclock_takes_check_ins", (), float(intake.can_take)
        yield "watchclock_spool_bytes", (), intake.spool_bytes
        yield "watchclock_spool_bytes_max", (), intake.spool_bytes_max
        if intake.free_bytes is not None:
            yield "watchclock_spool_disk_free_bytes", (), intake.free_bytes
    for queue, count in facts.queues.items():
        yield "watchclock_queue_messages", (queue,), count
    for process, at in facts.last_seen.items():
        yield "watchclock_heard_seconds", (process,), _age(at, now)
    if facts.rows is not None:
        yield from _row_samples(facts.rows, now)


def _row_samples(rows: Rows, now: datetime) -> Iterator[Sample]:
    if rows.newest_finished_at is not None:
        yield "watchclock_clock_lag_seconds", (), _age(rows.newest_finished_at, now)
    if rows.newest is not None:
        yield "watchclock_ledger_lag_seconds", (), _age(rows.newest.at, now)
    unfinished = rows.oldest_unfinished
    yield "watchclock_unfinished_tick_seconds", (), 0 if unfinished is None else _age(unfinished.dispatched_at, now)
    held_at = rows.held_at
    is_held = held_at is not None and (rows.newest is None or held_at > rows.newest.at)
    yield "watchclock_held_tick_seconds", (), _age(held_at, now) if held_at is not None and is_held else 0
    yield "watchclock_undecided_ticks", (), rows.undecided_count
    yield "watchclock_clock_incident", (), float(rows.clock_incident is not None)
    for kind, count in rows.shards_behind.items():
        yield "watchclock_shards_behind", (kind,), count
    for node in rows.nodes:
        labels = (str(node.id), node.host)
        if node.dropped_at is None:
            yield "watchclock_watermark_age_seconds", labels, _age(node.watermark, now)
            yield "watchclock_node_silence_seconds", labels, _age(node.seen_at, now)
        yield "watchclock_spooled_requests", labels, node.spooled_count
    dropped = [node for node in rows.nodes if node.dropped_at is not None and node.spooled_count]
    yield "watchclock_dropped_nodes", (), len(dropped)
    yield "watchclock_outbox_unsent", (), rows.unsent_count
    oldest = rows.oldest_unsent_at
    yield "watchclock_outbox_oldest_seconds", (), 0 if oldest is None else _age(oldest, now)
    yield "watchclock_failing_channels", (), len(rows.failing_channels)
    yield "watchclock_untold_failures", (), len(rows.unreported_failures)
    for reason, count in rows.waiting.items():
        yield "watchclock_waiting_check_ins", (reason,), count


def _figure_samples(figures: Figures) -> Iterator[Sample]:
    for (part, quantile), seconds in figures.tick_seconds.items():
        yield "watchclock_tick_seconds", (part, f"{quantile:g}"), seconds
    for status, count in figures.newest_marked.items():
        yield "watchclock_tick_marked", (status,), count
    yield "watchclock_due_environments", (), figures.due_count
    for kind, count in figures.processing_errors.items():
        yield "watchclock_processing_errors_per_minute", (kind,), count


def _age(at: datetime, now: datetime) -> float:
    return max((now - at).total_seconds(), 0.0)
