"""Beat and workers mark themselves as alive."""

from datetime import timedelta

import pytest
from django.conf import settings

from health.liveness import KEY, Kind, last_seen, mark_alive
from lib import valkey
from tests.factories import NOW


@pytest.fixture(autouse=True)
def nothing_was_seen(engines):
    valkey.valkey.cache_clear()
    valkey.valkey().delete(KEY)
    yield
    valkey.valkey.cache_clear()
    valkey.valkey().delete(KEY)


def test_a_kind_was_seen_when_its_newest_mark_was_made_on_whatever_host():
    mark_alive(Kind.BEAT, NOW, host="a")
    mark_alive(Kind.WORKER, NOW, host="b")
    mark_alive(Kind.WORKER, NOW - timedelta(minutes=1), host="c")

    assert last_seen() == {"beat": NOW, "worker": NOW}


def test_a_process_does_not_fail_because_its_mark_cannot_be_stored(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        valkey.valkey.cache_clear()
        mark_alive(Kind.BEAT, NOW)
    valkey.valkey.cache_clear()

    assert last_seen() == {}
