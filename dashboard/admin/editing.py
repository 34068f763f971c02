"""Pages of the admin whose saves wait for each other (D41)."""

from typing import Any

from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest

from dashboard.admin.unfold import ModelAdmin
from dashboard.editing import EditForm, lock_row


class EditAdmin(ModelAdmin):
    """Saves of a row wait for each other, so that a form replaces the values that it was compared with (D41)."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row; locked until the end of the request's transaction if it may be written."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST" and transaction.get_connection().in_atomic_block:
            lock_row(self.model._base_manager.all(), found)
            found = super().get_object(request, object_id, from_field)
        return found

    def save_changes(self, row: Model, form: EditForm) -> None:
        """Write the columns of a row that its form changed, and no others."""
        columns = {field.name for field in row._meta.concrete_fields}
        if written := columns & form.written():
            row.save(update_fields=written)
