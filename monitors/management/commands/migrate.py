"""`manage.py migrate`: Django's command, with a clear error for a database that is too old."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangosCommand
from django.db import connections

from lib.migrations import half_replaced

LAST_WITH_ALL = "e2e8189"
"""A commit that contains the squashed migrations one by one; no later commit changed them."""


class Command(DjangosCommand):
    """Like Django's command, except for a database of a version before `LAST_WITH_ALL`.

    SIGINT and SIGTERM let the migration that runs end: Django may write down that it was applied after its transaction,
    and an end in between would leave a database that no migration fits.
    """

    is_stop_asked = False

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Raises CommandError where Django would fail with a traceback."""
        if half_replaced(connections[options["database"]]):
            raise CommandError(
                f"this database is of a version before {LAST_WITH_ALL}, which this version cannot upgrade: "
                "run `manage.py migrate` of that commit first, then this one"
            )
        with self.signals_noted():
            super().handle(*args, **options)

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        """Say what Django says, and stop between two migrations if that was asked for. Raises CommandError."""
        super().migration_progress_callback(action, migration, fake)
        if self.is_stop_asked:
            raise CommandError("Stopped between two migrations. Run it again to go on.", returncode=130)

    @contextmanager
    def signals_noted(self) -> Iterator[None]:
        """Take note of the first signal to stop; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():  # Signals are for the main one.
            yield
            return

        def note(number: int, _frame: object) -> None:
            self.is_stop_asked = True
            signal.signal(number, former[signal.Signals(number)])

        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in former:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
