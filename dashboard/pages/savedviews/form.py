"""The form of a view of the wall: its name, and whose it is."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from dashboard.ids import row_id
from dashboard.models import VIEW_NAME_CHARACTERS_MAX, SavedView


class SavedViewForm(forms.Form):
    """What a person types. `projects`, as ids and names, are those with which the person may share it."""

    name = forms.CharField(label=_("Name"), max_length=VIEW_NAME_CHARACTERS_MAX)
    whose = forms.ChoiceField(
        label=_("Who sees it"), required=False, help_text=_("All members of a project see what is shared with it.")
    )

    def __init__(self, *arguments: Any, projects: Sequence[tuple[int, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        whose = self.fields["whose"]
        assert isinstance(whose, forms.ChoiceField)
        shared = [(str(id_), _("the members of %(project)s") % {"project": name}) for id_, name in projects]
        whose.choices = [("", _("only me")), *shared]

    def view(self, user_id: int | None, query: str) -> SavedView:
        """Return the view, not stored yet. Only for a valid form."""
        project_id = row_id(self.cleaned_data["whose"]) or None
        return SavedView(
            name=self.cleaned_data["name"],
            query=query,
            project_id=project_id,
            user_id=None if project_id else user_id,
        )
