"""The fields of a monitor's form for the limits of its runs, which are stored as one text (D44)."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from dashboard.texts import said
from monitors.limits import LimitError, Limits, Rule, parse_bound, read_limits

IS_NOTE, IS_FAILURE = "note", "failure"
MEANINGS = [(IS_NOTE, _("is a note on the run")), (IS_FAILURE, _("is a failure"))]


class BoundField(forms.CharField):
    """A time, or a multiple of the median."""

    def __init__(self, label: Any, *, is_upper: bool, example: str) -> None:
        text = _(
            "A time, such as 90s, 10m or 2h, or a multiple of the median of the last 100 runs, such as {example}, "
            "which needs 20 runs. Empty: no limit."
        )
        super().__init__(
            label=label,
            required=False,
            widget=forms.TextInput(attrs={"autocomplete": "off"}),
            help_text=format_lazy(text, example=example),
        )
        self.is_upper = is_upper

    def clean(self, value: Any) -> str:
        """Return the bound as it is stored; "" for none."""
        text: str = super().clean(value)
        if not text:
            return ""
        try:
            return str(parse_bound(text, is_upper=self.is_upper))
        except LimitError as error:
            raise ValidationError(said(error)) from error


def meaning_field(label: Any, *, may_be_none: Any = "") -> forms.ChoiceField:
    """Return the choice between a note and a failure, and nothing if that has a name."""
    choices = [("", may_be_none), *MEANINGS] if may_be_none else MEANINGS
    return forms.ChoiceField(label=label, required=False, choices=choices)


LIMIT_FIELDS = ("longer_than", "longer_is", "shorter_than", "shorter_is", "overlap_is")


def initial_limits(text: str | None) -> dict[str, str]:
    """Return the values of the fields for a stored text."""
    limits = read_limits(text) or Limits()
    longer, shorter, overlap = limits.longer, limits.shorter, limits.overlap_counts
    return {
        "longer_than": "" if longer is None else str(longer.bound),
        "longer_is": IS_FAILURE if longer is not None and longer.counts else IS_NOTE,
        "shorter_than": "" if shorter is None else str(shorter.bound),
        "shorter_is": IS_FAILURE if shorter is not None and shorter.counts else IS_NOTE,
        "overlap_is": "" if overlap is None else IS_FAILURE if overlap else IS_NOTE,
    }


def limits_text(values: Mapping[str, str]) -> str | None:
    """Return what is stored for valid values of the fields; None for no limit."""

    def rule(name: str) -> Rule | None:
        bound = values[f"{name}_than"]
        if not bound:
            return None
        return Rule(parse_bound(bound, is_upper=name == "longer"), values[f"{name}_is"] == IS_FAILURE)

    overlap = values["overlap_is"]
    return Limits(rule("longer"), rule("shorter"), overlap == IS_FAILURE if overlap else None).text()
