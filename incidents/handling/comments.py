"""Comments of people on issues (shell)."""

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.exceptions import IncidentsError
from incidents.models import Comment, Issue
from lib.texts import Text

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
        raise CommentError(
            Text(
                "A comment has 1 to %(most)s characters; this one has %(count)s.",
                most=TEXT_LENGTH_MAX,
                count=len(written),
            )
        )
    issue = Issue.objects.select_for_update(no_key=True).filter(id=issue_id).first()
    if issue is None:
        raise CommentError(_("There is no issue with the id %(id)d.") % {"id": issue_id})
    if issue.comments.count() >= COMMENTS_MAX:
        raise CommentError(_("The issue has %(count)d comments; no more are allowed.") % {"count": COMMENTS_MAX})
    stored = Comment.objects.create(
        issue=issue, author_id=by.id, author_name=by.name[:200], text=written, created_at=now
    )
    record([Entry("issue", issue.id, issue.title, "commented", issue.project_id, {"text": (None, written)})], by=by)
    return stored
