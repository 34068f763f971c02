"""Beat and workers say that they are there."""

import pytest
from django.conf import settings

from health.liveness import KEY, Kind, last_heard, say_alive
from lib import valkey
from tests.factories import NOW


@pytest.fixture(autouse=True)
def nobody_was_heard(engines):
    valkey.valkey.cache_clear()
    valkey.valkey().delete(KEY)
    yield
    valkey.valkey.cache_clear()
    valkey.valkey().delete(KEY)


def test_each_kind_is_heard_of_by_host():
    say_alive(Kind.BEAT, NOW, host="a")
    say_alive(Kind.WORKER, NOW, host="b")
    say_alive(Kind.WORKER, NOW, host="c")

    assert last_heard() == {(Kind.BEAT, "a"): NOW, (Kind.WORKER, "b"): NOW, (Kind.WORKER, "c"): NOW}


def test_nobody_fails_for_not_being_heard(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        valkey.valkey.cache_clear()
        say_alive(Kind.BEAT, NOW)
    valkey.valkey.cache_clear()

    assert last_heard() == {}
