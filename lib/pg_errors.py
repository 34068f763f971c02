"""Classifying errors of PostgreSQL: temporary or permanent (shell)."""

from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, OperationalError, connections

RETRYABLE_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, resources, an operator's intervention, the system: the same statement may succeed later."""


RETRYABLE_STATES = frozenset({"25006", "25P03", "40001", "40P01", "55P03"})
"""Read-only, idle in a transaction (our process was frozen), serialization failure, deadlock, lock timeout.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


SUSPICIOUS_STATES = frozenset({"25P03", "40001", "40P01", "57014"})
"""Idle in a transaction, serialization failure, deadlock, statement timeout."""


class StatementError(Exception):
    """An error of a statement that psycopg raises as one of the connection, while the connection is sound."""


def is_not_now(error: BaseException) -> bool:
    """Return whether the database is temporarily unavailable, so that the same statement may succeed later.

    It is down, starting, shutting down, read-only, out of disk or connections, or the rows are locked for too long. An
    error without a state is the connection's only if that is really closed (D36): call this in the connection's thread.
    """
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return isinstance(error, (OperationalError, InterfaceError)) and not _is_connected()
    return state[:2] in RETRYABLE_CLASSES or state in RETRYABLE_STATES


def is_suspicious(error: BaseException) -> bool:
    """Return whether a temporary error (`is_not_now`) may still be caused by the batch itself (D36).

    The connection broke during it, or it took too long. Not: PostgreSQL was down, or another transaction held a lock.
    """
    state = getattr(error.__cause__, "sqlstate", None)
    return state in SUSPICIOUS_STATES or (state is None and isinstance(error.__cause__, psycopg.Error))


_used: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""What `use_connection` stored, by Django's connection: each thread has one of its own."""


def use_connection() -> None:
    """Store the connection for the next statements of this thread: Django opens another one when it is closed."""
    own = connections[DEFAULT_DB_ALIAS]
    own.ensure_connection()
    _used[own] = own.connection


def _is_connected() -> bool:
    own = connections[DEFAULT_DB_ALIAS]
    now = own.connection
    return now is not None and not now.closed and now is _used.get(own, now)
