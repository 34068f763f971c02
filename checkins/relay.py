"""Two processes for ingest: the web reads requests and writes answers, the batcher beside it stores them (shell).

    web process: edge --> Relay ==(socket pair)==> serve_batcher --> Batcher: batcher process

They share no interpreter lock. In one process the server's thread, the event loop and the batch's thread waited for
each other: moved apart, and nothing else changed, they stored a sixth more check-ins a second.

Both directions carry frames: four bytes of length, then msgpack. Everything that came up in one turn of the event loop
is one frame. The batcher stamps requests when it gets them, since its watermark has to cover them from then on.
Neither outlives the other: the web ends if the batcher is gone, and the batcher stores what it has, takes leave of the
clock and ends if the web is gone. Whoever watches over the web starts both again.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Protocol, cast

import msgspec

from checkins.batching import Batcher
from checkins.protocols.request import Answer, IngestRequest
from checkins.room import Room

logger = logging.getLogger(__name__)

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
STATE_SECONDS = 1.0
"""How often the batcher says how it is."""
SILENT_SECONDS = 15.0
"""After so long without a word the batcher hangs."""
BUFFER_BYTES = 4 << 20
WHO = "?"
"""In the place of a method: a question who sends a request, of which the headers name the method here."""
WHO_ANSWERS = {
    True: Answer(HTTPStatus.OK),
    False: Answer(HTTPStatus.NOT_FOUND),
    None: Answer(HTTPStatus.SERVICE_UNAVAILABLE),
}


class RawRequest(msgspec.Struct, array_like=True, gc=False):
    """A request on its way: an `IngestRequest` that has no reception time yet."""

    number: int
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    body_bytes: int


def as_request(raw: RawRequest, received_at: datetime) -> IngestRequest:
    """Return the request, received at that time."""
    return IngestRequest(
        method=raw.method,
        path=raw.path,
        query=raw.query,
        headers=raw.headers,
        body=raw.body,
        body_bytes=raw.body_bytes,
        received_at=received_at,
    )


class BatcherState(msgspec.Struct, frozen=True, array_like=True):
    """How the batcher takes requests: see `Batcher`'s properties of the same names."""

    is_direct: bool
    spooled_count: int
    spool_bytes: int
    is_refusing: bool


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """Answers on their way back: few different ones, and for each request its number and which one it gets.

    Now and then the batcher says how it is, with answers or without.
    """

    different: list[Answer]
    which: list[tuple[int, int]]
    state: BatcherState | None = None


class Store(Protocol):
    """Where the edge has its requests stored. `room` is for the bodies that it holds at the moment."""

    room: Room

    def submit(self, request: RawRequest) -> Awaitable[Answer]:
        """Return the answer to a request when it is durable."""

    def knows(self, request: RawRequest) -> Awaitable[bool | None]:
        """Tell whether a request's sender is known, by all but its body; None if nobody can say."""


class RelayError(Exception):
    """The batcher process cannot be started, or is gone."""


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(list[RawRequest])
_answers = msgspec.msgpack.Decoder(Answers)


class Frames(asyncio.Protocol):
    """Cuts what arrives into frames, and sends what is said in one turn of the event loop as one frame."""

    def __init__(self, on_frame: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so.

    def data_received(self, data: bytes) -> None:
        """Hand over the frames that are complete."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            end = at + 4 + int.from_bytes(buffer[at : at + 4], "big")
            if len(buffer) < end:
                break
            self._on_frame(bytes(buffer[at + 4 : end]))
            at = end
        del buffer[:at]

    def eof_received(self) -> bool:
        """Tell that the other process says no more; what this one still has to say can be sent."""
        self._on_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Tell that the other process is gone."""
        self._transport = None
        self._on_end()

    def send(self, value: object) -> None:
        """Send one frame; nobody is there any more to read it after the end."""
        if self._transport is not None:
            frame = _encoder.encode(value)
            self._transport.write(len(frame).to_bytes(4, "big") + frame)

    def end(self) -> None:
        """Say that no more frames come."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()


class Relay:
    """The web's side: has requests stored by the batcher process, and gives back its answers."""

    def __init__(self, *, held_bytes_max: int) -> None:
        self.room = Room(held_bytes_max)
        self._frames = Frames(self._take_frame, self._take_end)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._outgoing: list[RawRequest] = []
        self._number = 0
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._is_serving = False
        self.state = BatcherState(is_direct=True, spooled_count=0, spool_bytes=0, is_refusing=False)
        self._state_at = time.monotonic()

    async def start(self) -> None:
        """Start the batcher process, and return when it takes requests. Raises RelayError."""
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it only forks, and the command is ours
                [sys.executable, "-m", "project.batcher", str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        ours.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self._frames, sock=ours)
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._ready
        except TimeoutError:
            self._process.kill()
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
            assert self._process is not None, "only what was started is stopped"
            self._process.kill()
        if self._process is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

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
        answers = _answers.decode(frame)
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


async def serve_batcher(connection: socket.socket, batcher: Batcher) -> None:
    """Store what comes over the connection with the batcher until its other end is closed, then stop the batcher."""
    gone = asyncio.Event()
    ready: list[tuple[int, Answer]] = []
    questions: set[asyncio.Future[None]] = set()

    def take_frame(frame: bytes) -> None:
        at = batcher.stamp()
        for raw in _requests.decode(frame):
            request = as_request(raw, at)
            if raw.method == WHO:
                asking = asyncio.ensure_future(answer_who(raw.number, request))
                questions.add(asking)
                asking.add_done_callback(questions.discard)
            else:
                batcher.enqueue(request, partial(take_answer, raw.number))

    async def answer_who(number: int, request: IngestRequest) -> None:
        method = request.headers[WHO]
        take_answer(number, WHO_ANSWERS[await batcher.knows(msgspec.structs.replace(request, method=method))])

    def take_answer(number: int, answer: Answer) -> None:
        if not ready:
            loop.call_soon(flush)
        ready.append((number, answer))

    def flush() -> None:
        if not ready:
            return
        places: dict[int, int] = {}
        different: list[Answer] = []
        which = []
        for number, answer in ready:
            place = places.get(id(answer))
            if place is None:
                place = places[id(answer)] = len(different)
                different.append(answer)
            which.append((number, place))
        frames.send(Answers(different, which))
        ready.clear()

    loop = asyncio.get_running_loop()
    frames = Frames(take_frame, gone.set)
    connection.setblocking(False)
    await loop.create_connection(lambda: frames, sock=connection)
    try:
        await batcher.start()
    except Exception as error:  # noqa: BLE001 - the web tells it and does not start
        frames.send(str(error) or repr(error))
        await gone.wait()
        return
    frames.send(None)
    while not gone.is_set():
        state = BatcherState(batcher.is_direct, batcher.spooled_count, batcher.spool_bytes, batcher.is_refusing)
        frames.send(Answers([], [], state))
        with suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), STATE_SECONDS)
    await batcher.stop()
    flush()
