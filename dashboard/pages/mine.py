"""Which monitors are somebody's (shell): the person is their owner, or looks after their issue."""

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q

from accounts.preferences import owner_texts
from incidents.models import Issue


def is_mine(user: User | AnonymousUser, path: str = "") -> Q:
    """Return the condition on a monitor environment, or on what leads to one by `path`. At most one statement."""
    if not isinstance(user, User):
        return Q(pk__in=[])
    assigned = Issue.objects.filter(assignee__user_id=user.pk, status=Issue.Status.UNRESOLVED)
    found = Q(**{f"{path}pk__in": assigned.values("monitor_environment")})
    for text in owner_texts(user):
        found |= Q(**{f"{path}monitor__owner__iexact": text})
    return found
