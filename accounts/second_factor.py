"""Taking somebody's second factor away, so that a new one can be set up (shell)."""

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.db import transaction

from audit.entries import Actor, Entry
from audit.recording import record


@transaction.atomic
def reset_second_factor(user: User, *, by: Actor) -> int:
    """Remove all second factors of a person and end all sessions; returns how many factors there were."""
    count: int = Authenticator.objects.filter(user=user).delete()[0]
    for session in UserSession.objects.filter(user=user):
        session.end()
    record([Entry("user", user.pk, user.get_username(), "second factor reset")], by=by)
    return count
