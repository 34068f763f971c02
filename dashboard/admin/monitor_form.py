"""The form of a monitor in the admin: that of its page, with the admin's widgets, and with its schedule."""

import zoneinfo
from typing import Any

from django.forms import ChoiceField, Widget

from dashboard.admin.unfold import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminNullBooleanSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)
from dashboard.limit_fields import LIMIT_FIELDS
from dashboard.monitor_form import CONFIG_LOCK, MonitorForm
from dashboard.typed_schedules import LEARNING
from monitors.configuration import NUMBERS


class TimezoneWidget(UnfoldAdminTextInputWidget):
    """A text field that suggests the zones of the tz database."""

    template_name = "admin/monitors/timezone_widget.html"

    def __init__(self) -> None:
        super().__init__(attrs={"list": "timezone-names", "autocomplete": "off"})

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Add the suggestions."""
        return {**super().get_context(name, value, attrs), "zones": sorted(zoneinfo.available_timezones())}


class ConfigLockWidget(UnfoldAdminNullBooleanSelectWidget):
    """Refuse, accept, or as set in the project."""

    def __init__(self) -> None:
        super().__init__()
        self.choices = CONFIG_LOCK


FIELDSETS: Any = (
    (
        "Job",
        {"fields": (("name", "slug"), ("project", "owner"), "tags", "depends_on", ("severity", "status", "is_muted"))},
    ),
    (
        "Schedule",
        {
            "fields": (
                ("schedule_type", "timezone"),
                "crontab",
                ("interval", "interval_unit"),
                ("checkin_margin", "max_runtime"),
                "next_ten_times",
            )
        },
    ),
    ("Thresholds", {"fields": (("failure_threshold", "recovery_threshold"),)}),
    (
        "Limits of runs that end ok",
        {"fields": (("longer_than", "longer_is"), ("shorter_than", "shorter_is"), "overlap_is")},
    ),
    ("Configuration from check-ins", {"fields": ("is_config_locked",)}),
    ("Who sees what", {"fields": ("has_private_logs",)}),
)
"""The form's fields on the page, in groups."""


class AdminMonitorForm(MonitorForm):
    """A monitor of any project."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        monitor = kwargs.get("instance")
        is_learning = monitor is not None and monitor.schedule().is_learning
        if is_learning:
            kwargs["initial"] = {"crontab": LEARNING} | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        if is_learning and "crontab" in self.fields:
            self.fields["crontab"].help_text = "It is learned from check-ins. Enter a crontab to choose it yourself."
        plain = {"autocomplete": "off", "spellcheck": "false"}
        widgets: dict[str, Widget] = {
            "crontab": UnfoldAdminTextInputWidget(attrs=plain),
            "interval": UnfoldAdminIntegerFieldWidget(attrs={"min": 1}),
            "timezone": TimezoneWidget(),
            "tags": UnfoldAdminTextInputWidget(),
            "depends_on": UnfoldAdminTextInputWidget(attrs=plain),
            "is_config_locked": ConfigLockWidget(),
            "longer_than": UnfoldAdminTextInputWidget(attrs=plain),
            "shorter_than": UnfoldAdminTextInputWidget(attrs=plain),
        }
        for name, number in NUMBERS.items():
            widgets[name] = UnfoldAdminIntegerFieldWidget(attrs={"min": 1, "max": number.maximum})
        for name in LIMIT_FIELDS:
            widgets.setdefault(name, UnfoldAdminSelectWidget())
        for name, widget in widgets.items():
            field = self.fields.get(name)
            if field is None:
                continue
            field.widget = widget
            if isinstance(field, ChoiceField):
                field.choices = field.choices  # Which gives them to the widget.
