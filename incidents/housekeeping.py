"""Removing incidents past their retention, in bounded pieces (shell).

An open incident is never touched, nor the rows that it needs. A stored incident can always be explained (P8): its first
occurrences stay as long as the incident does.
"""

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from incidents.models import Incident, Issue
from incidents.thinning import OCCURRENCES_FIRST
from monitors.pruning import kept_since, remove_piece

INCIDENTS_MAX = 500
"""Incidents removed in one transaction, each with its first occurrences and its notifications."""

_IS_OVER = "EXISTS (SELECT FROM incidents_incident AS i WHERE i.id = old.incident_id AND i.resolved_at < %s)"


def prune_occurrences(*, now: datetime) -> int:
    """Remove one piece of later occurrences older than OCCURRENCE_RETENTION_DAYS, if their incidents ended before that.

    The first 10 of an incident stay with it. Returns how many. Index: occurrence_later.
    """
    before = kept_since(now, settings.OCCURRENCE_RETENTION_DAYS)
    if before is None:
        return 0
    condition = f"number > {OCCURRENCES_FIRST} AND detected_at < %s AND {_IS_OVER}"
    return remove_piece("incidents_occurrence", condition, [before, before], order_by="detected_at")


def prune_notifications(*, now: datetime) -> int:
    """Remove one piece of notifications about incidents that ended NOTIFICATION_RETENTION_DAYS ago; returns how many.

    Notifications that could not be sent are removed too: they are out of date.
    """
    before = kept_since(now, settings.NOTIFICATION_RETENTION_DAYS)
    if before is None:
        return 0
    condition = f"created_at < %s AND {_IS_OVER}"
    return remove_piece("incidents_notification", condition, [before, before], order_by="id")


def prune_duties(*, now: datetime) -> int:
    """Remove one piece of what routing decided about incidents that ended NOTIFICATION_RETENTION_DAYS ago."""
    before = kept_since(now, settings.NOTIFICATION_RETENTION_DAYS)
    if before is None:
        return 0
    condition = f"created_at < %s AND {_IS_OVER}"
    return remove_piece("incidents_duty", condition, [before, before], order_by="id")


def prune_follow_ups(*, now: datetime) -> int:
    """Remove one piece of the reminders and escalations of incidents that are over; returns how many."""
    return remove_piece("incidents_followup", _IS_OVER, [now], order_by="id")


def prune_messages(*, now: datetime) -> int:
    """Remove one piece of mails that were finished NOTIFICATION_RETENTION_DAYS ago; returns how many.

    What reported an incident stays while that is open, alone or in a storm: its recipient is also notified of the end.
    Index: message_finished.
    """
    before = kept_since(now, settings.NOTIFICATION_RETENTION_DAYS)
    if before is None:
        return 0
    condition = (
        f"status <> 'waiting' AND finished_at < %s AND (incident_id IS NULL OR {_IS_OVER}) "
        f"AND NOT EXISTS (SELECT FROM incidents_duty AS d JOIN incidents_incident AS i ON i.id = d.incident_id "
        "WHERE d.message_id = old.id AND old.storm_id IS NOT NULL AND (i.resolved_at IS NULL OR i.resolved_at >= %s))"
    )
    return remove_piece("incidents_message", condition, [before, before, before], order_by="finished_at")


def prune_storms(*, now: datetime) -> int:
    """Remove one piece of storms whose messages have been removed. Index: storm_oldest."""
    before = kept_since(now, settings.NOTIFICATION_RETENTION_DAYS)
    if before is None:
        return 0
    condition = "created_at < %s AND NOT EXISTS (SELECT FROM incidents_message AS m WHERE m.storm_id = old.id)"
    return remove_piece("incidents_storm", condition, [before], order_by="created_at")


def prune_incidents(*, now: datetime) -> int:
    """Remove one piece of incidents that ended INCIDENT_RETENTION_DAYS ago, with all rows that refer to them.

    Returns how many rows. Index: incident_newest.
    """
    before = kept_since(now, settings.INCIDENT_RETENTION_DAYS)
    if before is None:
        return 0
    with transaction.atomic():
        over = Incident.objects.filter(resolved_at__lt=before, opened_at__lt=before).order_by("opened_at")
        ids = list(over.select_for_update(skip_locked=True).values_list("id", flat=True)[:INCIDENTS_MAX])
        return Incident.objects.filter(id__any_of=ids).delete()[0]


def prune_issues(*, now: datetime) -> int:
    """Remove one piece of resolved issues not seen for ISSUE_RETENTION_DAYS, with no incident left.

    Archived ones stay: they record the decision of a person. Returns how many rows.
    """
    before = kept_since(now, settings.ISSUE_RETENTION_DAYS)
    if before is None:
        return 0
    with transaction.atomic():
        over = Issue.objects.filter(status=Issue.Status.RESOLVED, last_seen_at__lt=before, resolved_at__lt=before)
        over = over.filter(~Exists(Incident.objects.filter(issue=OuterRef("id")))).order_by("last_seen_at")
        ids = list(over.select_for_update(skip_locked=True).values_list("id", flat=True)[:INCIDENTS_MAX])
        return Issue.objects.filter(id__any_of=ids).delete()[0]
