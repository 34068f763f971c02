"""Counters and histograms of all processes, summed up in Valkey for `/metrics` (shell).

    process: observe -> memory -- push, now and then --> Valkey: one hash, a field for each sample --> summed_up

Web workers, their batchers and Celery's children are processes of their own, on one host or on many, in containers that
share no disk. So a process counts in its memory, with prometheus_client's own objects, and adds the growth since its
last `push` to the sums. Every process can then report the metrics of the whole installation, and an ended process
leaves no data of its own.

A killed process loses its counts since its last push. If Valkey is emptied, the sums begin at zero, which Prometheus
treats correctly as a restart of the counter. No other part needs the metrics, so an error here must not affect others.
"""

import json
import threading
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.metrics_core import Metric

from lib.valkey import valkey

METERS = CollectorRegistry()
"""Counters and histograms; no gauges, since all are summed up. Each app defines its own in its module `metrics`."""
KEY = "watchclock:meters"

disable_created_metrics()  # type: ignore[no-untyped-call]  # Meaningless for a sum over processes.
_pushed: dict[str, float] = {}
_pushing = threading.Lock()


def push() -> int:
    """Add what this process has counted since its last push to the sums; returns how many samples have grown.

    Raises redis.RedisError; the next push then includes the same growth.
    """
    with _pushing:
        now = {
            _field(sample.name, sample.labels): sample.value for family in METERS.collect() for sample in family.samples
        }
        grown = {field: value - _pushed.get(field, 0.0) for field, value in now.items() if value != _pushed.get(field)}
        grown = {field: growth for field, growth in grown.items() if growth}
        if grown:
            pipeline = valkey().pipeline(transaction=False)
            for field, growth in grown.items():
                pipeline.hincrbyfloat(KEY, field, growth)
            pipeline.execute()
            _pushed.update(now)
        return len(grown)


def stored() -> dict[str, str]:
    """Return the sums of all processes as they are in Valkey. Raises redis.RedisError."""
    sums: dict[str, str] = valkey().hgetall(KEY)  # type: ignore[assignment]  # its types know of futures
    return sums


def summed_up(sums: Mapping[str, str]) -> Iterator[Metric]:
    """Return the families of `METERS` with these sums. A sample without a sum is zero."""
    values = {field: float(value) for field, value in sums.items()}
    for family in METERS.collect():
        samples = {_field(sample.name, sample.labels): 0.0 for sample in family.samples}
        names = {family.name + suffix for suffix in ("_total", "_bucket", "_count", "_sum")}
        samples |= {field: value for field, value in values.items() if json.loads(field)[0] in names}
        metric = Metric(family.name, family.documentation, family.type)
        for field in sorted(samples, key=_order):
            name, labels = json.loads(field)
            metric.add_sample(name, labels, samples[field])
        yield metric


def _field(name: str, labels: dict[str, str]) -> str:
    return json.dumps([name, labels], sort_keys=True)


def _order(field: str) -> tuple[list[str], str, float]:
    """Sort samples by labels, and buckets by their bounds, as the format requires."""
    name, labels = json.loads(field)
    bound = labels.pop("le", "inf")
    return sorted(labels.values()), name, float(bound)
