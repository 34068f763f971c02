"""What people do about incidents and issues. Each service records it in the audit log, in its transaction (shell)."""

from incidents.handling.acknowledging import Acknowledgement, acknowledge, withdraw_acknowledgement
from incidents.handling.assigning import AssignmentError, assign
from incidents.handling.comments import CommentError, comment
from incidents.handling.issues import archive_issues, resolve_issues, unarchive_issues
from incidents.handling.snoozing import SnoozeError, snooze

__all__ = [
    "Acknowledgement",
    "AssignmentError",
    "CommentError",
    "SnoozeError",
    "acknowledge",
    "archive_issues",
    "assign",
    "comment",
    "resolve_issues",
    "snooze",
    "unarchive_issues",
    "withdraw_acknowledgement",
]
