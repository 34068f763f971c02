"""Pages of maintenance windows. Nothing past is rewritten: an edit ends a window and plans another one."""

from datetime import datetime
from itertools import islice
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, Model, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from checkins.maintenance import (
    TooManyWindowsError,
    WindowOverError,
    end_window,
    not_ended,
    plan_window,
    replace_window,
)
from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, instant, label, link
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import actor_of
from dashboard.admin.tables import counted, keys_of
from dashboard.admin.unfold import AutocompleteSelectFilter
from dashboard.admin.window_form import AdminWindowForm
from dashboard.windows import rule_in_words, what_it_covers
from lib.wallclock import utcnow
from monitors.maintenance import occurrences
from monitors.models import MaintenanceWindow
from monitors.schedule import why_unreadable

OCCURRENCES_SHOWN = 3


def standing(row: MaintenanceWindow, now: datetime) -> SafeString:
    """Return a label that says whether a window is active, to come, between occurrences, or over."""
    window = row.window()
    if row.ends_at is not None and row.ends_at <= now:
        return label("ended")
    if window.recurrence is not None and (reason := why_unreadable(window.recurrence.schedule)):
        return label("cannot be read", "bad", title=f"{reason} It covers nothing.")
    if window.end_at(now) is not None:
        return label("in maintenance", "running")
    return label("planned" if row.starts_at > now else "between occurrences")


def when(row: MaintenanceWindow) -> SafeString | str:
    """Return when a window is, in words."""
    span = [(instant(at, row.timezone),) for at in (row.starts_at, row.ends_at)]
    return rule_in_words(row) or format_html_join(" to ", "{}", span)


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(GrantedPermissions, InspectionAdmin):
    """Times in which slots are not judged: plan, edit and end them."""

    form = AdminWindowForm
    list_display = ("name", "standing_label", "concerned_text", "when_text", "project_link")
    list_filter = (("project", AutocompleteSelectFilter),)
    search_fields = ("name", "tag", "monitor__slug")
    list_select_related = ("project", "monitor", "environment")
    autocomplete_fields = ("project", "monitor", "environment")
    actions = ("end_now",)
    readonly_fields = ("standing_label", "next_three")
    fieldsets = (
        (None, {"fields": (("name", "project"), ("monitor", "tag", "environment"))}),
        ("When", {"fields": ("timezone", ("starts", "ends"), "crontab", ("minutes", "until"))}),
        ("Now", {"fields": ("standing_label", "next_three")}),
    )

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        """Windows that have begun come first, then those to come, and at last those that are over."""
        now = utcnow()
        over = Case(When(not_ended(now), then=Case(When(starts_at__lte=now, then=0), default=1)), default=Value(2))
        return (over, "-starts_at", "-id")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Put active windows first on a page: whether a rule has an occurrence now is not in its row."""
        changelist = super().get_changelist_instance(request)
        now = utcnow()
        changelist.result_list = sorted(changelist.result_list, key=lambda row: row.window().end_at(now) is None)
        return changelist

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As granted to the user; what has ended is history."""
        is_over = isinstance(obj, MaintenanceWindow) and obj.ends_at is not None and obj.ends_at <= utcnow()
        return not is_over and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A window is ended; then it is stored for as long as people may ask why a slot was not judged."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the columns where there is no form."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        return [(None, {"fields": ("name", "project", "concerned_text", "when_text", "standing_label", "next_three")})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A window stays in its project."""
        if obj is None:
            return ("standing_label", "next_three")
        return ("project", "standing_label", "next_three", "concerned_text", "when_text")

    @admin.display(description="Now")
    def standing_label(self, row: MaintenanceWindow) -> SafeString:
        """Show whether it is active."""
        return standing(row, utcnow()) if row.pk else NOTHING

    @admin.display(description="About")
    def concerned_text(self, row: MaintenanceWindow) -> str:
        """Show what it is about."""
        return what_it_covers(row)

    @admin.display(description="When")
    def when_text(self, row: MaintenanceWindow) -> SafeString | str:
        """Show when it is."""
        return when(row)

    @admin.display(description="Project", ordering="project__name")
    def project_link(self, row: MaintenanceWindow) -> SafeString:
        """Link to the project."""
        return link(row.project)

    @admin.display(description="Next occurrences")
    def next_three(self, row: MaintenanceWindow) -> SafeString:
        """Show the occurrence that goes on, if any, and the next ones."""
        if not row.pk:
            return NOTHING
        found = islice(occurrences(row.window(), utcnow()), OCCURRENCES_SHOWN)
        lines = [(instant(begin, row.timezone), instant(end, row.timezone)) for begin, end in found]
        return format_html_join("", "<div>{} to {}</div>", lines) or NOTHING

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Plan the window; an edit ends the row and plans another."""
        now = utcnow()
        by = actor_of(request, at=now)
        if not change:
            plan_window(obj, now=now, by=by)
        elif form.changed_data:
            obj.pk = replace_window(obj.pk, form.as_new_row(), now=now, by=by).pk

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Say it if another person has planned the last window that the project may have, or has changed this one."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except (TooManyWindowsError, WindowOverError) as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.path)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Lead to the page of the window, which shows when it comes."""
        return self._shown(request, obj, "is planned")

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Lead to the page of the window that replaces the edited one."""
        return self._shown(request, obj, "is planned anew: what was before its next minute stays as it was")

    def _shown(self, request: HttpRequest, obj: Any, what: str) -> HttpResponse:
        messages.success(request, f"{obj.name} {what}.")
        return HttpResponseRedirect(
            f"../../{obj.pk}/change/" if request.path.endswith("/change/") else f"../{obj.pk}/change/"
        )

    @admin.action(description="End now: judge from the next minute on", permissions=["handle"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[MaintenanceWindow]) -> None:
        """End the selected windows; those that have not begun are removed."""
        now = utcnow()
        count = sum(end_window(key, now=now, by=actor_of(request, at=now)) for key in sorted(keys_of(queryset)))
        messages.success(request, f"Ended {counted(count, 'maintenance window')}.")
