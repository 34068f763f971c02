"""The protocol between the web and its batcher: frames over a socket pair (shell)."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import cast

import msgspec

from checkins.exceptions import CheckInsError
from checkins.protocols.request import Answer, IngestRequest

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
    """State of the batcher: see `Batcher`'s properties of the same names."""

    is_direct: bool
    spooled_count: int
    spool_bytes: int
    is_refusing: bool


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """Answers on their way back: few different ones, and for each request its number and which one it gets.

    The batcher reports its state now and then, with answers or without.
    """

    different: list[Answer]
    which: list[tuple[int, int]]
    state: BatcherState | None = None


class RelayError(CheckInsError):
    """The batcher process cannot be started, or is gone."""


_encoder = msgspec.msgpack.Encoder()


request_decoder = msgspec.msgpack.Decoder(list[RawRequest])


answer_decoder = msgspec.msgpack.Decoder(Answers)


class Frames(asyncio.Protocol):
    """Cuts arriving bytes into frames, and sends the messages of one turn of the event loop as one frame."""

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
        """Handle the end of the other process's messages; this one can still send."""
        self._on_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Report that the other process is gone."""
        self._transport = None
        self._on_end()

    def send(self, value: object) -> None:
        """Send one frame; after the end it has no reader."""
        if self._transport is not None:
            frame = _encoder.encode(value)
            self._transport.write(len(frame).to_bytes(4, "big") + frame)

    def end(self) -> None:
        """Say that no more frames come."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
