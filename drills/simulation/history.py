"""What was committed in a world, in the order of the commits."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from clocktasks.clock import TaskKind
from drills.oracle.rules import MINUTE
from drills.simulation.node import Copy
from drills.simulation.people import Edited


@dataclass(frozen=True)
class BatchStored:
    """A transaction of check-ins was committed. It began when the history had `begun` entries.

    `refused` are those of its copies, by their numbers, that were refused since their monitor was disabled.
    """

    copies: tuple[Copy, ...]
    begun: int
    refused: frozenset[int]


@dataclass(frozen=True)
class TickApplied:
    """A transaction with what the ticks of a pass marked in a shard was committed."""

    kind: TaskKind
    shard: int
    first: datetime
    last: datetime

    def ticks(self) -> list[datetime]:
        """Return all ticks of the pass; of a time without a listener, the last one, which stands for all."""
        minutes = 0 if self.kind is TaskKind.UNKNOWN else (self.last - self.first) // MINUTE
        return [self.last - number * MINUTE for number in reversed(range(minutes + 1))]


Committed = BatchStored | TickApplied | Edited


def switched(committed: Iterable[Committed]) -> set[int]:
    """Return the monitors that were disabled or enabled in these transactions."""
    return {one.monitor_id for one in committed if isinstance(one, Edited) and one.is_active is not None}


def edited(committed: Iterable[Committed]) -> set[int]:
    """Return the monitors that were edited in these transactions, or may have been."""
    found: set[int] = set()
    for one in committed:
        if isinstance(one, Edited):
            found.add(one.monitor_id)
        elif isinstance(one, BatchStored):
            found |= {copy.word.job.monitor_id for copy in one.copies if copy.word.config is not None}
    return found
