"""The load of a soak: pings of many jobs, spread over each minute, on connections that are kept and pipelined.

As light as it can be, since it shares its processors with what it loads: one list of all seconds at which some job says
something, made once, which is gone through in every minute. A job always speaks on the same connection, so that its
words arrive in their order.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from drills.soak_plan import Habit, Job, guid

STEP_SECONDS = 0.01
LIMIT_SECOND = 59.0
"""A word that is acknowledged by this second of its minute was received before its deadline, whatever the rounding."""
LATENCIES_KEPT = 10
CONNECT_SECONDS_BEFORE = 1.0


class Word(NamedTuple):
    """A ping on its way: of which job, in which minute, when it was sent (monotonic)."""

    number: int
    minute: int
    is_end: bool
    sent_at: float


@dataclass
class Load:
    """Sends what the jobs say. Minute 0 begins at `begins_at` (monotonic); minutes last 60 s / `speed`.

    `late` are the jobs of whose words one was not acknowledged in its minute: nobody knows what must come of them.
    """

    port: int
    jobs: Sequence[Job]
    guids: Sequence[str]
    first_epoch_minute: int
    begins_at: float
    speed: float
    connections: int = 1024
    sent: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    late: set[int] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    behind_max: float = 0.0
    """Seconds by which the load itself was late at most."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Send, in a thread of its own; yields what stops it and waits for the last answers."""
        failure: list[BaseException] = []

        def serve() -> None:
            try:
                asyncio.run(self._run())
            except BaseException as error:  # noqa: BLE001 - told to the soak
                failure.append(error)

        def finish() -> None:
            self._stopped.set()
            thread.join()

        thread = threading.Thread(target=serve, name="load")
        thread.start()
        try:
            yield finish
        finally:
            finish()
        if failure:
            raise failure[0]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # A server closes connections on which nothing is said, and seeding takes minutes.
        await asyncio.sleep(self.begins_at - CONNECT_SECONDS_BEFORE - time.monotonic())
        lines = [
            (await loop.create_connection(lambda: _Line(self), "127.0.0.1", self.port))[1]
            for _ in range(self.connections)
        ]
        wheel = sorted(
            (second, number, is_end)
            for number, job in enumerate(self.jobs)
            for second, is_end in ((job.second, False), (job.second + job.run_seconds, True))
        )
        minute = 0
        while not self._stopped.is_set():
            await self._go_round(wheel, minute, lines)
            minute += 1
        while any(line.waiting for line in lines):  # noqa: ASYNC110 - a hundred lines become empty one by one
            await asyncio.sleep(STEP_SECONDS)
        for line in lines:
            line.close()

    async def _go_round(self, wheel: Sequence[tuple[float, int, bool]], minute: int, lines: "Sequence[_Line]") -> None:
        """Send all that is said in one minute, each at its second."""
        starts_at = self.begins_at + minute * 60 / self.speed
        position = 0
        while position < len(wheel) and not self._stopped.is_set():
            now = time.monotonic()
            until = (now - starts_at) * self.speed
            while position < len(wheel) and wheel[position][0] <= until:
                second, number, is_end = wheel[position]
                position += 1
                job = self.jobs[number]
                if (self.first_epoch_minute + minute) % job.every == 0:
                    self.behind_max = max(self.behind_max, (until - second) / self.speed)
                    self._say(lines[number % len(lines)], job, Word(number, minute, is_end, now))
            await asyncio.sleep(STEP_SECONDS)

    def _say(self, line: "_Line", job: Job, word: Word) -> None:
        habit = job.does_at(word.minute)
        if habit is Habit.SILENT or (habit is Habit.HANGING and word.is_end):
            return
        action = ("/fail" if habit is Habit.FAILING else "") if word.is_end else "/start"
        run = guid(self.first_epoch_minute + word.minute, word.number)
        line.send(f"GET /ping/{self.guids[word.number]}{action}?rid={run} HTTP/1.1\r\nHost: soak\r\n\r\n", word)
        self.sent += 1

    def take_answer(self, status: bytes, word: Word) -> None:
        """Note an answer."""
        now = time.monotonic()
        if status != b"200":
            self.refused.append(f"{status.decode()} to {word}")
            self.late.add(word.number)
            return
        self.acknowledged["end" if word.is_end else "start"] += 1
        if self.sent % LATENCIES_KEPT == 0:
            self.latencies.append(now - word.sent_at)
        if now > self.begins_at + (word.minute * 60 + LIMIT_SECOND) / self.speed:
            self.late.add(word.number)

    def lose(self, word: Word, reason: str) -> None:
        """Note that a connection broke before an answer came."""
        self.refused.append(f"no answer to {word}: {reason}")
        self.late.add(word.number)

    def figures(self) -> str:
        """Say how it goes."""
        return (
            f"{self.sent} sent, {self.acknowledged.total()} acknowledged, {len(self.refused)} refused, "
            f"{len(self.late)} jobs late"
        )


class _Line(asyncio.Protocol):
    """A connection: answers come in the order of the requests."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.waiting: deque[Word] = deque()
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP is a stream"
        self.transport = transport

    def send(self, request: str, word: Word) -> None:
        """Send a request without waiting for the answers to earlier ones."""
        if self.transport is None:
            self.load.lose(word, "the connection is closed")
            return
        self.waiting.append(word)
        self.transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.load.take_answer(head[9:12], self.waiting.popleft())

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            self.load.lose(self.waiting.popleft(), str(exc))

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.close()
