"""The form of a monitor, for its page and for the admin, with checks before anything is saved.

The schedule goes through `Schedule.from_crontab` and `Schedule.from_interval`, as it does when a client sends one; its
one-sentence errors appear at the field they are about.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.entries import Actor
from checkins.editing import update_monitor
from checkins.maintenance import TAGS_MAX, change_tags
from dashboard.editing import EditForm
from dashboard.limit_fields import LIMIT_FIELDS, BoundField, initial_limits, limits_text, meaning_field
from dashboard.texts import said
from dashboard.typed_schedules import parse_schedule
from lib.wallclock import utcnow
from monitors.changes import CHANGEABLE_COLUMNS
from monitors.configuration import NUMBERS, SCHEDULE_COLUMNS
from monitors.dependencies import DependencyError, check_upstreams, set_upstreams, upstream_slugs
from monitors.models import Monitor
from monitors.schedule import ScheduleError
from monitors.services import keep_logs_private, set_monitors_muted
from monitors.slugs import slugify

CONFIG_LOCK = [
    ("unknown", gettext_lazy("As set in the project")),
    ("true", gettext_lazy("Refuse")),
    ("false", gettext_lazy("Accept")),
]


def _whole_number(name: str, label: Any, help_text: Any = "") -> forms.IntegerField:
    number = NUMBERS[name]
    message = format_lazy(gettext_lazy("Enter a whole number from 1 to {most}."), most=number.maximum)
    return forms.IntegerField(
        label=label,
        help_text=help_text,
        initial=number.default,
        widget=forms.NumberInput(attrs={"min": 1, "max": number.maximum}),
        validators=[MinValueValidator(1, message), MaxValueValidator(number.maximum, message)],
        error_messages={"invalid": message, "required": message},
    )


class ConfigLockWidget(forms.NullBooleanSelect):
    """Refuse, accept, or as set in the project."""

    def __init__(self) -> None:
        super().__init__()
        self.choices = CONFIG_LOCK


class MonitorForm(EditForm):
    """The configuration of one monitor. Valid data break no constraint, except when another writer is faster."""

    limits: str | None = None
    """What is stored for the limits of its runs, once the form is valid and they were typed."""
    units: Sequence[Collection[str]] = (("schedule_type", "crontab", "interval", "interval_unit"), LIMIT_FIELDS)

    crontab = forms.CharField(
        label=gettext_lazy("Crontab"),
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy(
            "Five fields (minute, hour, day of month, month, day of week) or a nickname such as @daily."
        ),
    )
    # A text field, so that any invalid input gets the sentence of ScheduleError.
    interval = forms.CharField(
        label=gettext_lazy("Interval"), required=False, widget=forms.NumberInput(attrs={"min": 1})
    )
    timezone = forms.CharField(
        label=gettext_lazy("Time zone"),
        required=False,
        help_text=gettext_lazy("A name of the tz database, such as Europe/Vienna. Empty: UTC."),
    )
    checkin_margin = _whole_number(
        "checkin_margin",
        gettext_lazy("Margin in minutes"),
        gettext_lazy("How late it may be before it is missed."),
    )
    max_runtime = _whole_number(
        "max_runtime", gettext_lazy("Maximum runtime in minutes"), gettext_lazy("After which a run is a timeout.")
    )
    failure_threshold = _whole_number(
        "failure_threshold",
        gettext_lazy("Failure threshold"),
        gettext_lazy("So many failures in a row open an incident."),
    )
    recovery_threshold = _whole_number(
        "recovery_threshold", gettext_lazy("Recovery threshold"), gettext_lazy("So many oks in a row resolve it.")
    )

    longer_than = BoundField(gettext_lazy("Longer than"), is_upper=True, example="3x")
    longer_is = meaning_field(gettext_lazy("A run that takes longer"))
    shorter_than = BoundField(gettext_lazy("Shorter than"), is_upper=False, example="0.5x")
    shorter_is = meaning_field(gettext_lazy("A run that takes less"))
    overlap_is = meaning_field(
        gettext_lazy("A run that begins before an earlier one has ended"),
        may_be_none=gettext_lazy("is as good as any"),
    )

    is_config_locked = forms.NullBooleanField(
        label=gettext_lazy("Configuration from check-ins"),
        required=False,
        widget=ConfigLockWidget(),
        help_text=gettext_lazy(
            "Refuse: the settings here stay. A different configuration is reported once, as a processing error."
        ),
    )

    depends_on = forms.CharField(
        label=gettext_lazy("Depends on"),
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=gettext_lazy(
            "Slugs of monitors without which it cannot work, separated by commas. While people know that one of them "
            "fails, they are not notified of this one."
        ),
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
            "slug": gettext_lazy(
                "The name of the monitor in check-ins: lower case letters, digits, - and _; at most 50 characters."
            ),
            "status": gettext_lazy("A disabled monitor refuses check-ins and expects none."),
            "is_muted": gettext_lazy("All environments: failures are recorded, but nobody is notified."),
            "owner": gettext_lazy("user:name or team:name"),
            "severity": gettext_lazy("How bad a failure is. Routes may go by it, and it is shown in alerts."),
            "tags": gettext_lazy("Separated by commas."),
            "has_private_logs": gettext_lazy("Viewers of the project do not see what its runs print."),
        }
        labels = {
            "slug": gettext_lazy("Slug"),
            "name": gettext_lazy("Name"),
            "status": gettext_lazy("Status"),
            "is_muted": gettext_lazy("Muted"),
            "owner": gettext_lazy("Owner"),
            "severity": gettext_lazy("Severity"),
            "tags": gettext_lazy("Tags"),
            "has_private_logs": gettext_lazy("Private logs"),
        }

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
            if suggestion and not suggestion.isdecimal():
                text = _(
                    "A slug has 1 to 50 lower case letters, digits, single dashes and underscores, begins and ends "
                    "with a letter or digit, and is not digits only: %(slug)s, for example."
                )
                raise ValidationError(text % {"slug": suggestion})
            raise ValidationError(
                _(
                    "A slug has 1 to 50 lower case letters, digits, single dashes and underscores, begins and ends "
                    "with a letter or digit, and is not digits only."
                )
            )
        return slug

    def clean_tags(self) -> list[str]:
        """Return each tag once. Their number has a limit, as what people and maintenance windows go by."""
        tags = list(dict.fromkeys(self.cleaned_data["tags"]))
        if len(tags) > TAGS_MAX:
            text = _("A monitor has at most %(most)d tags, these are %(count)d.")
            raise ValidationError(text % {"most": TAGS_MAX, "count": len(tags)})
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
                self.add_error(error.field, said(error))
            else:
                data.update({name: getattr(schedule, name) for name in SCHEDULE_COLUMNS})
        project = data.get("project") or getattr(self.instance, "project", None)
        if self._are_limits_typed() and not set(LIMIT_FIELDS) & self.errors.keys():
            self.limits = self.instance.limits = limits_text({name: self._typed_limit(name) for name in LIMIT_FIELDS})
        if "slug" in data and project is not None:
            others = Monitor.objects.filter(project=project, slug=data["slug"]).exclude(pk=self.instance.pk)
            if others.exists():
                text = _("The project already has a monitor with the slug %(slug)s.")
                self.add_error("slug", text % {"slug": data["slug"]})
        if project is not None and "depends_on" in data:
            try:
                check_upstreams(project.pk, self.instance.pk, self.upstreams())
            except DependencyError as error:
                self.add_error("depends_on", said(error))
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


def store_monitor(form: MonitorForm, *, now: datetime, by: Actor) -> None:
    """Write what a person changed in a valid form, and nothing else (D41). Needs a transaction, and the rows' locks.

    Every environment expects its next check-in anew where that changed (D10).
    """
    monitor_id, written, data = form.instance.pk, form.written(), form.cleaned_data
    changes = {name: data[name] for name in written & set(CHANGEABLE_COLUMNS) - {"limits"}}
    if "limits" in written:
        changes["limits"] = form.limits
    update_monitor(monitor_id, changes, now=now, by=by)
    if "is_muted" in written:
        set_monitors_muted([monitor_id], data["is_muted"], by=by)
    if "has_private_logs" in written:
        keep_logs_private(monitor_id, data["has_private_logs"], by=by)
    if "tags" in written:
        change_tags(monitor_id, data["tags"], now=now, by=by)
    if "depends_on" in written:
        set_upstreams(monitor_id, form.upstreams(), now=now, by=by)
