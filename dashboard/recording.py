"""Changes of rows by forms, for the audit log: forms of rows that have no service are recorded with these."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.models import model_to_dict

from audit.entries import CHANGED, Entry, difference
from monitors.models import Project

SECRET_FIELDS = frozenset({"password", "public_key"})


def row_entry(row: Any, action: str, changes: Mapping[str, tuple[Any, Any]] | None = None) -> Entry:
    """Return what the audit log stores of a change of a row."""
    project_id = row.pk if isinstance(row, Project) else getattr(row, "project_id", None)
    return Entry(str(row._meta.verbose_name), row.pk, str(row), action, project_id, changes or {}, SECRET_FIELDS)


def form_entry(form: "forms.ModelForm[Any]", *, is_new: bool) -> Entry:
    """Return what the audit log stores of a saved form: the fields that the person changed, before and after."""
    before = {} if is_new else form.initial
    after = model_to_dict(form.instance, fields=form.changed_data)
    # What people write in words of the form, such as the conditions of a route, is no field of the row.
    in_words = set(getattr(form, "in_words", ())) & set(form.changed_data)
    after |= {name: form.cleaned_data.get(name) for name in sorted(in_words)}
    changes = difference(before, after)
    return row_entry(form.instance, "created" if is_new else CHANGED, changes)
