"""Beat and workers say that they are there, so that "no tick" can be told from "nobody works" (shell).

Each has a field in one hash in Valkey with the instant at which it last said so. It is a hint for people: whether
anything is wrong at all is in the ledger. So it does not matter that Valkey may lose it.
"""

import socket
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

import redis

from lib.valkey import valkey

KEY = "watchclock:alive"
WRITABLE_KEY = "watchclock:writable"
SAY_SECONDS = 10.0
"""How often a worker says so. Beat does whenever it has sent something, which is every 20 seconds and more often."""
FORGET_SECONDS = 86_400
"""What has been silent for a day does not come back under the same name."""


class Kind(StrEnum):
    """Who says so."""

    BEAT = "beat"
    WORKER = "worker"
    DELIVERY = "delivery"


def say_alive(kind: Kind, now: datetime, *, host: str | None = None) -> None:
    """Say that a process of this kind does its work on this host. Does nothing if Valkey is away: Celery says that."""
    with suppress(redis.RedisError):
        pipeline = valkey().pipeline(transaction=False)
        pipeline.hset(KEY, f"{kind.value}@{host or socket.gethostname()}", now.isoformat())
        pipeline.expire(KEY, FORGET_SECONDS)
        pipeline.execute()


def check_writable(now: datetime) -> None:
    """Write to Valkey, which answers questions also when it has no memory left. Raises redis.RedisError."""
    valkey().set(WRITABLE_KEY, now.isoformat(), ex=60)


def last_heard() -> dict[tuple[Kind, str], datetime]:
    """Return when each was last heard of, by kind and host. Raises redis.RedisError."""
    heard: dict[tuple[Kind, str], datetime] = {}
    stored: dict[str, str] = valkey().hgetall(KEY)  # type: ignore[assignment]  # its types know of futures
    for field, at in stored.items():
        kind, _, host = field.partition("@")
        heard[Kind(kind), host] = datetime.fromisoformat(at)
    return heard
