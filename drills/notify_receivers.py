"""Real receivers on loopback, as good or as bad as a drill wants them: one HTTP server and one mail server.

Both run in one event loop in a thread, which also numbers what they apply: the order is that of the receivers.
"""

import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from drills.delivery.faults import APPLIED, Manner
from drills.delivery.ledger import Received, read_action, read_body, read_mail

DEADLINE_SECONDS = 15.0
"""Of the product's HTTP: what hangs, hangs for longer."""
MAIL_SECONDS = 30.0
SLOW = (Manner.HANGS, Manner.APPLIES_AND_HANGS, Manner.APPLIES_AND_DRIPS, Manner.APPLIES_LATE)
"""Manners that take the whole deadline: a channel that has one request on the way stands still meanwhile."""
TWICE = "answers twice"
ANSWERS: Mapping[str, tuple[int, object]] = {
    "webhook": (204, ""),
    "pagerduty": (202, {"status": "success", "dedup_key": "kept"}),
    "opsgenie": (202, {"result": "Request will be processed"}),
    "slack": (200, "ok"),
    "discord": (200, {"id": "77"}),
}
USUAL_MAIL = {
    "EHLO": "250-drill.test\r\n250 SMTPUTF8",
    "HELO": "250 drill.test",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


@dataclass
class Place:
    """A receiver: the kind of its channel, how often it is bad (0 to 1), and how often it may be slow at all.

    `only`: it is always like this, until everybody is well.
    """

    kind: str
    badness: float = 0.0
    slow_left: int = 0
    only: Manner | None = None


@dataclass
class Receivers:
    """What was received, and how the receivers behave. `places` are by recipient; mail has the recipient `email`."""

    places: dict[str, Place]
    random: random.Random
    received: list[Received] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    """When each was received (monotonic)."""
    heard: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """By recipient, monitor and state: when a signed webhook was first told of it (monotonic)."""
    manners: Counter[str] = field(default_factory=Counter)
    are_well: bool = True
    http_port: int = 0
    mail_port: int = 0

    def manner_of(self, recipient: str) -> Manner | str:
        """Return how a receiver takes the next message."""
        place = self.places[recipient]
        manner: Manner | str = Manner.TAKES
        if self.are_well:
            return manner
        if place.only is not None:
            manner = place.only
        elif self.random.random() < place.badness:
            manner = self.random.choice([*Manner, Manner.APPLIES_AND_DROPS, TWICE])
            if manner in SLOW:
                place.slow_left -= 1
                manner = manner if place.slow_left >= 0 else Manner.APPLIES_AND_DROPS
            if manner in (Manner.HANGS_BEFORE, Manner.REFUSES_CHANNEL):
                manner = Manner.REFUSES_CONNECTION
        if manner != Manner.TAKES:
            self.manners[str(manner)] += 1
        return manner

    def note(self, entry: Callable[..., Received], *, is_applied: bool) -> None:
        """Note what was received, and perhaps applied."""
        self.received.append(entry(number=len(self.received), is_applied=is_applied))
        self.at.append(time.monotonic())

    # --- HTTP

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request at /RECIPIENT/..., the way that this receiver takes it."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.split("\r\n")
        method, path, _ = line.split(" ")
        headers = {name.lower(): text.strip() for name, _, text in (one.partition(":") for one in lines) if name}
        recipient = path.split("/")[1]
        place, manner = self.places[recipient], self.manner_of(recipient)
        if manner is Manner.REFUSES_CONNECTION:
            _reset(writer)
            return
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = f"http://drill{path}"
        action, group = read_action(place.kind, url, body)
        kept = [(name, text) for name, text in headers.items() if name in ("webhook-id", "idempotency-key")]
        entry = partial(
            Received,
            recipient=recipient,
            key=headers.get("webhook-id", ""),
            body=read_body(body, kept),
            part=f"{method} {urlsplit(url).path}",
            was_refused=manner is Manner.REFUSES_MESSAGE,
            action=action,
            group=group,
        )
        if manner is Manner.APPLIES_LATE:
            await _until_ended(reader)
        is_applied = manner in APPLIED or manner == TWICE
        self.note(entry, is_applied=is_applied)
        if is_applied and place.kind == "webhook":
            self._hear(recipient, json.loads(body))
        if manner in (Manner.HANGS, Manner.APPLIES_AND_HANGS, Manner.APPLIES_LATE):
            await asyncio.sleep(DEADLINE_SECONDS * 1.2)
        elif manner in (Manner.DROPS, Manner.APPLIES_AND_DROPS):
            _reset(writer)
        else:
            await self._reply(place.kind, manner, writer)

    async def _reply(self, kind: str, manner: Manner | str, writer: asyncio.StreamWriter) -> None:
        status, content = ANSWERS[kind]
        extra = ""
        match manner:
            case Manner.FAILS:
                status, content = 500, "down"
            case Manner.SLOWS:
                status, content = 429, ""
                extra = f"Retry-After: {self.random.choice([1, 20, 60])}\r\n"
            case Manner.REFUSES_MESSAGE:
                status, content = 400, "not like this"
            case Manner.REFUSES_CHANNEL:
                status, content = 401, "who are you"
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        text = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body
        if manner is Manner.APPLIES_AND_DRIPS:
            # Never to its end: the last byte does not come.
            for byte in text[: len(text) - 1] if not body else text[:-1]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(DEADLINE_SECONDS * 1.2 / len(text))
            return
        writer.write(text * (2 if manner == TWICE else 1))
        await writer.drain()

    def _hear(self, recipient: str, content: dict[str, object]) -> None:
        told = content["data"]
        assert isinstance(told, dict), content
        for one in (told, *told.get("incidents", ())):
            if "monitor" in one:
                state = str(one["incident"]["state"])
                self.heard.setdefault((recipient, one["monitor"]["slug"], state), time.monotonic())

    # --- mail

    async def take_mails(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with a client of the mail server, the way that the server takes its mails."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 drill.test ESMTP")
        recipient, manner = "", self.manner_of("email")
        while line := (await reader.readline()).decode("latin-1").strip():
            word = line.split()[0].upper().split(":")[0]
            if word == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
                manner = self.manner_of("email")
            if word == "RCPT" and manner in (Manner.REFUSES_MESSAGE, Manner.SLOWS):
                # A setting of the server may be wrong: it is tried again, and not too often here.
                await say("550 no such user" if manner is Manner.REFUSES_MESSAGE else "451 greylisted")
                continue
            if word != "DATA":
                await say(USUAL_MAIL.get(word, "502 unknown"))
                continue
            await say("354 go on")
            content = b""
            while (part := await reader.readline()) not in (b".\r\n", b""):
                content += part
            if not part or not await self._take_mail(recipient, content.replace(b"\r\n..", b"\r\n."), manner, say):
                _reset(writer)
                return

    async def _take_mail(
        self, recipient: str, content: bytes, manner: Manner | str, say: Callable[[str], object]
    ) -> bool:
        """Return whether the connection goes on."""
        is_applied = manner in APPLIED or manner == TWICE
        key, body = read_mail(content)
        self.note(partial(Received, recipient=recipient, key=key, body=body), is_applied=is_applied)
        if manner in (Manner.HANGS, Manner.APPLIES_AND_HANGS, Manner.APPLIES_AND_DRIPS, Manner.APPLIES_LATE):
            await asyncio.sleep(MAIL_SECONDS * 1.2)
            return False
        if manner in (Manner.DROPS, Manner.APPLIES_AND_DROPS, Manner.REFUSES_CONNECTION):
            return False
        done = say("250 taken" if is_applied else "452 no space")
        assert asyncio.iscoroutine(done), "it is sent"
        await done
        return True


async def _until_ended(reader: asyncio.StreamReader) -> None:
    """Wait until the sender has given up.

    Not for a time after its deadline: with a clock that runs sixty times as fast, a repetition is sent 0.04 s later,
    and the end of the incident after it.
    """
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(reader.read(), DEADLINE_SECONDS * 4)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, as a process does that is killed."""
    own = writer.get_extra_info("socket")
    if own is not None:
        with suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def listening(receivers: Receivers) -> Iterator[Receivers]:
    """Run both servers until the end of the block."""
    ready = threading.Event()
    end: Callable[[], object] = int

    async def serve() -> None:
        nonlocal end
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        end = partial(loop.call_soon_threadsafe, ended.set)
        http = await asyncio.start_server(receivers.answer, "127.0.0.1", 0, backlog=1000)
        mail = await asyncio.start_server(receivers.take_mails, "127.0.0.1", 0, backlog=1000)
        receivers.http_port, receivers.mail_port = (one.sockets[0].getsockname()[1] for one in (http, mail))
        ready.set()
        await ended.wait()
        http.close()
        mail.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="receivers", daemon=True)
    thread.start()
    assert ready.wait(30), "the receivers listen"
    try:
        yield receivers
    finally:
        end()
        thread.join(10)
