"""The threads beside the event loop of a batcher, each for one kind of blocking call (shell).

database   calls that wait for PostgreSQL, one after the other
disk       the spool
reading    decoding of heavy requests
beat       heartbeats, on a separate connection: a batch of some minutes must not look like a lost process
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from django.db import DatabaseError, connection

from lib.pg_errors import StatementError, is_not_now, use_connection

T = TypeVar("T")

SESSION = """
    SET lock_timeout = '2s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s';
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off
"""
"""Longer batches have already been spooled, so they must release their locks.

Plans are reused: PostgreSQL estimates that a generic plan for all days costs more than a new plan for the few days of a
batch, and would plan each statement every time. A reused plan was made while the coming days were empty, where a
sequential scan is fastest; it would scan still when the day has a million check-ins.
"""
PREPARE_AFTER = 5
"""How often a statement is planned before its plan is reused."""


class Threads:
    """Runs calls in the threads, and returns futures of the running event loop."""

    def __init__(self) -> None:
        self._database = ThreadPoolExecutor(1, thread_name_prefix="ingest-database")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="ingest-spool")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="ingest-reading")
        self._beat = ThreadPoolExecutor(1, thread_name_prefix="ingest-beat")
        self._session = threading.local()
        self.spool_lock = threading.Lock()

    def in_database(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call with the connection for batches."""
        return _run(self._database, lambda: self._with_connection(call))

    def in_beat(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call with the connection for heartbeats."""
        return _run(self._beat, lambda: self._with_connection(call))

    def on_disk(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call that uses the spool."""
        return _run(self._disk, lambda: self._with_spool(call))

    def beside_disk(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call in the spool's thread that does not use the spool."""
        return _run(self._disk, call)

    def in_reading(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Make a call that may need much CPU time."""
        return _run(self._reading, call)

    async def in_all(self, call: Callable[[], object]) -> None:
        """Make a call in each thread that logs: threads have contexts of their own."""
        await asyncio.gather(*(_run(pool, call) for pool in (self._database, self._disk, self._beat)))

    async def end_beat(self, seconds: float) -> None:
        """Close the connection for heartbeats, after a call in flight, but wait no longer than this."""
        await self._close(self._beat, seconds)
        self._beat.shutdown(wait=False)

    async def end_database(self, seconds: float) -> None:
        """Close the connection for batches, after calls that still use the spool in its thread, unless they hang."""
        await self._close(self._database, seconds)

    def shutdown(self) -> None:
        """Accept no more calls."""
        for pool in (self._database, self._disk, self._reading):
            pool.shutdown(wait=False)

    async def _close(self, pool: ThreadPoolExecutor, seconds: float) -> None:
        closing = _run(pool, lambda: connection.close())
        closing.add_done_callback(forget_result)
        await asyncio.wait([closing], timeout=seconds)

    def _with_connection(self, call: Callable[[], T]) -> T:
        """Make a call with a connection that works and has our bounds; throw the connection away if it does not."""
        try:
            use_connection()
            if getattr(self._session, "connection", None) is not connection.connection:
                with connection.cursor() as cursor:
                    cursor.execute(SESSION)
                # The statements of a batch are few and always the same: planned once, not a thousand times a minute,
                # which took a quarter of the database's time and more. Only here, where statements go by unique keys:
                # a plan that was kept for an empty table ran for eight minutes, and on, when the table was full. A
                # pooler in between has to know prepared statements, as PgBouncer does since 1.21.
                connection.connection.prepare_threshold = PREPARE_AFTER
                self._session.connection = connection.connection
            return call()
        except BaseException as error:
            if is_not_now(error):
                with suppress(Exception):
                    connection.close()
            elif isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", None) is None:
                # In other threads it cannot be checked any more whether the connection works.
                raise StatementError(str(error)) from error
            raise

    def _with_spool(self, call: Callable[[], T]) -> T:
        with self.spool_lock:
            return call()


def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> "asyncio.Future[T]":
    return asyncio.get_running_loop().run_in_executor(pool, call)


def forget_result(future: "asyncio.Future[Any]") -> None:
    """Ignore the result of a call that is not awaited any more; asyncio would log it as an error.

    `Node.settle` decides about a batch that was given up; a registration is tried again.
    """
    if not future.cancelled():
        future.exception()
