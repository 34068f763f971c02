"""A neighbour: the client of another project sends nonsense and poison to the same nodes, and its monitor is broken.

The jobs must not notice (D34, D36, D37): what was acknowledged to them is stored, and their slots are judged in time.
The audit compares only them, and not what becomes of the neighbour's own messages.
"""

import json
import random
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from checkins.protocols.request import IngestRequest
from drills.oracle.rules import MINUTE
from drills.simulation.node import Foreign
from drills.simulation.rules import START
from monitors.models import Environment, IngestKey, Monitor, MonitorEnvironment, Project

if TYPE_CHECKING:
    from drills.simulation.world import World

PROJECT = 2
KEY = "6" * 32
POISON = "poison"
"""The slug of a monitor whose check-ins make PostgreSQL raise an error whenever they are applied (`edges`)."""
BROKEN = 500
"""The id of a monitor whose zone nobody knows any more."""
LIKELIHOOD = 0.3
IMPOSSIBLE = {"schedule": {"type": "crontab", "value": "0 0 30 2 *"}}
"""Times that never come."""


class Neighbour:
    """What the neighbour of a world sends, and when. By a dice of its own: the jobs of a seed do what they did."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.dice = random.Random(f"neighbour {world.seed}")  # noqa: S311 - repeatable, and no secret

    def plan(self) -> None:
        """Decide what to send, some of it in the very second in which jobs report."""
        for _ in range(self.dice.choice([3, 6, 12])):
            second = self.dice.choice([0, 2, 20, 45, self.dice.randrange(60)])
            minute = self.dice.randrange(self.world.minutes)
            make = self.dice.choice([poison, poison, many, garbage, impossible, stranger])
            self.world.plan(60 * minute + second, partial(self._send, make))

    def _send(self, make: Callable[[datetime], IngestRequest]) -> None:
        node = self.dice.choice(self.world.nodes)
        if node.is_up:
            self.world.counts["foreign"] += 1
            self.world.note(f"the neighbour sends {make.__name__} to {node.name}")
            node.receive_foreign(Foreign(make(node.stamp())))

    def move_in(self) -> None:
        """Break its monitor, which is due at the first tick in the shard of a job."""
        environment = Environment.objects.create(project_id=PROJECT, name="production")
        MonitorEnvironment.objects.create(
            monitor_id=BROKEN,
            environment=environment,
            status="ok",
            shard=self.world.shard_of(self.world.jobs[0]),
            pending_slot=START,
            next_checkin=START,
            next_checkin_latest=START + MINUTE,
            created_at=START,
        )


def has_neighbour(seed: int) -> bool:
    """Return whether somebody lives beside the jobs of a world."""
    return random.Random(f"lives beside {seed}").random() < LIKELIHOOD  # noqa: S311 - repeatable, and no secret


def make_project() -> Monitor:
    """Make its project and its key, and return its monitor, which is still to be stored."""
    project = Project.objects.create(id=PROJECT, name="Neighbour", slug="neighbour", created_at=START)
    IngestKey.objects.create(project=project, public_key=KEY, created_at=START)
    return Monitor(
        id=BROKEN,
        project=project,
        slug="broken",
        name="Broken",
        schedule_type="crontab",
        crontab="* * * * *",
        timezone="America/Newtown",
        created_at=START,
    )


# --- what it sends


def poison(at: datetime) -> IngestRequest:
    """A check-in that cannot be applied."""
    return _get(f"/api/{PROJECT}/cron/{POISON}/{KEY}/", at)


def many(at: datetime) -> IngestRequest:
    """Check-ins of monitors that nobody knows, and in their midst one that cannot be applied."""
    items = [{"monitor": POISON if number == 20 else f"unknown-{number}", "status": "ok"} for number in range(40)]
    return _post("/api/v1/checkins", json.dumps(items).encode(), at)


def garbage(at: datetime) -> IngestRequest:
    """Bytes of no protocol."""
    return _post("/api/v1/checkins", b"\xff\xfe{[", at)


def impossible(at: datetime) -> IngestRequest:
    """A new monitor with a schedule without a time."""
    item = {"monitor": "impossible", "status": "ok", "config": IMPOSSIBLE}
    return _post("/api/v1/checkins", json.dumps(item).encode(), at)


def stranger(at: datetime) -> IngestRequest:
    """A check-in with a key that nobody has given out."""
    return _get(f"/api/{PROJECT}/cron/{POISON}/{'7' * 32}/", at)


def _get(path: str, at: datetime) -> IngestRequest:
    return IngestRequest(method="GET", path=path, query="status=ok", headers={}, body=b"", body_bytes=0, received_at=at)


def _post(path: str, body: bytes, at: datetime) -> IngestRequest:
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    return IngestRequest(
        method="POST", path=path, query="", headers=headers, body=body, body_bytes=len(body), received_at=at
    )
