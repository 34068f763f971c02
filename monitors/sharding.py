"""How monitors are distributed over shards (pure).

A shard is the clock's unit of work: one worker processes one shard at a time. All environments of a monitor are in one
shard, so that everything about a job happens in one order. The number of shards is in the database
(`monitors.shard_count`).
"""

SHARDS_MAX = 1024
"""Beat checks each shard once a minute: this is far more than any number of workers, and still takes milliseconds."""


def shard_of(monitor_id: int, count: int) -> int:
    """Return which of `count` shards (0 .. count - 1) all environments of this monitor belong to.

    In SQL: `monitor_id % count`.
    """
    return monitor_id % count
