"""What Valkey and the broker report: which processes run, and how many messages wait (shell)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from kombu.exceptions import KombuError

from health import liveness
from health.facts import Facts, Outage

BROKER_SECONDS_MAX = 1.0


def read_engines(facts: Facts, broker: "Broker", *, before: Facts | None = None) -> Facts:
    """Return the facts with those of Valkey and the broker. Never raises; waits for each a second at most.

    `before`: the facts of the last poll, since an outage that goes on began with the first poll that found it.
    """
    before = before or facts
    try:
        liveness.check_writable(facts.now)
        facts = replace(facts, last_seen=liveness.last_seen())
    except redis.RedisError as error:
        facts = replace(facts, valkey=outage(str(error), before.valkey, facts.now))
    queues, problem = broker.count_messages()
    return replace(facts, queues=queues, broker=outage(problem, before.broker, facts.now))


def outage(error: str | None, before: Outage | None, now: datetime) -> Outage | None:
    """Return the outage that an error is part of; None without an error."""
    return None if error is None else Outage(before.since if before else now, error or "it does not answer")


class Broker:
    """A connection to the broker, whichever it is, that is opened when needed and replaced after an error."""

    def __init__(self) -> None:
        self._connection: Any = None

    def count_messages(self) -> tuple[Mapping[str, int], str | None]:
        """Return how many messages wait in each queue, or the error."""
        if self._connection is None:
            self._connection = current_app.connection_for_read(
                connect_timeout=BROKER_SECONDS_MAX,
                transport_options={
                    **settings.CELERY_BROKER_TRANSPORT_OPTIONS,
                    "socket_timeout": BROKER_SECONDS_MAX,
                    "socket_connect_timeout": BROKER_SECONDS_MAX,
                },
            )
        broker = self._connection
        away: tuple[type[Exception], ...] = (OSError, KombuError, redis.RedisError, *broker.connection_errors)
        counts: dict[str, int] = {}
        try:
            # Does nothing if it is connected. One attempt: `connect` makes another after two seconds of sleep.
            broker.ensure_connection(max_retries=0)
            for queue in settings.CELERY_TASK_QUEUES:
                with broker.channel() as channel:
                    try:
                        counts[queue.name] = channel.queue_declare(queue.name, passive=True).message_count
                    except broker.channel_errors:  # There is no such queue: with Redis, since nothing waits in it.
                        counts[queue.name] = 0
        except away as error:
            self._connection = None
            return {}, str(error)
        return counts, None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.release()
