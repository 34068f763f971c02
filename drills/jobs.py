"""Jobs whose plan is known: when each says what, and when it says nothing on purpose. `oracle` tells the rest."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from drills.load import Clients, Kind, Sent, Watched
from drills.oracle.rules import MINUTE, Every, Rules
from lib.wallclock import utcnow

EARLY = timedelta(seconds=5)
"""So little before a slot a run may begin that serves it, by default."""
WITH_RUNS = (Kind.ENVELOPE, Kind.CRON, Kind.REST)
"""How a run can say that it begins and that it failed, under an id of its own."""


class Act(StrEnum):
    """What a job does at one slot."""

    RUN = "run"
    """It begins, and ends ok."""
    OK = "ok"
    """It says that it was ok, once."""
    ERROR = "error"
    """It says that it failed, once."""
    HANG = "hang"
    """It begins, and is never heard of again."""
    SLOW = "slow"
    """It begins, and ends ok after its deadline."""
    SILENT = "silent"
    """It does not run."""


@dataclass(frozen=True)
class Plan:
    """A job, its monitor, and what the job does at its slots, over and over. Slots are `every` so many minutes.

    `second` is how long after a slot it begins, in seconds of the installation's clock.
    """

    slug: str
    acts: tuple[Act, ...]
    every: int = 1
    margin: int = 1
    runtime: int = 2
    failure_threshold: int = 1
    recovery_threshold: int = 1
    is_muted: bool = False
    second: float = 10.0

    @property
    def rules(self) -> Rules:
        """What its monitor expects."""
        slots = Every(self.every, EARLY)
        return Rules(slots, self.margin, self.runtime, self.failure_threshold, self.recovery_threshold)


def make_plans(count: int, chance: random.Random) -> list[Plan]:
    """Make jobs of all kinds: always on time, silent for a while, failing, hanging, slow, and some of everything."""
    kinds = [
        lambda: (Act.RUN,),
        lambda: (Act.OK,),
        lambda: (Act.OK,) * chance.randint(2, 5) + (Act.SILENT,) * chance.randint(1, 4),
        lambda: (Act.RUN,) * chance.randint(1, 4) + (Act.SILENT,) * chance.randint(1, 3) + (Act.ERROR,),
        lambda: (Act.OK,) * chance.randint(1, 3) + (Act.ERROR,) * chance.randint(1, 4),
        lambda: (Act.RUN,) * chance.randint(1, 3) + (Act.HANG,) * chance.randint(1, 3),
        lambda: (Act.OK,) * chance.randint(1, 3) + (Act.SLOW, Act.OK),
        lambda: tuple(chance.choices(list(Act), k=chance.randint(5, 12))),
    ]
    return [
        Plan(
            slug=f"job-{number}",
            acts=kinds[number % len(kinds)](),
            every=chance.choice([1, 1, 1, 2, 3]),
            margin=chance.choice([1, 1, 1, 2, 3]),
            runtime=chance.choice([1, 1, 2, 3]),
            failure_threshold=chance.choice([1, 1, 2, 3]),
            recovery_threshold=chance.choice([1, 1, 2]),
            is_muted=chance.random() < 0.1,
            second=chance.uniform(6, 30),
        )
        for number in range(count)
    ]


@dataclass(kw_only=True)
class Jobs(Clients):
    """Does what the plans say. Each job is one client, which waits for each answer before it goes on."""

    jobs: Sequence[tuple[Plan, Watched]]
    told: dict[str, list[Sent]] = field(default_factory=dict)
    """What each job said, in order, by slug."""

    async def run(self) -> None:
        """Go by the plans until `stop`."""
        await asyncio.gather(*(self._live(plan, monitor) for plan, monitor in self.jobs))
        self.close()

    async def _live(self, plan: Plan, monitor: Watched) -> None:
        number = 0
        slots = Every(plan.every)
        slot = slots.after(utcnow())
        while not await self._is_stopped_at(slot + timedelta(seconds=plan.second)):
            await self._act(plan, monitor, plan.acts[number % len(plan.acts)])
            number += 1
            # Whoever has to wait for an answer longer than until the next slot misses that one.
            slot = slots.after(max(utcnow(), slot))

    async def _act(self, plan: Plan, monitor: Watched, act: Act) -> None:
        guid = uuid.UUID(int=self.random.getrandbits(128), version=4)
        match act:
            case Act.OK | Act.ERROR:
                await self._say(plan, monitor, act.value, guid)
            case Act.RUN | Act.HANG | Act.SLOW:
                began = await self._say(plan, monitor, "in_progress", guid)
                if act is Act.RUN:
                    await asyncio.sleep(self.random.uniform(0.5, 6) / self.speed)
                elif act is Act.SLOW:
                    late = began.replace(second=0, microsecond=0) + plan.runtime * MINUTE + timedelta(seconds=8)
                    if await self._is_stopped_at(late):
                        return
                if act is not Act.HANG:
                    await self._say(plan, monitor, "ok", guid)
            case Act.SILENT:
                pass

    async def _say(self, plan: Plan, monitor: Watched, status: str, guid: uuid.UUID) -> datetime:
        sent = await self.send(self.random.choice(WITH_RUNS), monitor, status, guid)
        self.told.setdefault(plan.slug, []).append(sent)
        return sent.answered_at or sent.sent_at

    async def _is_stopped_at(self, at: datetime) -> bool:
        seconds = (at - utcnow()).total_seconds()
        return self.is_stopped if seconds <= 0 else await self.is_stopped_after(seconds / self.speed)
