"""The form of a maintenance window in the admin: that of its page, with the admin's widgets."""

from datetime import datetime, time
from typing import Any

from django.forms import Field

from dashboard.admin.monitor_form import TimezoneWidget
from dashboard.admin.unfold import UnfoldAdminTextInputWidget
from dashboard.window_form import TIME_OF_DAY, WALL_CLOCK, WindowForm
from lib.wallclock import utcnow


class TypedTimeWidget(UnfoldAdminTextInputWidget):
    """A text field for a time, shown as people type it."""

    def __init__(self, pattern: str, example: str) -> None:
        super().__init__(attrs={"placeholder": example, "autocomplete": "off"})
        self._pattern = pattern

    def format_value(self, value: Any) -> Any:
        """Return the time as text."""
        return value.strftime(self._pattern) if isinstance(value, datetime | time) else value


class AdminWindowForm(WindowForm):
    """A window of any project."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, now=utcnow(), **kwargs)
        plain = {"autocomplete": "off", "spellcheck": "false"}
        widgets = {
            "starts": TypedTimeWidget(WALL_CLOCK, "2026-12-24 22:00"),
            "ends": TypedTimeWidget(WALL_CLOCK, "2026-12-24 22:00"),
            "timezone": TimezoneWidget(),
            "crontab": UnfoldAdminTextInputWidget(attrs=plain),
            "until": TypedTimeWidget(TIME_OF_DAY, "07:00"),
            "tag": UnfoldAdminTextInputWidget(),
        }
        for name, widget in widgets.items():
            field: Field | None = self.fields.get(name)
            if field is not None:
                field.widget = widget
