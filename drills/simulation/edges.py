"""Where a world takes the place of what is outside: Celery's broker, the clock, and whoever looks at what is done."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

from django.db import connection

from checkins.messages import CheckInMessage, Message
from checkins.processing import apply as checkin_services
from checkins.processing import batch as intake
from checkins.processing import environments, items
from clocktasks import tasks as clock_tasks
from clocktasks.clock import TaskKind
from clocktasks.kinds import HANDLERS
from drills.simulation.history import TickApplied
from drills.simulation.neighbour import POISON
from incidents.notifications import wake

if TYPE_CHECKING:
    from drills.simulation.world import World

DELIVER = "deliver"
TASKS: dict[str, Callable[..., object]] = {
    clock_tasks.tick.name: clock_tasks.tick.run,
    clock_tasks.process_clock_task.name: clock_tasks.process_clock_task.run,
}


@dataclass(frozen=True)
class BrokerMessage:
    """A Celery message: the task by its name, what it is called with, and not before when."""

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    not_before: datetime


def fail_on_poison(messages: Iterable[Message]) -> None:
    """Have PostgreSQL raise an error if a neighbour's poison is among what was applied."""
    if any(isinstance(message, CheckInMessage) and message.slug == POISON for message in messages):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")


def _name_of(message: Message) -> tuple[uuid.UUID | None, str, datetime]:
    assert isinstance(message, CheckInMessage), "nobody sends logs here"
    return message.check_in_id, message.status.value, message.received_at


@contextmanager
def edges(world: "World") -> Iterator[None]:
    """Put the world in the place of what is outside of the product."""

    def publish(name: str) -> Callable[..., None]:
        def apply_async(
            args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, countdown: float = 0, **_: object
        ) -> None:
            at = world.now + timedelta(seconds=countdown)
            world.publish(BrokerMessage(name, tuple(args), kwargs or {}, at))

        return apply_async

    def observed(kind: TaskKind) -> Callable[[int, datetime, datetime], Any]:
        handler = HANDLERS[kind]

        def handle(shard: int, first: datetime, last: datetime, **more: Any) -> Any:
            done = handler(shard, first, last, **more)
            world.record(TickApplied(kind, shard, first, done.until))
            return done

        return handle

    apply, refuse_as_disabled = checkin_services.apply, items.refuse_as_disabled

    def try_to_apply(messages: Sequence[Message], **more: Any) -> Any:
        begun, refused = world.tries.get(world.current, (0, set()))
        if more.get("applies_parked", True):
            begun, refused = len(world.history), set()
        else:  # One part of a batch, of which something could not be applied.
            refused -= {_name_of(message) for message in messages}
        world.tries[world.current] = begun, refused
        outcomes = apply(messages, **more)
        fail_on_poison(messages)
        return outcomes

    def refuse(item: items.BatchItem) -> None:
        world.tries[world.current][1].add(_name_of(item.message))
        refuse_as_disabled(item)

    def wish() -> None:
        world.publish(BrokerMessage(DELIVER, (), {}, world.now))

    with (
        mock.patch.object(clock_tasks, "utcnow", world.worker_now),
        mock.patch.object(clock_tasks.tick, "apply_async", publish(clock_tasks.tick.name)),
        mock.patch.object(clock_tasks.process_clock_task, "apply_async", publish(clock_tasks.process_clock_task.name)),
        mock.patch.dict(HANDLERS, {kind: observed(kind) for kind in HANDLERS}),
        mock.patch.object(intake, "apply", try_to_apply),
        mock.patch.object(environments, "refuse_as_disabled", refuse),
        mock.patch.object(checkin_services, "refuse_as_disabled", refuse),
        mock.patch.object(wake, "wake", wish),
    ):
        yield
