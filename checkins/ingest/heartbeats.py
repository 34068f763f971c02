"""The heartbeats of a batcher: they advance its watermark when no batch does (shell)."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from checkins.ingest.reception import ReceptionClock
from checkins.ingest.threads import Threads, forget_result

BEAT_SECONDS = 1.0
"""A watermark is at most this old when there is nothing to store; the clock waits for it after each minute."""


async def send_heartbeats(
    threads: Threads, clock: ReceptionClock, *, heartbeat: Callable[[], Callable[[], None] | None]
) -> None:
    """Send a heartbeat every second, and above all right after each minute, for which the clock waits. Never returns.

    `heartbeat` returns what is to be called for it in its thread, or None while the node is not registered.
    """
    while True:
        now = clock.utcnow()
        to_minute = 60 - (now.second + now.microsecond / 1e6) + 0.01
        await asyncio.sleep(min(BEAT_SECONDS, to_minute))
        with suppress(Exception):
            call = heartbeat()
            if call is not None:
                await _stamped_while(call, threads, clock)


async def _stamped_while(call: Callable[[], None], threads: Threads, clock: ReceptionClock) -> None:
    """Make a call and stamp meanwhile: else a slow PostgreSQL would make the process look frozen."""
    calling = threads.in_beat(call)
    calling.add_done_callback(forget_result)
    while not calling.done():
        await asyncio.wait([calling], timeout=BEAT_SECONDS)
        clock.stamp()
