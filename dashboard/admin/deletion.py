"""Deleting through the services; housekeeping removes the rows later."""

from collections.abc import Collection
from typing import Any

from django.db.models import Model
from django.http import HttpRequest


class ServiceDeletionMixin:
    """Rows are deleted through the services, which hide them; dependent rows are not listed.

    Django would load every check-in of a monitor to list what will be deleted with it.
    """

    opts: Any

    def get_deleted_objects(
        self, objs: Collection[Model], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Return the names of the rows, without dependent rows."""
        names = [str(row) for row in objs]
        return names, {str(self.opts.verbose_name_plural): len(names)}, set(), []
