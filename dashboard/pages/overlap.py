"""The form that replaces a key or a ping address: until when the old one works."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils.translation import gettext_lazy as _

from dashboard.moments import READER_ZONE
from monitors.addresses import OVERLAP_MAX

DEFAULT = timedelta(days=1)


class OverlapForm(forms.Form):
    """`ends_at` is on the reader's wall clock, and aware when the form is valid."""

    ends_at = forms.DateTimeField(
        label=_("The old one works until"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, now: datetime) -> None:
        self._now = now
        self.zone = READER_ZONE.get() or ZoneInfo("UTC")
        proposed = (now + DEFAULT).astimezone(self.zone).replace(second=0, microsecond=0, tzinfo=None)
        super().__init__(data, initial={"ends_at": proposed})

    def clean_ends_at(self) -> datetime:
        """Return the instant. What an hour that the clocks repeat means is the earlier one."""
        local: datetime = self.cleaned_data["ends_at"].replace(tzinfo=None)
        try:
            ends_at: datetime | None = local.replace(tzinfo=self.zone).astimezone(UTC)
        except OverflowError:  # In UTC it is before the first year, or after the last.
            ends_at = None
        if ends_at is None or not self._now < ends_at <= self._now + OVERLAP_MAX:
            text = _("%(typed)s is not within the next %(days)d days.")
            raise forms.ValidationError(text % {"typed": local.isoformat(" ", "minutes"), "days": OVERLAP_MAX.days})
        return ends_at
