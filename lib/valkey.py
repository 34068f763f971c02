"""A client for Valkey whose every call has a limit in seconds."""

from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

VALKEY_SECONDS_MAX = 1.0
"""How long an answer of Valkey may take. It takes a millisecond, or it is away."""


@cache
def valkey() -> "redis.Redis":
    """Return this process's client of REDIS_URL: no retries, since whoever uses it comes again by himself."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=VALKEY_SECONDS_MAX,
        socket_connect_timeout=VALKEY_SECONDS_MAX,
        retry=Retry(NoBackoff(), 0),
    )
