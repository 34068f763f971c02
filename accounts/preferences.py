"""What people prefer, and by which names monitors call them (shell)."""

from django.contrib.auth.models import User

from accounts.models import Preferences

OWNED_BY = "user:"
"""Begins the owner of a monitor that is a person."""


def preferences_of(user: User) -> Preferences:
    """Return what a person prefers; all empty if nothing was chosen. At most one statement, which `user` remembers."""
    found: Preferences | None = getattr(user, "preferences", None)
    return Preferences(user_id=user.pk) if found is None else found


def address_of(user: User) -> str:
    """Return the address at which a person wants to be notified; empty if there is none. At most one statement."""
    return preferences_of(user).email or user.email


def owner_texts(user: User) -> frozenset[str]:
    """Return what the owner of a monitor says if it is this person, in small letters: by name or by an address.

    At most one statement.
    """
    names = {user.get_username(), user.email, preferences_of(user).email}
    return frozenset(f"{OWNED_BY}{name}".lower() for name in names if name)
