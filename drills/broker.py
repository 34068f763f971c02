"""What can happen to messages between beat and workers: lost, doubled, out of order, junk, too many, refused."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import kombu.exceptions
import redis

QUEUES = ("clock", "housekeeping", "delivery", "notifications")
KINDS = ("missed", "timeout", "unknown")
SHARDS = (0, 1, 7, 63, 64, 9_999, -1)


@dataclass
class Broker:
    """The broker of a running installation, whose messages are meddled with. Needs Django to be set up."""

    url: str
    random: random.Random
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    """Messages that were found waiting, to be sent once more at any time."""
    refused: int = 0
    sent: int = 0

    def flush(self) -> None:
        """Forget every message, and whatever else is kept there."""
        with self._client() as client:
            client.flushall()

    def shuffle(self) -> int:
        """Put all waiting messages in another order, with some of them twice; returns how many there were."""
        count = 0
        with self._client() as client:
            for queue in QUEUES:
                waiting: Any = client.lrange(queue, 0, -1)
                count += len(waiting)
                again = [message for message in waiting if self.random.random() < 0.5]
                self.seen = [*self.seen, *((queue, message) for message in waiting)][-1000:]
                together = [*waiting, *again]
                self.random.shuffle(together)
                with client.pipeline(transaction=True) as pipe:
                    pipe.delete(queue)
                    if together:
                        pipe.lpush(queue, *together)
                    pipe.execute()
        return count

    def repeat_old(self) -> int:
        """Send messages of earlier minutes once more; returns how many."""
        again = self.random.choices(self.seen, k=min(len(self.seen), 50)) if self.seen else []
        with self._client() as client:
            for queue, message in again:
                client.lpush(queue, message)
        return len(again)

    def send_nonsense(self, now: datetime, count: int) -> None:
        """Send ticks that nobody asked for, and clock tasks of all kinds: old, future, for no shard, unreadable."""
        from clocktasks.tasks import process_clock_task, tick
        from incidents.tasks import deliver, deliver_notifications
        from project.celery import app

        minute = now.replace(second=0, microsecond=0)
        for _ in range(count):
            message = {
                "kind": self.random.choice(KINDS),
                "shard": self.random.choice(SHARDS),
                "tick": (minute + timedelta(minutes=self.random.randint(-60, 1_500))).isoformat(),
            }
            choice = self.random.randrange(8)
            match choice:
                case 0:
                    self._send(tick.delay)
                case 1:
                    self._send(tick.delay, waiting_for=minute.isoformat())
                case 2:
                    self._send(self.random.choice([deliver, deliver_notifications]).delay)
                case 3:
                    self._send(process_clock_task.delay, {**message, "tick": self.random.choice(["", 0, now, None])})
                case 4:
                    self._send(process_clock_task.delay, self.random.choice([None, [], "missed", {}, {"kind": "?"}]))
                case 5:
                    self._send(app.send_task, process_clock_task.name, queue="clock")  # without its argument
                case _:
                    self._send(process_clock_task.delay, message)
        self._send_what_is_not_ours()

    def wake(self) -> None:
        """Ask for what is left to do, as beat does."""
        from clocktasks.tasks import tick

        self._send(tick.delay)

    def deliver(self) -> None:
        """Ask for notifications to be sent, as beat does."""
        from incidents.tasks import deliver

        self._send(deliver.delay)

    def fill(self, count: int) -> None:
        """Put thousands of messages before the others."""
        from clocktasks.tasks import process_clock_task

        for number in range(count):
            self._send(process_clock_task.delay, {"kind": "missed", "shard": number % 64, "tick": "2026-01-05T00:00Z"})

    def refuse(self) -> None:
        """Take nothing any more, as when its memory is full."""
        with self._client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")

    def accept(self) -> None:
        """Take messages again."""
        with self._client() as client:
            client.config_set("maxmemory", "0")

    def _send_what_is_not_ours(self) -> None:
        """Another program uses the same database: a task that nobody knows, and a body that nobody may unpack."""
        from project.celery import app

        self._send(app.send_task, "elsewhere.tasks.nothing", queue="clock")
        with app.connection_for_write() as connection:
            producer = connection.Producer(serializer="pickle")
            self._send(producer.publish, {"task": str(uuid.uuid4())}, exchange="", routing_key="clock", retry=False)

    def _send(self, send: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            send(*args, **kwargs)
            self.sent += 1
        except (kombu.exceptions.OperationalError, redis.RedisError):
            self.refused += 1

    def _client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, socket_timeout=10)
