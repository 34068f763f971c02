"""Beat and workers mark themselves as alive, which distinguishes "no tick" from "nothing runs" (shell).

Each has a field in one hash in Valkey with the instant of its newest mark. It is a hint for people: the ledger shows
whether anything is wrong at all. So Valkey may lose it.
"""

import socket
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

import redis

from lib.valkey import valkey

KEY = "watchclock:alive"
WRITABLE_KEY = "watchclock:writable"
MARK_SECONDS = 10.0
"""How often a worker marks itself. Beat does whenever it has sent something: every 20 seconds and more often."""
FORGET_SECONDS = 86_400
"""A process that was silent for a day does not come back under the same name."""


class Kind(StrEnum):
    """The kinds of processes."""

    BEAT = "beat"
    WORKER = "worker"
    DELIVERY = "delivery"


def mark_alive(kind: Kind, now: datetime, *, host: str | None = None) -> None:
    """Record that a process of this kind works on this host. Does nothing if Valkey is away: Celery logs that."""
    with suppress(redis.RedisError):
        pipeline = valkey().pipeline(transaction=False)
        pipeline.hset(KEY, f"{kind.value}@{host or socket.gethostname()}", now.isoformat())
        pipeline.expire(KEY, FORGET_SECONDS)
        pipeline.execute()


def check_writable(now: datetime) -> None:
    """Write to Valkey, which still answers reads when it has no memory left. Raises redis.RedisError."""
    valkey().set(WRITABLE_KEY, now.isoformat(), ex=60)


def last_seen() -> dict[str, datetime]:
    """Return when each kind of process was last seen on any host. Raises redis.RedisError."""
    seen: dict[str, datetime] = {}
    stored: dict[str, str] = valkey().hgetall(KEY)  # type: ignore[assignment]  # its types know of futures
    for field, text in stored.items():
        kind, at = field.partition("@")[0], datetime.fromisoformat(text)
        seen[kind] = max(at, seen.get(kind, at))
    return seen
