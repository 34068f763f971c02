"""What people change in the admin, for the audit log.

Services record what they change, with `by=actor_of(request, ...)`. Forms of rows that have no service are recorded
here, in the same transaction.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from audit.entries import Actor, Source
from audit.recording import record
from dashboard.admin.editing import EditAdmin
from dashboard.recording import form_entry, row_entry
from lib.wallclock import utcnow


def actor_of(request: HttpRequest, *, at: datetime) -> Actor:
    """Return the person who changes something with this request, for the audit log."""
    return Actor(name=request.user.get_username(), source=Source.ADMIN, at=at, id=request.user.pk)


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
