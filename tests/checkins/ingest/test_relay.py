"""The web's side of the relay: what it says of a batcher process that cannot start."""

import asyncio
import multiprocessing
import socket

import msgspec
import pytest

from checkins.ingest import relay, wire
from checkins.ingest.process import BatcherProcess


@pytest.mark.parametrize(
    ("frames", "says"),
    [([], "ended while it started"), ([msgspec.msgpack.encode("no spool can be kept")], "no spool can be kept")],
)
def test_a_batcher_that_cannot_start_is_an_error_that_says_why(monkeypatch, frames, says):
    async def start_and_see_it_end():
        ours, theirs = socket.socketpair()
        with theirs:
            for frame in frames:
                theirs.sendall(len(frame).to_bytes(4, "big") + frame)
        edge = relay.Relay(BatcherProcess(multiprocessing.Process(), ours), held_bytes_max=1000)
        with pytest.raises(wire.RelayError, match=says):
            await edge.start()
        await edge._ended.wait()
        transport = edge._frames._transport
        assert transport is not None
        transport.close()
        for _ in range(3):  # The end of the connection is told in the next turns of the loop.
            await asyncio.sleep(0)
        assert edge._frames._transport is None

    ended: list[int] = []
    monkeypatch.setattr("checkins.ingest.relay.os._exit", ended.append)
    asyncio.run(start_and_see_it_end())
    assert ended == [], "the web lives to tell why it does not start"
