"""The form of a monitor's settings on its page: that of the admin, in a project and with a schedule that are given."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils.translation import gettext as _

from dashboard.limit_fields import LIMIT_FIELDS
from dashboard.monitor_form import MonitorForm
from dashboard.vocabulary import word
from monitors.configuration import SCHEDULE_COLUMNS

ELSEWHERE = {"project", "checkin_margin", "max_runtime", *SCHEDULE_COLUMNS}
"""What other pages set."""


class SettingsForm(MonitorForm):
    """A monitor that exists, without its schedule."""

    units = (LIMIT_FIELDS,)
    crontab = interval = timezone = checkin_margin = max_runtime = None  # type: ignore[assignment]  # removes fields

    class Meta(MonitorForm.Meta):
        fields = [name for name in MonitorForm.Meta.fields if name not in ELSEWHERE]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("status", "severity"):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [(value, word(str(words))) for value, words in field.widget.choices]

    def groups(self) -> Iterator[tuple[str, list[BoundField]]]:
        """Yield the parts of the form: a heading and its fields."""
        parts = (
            (_("Job"), ("name", "slug", "owner", "tags", "depends_on", "severity", "status", "is_muted")),
            (_("Incidents"), ("failure_threshold", "recovery_threshold")),
            (_("Limits of runs that end ok"), LIMIT_FIELDS),
            (_("Check-ins and logs"), ("is_config_locked", "has_private_logs")),
        )
        for title, names in parts:
            yield title, [self[name] for name in names]
