"""A delivery worker with its threads and its event loop, in one thread: who goes on is the scheduler's choice.

A task of the worker (a line to the mail server, a lane to a channel) runs to its next wait for what is outside; then
the world chooses who goes on. Tasks have no database connection. They end with their process, and not with the run
that started them.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from django.db import connections
from greenlet import greenlet  # type: ignore[import-untyped]

from drills.simulation.interleaving import Actor, KilledError

if TYPE_CHECKING:
    from drills.delivery.world import World
    from incidents.notifications.lanes import Sending

Condition = Callable[[], bool]
HAS_RESULTS = "has results"
"""A pause of a run: it knows what became of messages, and has not recorded it."""


class Process:
    """A delivery worker: its present run, and the tasks that outlive it. `known_routing` is what its module knows."""

    def __init__(self, number: int) -> None:
        self.name = f"worker {number}"
        self.run: Actor | None = None
        self.tasks: list[Task] = []
        self.known_routing: list[Any] = []
        self.back_at: datetime | None = None
        self.stalled_until: datetime | None = None

    def die(self, back_at: datetime) -> None:
        """End all tasks, as kill -9 does."""
        for task in self.tasks:
            task.kill()
        self.tasks, self.known_routing, self.back_at = [], [], back_at


class Task:
    """A thread, or a coroutine of the event loop. `deadline` is when a coroutine's wait ends with a TimeoutError."""

    def __init__(self, world: "World", process: Process, name: str) -> None:
        self.world, self.process, self.name = world, process, name
        self.condition: Condition = lambda: True
        self.deadline: datetime | None = None
        self.sending: Sending | None = None
        self.lost: Callable[[], None] | None = None
        """What still happens outside if it ends here."""
        self.is_over = False

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.world.now >= self.deadline

    @property
    def is_ready(self) -> bool:
        """Whether it can go on."""
        return self.condition() or self.is_late

    def go_on(self) -> None:
        """Let it go on to its next wait."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it here."""
        if self.lost is not None:
            self.lost()


class Thread(Task):
    """In the place of `threading.Thread`."""

    def __init__(self, world: "World", process: Process, name: str, target: Callable[[], None]) -> None:
        super().__init__(world, process, name)
        self._greenlet = greenlet(self._run, parent=world.hub)
        self._target = target

    def _run(self) -> None:
        try:
            self._target()
        except KilledError:
            pass
        finally:
            self.is_over = True

    def wait(self, condition: Condition) -> None:
        """Let others go on until this holds."""
        self.condition = condition
        self.world.hub.switch()

    def go_on(self) -> None:
        """Let it go on to its next wait."""
        self._greenlet.switch()

    def kill(self) -> None:
        """End it here."""
        super().kill()
        if self._greenlet:
            self._greenlet.throw(KilledError())
        self.is_over = True


class Lane(Task):
    """A coroutine that was given to the event loop."""

    def __init__(self, world: "World", process: Process, name: str, work: Coroutine[Any, Any, None]) -> None:
        super().__init__(world, process, name)
        self._work = work

    def go_on(self) -> None:
        """Let it go on to its next wait."""
        try:
            self._work.send(None)
        except StopIteration:
            self.is_over = True

    def kill(self) -> None:
        """End it here."""
        super().kill()
        self._work.close()
        self.is_over = True


class Wait:
    """What a lane awaits: a condition, or its deadline."""

    def __init__(self, task: Task, condition: Condition) -> None:
        self._task, self._condition = task, condition

    def __await__(self) -> Generator[None]:
        self._task.condition = self._condition
        yield
        if self._task.is_late or not self._condition():
            raise TimeoutError


class Timeout:
    """In the place of `asyncio.timeout`."""

    def __init__(self, world: "World", seconds: float) -> None:
        self._world, self._seconds = world, seconds

    async def __aenter__(self) -> None:
        task = self._world.task
        assert task is not None, "a lane asks for it"
        task.deadline = self._world.now + timedelta(seconds=self._seconds)
        self._world.at(task.deadline, lambda: None)

    async def __aexit__(self, *_: object) -> None:
        assert self._world.task is not None, "a lane asks for it"
        self._world.task.deadline = None


class Queue:
    """In the place of `queue.SimpleQueue`."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Add an item."""
        self._items.append(item)

    def get_nowait(self) -> Any:
        """Take an item."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def get(self, timeout: float | None = None) -> Any:
        """Take an item; wait for one, as a thread or as the run of a worker."""
        world = self._world
        if isinstance(world.task, Thread):
            world.task.wait(lambda: bool(self._items))
        else:
            assert timeout is not None, "a run waits for some time only"
            until = world.now + timedelta(seconds=timeout)
            world.at(until, lambda: None)
            world.wait(lambda: bool(self._items) or world.now >= until)
            if self._items and world.current is not None:
                world.current.hand_over(HAS_RESULTS)
        return self.get_nowait()


class NoConnection:
    """In the place of the database connection, for tasks."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a line or lane uses the database: {name}")


@contextmanager
def without_database() -> Generator[None]:
    """Run a task, which must not read or write rows."""
    own = connections["default"]
    connections["default"] = NoConnection()  # type: ignore[assignment]
    try:
        yield
    finally:
        connections["default"] = own


def patches(world: "World") -> list[Any]:
    """Return what puts the world's tasks into the place of threads, event loop and monotonic clock."""
    from incidents.notifications import delivery, exchange, lanes, mail_lines

    def start_thread(target: Callable[[], None], name: str, daemon: bool) -> SimpleNamespace:
        assert daemon, "it ends with its process"
        assert world.process is not None, "a worker starts it"
        task = Thread(world, world.process, name, target)
        return SimpleNamespace(start=lambda: task.process.tasks.append(task))

    def run_coroutine(work: Coroutine[Any, Any, None], _loop: object) -> None:
        assert world.process is not None, "a worker starts it"
        world.process.tasks.append(Lane(world, world.process, "lane", work))

    send = lanes._send

    async def send_noted(sending: "Sending", *, now: datetime) -> Any:
        assert world.task is not None, "a lane sends"
        world.task.sending = sending
        return await send(sending, now=now)

    async def no_session() -> None:
        return None

    # A run that waits looks every second for new messages; what it finds does not depend on how often it looks.
    seldom = mock.patch.object(delivery, "POLL_SECONDS", 4.0)
    clock = SimpleNamespace(monotonic=world.monotonic)
    queues = SimpleNamespace(SimpleQueue=lambda: Queue(world), Empty=queue.Empty)
    threads = SimpleNamespace(Thread=start_thread, Event=threading.Event, Lock=threading.Lock)
    return [
        seldom,
        *[mock.patch.object(module, "time", clock) for module in (delivery, lanes, mail_lines)],
        *[mock.patch.object(module, "queue", queues) for module in (delivery, mail_lines)],
        mock.patch.object(mail_lines, "threading", threads),
        mock.patch.object(lanes, "asyncio", SimpleNamespace(run_coroutine_threadsafe=run_coroutine)),
        mock.patch.object(lanes, "_loop", return_value=None),
        mock.patch.object(lanes, "_session", no_session),
        mock.patch.object(lanes, "_send", send_noted),
        mock.patch.object(exchange, "asyncio", SimpleNamespace(timeout=lambda seconds: Timeout(world, seconds))),
    ]
