"""A client for Valkey with a time limit for every call."""

from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

VALKEY_SECONDS_MAX = 1.0
"""The longest wait for an answer. Valkey answers within a millisecond, or it is down."""


@cache
def valkey() -> "redis.Redis":
    """Return this process's client of REDIS_URL: no retries, since all callers repeat their calls."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=VALKEY_SECONDS_MAX,
        socket_connect_timeout=VALKEY_SECONDS_MAX,
        retry=Retry(NoBackoff(), 0),
    )
