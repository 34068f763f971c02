"""Ingest keys and addresses, and the permission to see them."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import code
from dashboard.admin.permissions import KeyPermissions
from dashboard.admin.recording import RecordedAdmin
from dashboard.admin.unfold import (
    AutocompleteSelectFilter,
    TabularInline,
)
from dashboard.editing import EditForm
from lib.wallclock import utcnow
from monitors.models import (
    IngestKey,
)
from monitors.snippets import Line


class IngestKeyInline(KeyPermissions, TabularInline):
    """The keys of a project; a new one generates itself."""

    model = IngestKey
    form = EditForm
    fields = ("public_key", "label", "is_active")
    extra = 0


def to_copy(lines: Iterable[Line]) -> list[tuple[str, SafeString]]:
    """Return titles and texts, each to be copied with one click."""
    return [(line.title, code(line.text)) for line in lines]


@admin.register(IngestKey)
class IngestKeyAdmin(RecordedAdmin, KeyPermissions, InspectionAdmin):
    """Keys of all projects: to find the project of a key, and to disable one."""

    form = EditForm
    list_display = ("public_key", "project", "label", "is_active", "ends_at", "created_at")
    list_filter = ("is_active", ("project", AutocompleteSelectFilter))
    search_fields = ("public_key", "label")
    list_select_related = ("project",)
    autocomplete_fields = ("project",)
    ordering = ("-id",)
    fields = ("project", "public_key", "label", "is_active")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Date a new key."""
        if change:
            self.save_changes(obj, form)
            return
        obj.created_at = utcnow()
        obj.save()
