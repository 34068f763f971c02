"""Where a world takes the place of what is outside: the broker, the clocks, the network, the mail server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

from drills.delivery.process import patches
from drills.delivery.receivers import receiving
from incidents import tasks
from incidents.notifications import backlog, wake

if TYPE_CHECKING:
    from drills.delivery.world import World

BACKLOG_WAITED = timedelta(seconds=5)
"""A world is too small, and its faults too short, for what makes a backlog elsewhere."""


@contextmanager
def edges(world: "World") -> Iterator[None]:
    """Put the world in the place of what is outside of the product."""
    nothing = SimpleNamespace(dump_traceback_later=lambda *_, **__: None, cancel_dump_traceback_later=lambda: None)
    with ExitStack() as stack:
        for patch in (
            mock.patch.object(tasks, "utcnow", world.utcnow),
            mock.patch.object(tasks, "faulthandler", nothing),
            mock.patch.object(wake, "wake", world.wish),
            mock.patch.object(wake, "wake_at", world.wish_at),
            mock.patch.object(backlog, "LEAST", world.backlog),
            mock.patch.object(backlog, "WAITED", BACKLOG_WAITED),
            *patches(world),
        ):
            stack.enter_context(patch)
        stack.enter_context(receiving(world))
        yield
