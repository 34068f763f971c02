"""Clients of all protocols at a steady rate, and a record of what each was told.

A client with an id of its own sends the same again until it has an answer. One without sends once: what happened to it
is not known if the connection breaks.
"""

import asyncio
import contextlib
import json
import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from checkins.protocols.pings import derived_id
from lib.wallclock import utcnow

ANSWER_SECONDS_MAX = 30.0
AGAIN_SECONDS = 0.2
KEPT_CONNECTIONS_MAX = 32


class Kind(StrEnum):
    """How a check-in is sent."""

    ENVELOPE = "envelope"
    CRON = "cron"
    RID = "rid"
    CRONITOR = "cronitor"
    REST = "rest"
    PUSH = "push"
    PING = "ping"


WITHOUT_ID = frozenset({Kind.PUSH, Kind.PING})


class Watched(NamedTuple):
    """A monitor, as its clients know it."""

    id: int
    guid: uuid.UUID
    slug: str


@dataclass(slots=True)
class Sent:
    """One check-in: when it was sent first, and when it was acknowledged, if it was."""

    kind: Kind
    monitor: Watched
    guid: uuid.UUID | None
    status: str
    sent_at: datetime
    answered_at: datetime | None = None
    tries: int = 0


class Refused(NamedTuple):
    """An answer that is no success, or no connection at all."""

    kind: Kind
    what: str


