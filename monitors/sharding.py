"""How monitors are spread over shards (pure).

A shard is the unit of work of the clock: one worker walks one shard at a time. All environments of a monitor live
in one shard, so that everything about a job happens in one order.
"""

SHARD_COUNT = 16  # Enough to keep a dozen workers busy; small enough that a quiet tick stays one cheap statement.


def shard_of(monitor_id: int) -> int:
    """Return the shard (0 .. SHARD_COUNT - 1) that all environments of this monitor belong to."""
    return monitor_id % SHARD_COUNT
