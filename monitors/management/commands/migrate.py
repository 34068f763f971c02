"""`manage.py migrate`: Django's command, with a clear error for a database that is too old."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangosCommand
from django.db import connections

from lib.migrations import half_replaced

LAST_WITH_ALL = "e2e8189"
"""A commit that contains the squashed migrations one by one; no later commit changed them."""


class Command(DjangosCommand):
    """Like Django's command, except for a database of a version before `LAST_WITH_ALL`."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Raises CommandError where Django would fail with a traceback."""
        if half_replaced(connections[options["database"]]):
            raise CommandError(
                f"this database is of a version before {LAST_WITH_ALL}, which this version cannot upgrade: "
                "run `manage.py migrate` of that commit first, then this one"
            )
        super().handle(*args, **options)
