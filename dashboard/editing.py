"""Forms that lose nothing when two people, or a person and a job, change a row at once (D41).

A form carries the values that its fields had when the page was loaded. A field that the person did not change is not
written, even if it has changed since; a field that somebody else has changed too is refused, with both values.
"""

from collections.abc import Collection, Sequence
from typing import Any

from django import forms
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _


class EditForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A form for one row that writes only the fields that the person changed.

    `units` are groups of fields that belong together: a conflict in one of them concerns all. `fixed` are fields that
    only a new row may set.
    A form that is sent without the loaded values is compared with the current row.
    """

    units: Sequence[Collection[str]] = ()
    fixed: Collection[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._editable: set[str] = set()
        self._changed_since: set[str] = set()
        if self.instance.pk is None:
            return
        for name in self.fields.keys() & set(self.fixed):
            self.fields[name].disabled = True
        self._editable = {name for name, field in self.fields.items() if not field.disabled}
        # A field with several values has no initial value if it was empty, so any initial value identifies the page.
        if self.is_bound and not any(self[name].html_initial_name in self.data for name in self._editable):
            return
        for name in self._editable:
            # Django renders the initial value beside a field, and compares the sent value with it.
            self.fields[name].show_hidden_initial = True
        if self.is_bound:
            self._changed_since = {name for name in self._editable if self._has_changed_since(name)}

    def written(self) -> set[str]:
        """Return the fields to write: those that the person changed."""
        return set(self.changed_data)

    def _post_clean(self) -> None:
        if self.instance.pk is not None:
            self._refuse_what_both_changed()
            # Django does not write fields that are missing here, so the row keeps their values.
            for name in self._editable.intersection(self.cleaned_data) - self.written():
                del self.cleaned_data[name]
        super()._post_clean()  # type: ignore[misc]  # not in its stubs

    def _refuse_what_both_changed(self) -> None:
        mine = {name for name in self._editable.intersection(self.changed_data) if self._differs_from_row(name)}
        touched = mine.union(*(unit for unit in map(set, self.units) if unit & mine))
        refused = [name for name in self.fields if name in touched & self._changed_since]
        if not refused:
            return
        data: Any = self.data.copy()  # type: ignore[attr-defined]  # a QueryDict
        for name in refused:
            bound, now = self[name], self._shown_now(name)
            shown = {"loaded": _quoted(self._loaded(name)), "now": _quoted(now), "yours": _quoted(bound.data)}
            if name in mine:
                text = _(
                    "It was changed from %(loaded)s to %(now)s while this page was open. Yours: %(yours)s. Save again "
                    "to replace it with yours."
                )
                self.add_error(name, text % shown)
            else:
                text = _(
                    "%(field)s was changed from %(loaded)s to %(now)s while this page was open; it belongs to what you "
                    "changed. Save again to replace it with yours."
                )
                self.add_error(None, text % {**shown, "field": bound.label})
            # The page shows the row's value now, so a person who saves again has seen it.
            if isinstance(now, list):
                data.setlist(bound.html_initial_name, now)
            else:
                data[bound.html_initial_name] = now
        self.data = data

    def _loaded(self, name: str) -> Any:
        """Return the value on the loaded page, as a browser sends it."""
        return self._widget_data_value(  # type: ignore[attr-defined]  # not in its stubs
            self.fields[name].hidden_widget(), self[name].html_initial_name
        )

    def _shown_now(self, name: str) -> Any:
        """Return the value that the page would have if it were loaded now, as a browser would send it."""
        value = self.fields[name].prepare_value(self.get_initial_for_field(self.fields[name], name))
        if isinstance(value, list | tuple):
            return [str(item) for item in value]
        return "" if value is None else str(value)

    def _has_changed_since(self, name: str) -> bool:
        field = self.fields[name]
        try:
            loaded = field.to_python(self._loaded(name))
        except forms.ValidationError:
            return True
        return field.has_changed(loaded, self._shown_now(name))

    def _differs_from_row(self, name: str) -> bool:
        field = self.fields[name]
        return field.has_changed(field.to_python(self._shown_now(name)), self[name].data)


def _quoted(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return f"“{value}”" if value not in (None, "") else "empty"


def lock_row(rows: QuerySet[Any], row: Model) -> None:
    """Lock one row until the transaction ends."""
    list(rows.select_for_update(no_key=True, of=("self",)).filter(pk=row.pk).order_by().values_list("pk"))
