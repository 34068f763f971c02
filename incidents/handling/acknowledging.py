"""Acknowledging incidents: a person says that somebody looks after one (shell).

Reminders and escalation end in the same transaction, under the lock of the incident's row, so either a step that is due
at that moment was told before, or it is not told at all.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.models import FollowUp, Incident
from incidents.notifications.acknowledged import notify_acknowledged
from incidents.notifications.follow_ups import begin_anew, end, supersede

BY_LENGTH_MAX = 200
VIA_LENGTH_MAX = 100


class Acknowledgement(StrEnum):
    """What became of an acknowledgement."""

    DONE = "done"
    ALREADY = "already acknowledged"
    OVER = "resolved already"
    UNKNOWN = "no such incident"


@transaction.atomic
def acknowledge(
    incident_guid: UUID, *, by: Actor, via: str, now: datetime, channel_id: int | None = None
) -> Acknowledgement:
    """Acknowledge an open incident. The first one counts; to repeat it changes nothing.

    `by` is shown as the person who looks after it, `via` is the way in words ("the admin"). The channel with
    `channel_id` knows already: it is not told. An incident with an escalation counts as not acknowledged again after
    ACKNOWLEDGEMENT_HOURS.
    """
    incident = _hold(incident_guid)
    if incident is None:
        return Acknowledgement.UNKNOWN
    if incident.resolved_at is not None:
        return Acknowledgement.OVER
    if incident.acknowledged_at is not None:
        return Acknowledgement.ALREADY
    incident.acknowledged_at = now
    incident.acknowledged_by = by.name[:BY_LENGTH_MAX]
    incident.acknowledged_via = via[:VIA_LENGTH_MAX]
    incident.acknowledged_channel = channel_id
    incident.acknowledged_until = _until(incident, now)
    incident.save(update_fields=_COLUMNS)
    end(incident.id)
    supersede([incident.id], now=now)
    notify_acknowledged(incident.id, now=now)
    record([_entry(incident, "acknowledged", {"via": (None, via)})], by=by)
    return Acknowledgement.DONE


@transaction.atomic
def withdraw_acknowledgement(incident_guid: UUID, *, by: Actor, now: datetime) -> bool:
    """Take an acknowledgement back: reminders and escalation begin anew. Returns False if there was none."""
    incident = _hold(incident_guid)
    if incident is None or incident.acknowledged_at is None or incident.resolved_at is not None:
        return False
    before = incident.acknowledged_by
    incident.acknowledged_at = incident.acknowledged_channel = incident.acknowledged_until = None
    incident.acknowledged_by = incident.acknowledged_via = ""
    incident.save(update_fields=_COLUMNS)
    begin_anew([incident.id], now=now)
    record([_entry(incident, "unacknowledged", {"acknowledged_by": (before, None)})], by=by)
    return True


_COLUMNS = ("acknowledged_at", "acknowledged_by", "acknowledged_via", "acknowledged_channel", "acknowledged_until")


def _hold(guid: UUID) -> Incident | None:
    """Lock an incident: no reminder or step is written meanwhile."""
    incidents = Incident.objects.select_related("monitor_environment__monitor", "monitor_environment__environment")
    return incidents.select_for_update(no_key=True, of=("self",)).filter(guid=guid).first()


def _until(incident: Incident, now: datetime) -> datetime | None:
    """Return when the acknowledgement runs out: only if somebody else would be told then."""
    escalations = FollowUp.objects.filter(incident=incident, kind=FollowUp.Kind.ESCALATION)
    if not settings.ACKNOWLEDGEMENT_HOURS or not escalations.exists():
        return None
    return now + timedelta(hours=settings.ACKNOWLEDGEMENT_HOURS)


def _entry(incident: Incident, action: str, changes: dict[str, tuple[object, object]]) -> Entry:
    return Entry(
        "incident", incident.id, str(incident), action, incident.monitor_environment.monitor.project_id, changes
    )
