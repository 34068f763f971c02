"""Two processes for ingest: the web reads requests and writes answers, the batcher beside it stores them (shell).

    web process: edge --> Relay ==(socket pair)==> serve_batcher --> Batcher: batcher process

They share no interpreter lock. In one process the server's thread, the event loop and the batch's thread waited for
each other: moved apart, and nothing else changed, they stored a sixth more check-ins a second.

Both directions carry frames: four bytes of length, then msgpack. Everything that came up in one turn of the event loop
is one frame. The batcher stamps requests when it gets them, since its watermark has to cover them from then on.
Neither outlives the other: the web ends if the batcher is gone, and the batcher stores what it has, deregisters from
the clock and ends if the web is gone. Whoever watches over the web starts both again.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Protocol

import msgspec

from checkins.ingest.patience import Patience
from checkins.ingest.process import BatcherProcess
from checkins.ingest.room import Room
from checkins.ingest.wire import WHO, BatcherState, Frames, RawRequest, RelayError, answer_decoder
from checkins.protocols.request import Answer

logger = logging.getLogger(__name__)

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
SILENT_SECONDS = 15.0
"""After so long without a word the batcher hangs."""


class Store(Protocol):
    """Where the edge has its requests stored. `room` is for the bodies that it holds, `patience` for those to come."""

    room: Room
    patience: Patience

    def submit(self, request: RawRequest) -> Awaitable[Answer]:
        """Return the answer to a request when it is durable."""

    def knows(self, request: RawRequest) -> Awaitable[bool | None]:
        """Return whether a request's sender is known, by all but its body; None if nobody can know."""


class Relay:
    """The web's side: has requests stored by the batcher process, and gives back its answers."""

    def __init__(self, batcher: BatcherProcess, *, held_bytes_max: int) -> None:
        self.room = Room(held_bytes_max)
        self.patience = Patience()
        self._frames = Frames(self._take_frame, self._take_end)
        self._batcher = batcher
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._outgoing: list[RawRequest] = []
        self._number = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._is_serving = False
        self.state = BatcherState(is_direct=True, spooled_count=0, spool_bytes=0, is_refusing=False)
        self._state_at = time.monotonic()

    async def start(self) -> None:
        """Connect to the batcher process, and return when it takes requests. Raises RelayError."""
        self._batcher.connection.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self._frames, sock=self._batcher.connection)
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._ready
        except TimeoutError:
            self._batcher.process.kill()
            raise RelayError("the process that stores check-ins does not start") from None

    def submit(self, request: RawRequest) -> "asyncio.Future[Answer]":
        """Number a request, send it, and return what will be its answer when it is durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._number += 1
        self._waiting[self._number] = future
        if not self._outgoing:
            loop.call_soon(self._flush)
        request.number = self._number
        self._outgoing.append(request)
        return future

    async def knows(self, request: RawRequest) -> bool | None:
        """Ask the batcher whether it knows who sends this."""
        answer = await self.submit(
            RawRequest(0, WHO, request.path, request.query, {**request.headers, WHO: request.method}, b"", 0)
        )
        return {HTTPStatus.OK: True, HTTPStatus.NOT_FOUND: False}.get(HTTPStatus(answer.status))

    async def stop(self) -> None:
        """Let the batcher store and answer everything, and end."""
        self._is_serving = False
        self._flush()
        self._frames.end()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._ended.wait()
        except TimeoutError:
            logger.error("the process that stores check-ins does not end; killing it")
            self._batcher.process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._batcher.process.join)

    @property
    def is_silent(self) -> bool:
        """Whether the batcher has not said for too long how it is. `state` is what it said last."""
        return time.monotonic() - self._state_at > SILENT_SECONDS

    def _flush(self) -> None:
        if self._outgoing:
            self._frames.send(self._outgoing)
            self._outgoing = []

    def _take_frame(self, frame: bytes) -> None:
        if not self._ready.done():
            error = msgspec.msgpack.decode(frame)
            if error is None:
                self._is_serving = True
                self._ready.set_result(None)
            else:
                self._ready.set_exception(RelayError(error))
            return
        answers = answer_decoder.decode(frame)
        if answers.state is not None:
            self.state, self._state_at = answers.state, time.monotonic()
        for number, which in answers.which:
            future = self._waiting.pop(number)
            if not future.done():  # Its client may be gone.
                future.set_result(answers.different[which])

    def _take_end(self) -> None:
        self._ended.set()
        if not self._ready.done():
            self._ready.set_exception(RelayError("the process that stores check-ins ended while it started"))
        elif self._is_serving:
            logger.critical("the process that stores check-ins is gone; this one ends too, to be started again with it")
            os._exit(1)


# --- the batcher's side ---------------------------------------------------------------------------------------------
