"""The batcher's side of the relay: requests in, answers out, and how the batcher is (shell)."""

import asyncio
import socket
from contextlib import suppress
from functools import partial

import msgspec

from checkins.ingest.batcher import Batcher
from checkins.ingest.wire import WHO, WHO_ANSWERS, Answers, BatcherState, Frames, as_request, request_decoder
from checkins.protocols.request import Answer, IngestRequest

STATE_SECONDS = 1.0
"""How often the batcher says how it is."""


async def serve_batcher(connection: socket.socket, batcher: Batcher) -> None:
    """Store what comes over the connection with the batcher until its other end is closed, then stop the batcher."""
    gone = asyncio.Event()
    ready: list[tuple[int, Answer]] = []
    questions: set[asyncio.Future[None]] = set()

    def take_frame(frame: bytes) -> None:
        at = batcher.stamp()
        for raw in request_decoder.decode(frame):
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
    except Exception as error:  # noqa: BLE001 - the web reports it and does not start
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
