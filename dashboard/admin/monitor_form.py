"""The form of a monitor, with checks before anything is saved.

The schedule goes through `Schedule.from_crontab` and `Schedule.from_interval`, as it does when a client sends one; its
one-sentence errors appear at the field they are about.
"""

import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Field

from checkins.maintenance import TAGS_MAX
from dashboard.admin.limit_fields import LIMIT_FIELDS, BoundField, initial_limits, limits_text, meaning_field
from dashboard.admin.unfold import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminNullBooleanSelectWidget,
    UnfoldAdminTextInputWidget,
)
from dashboard.editing import EditForm
from dashboard.typed_schedules import parse_schedule
from lib.wallclock import utcnow
from monitors.configuration import NUMBERS, SCHEDULE_COLUMNS
from monitors.dependencies import DependencyError, check_upstreams, upstream_slugs
from monitors.models import Monitor
from monitors.schedule import ScheduleError
from monitors.slugs import slugify


class TimezoneWidget(UnfoldAdminTextInputWidget):
    """A text field that suggests the zones of the tz database."""

    template_name = "admin/monitors/timezone_widget.html"

    def __init__(self) -> None:
        super().__init__(attrs={"list": "timezone-names", "autocomplete": "off"})

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Add the suggestions."""
        return {**super().get_context(name, value, attrs), "zones": sorted(zoneinfo.available_timezones())}


def _whole_number(name: str, label: str) -> forms.IntegerField:
    field = Monitor._meta.get_field(name)
    assert isinstance(field, Field)
    most = NUMBERS[name].maximum
    message = f"Enter a whole number from 1 to {most}."
    return forms.IntegerField(
        label=label,
        help_text=field.help_text,
        initial=field.default,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"min": 1, "max": most}),
        validators=[MinValueValidator(1, message), MaxValueValidator(most, message)],
        error_messages={"invalid": message, "required": message},
    )


class ConfigLockWidget(UnfoldAdminNullBooleanSelectWidget):
    """Refuse, accept, or as set in the project."""

    def __init__(self) -> None:
        super().__init__()
        self.choices = [("unknown", "As set in the project"), ("true", "Refuse"), ("false", "Accept")]


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


class MonitorForm(EditForm):
    """The configuration of one monitor. Valid data break no constraint, except when another writer is faster."""

    units = (("schedule_type", "crontab", "interval", "interval_unit"), LIMIT_FIELDS)

    crontab = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Five fields (minute, hour, day of month, month, day of week) or a nickname such as @daily.",
    )
    # A text field, so that any invalid input gets the sentence of ScheduleError.
    interval = forms.CharField(required=False, widget=UnfoldAdminIntegerFieldWidget(attrs={"min": 1}))
    timezone = forms.CharField(
        label="Time zone",
        required=False,
        widget=TimezoneWidget(),
        help_text="A name of the tz database, such as Europe/Vienna. Empty: UTC.",
    )
    checkin_margin = _whole_number("checkin_margin", "Margin in minutes")
    max_runtime = _whole_number("max_runtime", "Maximum runtime in minutes")
    failure_threshold = _whole_number("failure_threshold", "Failure threshold")
    recovery_threshold = _whole_number("recovery_threshold", "Recovery threshold")

    longer_than = BoundField("Longer than", is_upper=True, example="3x")
    longer_is = meaning_field("A run that takes longer")
    shorter_than = BoundField("Shorter than", is_upper=False, example="0.5x")
    shorter_is = meaning_field("A run that takes less")
    overlap_is = meaning_field("A run that begins before an earlier one has ended", may_be_none="is as good as any")

    is_config_locked = forms.NullBooleanField(
        label="Configuration from check-ins",
        required=False,
        widget=ConfigLockWidget(),
        help_text="Refuse: the settings here stay. A different configuration is reported once, as a processing error.",
    )

    depends_on = forms.CharField(
        label="Depends on",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Slugs of monitors without which it cannot work, separated by commas. While people know that one of "
        "them fails, they are not told of this one.",
    )

    class Meta:
        model = Monitor
        fields = [
            "project",
            "slug",
            "name",
            "status",
            "is_muted",
            *SCHEDULE_COLUMNS,
            *NUMBERS,
            "owner",
            "severity",
            "tags",
            "is_config_locked",
            "has_private_logs",
        ]
        help_texts = {
            "slug": "The name of the monitor in check-ins: lower case letters, digits, - and _; at most 50 characters.",
            "status": "A disabled monitor refuses check-ins and expects none.",
            "is_muted": "All environments: failures are recorded, but nobody is notified.",
            "owner": "user:name or team:name",
            "tags": "Separated by commas.",
        }
        labels = {"is_muted": "Muted"}
        widgets = {"tags": UnfoldAdminTextInputWidget()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        if instance is not None and instance.pk is not None:
            stored = ", ".join(upstream_slugs(instance.pk))
            kwargs["initial"] = {"depends_on": stored} | initial_limits(instance.limits) | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        if "status" in self.fields:
            status = self.fields["status"]
            assert isinstance(status, forms.ChoiceField)
            status.choices = [("active", "active"), ("disabled", "disabled")]

    def clean_slug(self) -> str:
        """Refuse slugs that no check-in could name. A stored slug stays, whatever its form."""
        slug: str = self.cleaned_data["slug"]
        if slug != self.instance.slug and (not slug or slugify(slug) != slug or slug.isdecimal()):
            suggestion = slugify(slug)
            raise ValidationError(
                "A slug has 1 to 50 lower case letters, digits, single dashes and underscores, begins and ends with "
                "a letter or digit, and is not digits only"
                + (f": {suggestion}, for example." if suggestion and not suggestion.isdecimal() else ".")
            )
        return slug

    def clean_tags(self) -> list[str]:
        """Return each tag once. Their number has a limit, as what people and maintenance windows go by."""
        tags = list(dict.fromkeys(self.cleaned_data["tags"]))
        if len(tags) > TAGS_MAX:
            raise ValidationError(f"A monitor has at most {TAGS_MAX} tags, these are {len(tags)}.")
        return tags

    def upstreams(self) -> list[str]:
        """Return the slugs of the monitors that it depends on."""
        return [slug for part in self.cleaned_data["depends_on"].split(",") if (slug := part.strip())]

    def clean(self) -> dict[str, Any]:
        """Check the schedule as a whole, and that the slug is free in its project."""
        super().clean()
        data = self.cleaned_data
        if self._is_schedule_typed():
            try:
                typed = {name: self._typed(name) for name in SCHEDULE_COLUMNS}
                schedule = parse_schedule(typed, now=utcnow())
            except ScheduleError as error:
                self.add_error(error.field, str(error))
            else:
                data.update({name: getattr(schedule, name) for name in SCHEDULE_COLUMNS})
        project = data.get("project") or getattr(self.instance, "project", None)
        if self._are_limits_typed() and not set(LIMIT_FIELDS) & self.errors.keys():
            self.limits = self.instance.limits = limits_text({name: self._typed_limit(name) for name in LIMIT_FIELDS})
        if "slug" in data and project is not None:
            others = Monitor.objects.filter(project=project, slug=data["slug"]).exclude(pk=self.instance.pk)
            if others.exists():
                self.add_error("slug", f"The project already has a monitor with the slug {data['slug']}.")
        if project is not None and "depends_on" in data:
            try:
                check_upstreams(project.pk, self.instance.pk, self.upstreams())
            except DependencyError as error:
                self.add_error("depends_on", str(error))
        return data

    def written(self) -> set[str]:
        """Return the fields to write; a schedule is written as a whole."""
        changed = super().written()
        changed |= set(SCHEDULE_COLUMNS) if self._is_schedule_typed() else set()
        return changed | {"limits"} if self._are_limits_typed() else changed

    def _is_schedule_typed(self) -> bool:
        return self.instance.pk is None or not set(SCHEDULE_COLUMNS).isdisjoint(self.changed_data)

    def _are_limits_typed(self) -> bool:
        return not set(LIMIT_FIELDS).isdisjoint(self.changed_data)

    def _typed_limit(self, name: str) -> str:
        """Return the new value of a field of the limits: the typed one, or the row's current one (D41)."""
        text: str = (self.cleaned_data if name in self.changed_data else self.initial).get(name, "")
        return text

    def _typed(self, name: str) -> Any:
        """Return the new value of a field of the schedule: the typed one, or the row's current one (D41)."""
        if self.instance.pk is None or name in self.changed_data:
            return self.data.get(self.add_prefix(name))
        return "" if self.initial.get(name) is None else self.initial[name]

    def _get_validation_exclusions(self) -> set[str]:
        # A constraint over the whole schedule adds nothing to the error of one of its fields.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]  # not in its stubs
        return excluded | set(SCHEDULE_COLUMNS) if excluded & set(SCHEDULE_COLUMNS) else excluded
