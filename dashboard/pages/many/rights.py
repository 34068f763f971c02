"""What the wall offers for a selection (shell)."""

from django.http import HttpRequest

from accounts.membership import is_administrator, roles_by_project
from accounts.roles import Action, rights
from dashboard.pages.access import Rights

OFFERED = frozenset({Action.MUTE, Action.SNOOZE, Action.EDIT_MONITORS, Action.DELETE})


def offers(request: HttpRequest) -> Rights | None:
    """Return what the person may do with monitors of some project; None if that is nothing. At most one statement."""
    if is_administrator(request.user):
        return Rights(frozenset(Action))
    granted = frozenset[Action]().union(*(rights(role) for role in roles_by_project(request.user).values()))
    return Rights(granted) if granted & OFFERED else None
