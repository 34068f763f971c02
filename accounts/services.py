"""Changing the members of a project, each change with its entry in the audit log (shell).

Whether the person who asks may do so is for the caller to check: `accounts.membership.can` with `MANAGE_MEMBERS`.
"""

from collections.abc import Collection, Mapping

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.exceptions import MembershipError
from accounts.models import Membership
from accounts.roles import Role
from audit.entries import CHANGED, Actor, Entry
from audit.recording import record
from lib.sql import insert_rows, types_of, update_rows
from monitors.models import Project

NO_OWNER_LEFT = gettext_lazy("A project that has an owner keeps one: make somebody else an owner first.")


@transaction.atomic
def add_member(project_id: int, user_id: int, role: Role, *, by: Actor) -> None:
    """Make a person a member of a project. Raises MembershipError for one who is a member already."""
    roles = _hold_roles(project_id)
    if user_id in roles:
        text = _("%(name)s is a member of this project already, as %(role)s.")
        raise MembershipError(text % {"name": _name_of(user_id), "role": _(roles[user_id])})
    set_roles(project_id, {user_id: role}, by=by)


@transaction.atomic
def change_role(project_id: int, user_id: int, role: Role, *, by: Actor) -> None:
    """Give a member another role. Raises MembershipError for a stranger, and for the only owner."""
    _hold_member(project_id, user_id)
    set_roles(project_id, {user_id: role}, by=by)


@transaction.atomic
def remove_member(project_id: int, user_id: int, *, by: Actor) -> None:
    """End a membership. Raises MembershipError for a stranger, and for the only owner."""
    _hold_member(project_id, user_id)
    set_roles(project_id, {user_id: None}, by=by)


@transaction.atomic
def set_roles(project_id: int, wanted: Mapping[int, Role | None], *, by: Actor) -> None:
    """Give people, by their ids, these roles in a project, all at once; None ends a membership.

    1. Lock the row of the project, and read the roles that people have.
    2. Refuse the change if it would leave the project without an owner.
    3. Find out whose role changes, and refuse the change if one of them has no account.
    4. Write these roles, and record each change.

    Raises MembershipError if the project has an owner and would have none, and for a project or a person that does not
    exist. The number of statements does not grow with the people. The row of the project is locked: members of a
    project are changed by one transaction after the other.
    """
    before = _hold_roles(project_id)
    after = {user_id: role for user_id, role in {**before, **wanted}.items() if role is not None}
    if not keeps_an_owner(before.values(), after.values()):
        raise MembershipError(NO_OWNER_LEFT)
    changed = [user_id for user_id in wanted if before.get(user_id) != after.get(user_id)]
    names = dict(User.objects.filter(id__any_of=changed).values_list("id", "username"))
    if missing := sorted(set(changed) - names.keys()):
        raise MembershipError(_("There is no account with the id %(id)d.") % {"id": missing[0]})
    _write(project_id, {user_id: after.get(user_id) for user_id in changed}, before, by=by)
    record(
        [_entry(project_id, id_, names[id_], before.get(id_), after.get(id_)) for id_ in changed],
        by=by,
    )


def keeps_an_owner(before: Collection[Role], after: Collection[Role]) -> bool:
    """Return whether a project has an owner after a change, or had none before it (pure)."""
    return Role.OWNER in after or Role.OWNER not in before


def _hold_roles(project_id: int) -> dict[int, Role]:
    """Lock a project and return the roles of its members by their ids. Check-ins do not wait for this lock."""
    if not Project.objects.select_for_update(no_key=True).filter(id=project_id).values_list("id"):
        raise MembershipError(_("There is no project with the id %(id)d.") % {"id": project_id})
    members = Membership.objects.filter(project_id=project_id).values_list("user_id", "role")
    return {user_id: Role(role) for user_id, role in members}


def _hold_member(project_id: int, user_id: int) -> None:
    if user_id not in _hold_roles(project_id):
        raise MembershipError(_("%(name)s is not a member of this project.") % {"name": _name_of(user_id)})


def _name_of(user_id: int) -> str:
    name = User.objects.filter(id=user_id).values_list("username", flat=True).first()
    return _("The account with the id %(id)d") % {"id": user_id} if name is None else name


def _entry(project_id: int, user_id: int, name: str, before: Role | None, after: Role | None) -> Entry:
    action = "added" if before is None else "removed" if after is None else CHANGED
    return Entry("member", user_id, name, action, project_id, {"role": (before, after)})


def _write(project_id: int, roles: Mapping[int, Role | None], before: Mapping[int, Role], *, by: Actor) -> None:
    """Insert, update and delete memberships: a statement for each of these, if there is any."""
    insert_rows(
        Membership._meta.db_table,
        types_of(Membership, "user_id", "project_id", "role", "added_at"),
        [(id_, project_id, role.value, by.at) for id_, role in roles.items() if role is not None and id_ not in before],
    )
    known = Membership.objects.filter(project_id=project_id, user_id__any_of=list(before.keys() & roles.keys()))
    ids = dict(known.values_list("user_id", "id"))
    update_rows(
        Membership._meta.db_table,
        types_of(Membership, "role"),
        [(ids[id_], role.value) for id_, role in roles.items() if role is not None and id_ in before],
    )
    gone = [id_ for id_, role in roles.items() if role is None]
    Membership.objects.filter(project_id=project_id, user_id__any_of=gone).delete()
