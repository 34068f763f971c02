"""Pages of people and groups."""

from typing import Any

import allauth.account.admin
import allauth.mfa.admin
import allauth.socialaccount.admin
import allauth.usersessions.admin  # noqa: F401 - they register their models, which is undone below
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from audit.entries import CHANGED
from audit.recording import record
from dashboard.admin.recording import RecordedAdmin, actor_of
from dashboard.admin.unfold import AdminPasswordChangeForm, ModelAdmin, UserChangeForm, UserCreationForm
from dashboard.editing import EditForm
from dashboard.recording import row_entry
from lib.wallclock import utcnow

# What allauth stores about logins is changed by the people themselves, or by commands that are recorded.
for theirs in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    admin.site.unregister(theirs)

# Django's own pages, in the look of the theme.
admin.site.unregister(User)
admin.site.unregister(Group)


class UserForm(EditForm, UserChangeForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A person's account."""


@admin.register(User)
class UserAdmin(RecordedAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """People who may sign in."""

    form = UserForm
    readonly_fields = ("last_login", "date_joined")
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Set a new password, and record it, in one transaction."""
        return super().user_change_password(request, id, form_url)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Record a new password, whose form Django saves by itself and then describes here."""
        if isinstance(form, AdminPasswordChangeForm):
            secret = {"password": (None, None)}
            record([row_entry(form.user, CHANGED, secret)], by=actor_of(request, at=utcnow()))
        return super().construct_change_message(request, form, formsets, add)


@admin.register(Group)
class GroupAdmin(RecordedAdmin, DjangoGroupAdmin, ModelAdmin):
    """Sets of permissions."""

    form = EditForm
