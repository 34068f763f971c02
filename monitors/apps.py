from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class MonitorsConfig(AppConfig):
    """What is watched."""

    name = "monitors"

    def ready(self) -> None:
        """Have every connection end its transaction when nothing is heard of us any more, and register checks."""
        from monitors.checks import check_shards

        connection_created.connect(end_abandoned_transactions)
        checks.register(check_shards, checks.Tags.database)


def end_abandoned_transactions(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Let PostgreSQL roll back a transaction in which no statement comes for ABANDONED_TRANSACTION_SECONDS.

    A host that is cut off, or a process that is frozen, says nothing and keeps its locks. By default PostgreSQL waits
    for it for ever, or two hours if the host is gone: so long a shard would stand still, or the whole clock if it was
    about to write the ledger. A statement rather than a parameter of the connection, which PgBouncer would refuse.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false)",
            [f"{settings.ABANDONED_TRANSACTION_SECONDS}s"],
        )
