"""What an error of PostgreSQL means: not now, or never (shell)."""

import threading

import psycopg
from django.db import Error, InterfaceError, OperationalError, connection

RETRYABLE_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, resources, an operator's intervention, the system: the same statement may succeed later."""


RETRYABLE_STATES = frozenset({"25006", "25P03", "40001", "40P01", "55P03"})
"""Read-only, silence in a transaction (we were frozen), serialization, deadlock, a lock that was not to be had in time.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


SUSPICIOUS_STATES = frozenset({"25P03", "40001", "40P01", "57014"})
"""Silence in a transaction, serialization, deadlock, a statement that took too long."""


class StatementError(Exception):
    """An error that psycopg raises as that of a connection, while the connection is sound: it is the statement's."""


def is_not_now(error: BaseException) -> bool:
    """Tell whether the database cannot take anything at this moment, so that the same may succeed later.

    It is away, starting, shutting down, read-only, out of disk or connections, or busy with the rows for too long. An
    error without a state is the connection's only if that is really gone (D36): to be asked in the thread that has it.
    """
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return isinstance(error, (OperationalError, InterfaceError)) and not _is_connected()
    return state[:2] in RETRYABLE_CLASSES or state in RETRYABLE_STATES


def is_suspicious(error: BaseException) -> bool:
    """Tell whether an error that `is_not_now` knows may all the same be what the batch itself brings about (D36).

    The connection broke under it, or it took too long. Not: PostgreSQL was not there, or somebody else held a lock.
    """
    state = getattr(error.__cause__, "sqlstate", None)
    return state in SUSPICIOUS_STATES or (state is None and isinstance(error.__cause__, psycopg.Error))


_used = threading.local()


def use_connection() -> None:
    """Remember the connection that the coming statements of this thread use: Django opens another when it is gone."""
    connection.ensure_connection()
    _used.connection = connection.connection


def _is_connected() -> bool:
    now = connection.connection
    return now is not None and not now.closed and now is getattr(_used, "connection", now)
