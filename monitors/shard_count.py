"""The number of shards: one row, in force wherever a row gets a shard (shell).

The setting CLOCK_SHARDS is the initial number of a new installation. Later only `manage.py change_shards` changes the
row, together with all rows that have a shard. So all processes agree, even if their settings differ.
"""

from django.conf import settings
from django.db import connection

from monitors.models import ShardLayout


def shard_count() -> int:
    """Return the number of shards, or the initial number if none was needed so far. Locks nothing."""
    count = ShardLayout.objects.values_list("count", flat=True).first()
    return settings.CLOCK_SHARDS if count is None else count


def ignored_setting() -> str | None:
    """Return a sentence for people if CLOCK_SHARDS differs from the number of shards, which is in force."""
    count = shard_count()
    if count == settings.CLOCK_SHARDS:
        return None
    return f"CLOCK_SHARDS is {settings.CLOCK_SHARDS}, but there are {count} shards; the setting is ignored."


def hold_shard_count() -> int:
    """Return the number of shards, and prevent a change of it until the caller's transaction ends.

    For writers of new rows that have a shard. Waits for a change in progress, and a change waits for the caller. The
    lock comes after those of monitors and before those of environments.
    """
    return _locked_shard_count("FOR SHARE")


def lock_shard_count() -> int:
    """Return the number of shards, and prevent new rows with a shard until the transaction ends."""
    return _locked_shard_count("FOR UPDATE")


def _locked_shard_count(lock: str) -> int:
    assert connection.in_atomic_block, "a lock ends with its transaction"
    with connection.cursor() as cursor:
        statement = f"SELECT count FROM monitors_shardlayout {lock}"  # noqa: S608 - one of the two above
        cursor.execute(statement)
        row = cursor.fetchone()
        if row is None:  # A shard is needed for the first time. Concurrent transactions wait here for each other.
            cursor.execute(
                "INSERT INTO monitors_shardlayout (id, count) VALUES (1, %s) ON CONFLICT DO NOTHING",
                [settings.CLOCK_SHARDS],
            )
            cursor.execute(statement)
            row = cursor.fetchone()
        return int(row[0])
