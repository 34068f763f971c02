"""Checks of `manage.py check --database default` and `migrate`: the settings against the database."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connection

from monitors.models import ShardLayout
from monitors.shard_count import ignored_setting


def check_shards(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Warn if CLOCK_SHARDS differs from the number of shards in the database, which is in force."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [ShardLayout._meta.db_table])
        if cursor.fetchone() == (False,):
            return []  # Before the first migration.
    sentence = ignored_setting()
    hint = f"Run `manage.py change_shards {settings.CLOCK_SHARDS}`, or set CLOCK_SHARDS to the present number."
    return [] if sentence is None else [checks.Warning(sentence, hint=hint, id="monitors.W001")]
