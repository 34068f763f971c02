"""The form of a maintenance window on its page: that of the admin, in a project that is given."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.utils.translation import gettext_lazy as _

from dashboard.window_form import SCOPE, TIMES, WindowForm
from monitors.models import Environment, MaintenanceWindow, Monitor


def _suggesting(names: str) -> forms.TextInput:
    return forms.TextInput(attrs={"list": names, "autocomplete": "off", "spellcheck": "false"})


class WindowPageForm(WindowForm):
    """A window of one project, which `instance` has. Monitors go by their slug: a project may have thousands."""

    monitor = forms.ModelChoiceField(
        queryset=Monitor.objects.none(),
        to_field_name="slug",
        required=False,
        label=_("Monitor"),
        help_text=_("Its slug. Empty: all monitors of the project, or those with the tag."),
        widget=_suggesting("monitors"),
        error_messages={"invalid_choice": _("The project has no monitor with the slug “%(value)s”.")},
    )
    environment = forms.ModelChoiceField(
        queryset=Environment.objects.none(),
        to_field_name="name",
        required=False,
        label=_("Environment"),
        help_text=WindowForm.Meta.help_texts["environment"],
        widget=_suggesting("environments"),
        error_messages={"invalid_choice": _("The project has no environment with the name “%(value)s”.")},
    )

    class Meta(WindowForm.Meta):
        fields = [name for name in WindowForm.Meta.fields if name != "project"]
        widgets = {"tag": _suggesting("tags")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        row = self.instance
        rows: Mapping[str, Any] = {
            "monitor": Monitor.objects.not_deleted().filter(project_id=row.project_id),
            "environment": Environment.objects.filter(project_id=row.project_id),
        }
        for name, own in rows.items():
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = own
        if row.pk is not None:
            self.initial["monitor"] = "" if row.monitor is None else row.monitor.slug
            self.initial["environment"] = "" if row.environment is None else row.environment.name

    def scope(self) -> list[BoundField]:
        """Return the name, and the fields that say what it is about."""
        return [self[name] for name in ("name", *SCOPE)]

    def span(self) -> list[BoundField]:
        """Return the fields that say from when until when it is."""
        return [self[name] for name in ("timezone", "starts", "ends")]

    def rule(self) -> list[BoundField]:
        """Return the fields of a window that repeats."""
        return [self[name] for name in ("crontab", "minutes", "until")]

    def is_rule_open(self) -> bool:
        """Return whether the fields of a rule are shown at once: they hold something."""
        return any(field.value() or field.errors for field in self.rule())

    def problems(self, names: tuple[str, ...]) -> list[tuple[Any, str]]:
        """Return what is wrong with some fields: their labels, with a sentence each."""
        return [(self[name].label, str(text)) for name in names for text in self.errors.get(name, ())]

    def window(self) -> MaintenanceWindow | None:
        """Return the row as typed, for a preview; None if it cannot be said when it is."""
        return self.instance if self.errors.keys().isdisjoint(TIMES) else None
