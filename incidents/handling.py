"""Actions of people on issues: resolve, archive, unarchive (shell)."""

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from incidents.models import Issue


@transaction.atomic
def resolve_issues(issue_ids: Collection[int], *, now: datetime) -> int:
    """Resolve unresolved issues by hand; returns how many.

    An incident that is still open stays so: its next failure regresses the issue.
    """
    return Issue.objects.filter(id__any_of=issue_ids, status=Issue.Status.UNRESOLVED).update(
        status=Issue.Status.RESOLVED, resolved_by=Issue.ResolvedBy.HAND, resolved_at=now
    )


@transaction.atomic
def archive_issues(issue_ids: Collection[int]) -> int:
    """Archive issues: failures are still recorded, but nobody is notified. Returns how many changed."""
    return (
        Issue.objects.filter(id__any_of=issue_ids)
        .exclude(status=Issue.Status.ARCHIVED)
        .update(status=Issue.Status.ARCHIVED, resolved_by=None, resolved_at=None)
    )


@transaction.atomic
def unarchive_issues(issue_ids: Collection[int], *, now: datetime) -> int:
    """Unarchive issues: they become unresolved if their environment fails, otherwise resolved.

    Returns how many changed.
    """
    archived = Issue.objects.filter(id__any_of=issue_ids, status=Issue.Status.ARCHIVED)
    failing = archived.filter(monitor_environment__status="error").values_list("id", flat=True)
    changed = Issue.objects.filter(id__any_of=list(failing)).update(status=Issue.Status.UNRESOLVED)
    return changed + archived.update(status=Issue.Status.RESOLVED, resolved_by=Issue.ResolvedBy.HAND, resolved_at=now)
