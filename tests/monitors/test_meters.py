"""What processes count is summed up in Valkey, and told in the form that Prometheus wants."""

import pytest
import redis
from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Histogram

from monitors import meters


@pytest.fixture
def counting(monkeypatch):
    """Meters of a test, and no sums yet."""
    registry = CollectorRegistry()
    monkeypatch.setattr(meters, "METERS", registry)
    monkeypatch.setattr(meters, "_pushed", {})
    monkeypatch.setattr(meters, "KEY", "watchclock:meters of a test")
    meters.valkey.cache_clear()
    meters.valkey().delete(meters.KEY)
    yield registry
    meters.valkey().delete(meters.KEY)
    meters.valkey.cache_clear()


def told(name):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in meters.summed_up(meters.stored())
        for sample in family.samples
        if sample.name.startswith(name)
    }


def test_processes_add_up_and_each_brings_only_what_is_new(counting, monkeypatch):
    sent = Counter("sent", "...", ["to"], registry=counting)
    sent.labels("a").inc(2)
    assert meters.push() == 1
    assert meters.push() == 0
    sent.labels("a").inc()
    meters.push()
    assert told("sent") == {("sent_total", "a"): 3}

    monkeypatch.setattr(meters, "_pushed", {})  # as another process, which has counted as much
    meters.push()
    assert told("sent") == {("sent_total", "a"): 6}


def test_a_label_that_only_another_process_has_seen_is_told(counting):
    Counter("sent", "...", ["to"], registry=counting)
    meters.valkey().hset(meters.KEY, '["sent_total", {"to": "b"}]', "4")
    meters.valkey().hset(meters.KEY, '["gone_total", {}]', "1")  # of another version

    assert told("") == {("sent_total", "b"): 4}


def test_buckets_come_in_order_and_nought_before_anything_was_counted(counting):
    took = Histogram("took_seconds", "...", registry=counting, buckets=(0.5, 2, 10))
    assert set(told("took").values()) == {0}

    took.observe(1)
    meters.push()

    [family] = meters.summed_up(meters.stored())
    buckets = [(sample.labels["le"], sample.value) for sample in family.samples if sample.name.endswith("_bucket")]
    assert buckets == [("0.5", 0), ("2.0", 1), ("10.0", 1), ("+Inf", 1)]
    assert told("took_seconds_sum") == {("took_seconds_sum",): 1}


def test_what_valkey_did_not_take_comes_with_the_next_push(counting, monkeypatch):
    lost = Counter("lost", "...", registry=counting)
    lost.inc(3)
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        meters.valkey.cache_clear()
        with pytest.raises(redis.RedisError):
            meters.push()
    meters.valkey.cache_clear()

    meters.push()

    assert told("lost") == {("lost_total",): 3}
