"""Permissions to view and change rows: as granted, and keys only with the right to change them."""

from typing import Any

from django.db.models import Model
from django.http import HttpRequest


def may_see_keys(request: HttpRequest) -> bool:
    """Return whether the user may see ingest keys: only with the right to change them, since a key allows sending."""
    return request.user.has_perm("monitors.change_ingestkey")


class GrantedPermissions:
    """Rows that people create: adding and changing as granted to the user."""

    opts: Any

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm(f"{self.opts.app_label}.add_{self.opts.model_name}")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


class KeyPermissions(GrantedPermissions):
    """Ingest keys are shown, listed and searched only with the right to change them."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Require the right to change keys: a person who sees a key can send with it."""
        return may_see_keys(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("monitors.delete_ingestkey")
