"""What processes count is summed up in Valkey, and told in the form that Prometheus wants."""

import pytest
import redis
from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Histogram

from lib import metrics, valkey


@pytest.fixture
def counting(monkeypatch, engines):
    """Meters of a test, and no sums yet."""
    registry = CollectorRegistry()
    monkeypatch.setattr(metrics, "METERS", registry)
    monkeypatch.setattr(metrics, "_pushed", {})
    monkeypatch.setattr(metrics, "KEY", "watchclock:meters of a test")
    valkey.valkey.cache_clear()
    valkey.valkey().delete(metrics.KEY)
    yield registry
    valkey.valkey().delete(metrics.KEY)
    valkey.valkey.cache_clear()


def told(name):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.summed_up(metrics.stored())
        for sample in family.samples
        if sample.name.startswith(name)
    }


def test_processes_add_up_and_each_brings_only_what_is_new(counting, monkeypatch):
    sent = Counter("sent", "...", ["to"], registry=counting)
    sent.labels("a").inc(2)
    assert metrics.push() == 1
    assert metrics.push() == 0
    sent.labels("a").inc()
    metrics.push()
    assert told("sent") == {("sent_total", "a"): 3}

    monkeypatch.setattr(metrics, "_pushed", {})  # as another process, which has counted as much
    metrics.push()
    assert told("sent") == {("sent_total", "a"): 6}


def test_a_label_that_only_another_process_has_seen_is_told(counting):
    Counter("sent", "...", ["to"], registry=counting)
    valkey.valkey().hset(metrics.KEY, '["sent_total", {"to": "b"}]', "4")
    valkey.valkey().hset(metrics.KEY, '["gone_total", {}]', "1")  # of another version

    assert told("") == {("sent_total", "b"): 4}


def test_buckets_come_in_order_and_nought_before_anything_was_counted(counting):
    took = Histogram("took_seconds", "...", registry=counting, buckets=(0.5, 2, 10))
    assert set(told("took").values()) == {0}

    took.observe(1)
    metrics.push()

    [family] = metrics.summed_up(metrics.stored())
    buckets = [(sample.labels["le"], sample.value) for sample in family.samples if sample.name.endswith("_bucket")]
    assert buckets == [("0.5", 0), ("2.0", 1), ("10.0", 1), ("+Inf", 1)]
    assert told("took_seconds_sum") == {("took_seconds_sum",): 1}


def test_what_valkey_did_not_take_comes_with_the_next_push(counting, monkeypatch):
    lost = Counter("lost", "...", registry=counting)
    lost.inc(3)
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        valkey.valkey.cache_clear()
        with pytest.raises(redis.RedisError):
            metrics.push()
    valkey.valkey.cache_clear()

    metrics.push()

    assert told("lost") == {("lost_total",): 3}
