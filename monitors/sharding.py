"""How monitors are spread over shards (pure).

A shard is the unit of work of the clock: one worker walks one shard at a time. All environments of a monitor live
in one shard, so that everything about a job happens in one order. How many shards there are is in the database
(`monitors.shard_count`).
"""

SHARDS_MAX = 1024
"""A beat looks at each shard once a minute; far more than any number of workers, and still a matter of milliseconds."""


def shard_of(monitor_id: int, count: int) -> int:
    """Return which of `count` shards (0 .. count - 1) all environments of this monitor belong to.

    In SQL: `monitor_id % count`.
    """
    return monitor_id % count
