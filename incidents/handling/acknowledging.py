"""Acknowledging incidents: a person says that somebody looks after one (shell).

Reminders and escalation end in the same transaction, under the lock of the incident's row, so either a step that is due
at that moment was sent before, or it is not sent at all.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When

from audit.entries import Actor, Entry
from audit.recording import record
from incidents.models import Duty, FollowUp, Incident, Storm
from incidents.notifications.acknowledged import notify_acknowledged
from incidents.notifications.follow_ups import begin_anew, end, supersede

BY_LENGTH_MAX = 200
VIA_LENGTH_MAX = 100
TOGETHER_MAX = 500
"""Incidents of a storm that one transaction acknowledges."""


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
    `channel_id` knows already: it is not notified. An incident with an escalation counts as not acknowledged again
    after ACKNOWLEDGEMENT_HOURS.
    """
    incident = _hold(incident_guid)
    if incident is None:
        return Acknowledgement.UNKNOWN
    if incident.resolved_at is not None:
        return Acknowledgement.OVER
    if incident.acknowledged_at is not None:
        return Acknowledgement.ALREADY
    _acknowledge([incident], by=by, via=via, now=now, channel_id=channel_id)
    return Acknowledgement.DONE


@transaction.atomic
def acknowledge_many(
    incident_ids: Sequence[int], *, by: Actor, via: str, now: datetime, channel_id: int | None = None
) -> int:
    """Acknowledge those of the incidents that are open and nobody has acknowledged; returns how many.

    Like `acknowledge`, in a fixed number of statements.
    """
    held = _incidents().filter(id__any_of=list(incident_ids), resolved_at__isnull=True, acknowledged_at__isnull=True)
    incidents = list(held.order_by("id"))
    if incidents:
        _acknowledge(incidents, by=by, via=via, now=now, channel_id=channel_id)
    return len(incidents)


def acknowledge_storm(storm: Storm, *, by: Actor, via: str, now: datetime) -> int:
    """Acknowledge all open incidents of a storm; returns how many. Some at a time, so that no lock lasts long."""
    total = 0
    while ids := list(open_members(storm).values_list("id", flat=True)[:TOGETHER_MAX]):
        total += acknowledge_many(ids, by=by, via=via, now=now)
    return total


def members(storm: Storm) -> QuerySet[Incident]:
    """Return the incidents that the messages of a storm are about, without those of what is deleted."""
    about = Incident.objects.filter(Exists(Duty.objects.filter(incident=OuterRef("id"), message__storm=storm)))
    return about.exclude(monitor_environment__status="pending_deletion")


def open_members(storm: Storm) -> QuerySet[Incident]:
    """Return the open incidents of a storm that nobody has acknowledged, in the order of their ids."""
    return members(storm).filter(resolved_at__isnull=True, acknowledged_at__isnull=True).order_by("id")


def _acknowledge(incidents: Sequence[Incident], *, by: Actor, via: str, now: datetime, channel_id: int | None) -> None:
    """Acknowledge incidents that the caller has locked."""
    ids = [incident.id for incident in incidents]
    # One statement: a row that is updated twice has its references checked at the commit, which would lock the
    # environment after the incident, and the clock does it the other way round.
    Incident.objects.filter(id__any_of=ids).update(
        acknowledged_at=now,
        acknowledged_by=by.name[:BY_LENGTH_MAX],
        acknowledged_via=via[:VIA_LENGTH_MAX],
        acknowledged_channel=channel_id,
        acknowledged_until=_until(now),
    )
    end(ids)
    supersede(ids, now=now)
    notify_acknowledged(ids, now=now)
    record([_entry(incident, "acknowledged", {"via": (None, via)}) for incident in incidents], by=by)


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


def _until(now: datetime) -> Case | None:
    """Return, as an expression, when an acknowledgement runs out: only if somebody else would be notified then."""
    if not settings.ACKNOWLEDGEMENT_HOURS:
        return None
    escalation = FollowUp.objects.filter(incident=OuterRef("id"), kind=FollowUp.Kind.ESCALATION)
    return Case(When(Exists(escalation), then=Value(now + timedelta(hours=settings.ACKNOWLEDGEMENT_HOURS))))


def _hold(guid: UUID) -> Incident | None:
    return _incidents().filter(guid=guid).first()


def _incidents() -> QuerySet[Incident]:
    """Return incidents that are locked when they are read: no reminder or step is written meanwhile."""
    incidents = Incident.objects.select_related("monitor_environment__monitor", "monitor_environment__environment")
    return incidents.select_for_update(no_key=True, of=("self",))


def _entry(incident: Incident, action: str, changes: dict[str, tuple[object, object]]) -> Entry:
    return Entry(
        "incident", incident.id, str(incident), action, incident.monitor_environment.monitor.project_id, changes
    )
