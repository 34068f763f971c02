"""What ticks do to a shard: misses, timeouts, and what becomes unknown (shell).

A pass over ticks is a call of one handler: find what is due, lock the environments in id order, decide tick after tick
in memory, write in bulk. Whose turn it is, and where the shard's clock stands, is `clocktasks.shards`.
"""

from collections.abc import Callable

from clocktasks.clock import TaskKind
from clocktasks.kinds.marked import Pass
from clocktasks.kinds.missed import mark_missed
from clocktasks.kinds.timeout import mark_timeouts
from clocktasks.kinds.unknown import mark_unknown

HANDLERS: dict[TaskKind, Callable[..., Pass]] = {
    TaskKind.MISSED: mark_missed,
    TaskKind.TIMEOUT: mark_timeouts,
    TaskKind.UNKNOWN: mark_unknown,
}
