"""The form of a new monitor: a name and a schedule are enough."""

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from dashboard.pages.schedule.form import ScheduleForm, minutes_field
from dashboard.typed_schedules import typed_as
from monitors.configuration import NUMBERS, schedule_columns
from monitors.models import Monitor, Project
from monitors.slugs import slugify

COPIED_COLUMNS = ("tags", "owner", "severity", "limits", "is_config_locked", "has_private_logs")
"""What a copy of a monitor has as well, besides the fields of the form."""


class NewMonitorForm(ScheduleForm):
    """What a person types. `schedule` is there when the form is valid."""

    project = forms.ModelChoiceField(queryset=Project.objects.none(), label=_("Project"), empty_label=None)
    name = forms.CharField(label=_("Name"), max_length=128, help_text=_("For people: Nightly backup"))
    slug = forms.CharField(
        label=_("Slug"), required=False, max_length=50, help_text=_("For programs; follows from the name if empty.")
    )
    failure_threshold = minutes_field("failure_threshold", _("Failures that open an incident"), "")
    recovery_threshold = minutes_field("recovery_threshold", _("Oks that resolve it"), "")
    field_order = ("project", "name", "slug")

    def __init__(
        self, *arguments: Any, projects: Any, now: datetime, copied: Monitor | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, now=now, **options)
        self._copied = copied
        field = self.fields["project"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = projects

    def clean(self) -> dict[str, Any]:
        """Read the schedule, and make the slug. Errors stand beside their fields."""
        data = super().clean()
        typed = data.get("slug") or ""
        slug = slugify(typed or data.get("name") or "")
        if typed and typed != slug:
            self.add_error(
                "slug", _("A slug has small letters, digits, - and _: %(slug)s, for example.") % {"slug": slug}
            )
        elif (not slug or slug.isdecimal()) and (typed or data.get("name")):
            self.add_error("slug", _("The name gives no slug: type one, with a letter in it."))
        elif slug and "project" in data and Monitor.objects.filter(project=data["project"], slug=slug).exists():
            self.add_error("slug", _("The project has a monitor with this slug already."))
        if "project" in data and data["project"].monitors.count() >= settings.MONITORS_PER_PROJECT:
            text = _("The project has %(count)d monitors; no more are allowed.")
            self.add_error("project", text % {"count": settings.MONITORS_PER_PROJECT})
        data["slug"] = slug
        return data

    def monitor(self) -> Monitor:
        """Return the monitor, not stored yet. Only for a valid form."""
        if self.schedule is None:
            raise ValidationError("the form is not valid")
        data = self.cleaned_data
        numbers = {name: data[name] for name in NUMBERS}
        besides = {} if self._copied is None else {name: getattr(self._copied, name) for name in COPIED_COLUMNS}
        return Monitor(
            project=data["project"],
            slug=data["slug"],
            name=data["name"],
            created_at=self.now,
            **schedule_columns(self.schedule),
            **numbers,
            **besides,
        )


def copied_values(monitor: Monitor) -> dict[str, Any]:
    """Return what the form proposes for a copy of a monitor."""
    values = typed_as(monitor.schedule()) | {column: getattr(monitor, column) for column in NUMBERS}
    name = _("Copy of %(name)s") % {"name": monitor.name}
    return {**values, "project": monitor.project_id, "name": str(name)[:128]}
