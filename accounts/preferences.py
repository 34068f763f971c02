"""What people prefer, and by which names monitors call them (shell)."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.core import signing

from accounts.models import Preferences

LINK_DAYS = 3
"""How long the link in a mail confirms an address."""
_SALT = "confirmation of an address"
OWNED_BY = "user:"
"""Begins the owner of a monitor that is a person."""


def preferences_of(user: User) -> Preferences:
    """Return what a person prefers; all empty if nothing was chosen. At most one statement, which `user` remembers."""
    found: Preferences | None = getattr(user, "preferences", None)
    return Preferences(user_id=user.pk) if found is None else found


def address_of(user: User) -> str:
    """Return the address at which a person wants to be notified; empty if there is none. At most one statement."""
    return preferences_of(user).email or user.email


def keep_apart(wanted: Preferences, stored: Preferences) -> None:
    """Let an address that nobody has confirmed wait in its own column; messages go on to the one before.

    That of the account needs no link: administrators, invitations and the company's provider stand for it.
    """
    typed, account = wanted.email.lower(), wanted.user.email.lower()
    if typed in ("", account, stored.email.lower()):
        wanted.unconfirmed_email = ""
    else:
        wanted.email, wanted.unconfirmed_email = stored.email, wanted.email


def confirmation_of(preferences: Preferences) -> str:
    """Return what the link ends with that confirms the address that waits for it."""
    return signing.dumps([preferences.pk, preferences.unconfirmed_email], salt=_SALT)


def address_in(token: str, user: User) -> str:
    """Return the address of this person that a link confirms; empty for one that is not ours, too old, or of others."""
    try:
        user_id, address = signing.loads(token, salt=_SALT, max_age=timedelta(days=LINK_DAYS))
    except signing.BadSignature:
        return ""
    waits = preferences_of(user).unconfirmed_email
    return waits if waits and (user_id, address) == (user.pk, waits) else ""


def owner_texts(user: User) -> frozenset[str]:
    """Return what the owner of a monitor says if it is this person, in small letters: by name or by an address.

    At most one statement.
    """
    names = {user.get_username(), user.email, preferences_of(user).email}
    return frozenset(f"{OWNED_BY}{name}".lower() for name in names if name)
