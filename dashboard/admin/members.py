"""The members of a project, on its page."""

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest

from accounts.models import Membership
from accounts.roles import Role
from accounts.services import NO_OWNER_LEFT, keeps_an_owner, set_roles
from dashboard.admin.recording import actor_of
from dashboard.admin.unfold import TabularInline
from dashboard.editing import EditForm
from lib.wallclock import utcnow


class MemberForm(EditForm):
    """A member and the role. A membership stays with its person: another person is another member."""

    fixed = ("user",)


class MemberFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in its stubs only
    """All members of a project at once: a project that has an owner keeps one."""

    def wanted(self) -> dict[int, Role | None]:
        """Return the new roles by the ids of the people; None for those who are removed."""
        roles: dict[int, Role | None] = {}
        for form in self.forms:
            is_whole = form.has_changed() and form.is_valid()
            if self.can_delete and self._should_delete_form(form):  # type: ignore[attr-defined]  # not in its stubs
                if form.instance.pk is not None:
                    roles[form.instance.user_id] = None
            elif is_whole and (role := form.cleaned_data.get("role")):
                roles[form.instance.user_id] = Role(role)
        return roles

    def clean(self) -> None:
        """Refuse to remove the last owner. The row of the project is locked (`EditAdmin.get_object`)."""
        super().clean()
        members = Membership.objects.filter(project_id=self.instance.pk).values_list("user_id", "role")
        before = {user_id: Role(role) for user_id, role in members}
        after = [role for role in {**before, **self.wanted()}.values() if role is not None]
        if not keeps_an_owner(before.values(), after):
            raise ValidationError(NO_OWNER_LEFT)


class MembershipInline(TabularInline):
    """The members of a project. Django's permissions for memberships decide who sees and changes them here."""

    model = Membership
    form = MemberForm
    formset = MemberFormSet
    fields = ("user", "role")
    autocomplete_fields = ("user",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Members with what their titles say, the first one first."""
        members: QuerySet[Membership] = super().get_queryset(request).select_related("user", "project").order_by("id")
        return members


def save_members(request: HttpRequest, formset: MemberFormSet) -> None:
    """Write the members through the services, which record each change."""
    formset.save(commit=False)  # Writes nothing; Django describes the save by what this finds.
    set_roles(formset.instance.pk, formset.wanted(), by=actor_of(request, at=utcnow()))