@dataclass(kw_only=True)
class Clients(ABC):
    """Those who send check-ins to one project. What each was told is in `sent`."""

    port: int
    project: int
    key: str
    speed: float
    random: random.Random
    sent: list[Sent] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """When a request began, and how long its answer took: seconds, monotonic."""
    unanswered: int = 0
    _kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def figures(self) -> str:
        """How many were sent, and what did not go well, for people who wait."""
        return f"{len(self.sent)} sent, {len(self.refused)} refused, {self.unanswered} unanswered"

    # --- when ---

    @abstractmethod
    async def run(self) -> None:
        """Send until `stop`, and wait for the answers to what was sent."""

    def stop(self) -> None:
        """Send nothing new; to be called in the event loop."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing new is to be sent."""
        return self._stopped.is_set()

    async def is_stopped_after(self, seconds: float) -> bool:
        """Let time pass; returns whether `stop` was called meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close the connections that were kept."""
        for _, writer in self._kept:
            writer.close()

    # --- what ---

    async def send(self, kind: Kind, monitor: Watched, status: str, guid: uuid.UUID | None = None) -> Sent:
        """Send a check-in, again and again until it is acknowledged if it has an id; returns what became of it."""
        number = self.random.getrandbits(128)
        guid = guid or (None if kind in WITHOUT_ID else uuid.UUID(int=number, version=4))
        request, guid = self._request(kind, monitor, status, guid)
        sent = Sent(kind, monitor, guid, status, utcnow())
        self.sent.append(sent)
        while True:
            sent.tries += 1
            outcome = await self._exchange(kind, request)
            if outcome is True:
                sent.answered_at = utcnow()
                return sent
            if outcome is None:
                self.unanswered += 1
            if guid is None or (self._stopped.is_set() and sent.tries > 100):
                return sent
            await asyncio.sleep(AGAIN_SECONDS)

    def _request(
        self, kind: Kind, monitor: Watched, status: str, guid: uuid.UUID | None
    ) -> tuple[bytes, uuid.UUID | None]:
        """Return the bytes of a request, and the id under which it will be stored."""
        match kind:
            case Kind.ENVELOPE:
                assert guid is not None, "it has an id"
                payload = json.dumps({"check_in_id": guid.hex, "monitor_slug": monitor.slug, "status": status}).encode()
                header = json.dumps({"type": "check_in", "length": len(payload)}).encode()
                auth = f"X-Sentry-Auth: Sentry sentry_key={self.key}, sentry_version=7"
                body = b"{}\n" + header + b"\n" + payload + b"\n"
                return http_request("POST", f"/api/{self.project}/envelope/", body, auth), guid
            case Kind.CRON:
                assert guid is not None, "it has an id"
                path = f"/api/{self.project}/cron/{monitor.slug}/{self.key}/?status={status}&check_in_id={guid}"
                return http_request("GET", path), guid
            case Kind.RID:
                action = "/start" if status == "in_progress" else ""
                return http_request("GET", f"/ping/{monitor.guid}{action}?rid={guid}"), guid
            case Kind.CRONITOR:
                stored_as = derived_id("series", self.project, monitor.slug, "production", str(guid))
                return http_request("GET", f"/p/{self.key}/{monitor.slug}?state=complete&series={guid}"), stored_as
            case Kind.REST:
                body = json.dumps({"monitor": monitor.slug, "status": status, "id": str(guid)}).encode()
                return http_request("POST", "/api/v1/checkins", body, f"Authorization: Bearer {self.key}"), guid
            case Kind.PUSH:
                return http_request("GET", f"/api/push/{monitor.guid.hex}?status=up&msg=&ping="), None
            case Kind.PING:
                return http_request("GET", f"/ping/{monitor.guid}"), None

    # --- how ---

    async def _exchange(self, kind: Kind, request: bytes) -> bool | None:
        """Send a request; return whether it was a success, or None if nobody knows."""
        began = time.monotonic()
        try:
            # Half of the clients keep their connections, half make one for each request.
            is_kept = self.random.random() < 0.5
            reader, writer = self._kept.pop() if is_kept and self._kept else await self._connect()
        except OSError as error:
            self.refused.append(Refused(kind, repr(error)))
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            writer.close()
            return None
        self.latencies.append((began, time.monotonic() - began))
        if is_kept and "connection: close" not in head and len(self._kept) < KEPT_CONNECTIONS_MAX:
            self._kept.append((reader, writer))
        else:
            writer.close()
        status = int(head.split(maxsplit=2)[1])
        if not 200 <= status < 300 or (kind is Kind.REST and json.loads(body)["refused"]):
            self.refused.append(Refused(kind, f"{status} {body[:200]!r}"))
            return False
        return True

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@dataclass(kw_only=True)
class Load(Clients):
    """Sends check-ins for `load` monitors, `rate` a second, and keeps the promises of the `prompt` ones."""

    load: list[Watched]
    prompt: list[Watched]
    rate: float

    async def run(self) -> None:
        """Send until `stop`, and wait for the answers to what was sent."""
        tasks: set[asyncio.Task[Any]] = set()

        def go(coroutine: Coroutine[Any, Any, Any]) -> None:
            task = asyncio.create_task(coroutine)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        for monitor in self.prompt:
            go(self._keep_promises(monitor))
        started = time.monotonic()
        number = 0
        kinds = list(Kind)
        while not self.is_stopped:
            due = int((time.monotonic() - started) * self.rate)
            for number in range(number, due):  # noqa: B020 - goes on where it stopped
                go(self.send(kinds[number % len(kinds)], self.random.choice(self.load), "ok"))
            number = due
            await asyncio.sleep(0.005)
        while tasks:
            await asyncio.wait(tasks)
        self.close()

    async def _keep_promises(self, monitor: Watched) -> None:
        """A run in every minute, which says that it begins and that it has ended, by the clock of the installation."""
        second = self.random.uniform(2, 50)
        while not self.is_stopped:
            now = utcnow()
            wait = (second - now.second - now.microsecond / 1e6) % 60
            if await self.is_stopped_after(wait / self.speed):
                return
            guid = uuid.UUID(int=self.random.getrandbits(128), version=4)
            await self.send(Kind.RID, monitor, "in_progress", guid)
            await asyncio.sleep(self.random.uniform(0.5, 6) / self.speed)
            await self.send(Kind.RID, monitor, "ok", guid)
            await self.is_stopped_after(8 / self.speed)


@contextlib.contextmanager
def running(clients: Clients) -> Iterator[Callable[[], None]]:
    """Let the clients send, in a thread of their own; yields what lets them finish."""
    loop = asyncio.new_event_loop()
    failure: list[BaseException] = []

    def serve() -> None:
        try:
            loop.run_until_complete(clients.run())
        except BaseException as error:  # noqa: BLE001 - told to the drill
            failure.append(error)

    def finish() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(clients.stop)
            thread.join()

    thread = threading.Thread(target=serve, name="clients")
    thread.start()
    try:
        yield finish
    finally:
        finish()
        loop.close()
    if failure:
        raise failure[0]


def http_request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: drill", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
