"""Pages of projects and of the configurations that monitors have had."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.safestring import SafeString

from accounts.models import Membership
from audit.recording import record
from dashboard.addresses import base_url
from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import facts, link_to_list
from dashboard.admin.keys import IngestKeyInline, to_copy
from dashboard.admin.members import MembershipInline, save_members
from dashboard.admin.permissions import GrantedPermissions, may_see_keys
from dashboard.admin.recording import RecordedAdmin, actor_of
from dashboard.editing import EditForm
from dashboard.recording import form_entry, row_entry
from lib.wallclock import utcnow
from monitors.addresses import note_keys_shown
from monitors.models import (
    ConfigSnapshot,
    Monitor,
    Project,
)
from monitors.services import (
    lock_config_of_project,
)
from monitors.snippets import project_lines


@admin.register(Project)
class ProjectAdmin(RecordedAdmin, GrantedPermissions, InspectionAdmin):
    """Projects, their members, their keys, and snippets for jobs."""

    form = EditForm
    list_display = ("name", "slug", "monitors_text", "created_at")
    search_fields = ("name", "slug")
    ordering = ("name",)
    fields = ("name", "slug", "is_config_locked")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (IngestKeyInline, MembershipInline)
    change_form_template = "admin/monitors/project/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        """Projects with their number of monitors."""
        rows = Monitor.objects.not_deleted().filter(project=OuterRef("pk")).order_by().values("project")
        projects: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Project] = projects.annotate(
            monitor_count=Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n")), 0)
        )
        return counted

    def get_prepopulated_fields(self, request: HttpRequest, obj: Model | None = None) -> dict[str, Any]:
        """Suggest a slug for a new project; never change one that is in use."""
        return {} if obj is not None or not self.has_add_permission(request) else {"slug": ("name",)}

    @admin.display(description="Monitors", ordering="monitor_count")
    def monitors_text(self, project: Any) -> SafeString:
        """Show how many monitors there are, with a link to them."""
        return link_to_list("monitors.monitor", f"project__id__exact={project.pk}", str(project.monitor_count))

    def surroundings(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Show snippets for jobs."""
        if not may_see_keys(request):
            return {}
        base = base_url(request)
        now = utcnow()
        keys = list(row.ingest_keys.in_force(now))
        note_keys_shown(keys, by=actor_of(request, at=now))
        return {
            "connections": [
                {"key": key, "lines": to_copy(project_lines(base, key.public_key, key.project_id))} for key in keys
            ]
        }

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Date a new project; changes refused under one lock are reported again under the next one."""
        if change:
            self.save_changes(obj, form)
            if "is_config_locked" in form.written():
                # `RecordedAdmin` records the form.
                lock_config_of_project(obj.pk, form.cleaned_data["is_config_locked"], by=None)
            return
        obj.created_at = utcnow()
        obj.save()

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Write members through their services. Date new keys, and write only changed columns of the others."""
        if formset.model is Membership:
            save_members(request, formset)
            return
        formset.save(commit=False)
        for key in formset.new_objects:
            key.created_at = utcnow()
            key.save()
        for key, changed in formset.changed_objects:
            key.save(update_fields=changed)
        entries = [
            form_entry(one, is_new=one in formset.extra_forms)
            for one in formset.forms
            if one.has_changed() and one not in formset.deleted_forms
        ]
        entries += [row_entry(key, "deleted") for key in formset.deleted_objects]
        for key in formset.deleted_objects:
            key.delete()
        record(entries, by=actor_of(request, at=utcnow()))


@admin.register(ConfigSnapshot)
class ConfigSnapshotAdmin(InspectionAdmin):
    """The configurations under which runs were judged."""

    list_display = ("__str__", "summary")
    search_fields = ("sha256",)
    ordering = ("-id",)
    fields = ("sha256", "content")
    readonly_fields = fields

    @admin.display(description="Configuration")
    def summary(self, snapshot: ConfigSnapshot) -> str:
        """Show the columns that are set, on one line."""
        return ", ".join(f"{name} {value}" for name, value in snapshot.columns().items() if value is not None)

    @admin.display(description="Configuration")
    def content(self, snapshot: ConfigSnapshot) -> SafeString:
        """Show the columns of the monitor as they were."""
        return facts({name.replace("_", " "): value for name, value in snapshot.columns().items()})
