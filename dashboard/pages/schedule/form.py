"""The fields of a schedule, for new monitors and for those that there are."""

import zoneinfo
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from dashboard.texts import said
from dashboard.typed_schedules import LEARN, parse_schedule
from dashboard.vocabulary import word
from monitors.configuration import NUMBERS
from monitors.schedule import IntervalUnit, Schedule, ScheduleError, ScheduleType


def minutes_field(name: str, label: Any, help_text: Any) -> forms.IntegerField:
    """Return the field of a number of a monitor, with its bounds."""
    number = NUMBERS[name]
    return forms.IntegerField(
        label=label, help_text=help_text, min_value=1, max_value=number.maximum, initial=number.default
    )


def _schedule_types() -> list[tuple[str, str]]:
    known = [(one.value, word(one.value)) for one in (ScheduleType.CRONTAB, ScheduleType.INTERVAL)]
    return [*known, (LEARN, gettext("learn it from the first check-ins"))]


class ScheduleForm(forms.Form):
    """What a person types. `schedule` is there when the form is valid."""

    schedule_type = forms.ChoiceField(label=_("Schedule"), choices=_schedule_types)
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
    checkin_margin = minutes_field(
        "checkin_margin", _("Margin in minutes"), _("How late it may be before it is missed.")
    )
    max_runtime = minutes_field("max_runtime", _("Maximum runtime in minutes"), _("After which a run is a timeout."))

    def __init__(self, *arguments: Any, now: datetime, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.now = now
        self.schedule: Schedule | None = None

    def clean(self) -> dict[str, Any]:
        """Read the schedule. Errors stand beside their fields."""
        data: dict[str, Any] = super().clean() or {}
        try:
            self.schedule = parse_schedule(data, now=self.now)
        except ScheduleError as error:
            self.add_error(error.field if error.field in self.fields else None, said(error))
        return data


class EditScheduleForm(ScheduleForm):
    """The schedule of a monitor that exists. `seen` is the snapshot of the configuration that the person saw."""

    seen = forms.IntegerField(widget=forms.HiddenInput)


def zone_names() -> Sequence[str]:
    """Return the zones that the field suggests."""
    return sorted(zoneinfo.available_timezones())
