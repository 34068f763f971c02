"""The form of a maintenance window, for its page and for the admin, with checks before anything is saved."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from checkins.maintenance import next_minute, not_ended
from dashboard.texts import said
from monitors.maintenance import MINUTES_MAX, Recurrence, never_ends
from monitors.models import MaintenanceWindow
from monitors.schedule import Schedule, ScheduleError, zone_to_show

WALL_CLOCK = "%Y-%m-%d %H:%M"
TIME_OF_DAY = "%H:%M"
SCOPE = ("monitor", "tag", "environment")
"""The fields that say what a window is about."""
TIMES = ("timezone", "starts", "ends", "crontab", "minutes", "until")
"""The fields that say when it is."""
_TYPED = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]
_YEARS = gettext_lazy("Enter a time in the years 2000 to 2999.")
_IN_THESE_YEARS = (
    MinValueValidator(datetime(2000, 1, 1, tzinfo=UTC), _YEARS),
    MaxValueValidator(datetime(2999, 12, 31, tzinfo=UTC), _YEARS),
)


def _instant(label: Any, help_text: Any) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        required=False,
        input_formats=_TYPED,
        validators=_IN_THESE_YEARS,
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}),
        help_text=help_text,
        error_messages={"invalid": gettext_lazy("Enter a date and a time of day, such as 2026-12-24 22:00.")},
    )


class WindowForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A one-off window, or one by a rule. Its times are on the wall clock of its zone."""

    starts = _instant(gettext_lazy("From"), gettext_lazy("Empty: the next minute."))
    ends = _instant(
        gettext_lazy("Until"),
        gettext_lazy("The first moment that is not in the window. A rule may go on without an end."),
    )
    timezone = forms.CharField(
        label=gettext_lazy("Time zone"),
        required=False,
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off"}),
        help_text=gettext_lazy("Of all times here: a name of the tz database, such as Europe/Vienna. Empty: UTC."),
    )
    crontab = forms.CharField(
        label=gettext_lazy("Repeats"),
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy(
            "A crontab that says when each occurrence begins: 0 22 * * 5 is Friday at 22:00. Empty: once."
        ),
    )
    minutes = forms.IntegerField(
        label=gettext_lazy("Minutes of each occurrence"),
        required=False,
        min_value=1,
        max_value=MINUTES_MAX,
        help_text=format_lazy(
            gettext_lazy("Elapsed minutes, 1 to {most} (7 days), whatever the clocks do meanwhile."), most=MINUTES_MAX
        ),
    )
    until = forms.TimeField(
        label=gettext_lazy("Or until"),
        required=False,
        input_formats=[TIME_OF_DAY],
        widget=forms.TimeInput(format=TIME_OF_DAY, attrs={"type": "time"}),
        help_text=gettext_lazy("The time of day at which each occurrence ends."),
        error_messages={"invalid": gettext_lazy("Enter a time of day, such as 07:00.")},
    )

    class Meta:
        model = MaintenanceWindow
        fields = ["project", "name", *SCOPE, "timezone", "crontab", "minutes", "until"]
        labels = {
            "name": gettext_lazy("Name"),
            "monitor": gettext_lazy("Monitor"),
            "tag": gettext_lazy("Tag"),
            "environment": gettext_lazy("Environment"),
        }
        help_texts = {
            "name": gettext_lazy("What people read where a slot is not judged: upgrade of the database."),
            "monitor": gettext_lazy("Empty: all monitors of the project, or those with the tag."),
            "tag": gettext_lazy("Instead of a monitor: all monitors that have this tag then."),
            "environment": gettext_lazy("Empty: all environments of these monitors."),
        }

    def __init__(self, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = now
        row = self.instance
        if row.pk is not None:
            zone = zone_to_show(row.timezone)
            for name, at in (("starts", row.starts_at), ("ends", row.ends_at)):
                # What is typed is read as if it were in UTC, and compared with this.
                self.initial[name] = None if at is None else at.astimezone(zone).replace(tzinfo=UTC)

    def clean(self) -> dict[str, Any]:
        """Check what the window is about, and its times; set the columns of both in the row."""
        super().clean()
        self._check_what_it_is_about()
        self._check_room()
        schedule = self._schedule()
        if schedule is not None:
            self._check_times(ZoneInfo(schedule.timezone), is_rule=bool(self.instance.crontab))
            if not self.instance.crontab:
                self._check_once()
            elif self.errors.keys().isdisjoint(TIMES):
                self._check_rule()
        return self.cleaned_data

    def as_new_row(self) -> MaintenanceWindow:
        """Return what was typed as a row that is not stored yet: an edit ends a window and plans another."""
        row = self.instance
        columns = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
        return MaintenanceWindow(**{**columns, "id": None})

    def _check_what_it_is_about(self) -> None:
        data = self.cleaned_data
        project = data.get("project") or getattr(self.instance, "project", None)
        for name in ("monitor", "environment"):
            chosen = data.get(name)
            if chosen is not None and project is not None and chosen.project_id != project.pk:
                text = _("%(chosen)s is of the project %(other)s, the window of %(project)s.")
                self.add_error(name, text % {"chosen": chosen, "other": chosen.project, "project": project})
        if data.get("monitor") is not None and data.get("tag"):
            text = _("A window is about a monitor or about a tag: empty one of %(monitor)s and %(tag)s.")
            self.add_error("tag", text % {"monitor": data["monitor"], "tag": data["tag"]})

    def _check_room(self) -> None:
        project = self.cleaned_data.get("project") or getattr(self.instance, "project", None)
        if self.instance.pk is not None or project is None:
            return
        most = settings.MAINTENANCE_WINDOWS_MAX
        if MaintenanceWindow.objects.filter(not_ended(self.now), project=project).count() >= most:
            text = _("The project has %(most)d maintenance windows that have not ended, and may have no more: end one.")
            self.add_error(None, text % {"most": most})

    def _schedule(self) -> Schedule | None:
        """Return the rule, or one that stands for none, with its zone; None if it cannot be used."""
        crontab, timezone = (self.cleaned_data.get("crontab") or "").strip(), self.cleaned_data.get("timezone")
        try:
            schedule = Schedule.from_crontab(crontab or "0 0 * * *", timezone, now=self.now)
        except ScheduleError as error:
            self.add_error(error.field if error.field in self.fields else "crontab", said(error))
            return None
        self.instance.crontab = self.cleaned_data["crontab"] = (schedule.crontab or "") if crontab else ""
        self.instance.timezone = self.cleaned_data["timezone"] = schedule.timezone
        return schedule

    def _check_times(self, zone: ZoneInfo, *, is_rule: bool) -> None:
        data, first = self.cleaned_data, next_minute(self.now)
        starts_at, ends_at = (self._in_utc(data.get(name), zone) for name in ("starts", "ends"))
        if not is_rule and ends_at is None and "ends" not in self.errors:
            self.add_error("ends", _("A window that does not repeat needs an end."))
        self.instance.starts_at = max(starts_at or first, first)
        self.instance.ends_at = ends_at
        if ends_at is not None and ends_at <= self.instance.starts_at:
            begin = self.instance.starts_at.astimezone(zone)
            text = _("%(end)s is not after %(begin)s, when it begins.")
            shown = {"end": f"{ends_at.astimezone(zone):{WALL_CLOCK}}", "begin": f"{begin:{WALL_CLOCK}}"}
            self.add_error("ends", text % shown)

    def _in_utc(self, typed: datetime | None, zone: ZoneInfo) -> datetime | None:
        """Return what was typed on the wall clock of the zone as an instant."""
        return None if typed is None else typed.replace(tzinfo=zone).astimezone(UTC)

    def _check_once(self) -> None:
        for name in ("minutes", "until"):
            value = self.cleaned_data.get(name)
            if value is not None:
                shown = value if name == "minutes" else f"{value:{TIME_OF_DAY}}"
                text = _("%(value)s is for a window that repeats: fill in the crontab too.")
                self.add_error(name, text % {"value": shown})

    def _check_rule(self) -> None:
        data, row = self.cleaned_data, self.instance
        minutes, until = data.get("minutes"), data.get("until")
        if minutes is None and until is None:
            self.add_error("minutes", _("Each occurrence has a length in minutes or an end, it has neither now."))
        elif minutes is not None and until is not None:
            text = _(
                "Each occurrence has a length in minutes or an end, it has both %(minutes)d minutes and until "
                "%(until)s now."
            )
            self.add_error("minutes", text % {"minutes": minutes, "until": f"{until:{TIME_OF_DAY}}"})
        elif never_ends(Recurrence(row.crontab, row.timezone, minutes, until), self.now):
            text = _("%(crontab)s: each occurrence goes on until the next one begins, so it never ends.")
            self.add_error("crontab", text % {"crontab": row.crontab})

    def _get_validation_exclusions(self) -> set[str]:
        # The checks above name the fields; the constraints say the same about all at once.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]  # not in its stubs
        return excluded | {"starts_at", "ends_at", "crontab", "minutes", "until", "monitor", "tag"}
