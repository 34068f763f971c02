from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class MonitorsConfig(AppConfig):
    """Monitors, their schedules and their state."""

    name = "monitors"

    def ready(self) -> None:
        """Set up every new connection, and register lookups and checks."""
        from lib import lookups
        from monitors.checks import check_shards

        lookups.register()
        connection_created.connect(set_up_session)
        checks.register(check_shards, checks.Tags.database)


def set_up_session(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Set the session parameters of a connection. With a statement: PgBouncer refuses parameters of the connection.

    PostgreSQL rolls back a transaction without a statement for ABANDONED_TRANSACTION_SECONDS. A host that is cut off,
    or a frozen process, sends nothing and holds its locks. By default PostgreSQL waits forever, or two hours if the
    host is gone. For that time a shard would stop, or the whole clock if the process was about to write the ledger.

    JIT is off. The clock and ingest disable some kinds of scans; before version 18 PostgreSQL gives those an immense
    cost, and compiled for seconds a query that then took milliseconds.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false), set_config('jit', 'off', false)",
            [f"{settings.ABANDONED_TRANSACTION_SECONDS}s"],
        )
