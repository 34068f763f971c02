"""What people change in the admin, for the audit log.

Services record what they change, with `by=actor_of(request, ...)`. Forms of rows that have no service are recorded
here, in the same transaction.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms.models import model_to_dict
from django.http import HttpRequest

from audit.entries import CHANGED, Actor, Entry, Source, difference
from audit.recording import record
from dashboard.admin.editing import EditAdmin
from lib.wallclock import utcnow
from monitors.models import Project

SECRET_FIELDS = frozenset({"password", "public_key"})


def actor_of(request: HttpRequest, *, at: datetime) -> Actor:
    """Return the person who changes something with this request, for the audit log."""
    return Actor(name=request.user.get_username(), source=Source.ADMIN, at=at, id=request.user.pk)


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


class RecordedAdmin(EditAdmin):
    """Rows without a service: what people save and delete is recorded here."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Record the form when all of it is saved."""
        super().save_related(request, form, formsets, change)
        record([form_entry(form, is_new=not change)], by=actor_of(request, at=utcnow()))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """Delete and record a row."""
        record([row_entry(obj, "deleted")], by=actor_of(request, at=utcnow()))
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete and record the selected rows."""
        record([row_entry(row, "deleted") for row in queryset], by=actor_of(request, at=utcnow()))
        super().delete_queryset(request, queryset)
