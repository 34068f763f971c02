"""How many shards there are: one row, which rules wherever rows are given a shard (shell).

The setting CLOCK_SHARDS is what a new installation begins with. From then on only `manage.py change_shards` changes the
row, together with everything that carries a shard. So all processes agree, whatever their environment says.
"""

from django.conf import settings
from django.db import connection

from monitors.models import ShardLayout


def shard_count() -> int:
    """Return how many shards there are, or will be if nothing has needed one yet. Locks nothing."""
    count = ShardLayout.objects.values_list("count", flat=True).first()
    return settings.CLOCK_SHARDS if count is None else count


def ignored_setting() -> str | None:
    """Return a sentence for people if CLOCK_SHARDS does not say how many shards there are. The database rules."""
    count = shard_count()
    if count == settings.CLOCK_SHARDS:
        return None
    return f"CLOCK_SHARDS is {settings.CLOCK_SHARDS}, but there are {count} shards, and that is what counts."


def hold_shard_count() -> int:
    """Return how many shards there are, and keep that so until the caller's transaction ends.

    For whoever writes rows that carry a shard and do not exist yet. Waits for a change that is going on, as that waits
    for the caller. The lock comes after those of monitors and before those of environments.
    """
    return _locked_shard_count("FOR SHARE")


def lock_shard_count() -> int:
    """Return how many shards there are, and let nobody create rows with a shard until the transaction ends."""
    return _locked_shard_count("FOR UPDATE")


def _locked_shard_count(lock: str) -> int:
    assert connection.in_atomic_block, "a lock ends with its transaction"
    with connection.cursor() as cursor:
        statement = f"SELECT count FROM monitors_shardlayout {lock}"  # noqa: S608 - one of the two above
        cursor.execute(statement)
        row = cursor.fetchone()
        if row is None:  # The first one to need a shard. Of two at once, one waits here for the other.
            cursor.execute(
                "INSERT INTO monitors_shardlayout (id, count) VALUES (1, %s) ON CONFLICT DO NOTHING",
                [settings.CLOCK_SHARDS],
            )
            cursor.execute(statement)
            row = cursor.fetchone()
        return int(row[0])
