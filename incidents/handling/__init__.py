"""What people do about incidents and issues. Each service records it in the audit log, in its transaction (shell)."""

from incidents.handling.acknowledging import Acknowledgement, acknowledge, withdraw_acknowledgement
from incidents.handling.assigning import AssignmentError, assign
from incidents.handling.comments import CommentError, comment
from incidents.handling.issues import archive_issues, resolve_issues, unarchive_issues

__all__ = [
    "Acknowledgement",
    "AssignmentError",
    "CommentError",
    "acknowledge",
    "archive_issues",
    "assign",
    "comment",
    "resolve_issues",
    "unarchive_issues",
    "withdraw_acknowledgement",
]
