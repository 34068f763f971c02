"""Two connections at once: what one transaction does while another one holds its locks."""

import contextlib
import threading
from types import SimpleNamespace

from django.db import connection, transaction

from tests.waiting import PATIENCE_SECONDS, wait_until


def is_waited_for():
    """Whether somebody waits for a lock of this connection."""
    with connection.cursor() as cursor:
        # Not pg_stat_activity, which shows a transaction again what it saw at its first look.
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone() != (0,)


@contextlib.contextmanager
def in_another_connection(work, *, commits=True):
    """`work` has been done in a transaction of another connection.

    It ends when somebody waits for its locks, or with the block.
    """
    ready, stopped = threading.Event(), threading.Event()
    outcome = SimpleNamespace(error=None, was_waited_for=False)

    def run():
        try:
            with transaction.atomic():
                work()
                ready.set()
                wait_until(lambda: is_waited_for() or stopped.is_set(), "somebody waits for our locks")
                outcome.was_waited_for = not stopped.is_set()
                transaction.set_rollback(not commits)
        except BaseException as error:  # noqa: BLE001 - told to the test, whatever it is
            outcome.error = error
        finally:
            ready.set()
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        yield outcome
    finally:
        stopped.set()
        thread.join(PATIENCE_SECONDS)
    if outcome.error is not None:
        raise outcome.error
