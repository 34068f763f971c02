"""What has happened about an incident or issue, in order: every change with who or what, when and why (pure).

    opened, failures, notified, acknowledged, snoozed, muted, comments, resolved, regressed -> one list

Nothing is stored for it: it is merged from rows that exist anyway, given as values. What was thinned out or removed by
age is missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

WATCHCLOCK = "Watchclock"
JOB = "the job"


class What(StrEnum):
    """Kinds of entries, in the order of those with the same instant."""

    REGRESSED = "failed again"
    OPENED = "opened"
    OCCURRENCE = "failed"
    NOTIFIED = "notified"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "no longer acknowledged"
    HANDLED = "handled"
    COMMENT = "comment"
    RESOLVED = "resolved"


class Entry(msgspec.Struct, frozen=True):
    """One entry: when, what, who or what did it, and why or with which words."""

    at: datetime
    what: What
    who: str
    text: str


class IncidentRow(NamedTuple):
    """An incident: when its failing run began, its threshold was reached, and it ended, as it was known."""

    id: int
    started_at: datetime
    opened_at: datetime
    over_at: datetime | None
    occurrence_count: int


class OccurrenceRow(NamedTuple):
    """A stored failure: when it was found, and the sentence about it."""

    detected_at: datetime
    text: str


class DutyRow(NamedTuple):
    """Who was notified of what: the change, over which channel, why, and what became of the message.

    `at` is when the message was finished, or written if it is still to be sent.
    """

    at: datetime
    change: str
    recipient: str
    reason: str
    state: str
    error: str


class AuditRow(NamedTuple):
    """An entry of the audit log about the issue, its incidents, its environment or its monitor."""

    at: datetime
    kind: str
    action: str
    actor: str
    changes: Mapping[str, Any]


class CommentRow(NamedTuple):
    """A comment."""

    at: datetime
    author: str
    text: str


SHOWN = {
    ("incident", "acknowledged"): What.ACKNOWLEDGED,
    ("incident", "unacknowledged"): What.UNACKNOWLEDGED,
    ("issue", "resolved"): What.RESOLVED,
    ("issue", "archived"): What.HANDLED,
    ("issue", "unarchived"): What.HANDLED,
    ("issue", "assigned"): What.HANDLED,
    ("issue", "unassigned"): What.HANDLED,
    ("monitor", "muted"): What.HANDLED,
    ("monitor", "unmuted"): What.HANDLED,
    ("monitor", "snoozed"): What.HANDLED,
    ("monitor", "unsnoozed"): What.HANDLED,
    ("monitor environment", "muted"): What.HANDLED,
    ("monitor environment", "unmuted"): What.HANDLED,
}
"""Entries of the audit log that a timeline shows, by kind and action. Comments are shown from their own table."""


def timeline(
    *,
    incidents: Iterable[IncidentRow],
    occurrences: Iterable[OccurrenceRow] = (),
    duties: Iterable[DutyRow] = (),
    audit: Iterable[AuditRow] = (),
    comments: Iterable[CommentRow] = (),
) -> list[Entry]:
    """Return everything in order of time. Several recipients with the same result are one entry."""
    found: list[Entry] = []
    ordered = sorted(incidents, key=lambda incident: incident.opened_at)
    for number, incident in enumerate(ordered):
        found += _of_incident(incident, is_first=number == 0)
    found += [Entry(row.detected_at, What.OCCURRENCE, JOB, row.text) for row in occurrences]
    found += _notified(duties)
    found += [_handled(row) for row in audit if (row.kind, row.action) in SHOWN]
    found += [Entry(row.at, What.COMMENT, row.author, row.text) for row in comments]
    order = list(What)
    return sorted(found, key=lambda entry: (entry.at, order.index(entry.what)))


def _of_incident(incident: IncidentRow, *, is_first: bool) -> list[Entry]:
    what = What.OPENED if is_first else What.REGRESSED
    text = f"Incident {incident.id} opened; its failing run began at {incident.started_at:%Y-%m-%d %H:%M} UTC."
    found = [Entry(incident.opened_at, what, WATCHCLOCK, text)]
    if incident.over_at is not None:
        count = incident.occurrence_count
        failures = f" after {count:,} failure{'' if count == 1 else 's'}" if count else ""
        found.append(Entry(incident.over_at, What.RESOLVED, JOB, f"Incident {incident.id} ended{failures}."))
    return found


def _notified(duties: Iterable[DutyRow]) -> list[Entry]:
    """Return what people were notified of: one entry for each change, result and minute, with all recipients."""
    alike: dict[tuple[str, str, str, datetime], list[DutyRow]] = {}
    for row in duties:
        minute = row.at.replace(second=0, microsecond=0)
        alike.setdefault((row.change, row.state, row.error, minute), []).append(row)
    return [
        Entry(min(row.at for row in rows), What.NOTIFIED, WATCHCLOCK, _sentence(change, state, error, rows))
        for (change, state, error, _), rows in alike.items()
    ]


def _sentence(change: str, state: str, error: str, rows: Sequence[DutyRow]) -> str:
    recipients = ", ".join(dict.fromkeys(f"{row.recipient} ({row.reason})" for row in rows))
    failed = f": {error}" if error else ""
    return f"“{change}” to {recipients}: {state}{failed}."


def _handled(row: AuditRow) -> Entry:
    """Return an entry of the audit log in words."""
    what = SHOWN[row.kind, row.action]
    via = row.changes.get("via")
    words = {
        "acknowledged": f"by {_new(via)}" if via else "",
        "unacknowledged": "Reminders and escalation begin anew.",
        "resolved": "resolved by hand",
        "assigned": f"assigned to {_new(row.changes.get('assignee'))}",
        "unassigned": "assigned to nobody",
        "snoozed": f"snoozed until {_new(row.changes.get('snoozed_until'))}",
        "unsnoozed": "the snooze was ended",
    }
    subject = "" if row.kind in ("incident", "issue") else f"the {row.kind} was "
    return Entry(row.at, what, row.actor, words.get(row.action, f"{subject}{row.action}"))


def _new(change: Any) -> str:
    """Return the value after a change, as the audit log stores it: `[before, after]`."""
    return str(change[1]) if isinstance(change, list | tuple) and len(change) == 2 else ""
