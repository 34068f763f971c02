"""The form of a new monitor: a name and a schedule are enough."""

import zoneinfo
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from dashboard.typed_schedules import parse_schedule
from dashboard.vocabulary import word
from monitors.configuration import NUMBERS, SCHEDULE_COLUMNS, schedule_columns
from monitors.models import Monitor, Project
from monitors.schedule import IntervalUnit, Schedule, ScheduleError, ScheduleType
from monitors.slugs import slugify

COPIED_COLUMNS = ("tags", "owner", "severity", "limits", "is_config_locked", "has_private_logs")
"""What a copy of a monitor has as well, besides the fields of the form."""


def _minutes(name: str, label: Any, help_text: Any) -> forms.IntegerField:
    number = NUMBERS[name]
    return forms.IntegerField(
        label=label, help_text=help_text, min_value=1, max_value=number.maximum, initial=number.default
    )


class NewMonitorForm(forms.Form):
    """What a person types. `schedule` is there when the form is valid."""

    project = forms.ModelChoiceField(queryset=Project.objects.none(), label=_("Project"), empty_label=None)
    name = forms.CharField(label=_("Name"), max_length=128, help_text=_("For people: Nightly backup"))
    slug = forms.CharField(
        label=_("Slug"), required=False, max_length=50, help_text=_("For programs; follows from the name if empty.")
    )
    schedule_type = forms.ChoiceField(
        label=_("Schedule"),
        choices=lambda: [(one.value, word(one.value)) for one in (ScheduleType.CRONTAB, ScheduleType.INTERVAL)],
    )
    crontab = forms.CharField(label=_("Crontab"), required=False, max_length=200)
    interval = forms.CharField(label=_("Every"), required=False, max_length=20)
    interval_unit = forms.ChoiceField(
        label=_("Unit"), required=False, choices=lambda: [(unit.value, word(f"{unit.value}s")) for unit in IntervalUnit]
    )
    timezone = forms.CharField(
        label=_("Time zone"),
        required=False,
        max_length=64,
        initial="UTC",
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off"}),
    )
    checkin_margin = _minutes("checkin_margin", _("Margin in minutes"), _("How late it may be before it is missed."))
    max_runtime = _minutes("max_runtime", _("Maximum runtime in minutes"), _("After which a run is a timeout."))
    failure_threshold = _minutes("failure_threshold", _("Failures that open an incident"), "")
    recovery_threshold = _minutes("recovery_threshold", _("Oks that resolve it"), "")

    def __init__(
        self, *arguments: Any, projects: Any, now: datetime, copied: Monitor | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._copied = copied
        field = self.fields["project"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = projects
        self._now = now
        self.schedule: Schedule | None = None

    def clean(self) -> dict[str, Any]:
        """Read the schedule, and make the slug. Errors stand beside their fields."""
        data: dict[str, Any] = super().clean() or {}
        try:
            self.schedule = parse_schedule(data, now=self._now)
        except ScheduleError as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        typed = data.get("slug") or ""
        slug = slugify(typed or data.get("name") or "")
        if typed and typed != slug:
            self.add_error(
                "slug", _("A slug has small letters, digits, - and _: %(slug)s, for example.") % {"slug": slug}
            )
        elif not slug or slug.isdecimal():
            self.add_error("slug", _("The name gives no slug: type one, with a letter in it."))
        elif "project" in data and Monitor.objects.filter(project=data["project"], slug=slug).exists():
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
            created_at=self._now,
            **schedule_columns(self.schedule),
            **numbers,
            **besides,
        )


def copied_values(monitor: Monitor) -> dict[str, Any]:
    """Return what the form proposes for a copy of a monitor."""
    columns = (*SCHEDULE_COLUMNS, *NUMBERS)
    values = {column: value for column in columns if (value := getattr(monitor, column)) is not None}
    name = _("Copy of %(name)s") % {"name": monitor.name}
    return {**values, "project": monitor.project_id, "name": str(name)[:128]}


def zone_names() -> Sequence[str]:
    """Return the zones that the field suggests."""
    return sorted(zoneinfo.available_timezones())
