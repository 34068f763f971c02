"""Loading the rows of a timeline (shell). Six statements, and one more after a storm, each bounded."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import Q

from audit.models import AuditEntry
from incidents.models import Comment, Duty, Incident, Issue, Message, Notification, Occurrence
from incidents.notifications.letters import why
from incidents.notifications.words import ENGLISH
from incidents.timeline import (
    SHOWN,
    AuditRow,
    CommentRow,
    DutyRow,
    Entry,
    IncidentRow,
    OccurrenceRow,
    timeline,
)
from monitors.models import MonitorEnvironment

ROWS_MAX = 200
"""The newest rows of each kind that a timeline is made of."""
OF_STORM = "each open incident of the storm is acknowledged"
"""Why a pager was notified of that."""


def timeline_of_incident(incident: Incident, *, language: str = ENGLISH, sees_addresses: bool = True) -> list[Entry]:
    """Return what has happened about one incident, while it was open and since; why it failed, in this language.

    Without `sees_addresses` neither addresses of mails are in it nor what services answered, which may name some.
    """
    rows = [incident], incident.issue, incident.monitor_environment
    return _timeline(*rows, since=incident.started_at, language=language, sees_addresses=sees_addresses)


def timeline_of_issue(issue: Issue, *, language: str = ENGLISH, sees_addresses: bool = True) -> list[Entry]:
    """Return what has happened about an issue, with its newest incidents, as `timeline_of_incident`."""
    rows = list(issue.incidents.order_by("-id")[:ROWS_MAX]), issue, issue.monitor_environment
    return _timeline(*rows, since=None, language=language, sees_addresses=sees_addresses)


def _timeline(
    incidents: Sequence[Incident],
    issue: Issue | None,
    environment: MonitorEnvironment,
    *,
    since: datetime | None,
    language: str,
    sees_addresses: bool,
) -> list[Entry]:
    """Merge the rows of incidents; what people did, only `since` an instant."""
    ids = [incident.id for incident in incidents]
    ends = Notification.objects.filter(incident_id__any_of=ids, transition="resolved")
    over_at = dict(ends.values_list("incident_id", "created_at"))
    occurrences = Occurrence.objects.filter(incident_id__any_of=ids).order_by("-detected_at", "-number")
    known = Duty.objects.filter(incident_id__any_of=ids).select_related("notification", "channel", "message")
    duties = list(known.order_by("-id")[:ROWS_MAX])
    rows = [
        IncidentRow(
            one.id,
            one.started_at,
            one.opened_at,
            over_at.get(one.id, one.resolved_at) if one.resolved_at else None,
            one.occurrence_count,
        )
        for one in incidents
    ]
    notified = [_duty_row(duty, sees_addresses=sees_addresses) for duty in duties]
    notified += _storm_rows(duties, {row.id: row.over_at for row in rows}, sees_addresses=sees_addresses)
    return timeline(
        incidents=rows,
        occurrences=[
            OccurrenceRow(row.detected_at, why(row.explanation, language) or row.subtitle)
            for row in occurrences[:ROWS_MAX]
        ],
        duties=notified,
        audit=[
            AuditRow(row.at, row.kind, row.action, row.actor_name, row.changes)
            for row in _audit(ids, issue, environment)
            if since is None or row.at >= since
        ],
        comments=[
            CommentRow(row.created_at, row.author_name, row.text)
            for row in (Comment.objects.filter(issue=issue).order_by("-id")[:ROWS_MAX] if issue else ())
            if since is None or row.created_at >= since
        ],
    )


def _duty_row(duty: Duty, *, sees_addresses: bool) -> DutyRow:
    message = duty.message
    change = duty.notification.get_transition_display()
    channel = "mail" if duty.channel is None else duty.channel.name
    recipient = duty.recipient if message.is_mail and sees_addresses else channel
    return DutyRow(
        at=message.finished_at or duty.created_at,
        change=_numbered(change, duty.number),
        recipient=recipient,
        reason=duty.reason,
        state=message.get_status_display(),
        error=_error_of(message, sees_addresses=sees_addresses),
    )


def _storm_rows(
    duties: Sequence[Duty], over_at: Mapping[int, datetime | None], *, sees_addresses: bool
) -> list[DutyRow]:
    """Return what pagers received about storms while an incident in them was open: no duty records that.

    Index: message_once_per_storm_kind_and_number.
    """
    members: dict[int, set[int]] = {}
    for duty in duties:
        if duty.message.storm_id is not None:
            members.setdefault(duty.message.storm_id, set()).add(duty.incident_id)
    if not members:
        return []
    found = Message.objects.filter(storm_id__any_of=sorted(members), kind=Message.Kind.ACKNOWLEDGED)
    return [
        DutyRow(
            at=message.finished_at or message.created_at,
            change=_numbered(message.get_kind_display(), message.number),
            recipient=message.channel.name if message.channel else "",
            reason=OF_STORM,
            state=message.get_status_display(),
            error=_error_of(message, sees_addresses=sees_addresses),
        )
        for message in found.select_related("channel").order_by("-id")[:ROWS_MAX]
        if any(_is_open(over_at[id_], message.created_at) for id_ in members[message.storm_id or 0])
    ]


def _is_open(over_at: datetime | None, at: datetime) -> bool:
    return over_at is None or at <= over_at


def _numbered(change: str, number: int) -> str:
    return f"{change} {number}" if number > 1 else change


def _error_of(message: Message, *, sees_addresses: bool) -> str:
    return message.last_error if message.status != "sent" and sees_addresses else ""


def _audit(ids: Sequence[int], issue: Issue | None, environment: MonitorEnvironment) -> Sequence[AuditEntry]:
    """Return the newest entries of the audit log that a timeline shows. Index: audit_entry_of_object."""
    about = Q(kind="incident", object_id__any_of=list(ids))
    about |= Q(kind="monitor", object_id=environment.monitor_id)
    about |= Q(kind="monitor environment", object_id=environment.id)
    if issue is not None:
        about |= Q(kind="issue", object_id=issue.id)
    actions = sorted({action for _, action in SHOWN})
    return list(AuditEntry.objects.filter(about, action__any_of=actions).order_by("-id")[:ROWS_MAX])
