"""The lookout of a web process: looks every few seconds at all that Watchclock needs, and remembers it (shell).

    every 5 s, in a thread of its own: rows, Valkey, broker, disk -> Facts -> facts(): /readyz, /metrics, the banner

Whoever asks gets what was seen last, at once: neither a page nor a load balancer's question waits for an engine that
does not answer, and no flood of questions becomes a load. The thread has a database connection of its own, which only
reads, with short timeouts. If a look does not come back, that is a fact as well.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import django.db
import redis
from celery import current_app
from django.conf import settings
from django.db import connection
from kombu.exceptions import KombuError

from health import liveness
from health.facts import Facts, Intake, Outage, Rows
from health.queries import Figures, read_figures, read_rows
from incidents.notifications.addressees import why_nobody
from lib.metrics import stored
from lib.migrations import missing_migrations

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 5.0
STALE_SECONDS = 20.0
"""After so long without a look, whatever is being asked does not answer."""
METRICS_SECONDS_MAX = 5.0
"""How long the metrics wait for the database. Prometheus gives up after ten seconds."""
BROKER_SECONDS_MAX = 1.0
SESSION = """
    SET statement_timeout = '2s'; SET lock_timeout = '1s'; SET default_transaction_read_only = on;
    SET application_name = 'watchclock lookout'
"""


class Lookout:
    """Looks at everything; `intake` says how this process takes check-ins, and is asked whenever the facts are."""

    def __init__(self, *, intake: Callable[[], Intake], utcnow: Callable[[], datetime]) -> None:
        self._intake = intake
        self._utcnow = utcnow
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lookout")
        self._valkey_thread = ThreadPoolExecutor(1, thread_name_prefix="lookout-valkey")
        self._since = utcnow()
        self._seen: Facts | None = None
        self._seen_at = 0.0
        self._started_at = time.monotonic()
        self._session: object = None
        self._broker: Any = None
        self._missing_migrations: tuple[str, ...] | None = None

    async def watch(self) -> None:
        """Look now and every few seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Let the thread end; it may still be waiting for an engine."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        self._valkey_thread.shutdown(wait=False)

    def facts(self) -> Facts | None:
        """Return what was seen last, with what this process knows of itself now. None before the first look."""
        seen, age = self._seen, time.monotonic() - self._seen_at
        if seen is None:
            if time.monotonic() - self._started_at < STALE_SECONDS:
                return None
            seen, age = Facts(now=self._since, watched_since=self._since), STALE_SECONDS + 1
        if age > STALE_SECONDS:
            seen = replace(seen, rows=None, postgres=seen.postgres or Outage(seen.now, "it does not answer"))
        return replace(seen, intake=self._intake())

    async def figures(self, now: datetime) -> Figures | None:
        """Return what only the metrics want to know, or None if the database does not tell in time."""
        asking = asyncio.get_running_loop().run_in_executor(self._thread, self._figures, now)
        done, _ = await asyncio.wait([asking], timeout=METRICS_SECONDS_MAX)
        return asking.result() if done else None

    async def sums(self) -> Mapping[str, str] | None:
        """Return what all processes have counted, or None if Valkey is away. Does not wait for a look at PostgreSQL."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._valkey_thread, stored)
        except redis.RedisError:
            return None

    # --- in the thread

    def look(self) -> None:
        """Look at everything once. Never raises: what cannot be looked at is a fact."""
        now = self._utcnow()
        before = self._seen or Facts(now=now, watched_since=self._since)
        facts = Facts(now=now, watched_since=self._since, why_nobody=why_nobody())
        rows, outage = self._ask_postgres(lambda: self._read(now))
        facts = replace(facts, rows=rows, postgres=_since(outage, before.postgres, now))
        if self._missing_migrations:
            facts = replace(facts, missing_migrations=self._missing_migrations)
        try:
            liveness.check_writable(now)
            heard: dict[str, datetime] = {}
            for (kind, _), at in liveness.last_heard().items():
                heard[kind.value] = max(at, heard.get(kind.value, at))
            facts = replace(facts, heard=heard)
        except redis.RedisError as error:
            facts = replace(facts, valkey=_since(str(error), before.valkey, now))
        queues, outage = self._ask_broker()
        facts = replace(facts, queues=queues, broker=_since(outage, before.broker, now))
        self._seen, self._seen_at = facts, time.monotonic()

    def _read(self, now: datetime) -> Rows | None:
        if self._missing_migrations is None or self._missing_migrations:
            self._missing_migrations = tuple(missing_migrations(connection))
        return None if self._missing_migrations else read_rows(now)

    def _figures(self, now: datetime) -> Figures | None:
        if self._missing_migrations is None or self._missing_migrations:
            return None
        return self._ask_postgres(lambda: read_figures(now))[0]

    def _ask_postgres(self, call: Callable[[], T]) -> tuple[T | None, str | None]:
        """Return the result of a call, or what is wrong. A connection that has broken is replaced once."""
        error = ""
        for _ in range(2):
            try:
                connection.ensure_connection()
                if self._session is not connection.connection:
                    with connection.cursor() as cursor:
                        cursor.execute(SESSION)
                    self._session = connection.connection
                return call(), None
            except django.db.Error as problem:
                error = str(problem).strip().partition("\n")[0] or type(problem).__name__
                connection.close()
        return None, error

    def _ask_broker(self) -> tuple[dict[str, int], str | None]:
        """Return how many messages wait in each queue, whatever broker it is, or what is wrong."""
        if self._broker is None:
            self._broker = current_app.connection_for_read(
                connect_timeout=BROKER_SECONDS_MAX,
                transport_options={
                    **settings.CELERY_BROKER_TRANSPORT_OPTIONS,
                    "socket_timeout": BROKER_SECONDS_MAX,
                    "socket_connect_timeout": BROKER_SECONDS_MAX,
                },
            )
        broker = self._broker
        away: tuple[type[Exception], ...] = (OSError, KombuError, redis.RedisError, *broker.connection_errors)
        counts: dict[str, int] = {}
        try:
            broker.connect()  # Does nothing if it is.
            for queue in settings.CELERY_TASK_QUEUES:
                with broker.channel() as channel:
                    try:
                        counts[queue.name] = channel.queue_declare(queue.name, passive=True).message_count
                    except broker.channel_errors:  # There is no such queue: with Redis, since nothing waits in it.
                        counts[queue.name] = 0
        except away as error:
            self._broker = None
            return {}, str(error)
        return counts, None

    def _close(self) -> None:
        connection.close()
        if self._broker is not None:
            self._broker.release()


running: Lookout | None = None
"""The lookout of this process, while it serves; None in workers and commands."""


def free_bytes() -> int | None:
    """Return the room on the disk of the spool; None if its directory cannot be written to."""
    try:
        return (
            shutil.disk_usage(settings.SPOOL_DIRECTORY).free if os.access(settings.SPOOL_DIRECTORY, os.W_OK) else None
        )
    except OSError:
        return None


def _since(error: str | None, before: Outage | None, now: datetime) -> Outage | None:
    return None if error is None else Outage(before.since if before else now, error or "it does not answer")
