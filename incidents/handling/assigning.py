"""Assigning issues to members of their project (shell)."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import Membership
from audit.entries import Actor, Entry
from audit.recording import record
from incidents.exceptions import IncidentsError
from incidents.models import Issue


class AssignmentError(IncidentsError):
    """An issue that cannot be assigned so. The text says why."""


@transaction.atomic
def assign(issue_id: int, membership_id: int | None, *, by: Actor | None = None) -> bool:
    """Let a member look after an issue, or nobody with None; returns whether that changed anything.

    When the membership ends, nobody does. Raises AssignmentError for somebody who is not a member of the project.
    """
    issues = Issue.objects.select_related("assignee__user").select_for_update(no_key=True, of=("self",))
    issue = issues.filter(id=issue_id).first()
    if issue is None:
        raise AssignmentError(_("There is no issue with the id %(id)d.") % {"id": issue_id})
    member = None
    if membership_id is not None:
        # Locked, so that the membership cannot end meanwhile.
        members = Membership.objects.select_related("user").select_for_update(no_key=True, of=("self",))
        member = members.filter(id=membership_id, project_id=issue.project_id).first()
        if member is None:
            raise AssignmentError(_("An issue is assigned to a member of its project."))
    before = issue.assignee
    if before == member:
        return False
    issue.assignee = member
    issue.save(update_fields=["assignee"])
    names = (before.user.get_username() if before else None, member.user.get_username() if member else None)
    entry = Entry(
        "issue", issue.id, issue.title, "assigned" if member else "unassigned", issue.project_id, {"assignee": names}
    )
    record([entry], by=by)
    return True
