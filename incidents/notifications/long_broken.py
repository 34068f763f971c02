"""Monitors that have failed for weeks: reported, later muted, and unmuted when they recover (shell).

    14 days of failure -> reported once more; 14 days later -> muted; recovered -> unmuted; both are reported

Nobody reads the fortieth reminder, and a job that nobody needs any more fails for ever. It is muted once: one that a
person unmutes stays so. The transaction of its recovery unmutes it, so that the next failure is reported.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from audit.entries import Actor, Source
from audit.recording import record
from incidents.models import Channel, LongBroken, Message
from incidents.notifications.follow_ups import supersede
from incidents.notifications.last_runs import ALL_FAILED_SQL
from incidents.notifications.notified import notified_of
from incidents.notifications.outbox import NewMessage, insert_messages, message_key, renumber, write_duties
from incidents.notifications.routing import Recipient
from incidents.notifications.wake import wake_after_commit
from lib.sql import array_literal, fetch_rows
from monitors.models import MonitorEnvironment
from monitors.services import environment_entry, mute_until_recovery

REPORTED_AFTER = timedelta(days=14)
MUTED_AFTER = timedelta(days=14)
"""After people were notified."""
CHECKINS = 4
"""So many of the newest check-ins must all have failed."""
LOOKED_AT_MAX = 200
"""Incidents of one transaction."""
REMINDER = Message.Kind.REMINDER.value


class _Broken(NamedTuple):
    """An incident that is reported again, or if that was done (`told_at`), whose environment is muted."""

    incident_id: int
    guid: UUID
    started_at: datetime
    told_at: datetime | None
    environment_id: int
    slug: str
    environment: str
    project_id: int


def look_after(*, now: datetime) -> int:
    """Report environments that have been failing for long, and mute them; returns how many.

    Call again while it returns `LOOKED_AT_MAX`.
    """
    found = _find(now=now)
    return _act([one.incident_id for one in found], [one.environment_id for one in found], now=now) if found else 0


@transaction.atomic
def _act(incident_ids: Sequence[int], environment_ids: Sequence[int], *, now: datetime) -> int:
    # Environments before incidents, as everywhere; what has changed meanwhile is left out.
    list(MonitorEnvironment.objects.filter(id__any_of=environment_ids).locked_in_id_order().values_list("id"))
    list(fetch_rows(_LOCK_SQL, [array_literal("bigint", sorted(incident_ids))]))
    found = _find(now=now, only=incident_ids)
    muted = [one for one in found if one.told_at is not None]
    LongBroken.objects.bulk_create(
        (LongBroken(incident_id=one.incident_id, told_at=now) for one in found if one.told_at is None),
        ignore_conflicts=True,
    )
    LongBroken.objects.filter(incident_id__any_of=[one.incident_id for one in muted]).update(muted_at=now)
    _report(found, now=now)
    mute_until_recovery([one.environment_id for one in muted])
    entries = [
        environment_entry(one.environment_id, one.slug, one.environment, "muted", one.project_id) for one in muted
    ]
    record(entries, by=Actor(name="Watchclock", source=Source.SYSTEM, at=now))
    return len(found)


def _find(*, now: datetime, only: Sequence[int] | None = None) -> list[_Broken]:
    parameters = {
        "now": now,
        "started_by": now - REPORTED_AFTER,
        "reported_by": now - MUTED_AFTER,
        "checkins": CHECKINS,
        "limit": LOOKED_AT_MAX,
        "only": None if only is None else array_literal("bigint", sorted(only)),
    }
    return [_Broken(*row) for row in fetch_rows(_FOUND_SQL, parameters)]


_LOCK_SQL = "SELECT id FROM incidents_incident WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE"
_FOUND_SQL = f"""
    SELECT i.id, i.guid, i.started_at, b.told_at, me.id, m.slug, e.name, m.project_id
      FROM incidents_incident AS i
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      JOIN monitors_environment AS e ON e.id = me.environment_id
      LEFT JOIN incidents_issue AS s ON s.id = i.issue_id
      LEFT JOIN incidents_longbroken AS b ON b.incident_id = i.id
     WHERE i.resolved_at IS NULL AND i.started_at <= %(started_by)s
       AND (b.id IS NULL OR (b.muted_at IS NULL AND b.told_at <= %(reported_by)s))
       AND (%(only)s::bigint[] IS NULL OR i.id = ANY(%(only)s::bigint[]))
       AND NOT me.is_muted AND m.status = 'active' AND coalesce(s.status <> 'archived', true)
       AND coalesce(m.snoozed_until <= %(now)s, true)
       AND {ALL_FAILED_SQL}
     ORDER BY i.started_at, i.id
     LIMIT %(limit)s
"""  # noqa: S608 - a constant
"""Indexes: incident_one_open_per_monitor_environment, checkin_history."""


def _report(found: Sequence[_Broken], *, now: datetime) -> None:
    """Write a reminder, with the news in it, to each recipient who was notified of the opening and gets reminders."""
    notified = notified_of([one.incident_id for one in found])
    channels = {one.channel for own in notified.values() for one in own if one.channel is not None}
    usable = set(
        Channel.objects.filter(id__any_of=sorted(channels), is_enabled=True, removed_at__isnull=True).values_list(
            "id", flat=True
        )
    )
    news = [
        (broken, one)
        for broken in found
        for one in notified.get(broken.incident_id, ())
        if (one.channel is None or one.channel in usable) and not one.keeps_alerts
    ]
    if not news:
        return
    incident_ids = sorted({broken.incident_id for broken, _ in news})
    supersede(incident_ids, now=now, kinds=[REMINDER])
    notifications = renumber(REMINDER, incident_ids, now=now, is_addressed=True)
    duties = []
    for broken, one in news:
        id_, number = notifications[broken.incident_id]
        recipient = Recipient(one.recipient, one.channel, f"failing for {(now - broken.started_at).days} days")
        key = message_key(broken.guid, f"{REMINDER} {number}", one.recipient)
        message = NewMessage(broken.incident_id, REMINDER, recipient, key, number=number, due_at=one.quiet_until(now))
        duties.append((id_, message))
    insert_messages([message for _, message in duties], now=now)
    write_duties(duties, now=now)
    wake_after_commit()
