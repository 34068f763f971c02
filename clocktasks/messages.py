"""Clock tasks as the broker carries them (pure)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clocktasks.clock import (
    ClockTask,
    TaskKind,
    whole_minute,
)
from clocktasks.exceptions import UnreadableClockTaskError
from monitors.sharding import SHARDS_MAX


def decode_clock_task(message: object) -> ClockTask:
    """Return the task in a message with `kind`, `shard` and `tick` (ISO 8601, UTC, whole minute).

    There need not be such a shard: the message may be older than the number of shards. Then nothing comes of it.
    Raises UnreadableClockTaskError, naming the field, its value and what is allowed.
    """
    if not isinstance(message, Mapping):
        raise UnreadableClockTaskError(f"kind, shard and tick are not in {message!r}")
    try:
        kind = TaskKind(message.get("kind", ""))
    except ValueError:
        raise UnreadableClockTaskError(f"kind {message.get('kind')!r} is not one of {', '.join(TaskKind)}") from None
    shard = message.get("shard")
    if type(shard) is not int or not 0 <= shard < SHARDS_MAX:
        raise UnreadableClockTaskError(f"shard {shard!r} is not a number from 0 to {SHARDS_MAX - 1}")
    try:
        tick = datetime.fromisoformat(message.get("tick", ""))
    except (TypeError, ValueError):
        raise UnreadableClockTaskError(f"tick {message.get('tick')!r} is not an ISO 8601 instant") from None
    if tick.tzinfo is None or whole_minute(tick.astimezone(UTC)) != tick:
        raise UnreadableClockTaskError(f"tick {message.get('tick')!r} is not a whole minute with a time zone")
    return ClockTask(kind, shard, tick.astimezone(UTC))


def encode_clock_task(task: ClockTask) -> dict[str, Any]:
    """Return the message for a task: what `decode_clock_task` reads."""
    return {"kind": task.kind.value, "shard": task.shard, "tick": task.tick.isoformat()}
