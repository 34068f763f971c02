"""Actions of people on issues: resolve, archive, unarchive (shell)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.models import Issue


@transaction.atomic
def resolve_issues(issue_ids: Collection[int], *, now: datetime, by: Actor | None = None) -> int:
    """Resolve unresolved issues by hand; returns how many.

    An incident that is still open stays so: its next failure regresses the issue.
    """
    issues = _hold(issue_ids, Q(status=Issue.Status.UNRESOLVED))
    return _set(issues, "resolved", by, **_resolved_by_hand(now))


@transaction.atomic
def archive_issues(issue_ids: Collection[int], *, by: Actor | None = None) -> int:
    """Archive issues: failures are still recorded, but nobody is notified. Returns how many changed."""
    issues = _hold(issue_ids, ~Q(status=Issue.Status.ARCHIVED))
    return _set(issues, "archived", by, status=Issue.Status.ARCHIVED, resolved_by=None, resolved_at=None)


@transaction.atomic
def unarchive_issues(issue_ids: Collection[int], *, now: datetime, by: Actor | None = None) -> int:
    """Unarchive issues: they become unresolved if their environment fails, otherwise resolved.

    Returns how many changed.
    """
    issues = _hold(issue_ids, Q(status=Issue.Status.ARCHIVED))
    failing = [issue for issue in issues if issue.monitor_environment.status == "error"]
    others = [issue for issue in issues if issue.monitor_environment.status != "error"]
    changed = _set(failing, "unarchived", by, status=Issue.Status.UNRESOLVED)
    return changed + _set(others, "unarchived", by, **_resolved_by_hand(now))


def _resolved_by_hand(now: datetime) -> dict[str, Any]:
    return {"status": Issue.Status.RESOLVED, "resolved_by": Issue.ResolvedBy.HAND, "resolved_at": now}


def _hold(issue_ids: Collection[int], condition: Q) -> list[Issue]:
    """Lock the issues that meet the condition, and return them with their environments."""
    issues = Issue.objects.filter(condition, id__any_of=issue_ids).select_related("monitor_environment")
    return list(issues.order_by("id").select_for_update(no_key=True, of=("self",)))


def _set(issues: Sequence[Issue], action: str, by: Actor | None, **columns: Any) -> int:
    Issue.objects.filter(id__any_of=[issue.id for issue in issues]).update(**columns)
    entries = [
        Entry("issue", one.id, one.title, action, one.project_id, {"status": (one.status, columns["status"])})
        for one in issues
    ]
    record(entries, by=by)
    return len(issues)
