"""Pages of people and groups."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User

from dashboard.admin.editing import EditAdmin, EditForm
from dashboard.admin.unfold import AdminPasswordChangeForm, ModelAdmin, UserChangeForm, UserCreationForm


class UserForm(EditForm, UserChangeForm):  # type: ignore[type-arg]  # generic in its stubs only
    """A person's account."""


@admin.register(User)
class UserAdmin(EditAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """People who may sign in."""

    form = UserForm
    readonly_fields = ("last_login", "date_joined")
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(EditAdmin, DjangoGroupAdmin, ModelAdmin):
    """Sets of permissions."""

    form = EditForm
