"""Kombu's transport for Redis and Valkey, but for messages that cannot be read: these are dropped with a line (shell).

Kombu parses what it takes from a queue outside of any guard, so that one entry which nobody can read ended a worker's
main process, and the next one, and so on. Nothing depends on a message (P3): work is found in rows.
Source: `kombu.transport.redis.Channel._brpop_read`, version 5.7.
"""

import logging
from queue import Empty
from typing import Any

import kombu.transport
from kombu.transport import redis

logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, RecursionError, KeyError, TypeError, AttributeError)
"""What parsing raises: no JSON, nested too deep, no field of a message, a field of another type."""


class Channel(redis.Channel):
    """Drops what it cannot read."""

    def _brpop_read(self, **options: Any) -> Any:
        delivered = set(self.qos._delivered or ())
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # kombu has no types
        except UNREADABLE as error:
            for tag in set(self.qos._delivered or ()) - delivered:
                self.qos.reject(tag, requeue=False)  # Otherwise it would come again.
            _report(error)
            raise Empty from None

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)  # type: ignore[misc]
        except UNREADABLE as error:
            _report(error)
            raise Empty from None


class Transport(redis.Transport):
    """The transport of such channels."""

    Channel = Channel


def _report(error: Exception) -> None:
    logger.warning("a message of the broker cannot be read, and is dropped: %s: %.200s", type(error).__name__, error)


def register() -> None:
    """Have kombu use this transport for redis:// and rediss:// addresses."""
    for scheme in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[scheme] = "project.broker:Transport"
