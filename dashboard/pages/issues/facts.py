"""What the pages of issues show (shell)."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Subquery, When

from dashboard.sentences import sentence
from incidents.models import Incident, Issue, Occurrence
from monitors.models import Project

INCIDENTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """An issue, the reason of its newest failure, and whether an incident of it is open."""

    issue: Issue
    reason: str
    is_failing: bool


def issues_of(project: Project, *, status: str, text: str) -> QuerySet[Issue]:
    """Return issues of a project, unresolved ones first, archived ones last. No statement: a part of the caller's."""
    rank = Case(When(status="unresolved", then=0), When(status="resolved", then=1), default=2)
    monitor = "monitor_environment__monitor"
    found = Issue.objects.filter(project=project).exclude(**{f"{monitor}__status": "pending_deletion"})
    if status in Issue.Status.values:
        found = found.filter(status=status)
    if text := text.replace("\x00", ""):
        found = found.filter(Q(**{f"{monitor}__name__icontains": text}) | Q(**{f"{monitor}__slug__icontains": text}))
    return found.select_related(f"{monitor}__project", "monitor_environment__environment", "assignee__user").order_by(
        rank, "-last_seen_at", "-id"
    )


def describe(issues: Sequence[Issue], *, language: str) -> list[Shown]:
    """Return issues with the reason of their newest failures. One statement."""
    newest = Incident.objects.filter(issue=OuterRef("issue")).order_by("-id").values("pk")[:1]
    explanation = Occurrence.objects.filter(incident=OuterRef("pk")).order_by("-number").values("explanation")[:1]
    is_open = Exists(Incident.objects.filter(issue=OuterRef("issue"), resolved_at__isnull=True))
    rows = (
        Incident.objects.filter(issue_id__any_of=[issue.pk for issue in issues], pk=Subquery(newest))
        .select_related("monitor_environment__monitor", "monitor_environment__environment")
        .annotate(explanation=Subquery(explanation), is_failing=is_open)
    )
    by_issue = {row.issue_id: row for row in rows}
    found = []
    for issue in issues:
        row = by_issue.get(issue.pk)
        reason = "" if row is None else sentence(row, row.explanation or {}, language=language)
        found.append(Shown(issue, reason, row is not None and row.is_failing))
    return found


def load_incidents(issue: Issue) -> Sequence[Incident]:
    """Return the incidents of an issue, newest first. One statement."""
    return list(issue.incidents.order_by("-id")[:INCIDENTS_SHOWN])
