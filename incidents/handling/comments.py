"""Comments of people on issues (shell)."""

from datetime import datetime

from django.db import transaction

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.exceptions import IncidentsError
from incidents.models import Comment, Issue

COMMENTS_MAX = 500
"""Of an issue."""
TEXT_LENGTH_MAX = 4_000


class CommentError(IncidentsError):
    """A comment that cannot be stored. The text says why and what is allowed."""


@transaction.atomic
def comment(issue_id: int, text: str, *, by: Actor, now: datetime) -> Comment:
    """Store what a person wrote about an issue. Raises CommentError."""
    written = text.replace("\r\n", "\n").replace("\x00", "").strip()
    if not 1 <= len(written) <= TEXT_LENGTH_MAX:
        raise CommentError(f"A comment has 1 to {TEXT_LENGTH_MAX:,} characters; this one has {len(written):,}.")
    issue = Issue.objects.select_for_update(no_key=True).filter(id=issue_id).first()
    if issue is None:
        raise CommentError(f"There is no issue with the id {issue_id}.")
    if issue.comments.count() >= COMMENTS_MAX:
        raise CommentError(f"The issue has {COMMENTS_MAX} comments; no more are allowed.")
    stored = Comment.objects.create(
        issue=issue, author_id=by.id, author_name=by.name[:200], text=written, created_at=now
    )
    record([Entry("issue", issue.id, issue.title, "commented", issue.project_id, {"text": (None, written)})], by=by)
    return stored
