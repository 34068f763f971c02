"""What people do about incidents and issues. Each service records it in the audit log, in its transaction (shell)."""

from incidents.handling.acknowledging import (
    Acknowledgement,
    acknowledge,
    acknowledge_many,
    acknowledge_storm,
    members,
    open_members,
    withdraw_acknowledgement,
)
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
    "acknowledge_many",
    "acknowledge_storm",
    "archive_issues",
    "assign",
    "comment",
    "members",
    "open_members",
    "resolve_issues",
    "snooze",
    "unarchive_issues",
    "withdraw_acknowledgement",
]
