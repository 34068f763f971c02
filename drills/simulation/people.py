"""People who edit monitors, as the admin lets them."""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction

from checkins.editing import set_monitors_status, update_monitor
from drills.simulation.interleaving import Actor
from drills.simulation.rules import Changes, Rules, choose_changes, columns_of
from monitors.services import hold_monitors
from monitors.state import MonitorStatus

if TYPE_CHECKING:
    from drills.simulation.world import World

Wish = tuple[Changes, bool | None]
"""What to change of a monitor's rules, or whether it is to be active."""


@dataclass(frozen=True)
class Edited:
    """A transaction of a person was committed that changed rules of a monitor at `at`, or disabled or enabled it."""

    monitor_id: int
    at: datetime
    changes: Changes
    is_active: bool | None = None


class Person:
    """Somebody who edits a monitor, one edit after the other: what fails is tried again until it is done."""

    def __init__(self, world: "World", monitor_id: int) -> None:
        self.world = world
        self.monitor_id = monitor_id
        self.wishes: deque[Wish] = deque()
        self.actor: Actor | None = None
        self.edited_at = datetime.min.replace(tzinfo=UTC)

    def plan(self) -> None:
        """Decide what to edit and when: at any second, or right at a tick, when slots come; perhaps two in a row."""
        world, chance = self.world, self.world.chance
        if chance.random() >= world.faults.edits:
            return
        seconds = (world.minutes + 1) * 60
        for _ in range(chance.choice([1, 1, 2, 3])):
            at = chance.choice([chance.randrange(seconds), chance.randrange(0, seconds, 60)])
            if chance.random() < 0.35:
                wishes: list[Wish] = [((), False)]
                world.plan(at + chance.choice([0, 5, 30, 60, 90, 150]), partial(self.wants, ((), True)))
            else:
                names = chance.choice([["every"], ["margin"], ["runtime"], ["failures_to_open", "oks_to_recover"],
                                       ["every", "margin"], ["margin", "runtime", "failures_to_open"]])  # fmt: skip
                wishes = [(choose_changes(chance, names), None)]
                if chance.random() < 0.3:
                    wishes.append((choose_changes(chance, Rules._fields), None))
            for wish in wishes:
                world.plan(at, partial(self.wants, wish))

    def wants(self, wish: Wish) -> None:
        """Edit, after what was begun before."""
        self.wishes.append(wish)
        if len(self.wishes) == 1:
            self.try_it()

    def try_it(self) -> None:
        """Send the form to the web, which may be down, or without PostgreSQL."""
        node = self.world.nodes[0]
        if node.is_up and not node.is_away:
            self.actor = self.world.start(f"person of job-{self.monitor_id}", self._edit)
        else:
            self._try_again()

    def _edit(self) -> None:
        changes, is_active = self.wishes[0]
        with transaction.atomic():
            hold_monitors([self.monitor_id])
            # Whoever has waited for the last edit to be committed edits a little later.
            at = self.edited_at = max(self.world.now, self.edited_at + timedelta(microseconds=1))
            self.world.record(Edited(self.monitor_id, at, changes, is_active))
            apply_edit(self.monitor_id, changes, is_active, now=at)

    def _try_again(self) -> None:
        self.world.plan_in(self.world.chance.choice([1, 5, 20]), self.try_it)

    def is_told(self, actor: Actor) -> None:
        """The answer came, or none: the edit may have been done all the same."""
        self.actor = None
        if actor.is_killed or actor.error is not None:
            self._try_again()
            return
        self.wishes.popleft()
        if self.wishes:
            self.try_it()


def apply_edit(monitor_id: int, changes: Changes, is_active: bool | None, *, now: datetime) -> None:
    """Edit a monitor as the admin does."""
    if is_active is None:
        update_monitor(monitor_id, columns_of(changes), now=now)
    else:
        set_monitors_status([monitor_id], MonitorStatus.ACTIVE if is_active else MonitorStatus.DISABLED, now=now)
