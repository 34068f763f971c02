"""What a person may do in which project (shell around `accounts.roles`)."""

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet

from accounts.models import Membership
from accounts.roles import Action, Role, may, rights, roles_that_may
from monitors.models import Project


def is_administrator(user: User | AnonymousUser) -> bool:
    """Return whether a person administers the whole instance: an active superuser."""
    return user.is_active and user.is_superuser


def role_of(user: User | AnonymousUser, project_id: int) -> Role | None:
    """Return what a person is in a project; None for a stranger, and for an account that is not active.

    At most one statement.
    """
    if not user.is_active:
        return None
    role = Membership.objects.filter(project_id=project_id, user_id=user.pk).values_list("role", flat=True).first()
    return None if role is None else Role(role)


def can(user: User | AnonymousUser, action: Action, project_id: int) -> bool:
    """Return whether a person may do this in a project. At most one statement.

    For many projects at once ask `projects_of`.
    """
    if is_administrator(user):
        return True
    return may(role_of(user, project_id), action)


def rights_of(user: User | AnonymousUser, project_id: int) -> frozenset[Action]:
    """Return all that a person may do in a project; empty for a stranger. At most one statement."""
    return frozenset(Action) if is_administrator(user) else rights(role_of(user, project_id))


def roles_by_project(user: User | AnonymousUser) -> dict[int, Role]:
    """Return what a person is in each project of which he or she is a member. At most one statement."""
    if not user.is_active:
        return {}
    rows = Membership.objects.filter(user_id=user.pk).values_list("project_id", "role")
    return {project_id: Role(role) for project_id, role in rows}


def projects_of(user: User | AnonymousUser, action: Action) -> QuerySet[Project]:
    """Return the projects in which a person may do this. One statement, or a part of the caller's (`project__in`)."""
    if is_administrator(user):
        return Project.objects.all()
    if not user.is_active:
        return Project.objects.none()
    roles = [role.value for role in roles_that_may(action)]
    return Project.objects.filter(memberships__user_id=user.pk, memberships__role__any_of=roles)
