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
        """Have every connection set up, and register checks."""
        from lib import lookups
        from monitors.checks import check_shards

        lookups.register()
        connection_created.connect(set_up_session)
        checks.register(check_shards, checks.Tags.database)


def set_up_session(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Set what every connection of ours needs. A statement, not parameters of the connection: PgBouncer refuses those.

    Let PostgreSQL roll back a transaction in which no statement comes for ABANDONED_TRANSACTION_SECONDS. A host that is
    cut off, or a process that is frozen, says nothing and keeps its locks. By default PostgreSQL waits for it for ever,
    or two hours if the host is gone: so long a shard would stand still, or the whole clock if it was about to write the
    ledger.

    No plan is compiled. The clock and ingest switch off kinds of scans; before version 18 PostgreSQL counts those as
    immensely dear, and compiled for seconds what then took milliseconds.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false), set_config('jit', 'off', false)",
            [f"{settings.ABANDONED_TRANSACTION_SECONDS}s"],
        )
