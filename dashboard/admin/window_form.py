"""The form of a maintenance window, with checks before anything is saved."""

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings

from checkins.maintenance import next_minute, not_ended
from dashboard.admin.monitor_form import TimezoneWidget
from dashboard.admin.unfold import UnfoldAdminTextInputWidget
from lib.wallclock import utcnow
from monitors.maintenance import MINUTES_MAX, Recurrence, never_ends
from monitors.models import MaintenanceWindow
from monitors.schedule import Schedule, ScheduleError, zone_to_show

WALL_CLOCK = "%Y-%m-%d %H:%M"
TIME_OF_DAY = "%H:%M"
_TYPED = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]


class _WallClockField(forms.DateTimeField):
    """A date and a time of day, shown as people type it."""

    def prepare_value(self, value: Any) -> Any:
        return value.strftime(WALL_CLOCK) if isinstance(value, datetime) else value


class _TimeOfDayField(forms.TimeField):
    """A time of day, shown as people type it."""

    def prepare_value(self, value: Any) -> Any:
        return value.strftime(TIME_OF_DAY) if isinstance(value, time) else value


def _instant(label: str, help_text: str) -> forms.DateTimeField:
    return _WallClockField(
        label=label,
        required=False,
        input_formats=_TYPED,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-24 22:00", "autocomplete": "off"}),
        help_text=help_text,
        error_messages={"invalid": "Enter a date and a time of day, such as 2026-12-24 22:00."},
    )


class WindowForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A one-off window, or one by a rule. Its times are on the wall clock of its zone."""

    starts = _instant("From", "Empty: the next minute.")
    ends = _instant("Until", "The first moment that is not in the window. A rule may go on without an end.")
    timezone = forms.CharField(
        label="Time zone",
        required=False,
        widget=TimezoneWidget(),
        help_text="Of all times here: a name of the tz database, such as Europe/Vienna. Empty: UTC.",
    )
    crontab = forms.CharField(
        label="Repeats",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="A crontab that says when each occurrence begins: 0 22 * * 5 is Friday at 22:00. Empty: once.",
    )
    minutes = forms.IntegerField(
        label="Minutes of each occurrence",
        required=False,
        min_value=1,
        max_value=MINUTES_MAX,
        help_text=f"Elapsed minutes, 1 to {MINUTES_MAX} (7 days), whatever the clocks do meanwhile.",
    )
    until = _TimeOfDayField(
        label="Or until",
        required=False,
        input_formats=[TIME_OF_DAY],
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "07:00", "autocomplete": "off"}),
        help_text="The time of day at which each occurrence ends.",
        error_messages={"invalid": "Enter a time of day, such as 07:00."},
    )

    class Meta:
        model = MaintenanceWindow
        fields = ["project", "name", "monitor", "tag", "environment", "timezone", "crontab", "minutes", "until"]
        help_texts = {
            "name": "What people read where a slot is not judged: upgrade of the database.",
            "monitor": "Empty: all monitors of the project, or those with the tag.",
            "tag": "Instead of a monitor: all monitors that have this tag then.",
            "environment": "Empty: all environments of these monitors.",
        }
        widgets = {"tag": UnfoldAdminTextInputWidget()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
            if self.instance.crontab and not self.errors:
                self._check_rule()
        return self.cleaned_data

    def _check_what_it_is_about(self) -> None:
        data = self.cleaned_data
        project = data.get("project") or getattr(self.instance, "project", None)
        for name in ("monitor", "environment"):
            chosen = data.get(name)
            if chosen is not None and project is not None and chosen.project_id != project.pk:
                self.add_error(name, f"{chosen} is of the project {chosen.project}, the window of {project}.")
        if data.get("monitor") is not None and data.get("tag"):
            self.add_error(
                "tag", f"A window is about a monitor or about a tag: empty one of {data['monitor']} and {data['tag']}."
            )

    def _check_room(self) -> None:
        project = self.cleaned_data.get("project")
        if self.instance.pk is not None or project is None:
            return
        most = settings.MAINTENANCE_WINDOWS_MAX
        if MaintenanceWindow.objects.filter(not_ended(utcnow()), project=project).count() >= most:
            self.add_error(
                None, f"The project has {most} maintenance windows that have not ended, and may have no more: end one."
            )

    def _schedule(self) -> Schedule | None:
        """Return the rule, or one that stands for none, with its zone; None if it cannot be used."""
        crontab, timezone = (self.cleaned_data.get("crontab") or "").strip(), self.cleaned_data.get("timezone")
        try:
            schedule = Schedule.from_crontab(crontab or "0 0 * * *", timezone, now=utcnow())
        except ScheduleError as error:
            self.add_error(error.field if error.field in self.fields else "crontab", str(error))
            return None
        self.instance.crontab = self.cleaned_data["crontab"] = (schedule.crontab or "") if crontab else ""
        self.instance.timezone = self.cleaned_data["timezone"] = schedule.timezone
        return schedule

    def _check_times(self, zone: ZoneInfo, *, is_rule: bool) -> None:
        data, first = self.cleaned_data, next_minute(utcnow())
        starts_at, ends_at = (self._in_utc(data.get(name), zone) for name in ("starts", "ends"))
        if not is_rule and ends_at is None and "ends" not in self.errors:
            self.add_error("ends", "A window that does not repeat needs an end.")
        self.instance.starts_at = max(starts_at or first, first)
        self.instance.ends_at = ends_at
        if ends_at is not None and ends_at <= self.instance.starts_at:
            begin = self.instance.starts_at.astimezone(zone)
            self.add_error(
                "ends", f"{ends_at.astimezone(zone):{WALL_CLOCK}} is not after {begin:{WALL_CLOCK}}, when it begins."
            )

    def _in_utc(self, typed: datetime | None, zone: ZoneInfo) -> datetime | None:
        """Return what was typed on the wall clock of the zone as an instant."""
        return None if typed is None else typed.replace(tzinfo=zone).astimezone(UTC)

    def _check_rule(self) -> None:
        data, row = self.cleaned_data, self.instance
        minutes, until = data.get("minutes"), data.get("until")
        if (minutes is None) is (until is None):
            given = "neither" if minutes is None else f"both {minutes} minutes and until {until:%H:%M}"
            self.add_error("minutes", f"Each occurrence has a length in minutes or an end, it has {given} now.")
        elif never_ends(Recurrence(row.crontab, row.timezone, minutes, until), utcnow()):
            self.add_error(
                "crontab", f"{row.crontab}: each occurrence goes on until the next one begins, so it never ends."
            )

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # not in its stubs
        if not self.instance.crontab and not self.errors:
            for name in ("minutes", "until"):
                if self.cleaned_data.get(name) is not None:
                    self.add_error(
                        name, f"{self.cleaned_data[name]} is for a window that repeats: fill in the crontab too."
                    )

    def _get_validation_exclusions(self) -> set[str]:
        # The checks above name the fields; the constraints say the same about all at once.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]  # not in its stubs
        return excluded | {"starts_at", "ends_at", "crontab", "minutes", "until", "monitor", "tag"}
