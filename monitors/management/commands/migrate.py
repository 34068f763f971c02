"""`manage.py migrate`: Django's own, which says of a database that is too old for it what is to be done."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangosCommand
from django.db import connections

from lib.migrations import half_replaced

LAST_WITH_ALL = "e2e8189"
"""A commit in which the migrations that were put together into one are there one by one; no later one changed them."""


class Command(DjangosCommand):
    """Does what Django's command does, but for a database of a version before `LAST_WITH_ALL`."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Raises CommandError, where Django would fail with a traceback."""
        if half_replaced(connections[options["database"]]):
            raise CommandError(
                f"this database is of a version before {LAST_WITH_ALL}, which this version cannot upgrade: "
                "run `manage.py migrate` of that commit first, then this one"
            )
        super().handle(*args, **options)
