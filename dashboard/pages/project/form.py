"""What people type into the settings of a project."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from dashboard.vocabulary import word

ROLES = [(role.value, role.value) for role in Role]


class NewMemberForm(forms.Form):
    """An account that exists, by its name, and a role. `user` is there when the form is valid."""

    name = forms.CharField(
        label=_("Name of the account"), max_length=150, widget=forms.TextInput({"autocomplete": "off"})
    )
    role = forms.ChoiceField(label=_("Role"), choices=lambda: [(value, word(value)) for value, _name in ROLES])
    user: User | None = None

    def clean(self) -> dict[str, Any]:
        """Find the account."""
        data: dict[str, Any] = super().clean() or {}
        if name := data.get("name"):
            self.user = User.objects.filter(username=name, is_active=True).first()
            if self.user is None:
                self.add_error("name", _("There is no active account with the name %(name)s.") % {"name": name})
        return data


class InvitationForm(forms.Form):
    """Whom to invite by mail, and as what."""

    address = forms.EmailField(
        label=_("E-mail address"), max_length=254, widget=forms.EmailInput({"autocomplete": "off"})
    )
    role = forms.ChoiceField(label=_("Role"), choices=lambda: [(value, word(value)) for value, _name in ROLES])

    def __init__(self, data: Any = None) -> None:
        # The form of members on the same page has a role too.
        super().__init__(data, auto_id="id_invite_%s")


class NewKeyForm(forms.Form):
    """A new key: for what it is."""

    label = forms.CharField(
        label=_("Label"), max_length=100, required=False, help_text=_("Where it is used: host, team or program.")
    )


class DefaultsForm(forms.Form):
    """What holds for monitors that do not say otherwise."""

    is_config_locked = forms.BooleanField(
        label=_("Monitors refuse configuration from check-ins"),
        required=False,
        help_text=_("For monitors without a setting of their own. New monitors are made by check-ins all the same."),
    )
