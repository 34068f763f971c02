"""What people and the rest of the installation do in a world: one thing after the other, tried until it is done."""

import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from drills.delivery.changes import (
    Acknowledgement,
    Finished,
    Happening,
    Muting,
    Pursuit,
    Snooze,
    apply_change,
    apply_muting,
    do,
    finish_ticks,
)
from drills.delivery.config import choose_edit
from drills.delivery.rows import SECOND, apply_edit
from drills.simulation.interleaving import Actor

if TYPE_CHECKING:
    from drills.delivery.world import World


@dataclass(frozen=True)
class Edited:
    """Somebody changed routes or channels: the configuration with this number is in force."""

    number: int


class Agenda:
    """What is to be done, by who does it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._numbers = count(1)
        self._todo: dict[str, deque[tuple[Callable[[], object], object]]] = defaultdict(deque)
        self._doing: dict[str, Actor] = {}

    def change(self, change: Happening) -> None:
        """Have something happen."""
        if isinstance(change, Acknowledgement | Snooze | Pursuit):
            self._do(f"person of {change}", lambda: do(change, now=self._world.now), change)
            return
        if isinstance(change, Finished):
            self._do("engine", lambda: finish_ticks(now=self._world.now), change)
            return
        if isinstance(change, Muting):
            self._do("engine", partial(apply_muting, change), change)
            return
        number, bits = next(self._numbers), self._world.chance.getrandbits(64)
        guids = count(1)

        def work() -> None:
            apply_change(
                change,
                checkin=number * 1_000,
                guid=lambda: uuid.UUID(int=bits << 40 | next(guids)),
                now=self._world.now,
            )

        self._do("engine", work, change)

    def edit(self) -> None:
        """Have somebody edit routes or channels."""
        before = self._world.configs[-1]
        after = choose_edit(self._world.chance, before)
        self._world.configs.append(after)
        number = len(self._world.configs) - 1
        self._do("person", lambda: apply_edit(before, after, number, now=self._world.now), Edited(number))

    def _do(self, who: str, work: Callable[[], object], what: object) -> None:
        """Have somebody do something, after what was begun before; what fails is tried again until it is done."""
        self._todo[who].append((work, what))
        self._try(who)

    def _try(self, who: str) -> None:
        if who in self._doing or not self._todo[who]:
            return
        work, what = self._todo[who][0]

        def do() -> None:
            assert self._world.current is not None, "somebody does it"
            self._world.current.pending = what
            work()

        self._doing[who] = self._world.start(who, do)

    def ended(self, actor: Actor, *, is_well: bool) -> None:
        """An actor is over: what it could not do is tried again, and then the next thing."""
        for who, doing in list(self._doing.items()):
            if doing is actor:
                del self._doing[who]
                if actor.pending is not None and is_well:
                    self._todo[who].popleft()  # There was nothing to commit.
                world = self._world
                world.at(world.now + world.chance.choice([0, 1, 5]) * SECOND, partial(self._try, who))

    def committed(self, actor: Actor) -> None:
        """Something of an actor was committed: it is done, whether its actor lives or not."""
        who = next(who for who, doing in self._doing.items() if doing is actor)
        self._todo[who].popleft()
