"""How long the edge waits for a body: one timer for all that come in, instead of one for each (shell).

`asyncio.timeout` took a seventh of the edge's time for small bodies, nearly all of which are there at once.
"""

import asyncio
from collections.abc import Awaitable

LATE_BY = 0.1
"""By which part of its time a wait may be longer than it should."""


class Patience:
    """Ends waits of tasks of one event loop that last too long."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[object], float] = {}
        self._is_watching = False

    async def wait(self, awaited: Awaitable[None], seconds: float) -> bool:
        """Wait for something in the present task; returns whether it ended by itself, and not after these seconds."""
        task = asyncio.current_task()
        assert task is not None, "coroutines run in tasks"
        loop = asyncio.get_running_loop()
        self._until[task] = loop.time() + seconds
        if not self._is_watching:
            self._is_watching = True
            loop.call_later(seconds * LATE_BY, self._end_late, seconds * LATE_BY)
        try:
            await awaited
        except asyncio.CancelledError:
            if task in self._until or task.uncancel():  # Somebody else wants the task to end.
                raise
            return False
        finally:
            self._until.pop(task, None)
        return True

    def _end_late(self, interval: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task in [task for task, until in self._until.items() if until <= now]:
            del self._until[task]
            task.cancel()
        self._is_watching = bool(self._until)
        if self._is_watching:
            loop.call_later(interval, self._end_late, interval)
