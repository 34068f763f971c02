"""Giving people who log in at their company the roles of their groups (shell)."""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime

from django.contrib.auth.models import User

from accounts.exceptions import MembershipError
from accounts.groups import GroupRole, wanted_roles
from accounts.membership import roles_by_project
from accounts.services import set_roles
from audit.entries import Actor, Source
from monitors.models import Project

logger = logging.getLogger(__name__)


def actor(now: datetime) -> Actor:
    """Return who the audit log names for what follows from a login at a company."""
    return Actor("single sign-on", Source.SYSTEM, now)


def apply_groups(user: User, groups: Collection[str], rules: Sequence[GroupRole], *, now: datetime) -> None:
    """Give a person the roles of these groups in the projects of the rules, and no others there.

    Other projects stay as they are. A change that would leave a project without an owner is not made, and logged.
    """
    wanted = wanted_roles(groups, rules)
    projects = Project.objects.filter(slug__any_of=list(wanted)).values_list("slug", "id")
    held = roles_by_project(user)
    for slug, project_id in projects:
        if held.get(project_id) == wanted[slug]:
            continue
        try:
            set_roles(project_id, {user.pk: wanted[slug]}, by=actor(now))
        except MembershipError as error:
            logger.warning("the groups of %r do not apply in %s: %s", user.get_username(), slug, error)
