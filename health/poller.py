"""The poller of a web process: reads every few seconds all that Watchclock needs, and remembers it (shell).

    every 5 s, in a thread of its own: rows, Valkey, broker, disk -> Facts -> facts(): /readyz, /metrics, the banner

Readers get the newest facts at once: neither a page nor a load balancer's probe waits for an engine that does not
answer, and no flood of requests becomes a load. The thread has a database connection of its own, which only reads, with
short timeouts. If a poll does not return, that is a fact as well.
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
from typing import TypeVar

import django.db
import redis
from django.conf import settings
from django.db import connection

from health.engines import Broker, outage, read_engines
from health.facts import Facts, Intake, Outage, Rows
from health.queries import Figures, read_figures, read_rows
from incidents.notifications.addressees import why_nobody
from incidents.notifications.previewing import ALL_CAUGHT
from incidents.notifications.previews import find_uncaught
from lib.metrics import stored
from lib.migrations import missing_migrations

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 5.0
STALE_SECONDS = 20.0
"""After so long without a poll, PostgreSQL does not answer."""
LOOKED_AT_EVERY_SECONDS = 60.0
"""How often the routes are compared with the monitors: that takes longer than all else (`previews.find_uncaught`)."""
METRICS_SECONDS_MAX = 5.0
"""How long the metrics wait for the database. Prometheus gives up after ten seconds."""
SESSION = """
    SET statement_timeout = '2s'; SET lock_timeout = '1s'; SET default_transaction_read_only = on;
    SET application_name = 'watchclock poller'
"""


class Poller:
    """Polls everything; `intake` returns how this process receives check-ins, and is called whenever the facts are."""

    def __init__(self, *, intake: Callable[[], Intake], utcnow: Callable[[], datetime]) -> None:
        self._intake = intake
        self._utcnow = utcnow
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poller")
        self._valkey_thread = ThreadPoolExecutor(1, thread_name_prefix="poller-valkey")
        self._since = utcnow()
        self._newest: Facts | None = None
        self._polled_at = 0.0
        self._started_at = time.monotonic()
        self._session: object = None
        self._broker = Broker()
        self._missing_migrations: tuple[str, ...] | None = None
        self._uncaught = ALL_CAUGHT
        self._looked_at: float | None = None

    async def run(self) -> None:
        """Poll now and every few seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self.poll)
            await asyncio.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Let the thread end; it may still be waiting for an engine."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        self._valkey_thread.shutdown(wait=False)

    def facts(self) -> Facts | None:
        """Return the facts of the newest poll, with the present intake of this process. None before the first poll."""
        newest, age = self._newest, time.monotonic() - self._polled_at
        if newest is None:
            if time.monotonic() - self._started_at < STALE_SECONDS:
                return None
            newest, age = Facts(now=self._since, watched_since=self._since), STALE_SECONDS + 1
        if age > STALE_SECONDS:
            newest = replace(newest, rows=None, postgres=newest.postgres or Outage(newest.now, "it does not answer"))
        return replace(newest, intake=self._intake())

    async def figures(self, now: datetime) -> Figures | None:
        """Return what only the metrics need, or None if the database does not answer in time."""
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._figures, now)
        done, _ = await asyncio.wait([reading], timeout=METRICS_SECONDS_MAX)
        return reading.result() if done else None

    async def sums(self) -> Mapping[str, str] | None:
        """Return what all processes have counted, or None if Valkey is away. Does not wait for a poll of PostgreSQL."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._valkey_thread, stored)
        except redis.RedisError:
            return None

    # --- in the thread

    def poll(self) -> None:
        """Read everything once. Never raises: what cannot be read is a fact."""
        now = self._utcnow()
        before = self._newest or Facts(now=now, watched_since=self._since)
        rows, problem = self._ask_postgres(lambda: self._read(now))
        facts = Facts(
            now=now,
            watched_since=self._since,
            rows=rows,
            postgres=outage(problem, before.postgres, now),
            missing_migrations=self._missing_migrations or (),
            why_nobody=why_nobody(),
            uncaught=self._uncaught,
        )
        self._newest, self._polled_at = read_engines(facts, self._broker, before=before), time.monotonic()

    def _read(self, now: datetime) -> Rows | None:
        if self._missing_migrations is None or self._missing_migrations:
            self._missing_migrations = tuple(missing_migrations(connection))
        if self._missing_migrations:
            return None
        self._look_at_routes()
        return read_rows(now)

    def _look_at_routes(self) -> None:
        """Find the monitors that no route catches, now and then."""
        at = time.monotonic()
        if self._looked_at is not None and at - self._looked_at < LOOKED_AT_EVERY_SECONDS:
            return
        self._looked_at = at
        try:
            self._uncaught = find_uncaught()
        except django.db.Error as problem:  # It may be too slow once; if PostgreSQL is away, what follows fails too.
            logger.warning("the routes could not be compared with the monitors: %s", problem)

    def _figures(self, now: datetime) -> Figures | None:
        if self._missing_migrations is None or self._missing_migrations:
            return None
        return self._ask_postgres(lambda: read_figures(now))[0]

    def _ask_postgres(self, call: Callable[[], T]) -> tuple[T | None, str | None]:
        """Return the result of a call, or the error. A connection that has broken is replaced once."""
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

    def _close(self) -> None:
        connection.close()
        self._broker.close()


running: Poller | None = None
"""The poller of this process, while it serves; None in workers and commands."""


def free_bytes() -> int | None:
    """Return the room on the disk of the spool; None if its directory cannot be written to."""
    try:
        return (
            shutil.disk_usage(settings.SPOOL_DIRECTORY).free if os.access(settings.SPOOL_DIRECTORY, os.W_OK) else None
        )
    except OSError:
        return None
