"""What a program reports when it cannot start, or an engine is away: one line that names the setting (shell).

Web, worker, beat and commands use it. A traceback says the same in sixty lines, and not which variable to check.
"""

import sys
from types import TracebackType
from urllib.parse import urlsplit

import django.db
import psycopg
import redis
from django.core.exceptions import ImproperlyConfigured

UNREACHABLE_CLASSES = ("08", "28", "3D", "57P")
"""Classes of SQLSTATE: no connection, not authorized, no such database, shutting down or starting.
Source: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception: a wrong setting or an absent engine in one line. For `sys.excepthook`."""
    reason = explain(error)
    if reason is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"Watchclock cannot start: {reason}", file=sys.stderr)


def explain(error: BaseException) -> str | None:
    """Return in one line what is wrong with a setting or an engine, or None if the error is about neither."""
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    if isinstance(error, redis.ConnectionError):  # Also a wrong password.
        return f"Valkey or Redis cannot be reached: {_first_line(error)}. {shown_address('REDIS_URL')}"
    if is_unreachable(error):
        return f"PostgreSQL cannot be reached: {_first_line(error)}. {shown_address('DATABASE_URL')}"
    return None


def is_unreachable(error: BaseException) -> bool:
    """Return whether a database error means that PostgreSQL cannot be reached or refuses the login."""
    if not isinstance(error, django.db.OperationalError | django.db.InterfaceError):
        return False
    cause = error.__cause__
    sqlstate = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return sqlstate is None or sqlstate.startswith(UNREACHABLE_CLASSES)


def shown_address(name: str) -> str:
    """Return `NAME is scheme://user@host:port/path`, as it is set, without its password."""
    from django.conf import settings

    if name == "DATABASE_URL":
        database = settings.DATABASES["default"]
        port = f":{database['PORT']}" if database["PORT"] else ""
        return f"DATABASE_URL is postgres://{database['USER']}@{database['HOST']}{port}/{database['NAME']}"
    parts = urlsplit(getattr(settings, name))
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{name} is {parts.scheme}://{user}{parts.hostname}{port}{parts.path}"


def find_absent_engines() -> list[str]:
    """Connect to PostgreSQL and to the broker once, and return in one line each what cannot be reached.

    For the start of a worker or beat, which then goes on: an engine that is away at the moment comes back. Takes a few
    seconds at most.
    """
    from django.conf import settings
    from kombu import Connection
    from kombu.exceptions import OperationalError

    absent = []
    try:
        django.db.connection.ensure_connection()
    except django.db.Error as error:
        absent.append(explain(error) or f"PostgreSQL: {_first_line(error)}. {shown_address('DATABASE_URL')}")
    finally:
        django.db.connection.close()  # A process that is forked later must not inherit it.
    name = "CELERY_BROKER_URL" if settings.CELERY_BROKER_URL != settings.REDIS_URL else "REDIS_URL"
    try:
        with Connection(settings.CELERY_BROKER_URL, connect_timeout=3) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=3)
    except (OperationalError, OSError) as error:
        absent.append(f"The broker cannot be reached: {_first_line(error)}. {shown_address(name)}")
    return absent


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
