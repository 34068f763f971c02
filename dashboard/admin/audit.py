"""The audit log: who changed what, from where, and when."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.safestring import SafeString

from audit.models import AuditEntry
from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, facts, instant, link_to, table
from dashboard.admin.unfold import ChoicesDropdownFilter, DropdownFilter, SingleNumericFilter
from dashboard.vocabulary import setting
from monitors.models import Project

PAGES = {
    "monitor": "monitors.monitor",
    "monitor environment": "monitors.monitorenvironment",
    "project": "monitors.project",
    "ingest key": "monitors.ingestkey",
    "issue": "incidents.issue",
    "member": "auth.user",
    "user": "auth.user",
    "group": "auth.group",
}
"""The admin pages of objects, by what the audit log calls their kind."""


class ProjectFilter(DropdownFilter):
    """Entries of one project."""

    title = "project"
    parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer every project that exists; the address takes the id of one that is gone."""
        return [(str(key), name) for key, name in Project.objects.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by project."""
        return queryset.filter(project_id=self.value()) if (self.value() or "").isdecimal() else queryset


class KindFilter(DropdownFilter):
    """Entries about one kind of object."""

    title = "kind of object"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the kinds that have a page."""
        return [(kind, kind) for kind in PAGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by kind."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(InspectionAdmin):
    """Entries of the audit log, newest first."""

    list_display = ("when", "actor_name", "source", "action", "kind", "object_name", "project_name", "summary")
    list_display_links = ("when", "object_name")
    list_filter = (ProjectFilter, KindFilter, ("object_id", SingleNumericFilter), ("source", ChoicesDropdownFilter))
    search_fields = ("object_name", "actor_name", "action")
    search_help_text = "Part of the name of the object or the person, or an action (muted, deleted, …)"
    sortable_by = ("when",)
    ordering = ("-id",)
    fields = ("when", "actor_name", "source", "action", "kind", "object_link", "project_name", "changes_table")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        """Entries with the present names of their projects."""
        project = Subquery(Project.objects.filter(pk=OuterRef("project_id")).values("name"))
        entries: QuerySet[AuditEntry] = super().get_queryset(request).annotate(project=project)
        return entries

    @admin.display(description="When", ordering="id")
    def when(self, entry: AuditEntry) -> SafeString:
        """Show the instant."""
        return instant(entry.at, is_narrow=True)

    @admin.display(description="Project")
    def project_name(self, entry: Any) -> str:
        """Show the name; the id of a project that is gone."""
        if entry.project_id is None:
            return NOTHING
        return str(entry.project or f"{entry.project_id} (deleted)")

    @admin.display(description="Object")
    def object_link(self, entry: AuditEntry) -> SafeString | str:
        """Link to the object, which may be gone."""
        page = PAGES.get(entry.kind)
        if page is None or entry.object_id is None:
            return entry.object_name
        return link_to(page, entry.object_id, entry.object_name)

    @admin.display(description="Changed")
    def summary(self, entry: AuditEntry) -> str:
        """Name the fields that changed."""
        return ", ".join(name.replace("_", " ") for name in entry.changes)

    @admin.display(description="Changes")
    def changes_table(self, entry: AuditEntry) -> SafeString:
        """Show each field before and after."""
        rows = []
        for name, change in entry.changes.items():
            before, after = change if isinstance(change, list) and len(change) == 2 else (NOTHING, _text(change))
            rows.append((name.replace("_", " "), _text(before), _text(after)))
        return table(("Field", "Before", "After"), rows) if rows else facts({"Changes": "none stored"})


def _text(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    return ", ".join(map(str, value)) if isinstance(value, list) else str(setting(value))
