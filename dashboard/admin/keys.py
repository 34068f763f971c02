"""Ingest keys and addresses, and the permission to see them."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import code
from dashboard.admin.editing import EditForm
from dashboard.admin.permissions import KeyPermissions
from dashboard.admin.recording import RecordedAdmin
from dashboard.admin.unfold import (
    AutocompleteSelectFilter,
    TabularInline,
)
from lib.wallclock import utcnow
from monitors.models import (
    IngestKey,
    Monitor,
)
from monitors.snippets import Address, Line


def address_of(monitor: Monitor, base: str, *, shows_key: bool = True) -> Address:
    """Return the address of a monitor, with the oldest active key of its project if that may be shown."""
    key = monitor.project.ingest_keys.filter(is_active=True).order_by("id").first() if shows_key else None
    return Address(
        base_url=base,
        project_id=monitor.project_id,
        slug=monitor.slug,
        guid=monitor.guid,
        public_key=None if key is None else key.public_key,
        crontab=monitor.crontab,
        timezone=monitor.timezone,
    )


class IngestKeyInline(KeyPermissions, TabularInline):
    """The keys of a project; a new one generates itself."""

    model = IngestKey
    form = EditForm
    fields = ("public_key", "label", "is_active")
    extra = 0


def base_url(request: HttpRequest) -> str:
    """Return the address under which jobs reach this server: from the settings, else that of this request."""
    scheme = "https" if request.is_secure() else "http"
    return settings.PUBLIC_URL or f"{scheme}://{request.get_host()}"


def to_copy(lines: Iterable[Line]) -> list[tuple[str, SafeString]]:
    """Return titles and texts, each to be copied with one click."""
    return [(line.title, code(line.text)) for line in lines]


@admin.register(IngestKey)
class IngestKeyAdmin(RecordedAdmin, KeyPermissions, InspectionAdmin):
    """Keys of all projects: to find the project of a key, and to disable one."""

    form = EditForm
    list_display = ("public_key", "project", "label", "is_active", "created_at")
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
