"""What the wall offers for a selection (pure)."""

from collections.abc import Iterable

from accounts.roles import Action
from dashboard.pages.access import Rights

OFFERED = frozenset({Action.MUTE, Action.SNOOZE, Action.EDIT_MONITORS, Action.DELETE})


def offers(granted: Iterable[Rights]) -> Rights | None:
    """Return what a person may do with monitors of some project, of the rights in each; None if that is nothing."""
    found = frozenset(action for rights in granted for action in OFFERED if action in rights)
    return Rights(found) if found else None
