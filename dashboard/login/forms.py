"""Forms of the login, where allauth's are not enough."""

from typing import Any

from allauth.account import forms
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _


class LoginForm(forms.LoginForm):  # type: ignore[misc]  # allauth has no types
    """Name or e-mail address, and password."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        name, password = self.fields["login"], self.fields["password"]
        name.label = _("Name or e-mail address")
        name.widget.attrs = {"autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        password.widget.attrs.pop("placeholder", None)
        password.help_text = ""

    def user_credentials(self) -> dict[str, str]:
        """Return what was typed as a name, which the backend tries as an address too: a name may look like one."""
        return {"username": self.cleaned_data["login"], "password": self.cleaned_data["password"]}


class ResetPasswordForm(forms.ResetPasswordForm):  # type: ignore[misc]
    """Asks for a mail with a link."""

    users: list[User]

    def clean_email(self) -> str:
        """Leave out accounts without a password: they log in at their company, and would get a way around it."""
        address: str = super().clean_email()
        self.users = [user for user in self.users if user.has_usable_password()]
        return address
