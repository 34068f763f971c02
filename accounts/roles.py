"""Who may do what: the one table of roles and rights (pure).

Pages, services and commands ask `may`; `accounts.membership.can` asks it for a person and a project.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a member of a project is. Each role may do everything that those before it may."""

    VIEWER = "viewer"
    RESPONDER = "responder"
    EDITOR = "editor"
    OWNER = "owner"


class Action(StrEnum):
    """What a person may do in a project. The values are the words of messages and of the documentation."""

    SEE = "see"
    SEE_PRIVATE_LOGS = "see private logs"
    ACKNOWLEDGE = "acknowledge"
    HANDLE_ISSUES = "handle issues"
    SNOOZE = "snooze"
    MUTE = "mute"
    COMMENT = "comment"
    ASSIGN = "assign"
    SEE_PING_URLS = "see ping URLs"
    EDIT_MONITORS = "edit monitors"
    EDIT_WINDOWS = "edit windows"
    EDIT_DEPENDENCIES = "edit dependencies"
    EDIT_ROUTES = "edit routes"
    SHARE_VIEWS = "share views"
    MANAGE_MEMBERS = "manage members"
    MANAGE_KEYS = "manage keys"
    MANAGE_CHANNELS = "manage channels"
    MANAGE_STATUS_PAGES = "manage status pages"
    DELETE = "delete"
    MANAGE_PROJECTS = "manage projects"


LEAST_ROLE: Mapping[Action, Role | None] = MappingProxyType(
    {
        Action.SEE: Role.VIEWER,
        Action.SEE_PRIVATE_LOGS: Role.RESPONDER,
        Action.ACKNOWLEDGE: Role.RESPONDER,
        Action.HANDLE_ISSUES: Role.RESPONDER,
        Action.SNOOZE: Role.RESPONDER,
        Action.MUTE: Role.RESPONDER,
        Action.COMMENT: Role.RESPONDER,
        Action.ASSIGN: Role.RESPONDER,
        Action.SEE_PING_URLS: Role.EDITOR,
        Action.EDIT_MONITORS: Role.EDITOR,
        Action.EDIT_WINDOWS: Role.EDITOR,
        Action.EDIT_DEPENDENCIES: Role.EDITOR,
        Action.EDIT_ROUTES: Role.EDITOR,
        Action.SHARE_VIEWS: Role.EDITOR,
        Action.MANAGE_MEMBERS: Role.OWNER,
        Action.MANAGE_KEYS: Role.OWNER,
        Action.MANAGE_CHANNELS: Role.OWNER,
        Action.MANAGE_STATUS_PAGES: Role.OWNER,
        Action.DELETE: Role.OWNER,
        Action.MANAGE_PROJECTS: None,
    }
)
"""The least role that may do each action; None: administrators of the instance only, who may do everything."""

_RANK = {role: rank for rank, role in enumerate(Role)}


def may(role: Role | None, action: Action, *, is_administrator: bool = False) -> bool:
    """Return whether a person with this role in a project may do this there.

    `role` is None for a stranger, who may do nothing. `is_administrator`: of the whole instance.
    """
    least = LEAST_ROLE[action]
    return is_administrator or (role is not None and least is not None and _RANK[role] >= _RANK[least])


def rights(role: Role | None) -> frozenset[Action]:
    """Return all that a role may do."""
    return frozenset(action for action in Action if may(role, action))


def roles_that_may(action: Action) -> list[Role]:
    """Return the roles that may do this, the least first."""
    return [role for role in Role if may(role, action)]
