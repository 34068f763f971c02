"""An ingest node as the clock, the pages and the probes see it, and its state (pure)."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from lib.texts import Text

NODE_SILENT_MAX = timedelta(seconds=30)
"""An ingest node reports every second."""


class NodeStanding(Enum):
    """The state of a node, and its meaning for the clock."""

    LIVE = (Text("live"), Text("The clock applies no minute that this node has not passed."))
    SILENT = (Text("silent"), Text("The clock waits for it."))
    DROPPED = (Text("dropped"), Text("It was silent for too long: the clock does not wait for it."))
    LEFT = (Text("left"), Text("It stored everything and stopped."))

    def __init__(self, word: Text, meaning: Text) -> None:
        self.word, self.meaning = word, meaning


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A row of `checkins.models.IngestNode`, without the columns that only the node itself needs."""

    id: uuid.UUID
    host: str
    pid: int
    seen_at: datetime
    watermark: datetime
    spooled_count: int
    dropped_at: datetime | None = None
    left_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.host} pid {self.pid}"


def node_standing(node: NodeFacts, now: datetime) -> NodeStanding:
    """Return the state of a node at `now`: the same for every page, probe and command."""
    if node.left_at is not None:
        return NodeStanding.LEFT
    if node.dropped_at is not None:
        return NodeStanding.DROPPED
    return NodeStanding.SILENT if now - node.seen_at > NODE_SILENT_MAX else NodeStanding.LIVE
