"""One reader for all viewers of a process: polls the mark while somebody watches, and wakes all when it changes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

import django.db

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
QUIET_SECONDS = 15.0
"""After so long without an event a viewer gets a sign of life, so that proxies keep the connection."""


class Hub:
    """Polls while there are viewers. `read` returns the mark; it may wait for the database, in a thread of its own."""

    def __init__(self, read: Callable[[], str], *, poll_seconds: float = POLL_SECONDS) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._changed = asyncio.Condition()
        self._mark = ""
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._viewers

    async def marks(self, last: str, *, quiet_seconds: float = QUIET_SECONDS) -> AsyncGenerator[str, None]:
        """Yield each mark that differs from `last`, which the viewer's page has, and "" as a sign of life.

        So a viewer that was away gets one mark at once if anything has changed meanwhile.
        """
        self._viewers += 1
        if self._task is None or self._task.done():
            self._mark = ""
            self._task = asyncio.create_task(self._poll())
        seen = last
        try:
            while True:
                mark = await self._next(seen, quiet_seconds)
                yield mark
                seen = mark or seen
        finally:
            self._viewers -= 1

    async def _next(self, seen: str, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._mark not in ("", seen))
                return self._mark
        except TimeoutError:
            return ""

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._viewers:
            mark = await loop.run_in_executor(self._thread, self._look)
            if mark and mark != self._mark:
                async with self._changed:
                    self._mark = mark
                    self._changed.notify_all()
            await asyncio.sleep(self._poll_seconds)
        await loop.run_in_executor(self._thread, _close)

    def _look(self) -> str:
        """Read the mark. While the database is away there is none, and its connection is opened anew."""
        try:
            return self._read()
        except django.db.Error as error:
            logger.warning("pages are not live: %s", " ".join(str(error).split())[:200])
            django.db.connection.close()
            return ""

    async def stop(self) -> None:
        """End polling."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, _close)
        self._thread.shutdown(wait=False)


def _close() -> None:
    """Close the connection of the thread that runs this."""
    django.db.connection.close()
