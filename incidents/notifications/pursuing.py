"""Reminders and escalation: a sweep sends what is due about incidents that nobody has acknowledged (shell).

    due FollowUp -> verdict (`pursuit`) -> Notification, Duty and Message for each recipient -> the next time

All is in rows, so a sweep that does not run only delays. Incidents are locked, so acknowledging one and sending its
next step exclude each other; whoever waits for that lock finds what the other has done.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.db import transaction

from audit.entries import Actor, Entry, Source
from audit.recording import record
from incidents.models import Channel
from incidents.models.channels import EMAIL
from incidents.notifications.addressees import recipients
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.follow_ups import REMINDER, begin_anew, supersede
from incidents.notifications.mail_settings import has_mail_server
from incidents.notifications.pursuit import (
    Escalation,
    Reminders,
    Standing,
    judge,
    reminder_wait,
    step_after,
    usable_step,
)
from incidents.notifications.repeating import ESCALATED, Again, notify_again
from incidents.notifications.repeating import REMINDER as REMINDED
from incidents.notifications.routes import WITH_PERSON, recipients_of
from incidents.notifications.routing import Recipient
from lib.sql import fetch_rows, update_rows

DUE_MAX = 2_000
"""Reminders and steps of one transaction."""


class _Due(NamedTuple):
    """A reminder or a step that is due, with what holds of its incident."""

    id: int
    kind: str
    route: str
    plan: str
    done: int
    incident_id: int
    guid: UUID
    is_open: bool
    is_acknowledged: bool
    is_quiet: bool
    snoozed_until: datetime | None
    project_id: int
    is_critical: bool


def pursue(*, now: datetime) -> int:
    """Send what is due; returns how many reminders and steps were examined. Call again while it returns `DUE_MAX`."""
    lapse(now=now)
    return _send_due(now=now)


@transaction.atomic
def lapse(*, now: datetime) -> int:
    """End acknowledgements that have run out: people are reminded at once, and the escalation begins anew."""
    found = fetch_rows(_LAPSED_SQL, [now, DUE_MAX])
    if found:
        begin_anew([id_ for id_, *_ in found], now=now, reminds_at=now)
        entries = [
            Entry(
                "incident",
                id_,
                f"{slug} / {environment}",
                "unacknowledged",
                project_id,
                {"acknowledged_by": (by, None)},
            )
            for id_, by, slug, environment, project_id in found
        ]
        record(entries, by=Actor("Watchclock", Source.SYSTEM, now))
    return len(found)


_LAPSED_SQL = """
    WITH lapsed AS (
         SELECT id, acknowledged_by, monitor_environment_id FROM incidents_incident
          WHERE acknowledged_until <= %s AND acknowledged_until IS NOT NULL AND resolved_at IS NULL
          ORDER BY id LIMIT %s
            FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE incidents_incident AS i
       SET acknowledged_at = NULL, acknowledged_by = '', acknowledged_via = '', acknowledged_channel = NULL,
           acknowledged_until = NULL
      FROM lapsed
      JOIN monitors_monitorenvironment AS me ON me.id = lapsed.monitor_environment_id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      JOIN monitors_environment AS e ON e.id = me.environment_id
     WHERE i.id = lapsed.id
    RETURNING i.id, lapsed.acknowledged_by, m.slug, e.name, m.project_id
"""
"""Index: incident_acknowledged_until."""


@transaction.atomic
def _send_due(*, now: datetime) -> int:
    found = [_Due(*row) for row in fetch_rows(_DUE_SQL, [now, DUE_MAX])]
    if not found:
        return 0
    channels = _channels_of(found)
    usable = {id_ for id_, channel in channels.items() if _is_usable(channel)}
    later: list[tuple[int, int, datetime | None]] = []
    reminders: list[Again] = []
    steps: list[Again] = []
    for due in found:
        standing = Standing(due.is_open, due.is_acknowledged, due.is_quiet, due.snoozed_until)
        verdict = judge(standing, now=now)
        if not verdict.is_to_send:
            later.append((due.id, due.done, verdict.again_at))
        elif due.kind == REMINDER:
            reminders += [_again(due, recipient) for recipient in _reminded(due, channels)]
            wait = reminder_wait(msgspec.json.decode(due.plan, type=Reminders).hours, due.done + 1)
            later.append((due.id, due.done + 1, now + wait))
        else:
            notified, done, again_at = _escalate(due, channels, usable, now)
            steps += [_again(due, recipient) for recipient in notified]
            later.append((due.id, done, again_at))
    if reminders:
        unaware = _not_notified_yet([one.incident_id for one in reminders], now=now)
        reminders = [one for one in reminders if (one.incident_id, one.recipient.name) not in unaware]
        supersede([one.incident_id for one in reminders], now=now, kinds=[REMINDED])
    notify_again(REMINDED, reminders, channels, now=now)
    notify_again(ESCALATED, steps, channels, now=now)
    update_rows("incidents_followup", {"done": "smallint", "due_at": "timestamptz"}, later)
    return len(found)


_DUE_SQL = """
    SELECT f.id, f.kind, f.route, f.plan::text, f.done, i.id, i.guid, i.resolved_at IS NULL,
           i.acknowledged_at IS NOT NULL,
           me.is_muted OR me.status = 'pending_deletion' OR coalesce(s.status = 'archived', false), m.snoozed_until,
           m.project_id, m.severity = 'critical'
      FROM incidents_followup AS f
      JOIN incidents_incident AS i ON i.id = f.incident_id
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS m ON m.id = me.monitor_id
      LEFT JOIN incidents_issue AS s ON s.id = i.issue_id
     WHERE f.due_at <= %s
     ORDER BY f.due_at, f.id LIMIT %s
       FOR NO KEY UPDATE OF f, i SKIP LOCKED
"""
"""Index: follow_up_due."""


def _not_notified_yet(incident_ids: list[int], *, now: datetime) -> set[tuple[int, str]]:
    """Return of which incidents who gets the opening at the end of quiet hours: nothing to be reminded of before."""
    rows = fetch_rows(_UNAWARE_SQL, {"incidents": incident_ids, "now": now})
    return {(incident, recipient) for incident, recipient in rows}


_UNAWARE_SQL = """
    SELECT d.incident_id, d.recipient
      FROM incidents_duty AS d
      JOIN incidents_notification AS n ON n.id = d.notification_id
      JOIN incidents_message AS m ON m.id = d.message_id
     WHERE d.incident_id = ANY(%(incidents)s) AND n.transition IN ('opened', 'escalated')
     GROUP BY d.incident_id, d.recipient
    HAVING bool_or(m.status = 'waiting' AND m.attempt_count = 0 AND m.due_at > %(now)s)
       AND NOT bool_or(m.status = 'sent')
"""


def _again(due: _Due, recipient: Recipient) -> Again:
    return Again(due.incident_id, due.guid, due.project_id, due.is_critical, recipient)


def _channels_of(found: Sequence[_Due]) -> dict[int, Channel]:
    """Load the channels that the plans name. Two statements."""
    wanted: set[int] = set()
    for due in found:
        if due.kind == REMINDER:
            plan = msgspec.json.decode(due.plan, type=Reminders)
            wanted |= {channel for _, channel in plan.recipients if channel is not None}
        else:
            for step in msgspec.json.decode(due.plan, type=Escalation).steps:
                wanted |= set(step.channels)
    channels = Channel.objects.filter(id__any_of=sorted(wanted)).select_related(WITH_PERSON)
    channels = channels.prefetch_related("unsubscriptions")
    return {channel.id: channel for channel in channels}


def _is_usable(channel: Channel | None) -> bool:
    """Return whether a channel takes messages.

    Not one that is disabled or removed, nor mail without a mail server or to addresses that have unsubscribed.
    """
    if channel is None or not channel.is_enabled or channel.removed_at is not None:
        return False
    return bool(recipients_of(channel)) and (channel.kind != EMAIL or has_mail_server())


def _reminded(due: _Due, channels: Mapping[int, Channel]) -> list[Recipient]:
    """Return whom to remind: those notified because of the route who are still to be notified.

    Services that remind people by themselves are left out.
    """
    plan = msgspec.json.decode(due.plan, type=Reminders)
    return [
        Recipient(name, channel_id, f"reminder {due.done + 1}")
        for name, channel_id in plan.recipients
        if (name in recipients() if channel_id is None else _is_reminded(name, channels.get(channel_id)))
    ]


def _is_reminded(name: str, channel: Channel | None) -> bool:
    if channel is None or not _is_usable(channel) or _reminds(channel):
        return False
    return name in recipients_of(channel)


def _reminds(channel: Channel) -> bool:
    return channel.kind in SENDERS and Capability.KEEPS_ALERTS in SENDERS[channel.kind].CAN


def _escalate(
    due: _Due, channels: Mapping[int, Channel], usable: set[int], now: datetime
) -> tuple[list[Recipient], int, datetime | None]:
    """Return whom a step notifies, how many steps are done with it, and when the next one is due.

    If none of its channels gets messages through at present, the next step is due at once.
    """
    plan = msgspec.json.decode(due.plan, type=Escalation)
    step = usable_step(plan, due.done, usable)
    if step is None:
        return [], due.done, None
    ids, done = step
    reason = f"step {(done - 1) % len(plan.steps) + 1} of the escalation of route {due.route!r}"
    notified = [Recipient(name, id_, reason) for id_ in ids for name in recipients_of(channels[id_])]
    following = step_after(plan, done)
    is_reached = any(channels[id_].open_since is None for id_ in ids)
    wait = timedelta(minutes=following.minutes if is_reached else 0) if following else None
    return notified, done, None if wait is None else now + wait
