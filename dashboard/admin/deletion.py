"""Deleting through the services, which leave the rows to housekeeping."""

from collections.abc import Collection
from typing import Any

from django.db.models import Model
from django.http import HttpRequest


class ServiceDeletionMixin:
    """Deleting takes rows out of sight through the services; what hangs on them is not listed.

    Django would load every check-in of a monitor to show what will be deleted with it.
    """

    opts: Any

    def get_deleted_objects(
        self, objs: Collection[Model], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the rows themselves, and what happens to the rest."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []
