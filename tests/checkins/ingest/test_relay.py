"""The web's side of the relay: what it says of a batcher process that cannot start."""

import asyncio
import subprocess
import sys

import pytest

from checkins.ingest import relay, wire
from tests.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("pass", "ended while it started"),
        (
            "import msgspec, socket, sys\n"
            "frame = msgspec.msgpack.encode('no spool can be kept')\n"
            "socket.socket(fileno=int(sys.argv[-1])).sendall(len(frame).to_bytes(4, 'big') + frame)",
            "no spool can be kept",
        ),
    ],
)
def test_a_batcher_that_cannot_start_is_an_error_that_says_why(monkeypatch, program, says):
    start = subprocess.Popen

    def start_program(command, **options):
        return start([sys.executable, "-c", program, command[-1]], **options)

    async def start_and_see_it_end():
        edge = relay.Relay(held_bytes_max=1000)
        with pytest.raises(wire.RelayError, match=says):
            await edge.start()
        await edge._ended.wait()
        transport, process = edge._frames._transport, edge._process
        assert transport is not None
        assert process is not None
        transport.close()
        for _ in range(3):  # The end of the connection is told in the next turns of the loop.
            await asyncio.sleep(0)
        assert edge._frames._transport is None
        process.wait(PATIENCE_SECONDS)

    ended: list[int] = []
    monkeypatch.setattr("checkins.ingest.relay.subprocess.Popen", start_program)
    monkeypatch.setattr("checkins.ingest.relay.os._exit", ended.append)
    asyncio.run(start_and_see_it_end())
    assert ended == [], "the web lives to tell why it does not start"
