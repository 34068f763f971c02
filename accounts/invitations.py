"""Inviting people to a project by mail, each step with its entry in the audit log (shell).

The link of a mail is signed and names the row of its invitation, which is deleted when it was accepted. Whether the
person who invites may do so is for the caller to check: `accounts.membership.can` with `MANAGE_MEMBERS`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core import signing
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.exceptions import MembershipError
from accounts.models import Invitation
from accounts.roles import Role
from accounts.services import add_member
from audit.entries import Actor, Entry, Source
from audit.recording import record
from monitors.models import Project

OPEN_MAX = 50
"""Open invitations of a project."""
VALID_FOR = timedelta(days=7)
_SALT = "invitation to a project"


def token_of(invitation: Invitation) -> str:
    """Return what a link to accept an invitation ends with."""
    return signing.dumps(invitation.pk, salt=_SALT)


def find_invitation(token: str, *, now: datetime) -> Invitation | None:
    """Return the open invitation of a link; None if it was used, withdrawn, is too old, or not ours. One statement."""
    try:
        pk = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        return None
    return Invitation.objects.select_related("project").filter(pk=pk, expires_at__gt=now).first()


@transaction.atomic
def invite(project_id: int, address: str, role: Role, *, by: Actor) -> Invitation:
    """Store an invitation. Raises MembershipError for somebody who was invited or is a member, and beyond the bound."""
    Project.objects.select_for_update(no_key=True).get(id=project_id)
    invitations = Invitation.objects.filter(project_id=project_id)
    invitations.filter(expires_at__lte=by.at).delete()
    address = address.lower()
    if invitations.filter(address=address).exists():
        raise MembershipError(_("%(address)s is invited already. Withdraw that first.") % {"address": address})
    if User.objects.filter(email__iexact=address, memberships__project_id=project_id).exists():
        raise MembershipError(_("%(address)s is a member of this project already.") % {"address": address})
    if invitations.count() >= OPEN_MAX:
        raise MembershipError(_("%(n)s invitations are open, which is the most. Withdraw one first.") % {"n": OPEN_MAX})
    invitation = Invitation.objects.create(
        project_id=project_id, address=address, role=role.value, expires_at=by.at + VALID_FOR
    )
    record([_entry(invitation, "created", {"role": (None, role)})], by=by)
    return invitation


@transaction.atomic
def withdraw(project_id: int, invitation_id: int, *, by: Actor) -> Invitation | None:
    """Delete an open invitation of a project: its link stops working. Returns it; None if there is none."""
    found = Invitation.objects.select_for_update().filter(project_id=project_id, pk=invitation_id).first()
    if found is not None:
        _use_up(found, "withdrawn", by=by)
    return found


@transaction.atomic
def accept(invitation: Invitation, user: User, *, by: Actor) -> None:
    """Make an account a member, as invited. Raises MembershipError if the link was used meanwhile, or for a member."""
    Project.objects.select_for_update(no_key=True).get(id=invitation.project_id)
    held = Invitation.objects.filter(pk=invitation.pk, expires_at__gt=by.at).first()
    if held is None:
        raise MembershipError(_("It was used or withdrawn already, or is too old."))
    add_member(held.project_id, user.pk, Role(held.role), by=by)
    _use_up(held, "accepted", by=by)


@transaction.atomic
def accept_as_new(invitation: Invitation, name: str, password: str, *, at: datetime) -> User:
    """Create an account with the address of an invitation, and accept as it. Raises MembershipError as `accept`."""
    user = User.objects.create_user(name, invitation.address, password)
    by = Actor(name, Source.LINK, at, user.pk)
    record([Entry("user", user.pk, name, "created")], by=by)
    accept(invitation, user, by=by)
    return user


def _use_up(invitation: Invitation, action: str, *, by: Actor) -> None:
    record([_entry(invitation, action, {})], by=by)
    Invitation.objects.filter(pk=invitation.pk).delete()


def _entry(invitation: Invitation, action: str, changes: Mapping[str, tuple[object, object]]) -> Entry:
    return Entry("invitation", invitation.pk, invitation.address, action, invitation.project_id, changes)
