"""Pages of weekly reports: which project sends one, to whom, and when."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import MaxValueValidator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, label
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import RecordedAdmin
from dashboard.admin.unfold import AutocompleteSelectFilter
from dashboard.editing import EditForm
from dashboard.report.sending import plan_from, report_now
from incidents.models import WeeklyReport
from incidents.models.channels import EMAIL
from lib.wallclock import utcnow
from monitors.schedule import ScheduleError, parse_timezone


class WeeklyReportForm(EditForm):
    """A plan; its channel is an e-mail channel of the project."""

    fixed = ("project",)

    class Meta:
        model = WeeklyReport
        fields = ["project", "channel", "weekday", "hour", "timezone", "is_enabled"]
        help_texts = {
            "channel": "An e-mail channel of the project. Each of its addresses gets the report.",
            "hour": "0 to 23, by the wall clock of the zone.",
            "timezone": "Of the hour, the days and the times in the report, such as Europe/Vienna.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "hour" in self.fields:
            self.fields["hour"].validators.append(MaxValueValidator(23, "%(show_value)s is no hour: 0 to 23 are."))

    def clean_timezone(self) -> str:
        """Refuse what is no zone."""
        try:
            return parse_timezone(self.cleaned_data["timezone"])
        except ScheduleError as error:
            raise forms.ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        """Accept an e-mail channel of the same project only."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        project = cleaned.get("project") or (self.instance.project if self.instance.pk else None)
        channel = cleaned.get("channel")
        if channel is not None and (channel.kind != EMAIL or channel.project_id != getattr(project, "pk", None)):
            self.add_error("channel", f"{channel} is no e-mail channel of this project.")
        return cleaned


@admin.register(WeeklyReport)
class WeeklyReportAdmin(RecordedAdmin, GrantedPermissions, InspectionAdmin):
    """Weekly reports of projects."""

    form = WeeklyReportForm
    list_display = ("project", "channel", "when", "last_day", "state_label")
    list_filter = (("project", AutocompleteSelectFilter),)
    list_select_related = ("project", "channel")
    autocomplete_fields = ("project", "channel")
    ordering = ("project__name",)
    fields = ("project", "channel", "weekday", "hour", "timezone", "is_enabled")
    actions = ("send_now",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As granted to the user."""
        return request.user.has_perm("incidents.delete_weeklyreport")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the plan. It begins with its next week."""
        now = utcnow()
        with transaction.atomic():
            obj.changed_at = now
            if not change:
                plan_from(obj, now=now)
                obj.save()
                return
            self.save_changes(obj, form)
            if {"weekday", "hour", "timezone", "is_enabled"} & set(form.changed_data):
                plan_from(obj, now=now)
            obj.save(update_fields=["changed_at", "last_day"])

    @admin.display(description="When")
    def when(self, report: WeeklyReport) -> str:
        """Show weekday, hour and zone."""
        return f"{report.get_weekday_display()} {report.hour:02}:00 {report.timezone}"

    @admin.display(description="State")
    def state_label(self, report: WeeklyReport) -> SafeString:
        """Show whether it is sent."""
        if not report.is_enabled:
            return label("off") or NOTHING
        is_usable = report.channel.is_enabled and report.channel.removed_at is None
        return label("on", "good") if is_usable else label("its channel is not in use", "bad")

    @admin.action(description="Send the newest week now", permissions=["change"])
    def send_now(self, request: HttpRequest, queryset: QuerySet[WeeklyReport]) -> None:
        """Send the reports of the selected projects now, besides the planned ones."""
        now = utcnow()
        for report in queryset.select_related("project", "channel"):
            with transaction.atomic():
                count = report_now(report, now=now)
            if count:
                messages.success(
                    request, f"{report.project}: sent to {count} address{'' if count == 1 else 'es'}. See Messages."
                )
            else:
                messages.error(request, f"{report.project}: the channel has no address to send to.")
