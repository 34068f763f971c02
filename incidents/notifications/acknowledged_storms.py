"""Notifying pagers that a storm is acknowledged: each of its incidents that are open is (shell).

A pager has one alert for a storm, so the acknowledgement of one member says nothing of it. The message has its text at
once: what it says does not change any more. It carries no duties, since it reports no single incident.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from incidents.models import Message
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.outbox import NewMessage, insert_messages, message_key
from incidents.notifications.routing import Recipient
from incidents.notifications.storm_alerts import acknowledgement_of
from lib.encoding import to_json
from lib.sql import fetch_rows

ACKNOWLEDGED = Message.Kind.ACKNOWLEDGED.value
_KINDS = sorted(
    kind for kind, sender in SENDERS.items() if {Capability.KEEPS_ALERTS, Capability.ACKNOWLEDGE} <= sender.CAN
)
"""Kinds of pagers that know acknowledgements."""


class _Storm(NamedTuple):
    """A storm of which each open member is acknowledged, the last one `by` whom. `message_count`: messages so far."""

    id: int
    guid: UUID
    recipient: str
    channel: int
    language: str
    timezone: str
    project: str
    by: str
    message_count: int


def acknowledge_storms(incident_ids: Collection[int], *, now: datetime) -> int:
    """Write messages for the storms of these incidents that are acknowledged now; returns how many.

    The incidents were acknowledged, or are over. None is written again until somebody acknowledges a member anew. The
    caller holds the lock of addressing.
    """
    if not incident_ids:
        return 0
    rows = fetch_rows(_STORMS_SQL, {"incidents": sorted(incident_ids), "kinds": _KINDS})
    messages = []
    for storm in (_Storm(*row) for row in rows):
        number = storm.message_count + 1
        key = message_key(storm.guid, f"{ACKNOWLEDGED} {number}", storm.recipient)
        alert = acknowledgement_of(
            storm.guid,
            project=storm.project,
            by=storm.by,
            key=key,
            at=now,
            language=storm.language,
            timezone=storm.timezone,
        )
        body = to_json(alert).decode()
        to = Recipient(storm.recipient, storm.channel, "")
        messages.append(NewMessage(None, ACKNOWLEDGED, to, key, alert.title, body, number=number, storm=storm.id))
    insert_messages(messages, now=now)
    return len(messages)


_STORMS_SQL = """
    SELECT s.id, s.guid, s.recipient, c.id, c.language, c.timezone, coalesce(nullif(p.name, ''), p.slug),
           members.last_by,
           (SELECT count(*) FROM incidents_message AS m WHERE m.storm_id = s.id AND m.kind = 'acknowledged')
      FROM (SELECT DISTINCT m.storm_id
              FROM incidents_duty AS d JOIN incidents_message AS m ON m.id = d.message_id
             WHERE d.incident_id = ANY(%(incidents)s) AND m.kind = 'digest' AND m.status IN ('waiting', 'sent')
           ) AS meant
      JOIN incidents_storm AS s ON s.id = meant.storm_id
      JOIN incidents_channel AS c ON c.id = s.channel_id AND c.kind = ANY(%(kinds)s)
      JOIN monitors_project AS p ON p.id = s.project_id
     CROSS JOIN LATERAL (
           SELECT bool_and(i.acknowledged_at IS NOT NULL) AS are_acknowledged,
                  bool_and(coalesce(i.acknowledged_channel = c.id, false)) AS are_known,
                  max(i.acknowledged_at) AS last_at,
                  (array_agg(i.acknowledged_by ORDER BY i.acknowledged_at DESC, i.id))[1] AS last_by
             FROM incidents_incident AS i
            WHERE i.resolved_at IS NULL
              AND i.id IN (SELECT d.incident_id
                             FROM incidents_duty AS d JOIN incidents_message AS m ON m.id = d.message_id
                            WHERE m.storm_id = s.id)) AS members
     WHERE members.are_acknowledged AND NOT members.are_known
       AND NOT EXISTS (SELECT FROM incidents_message AS m
                        WHERE m.storm_id = s.id AND m.kind = 'acknowledged' AND m.status <> 'superseded'
                          AND m.created_at >= members.last_at)
     ORDER BY s.id
"""
"""Indexes: that of duties by incident, and that of messages by storm. A pager in which all were acknowledged knows."""


def withdraw_acknowledgements(incident_ids: Collection[int], *, now: datetime) -> None:
    """Withdraw what waits to report that storms are acknowledged of which no member is open any more.

    A pager that does not know of them would consider it a new alert. `incident_ids` are over.
    """
    if incident_ids:
        with connection.cursor() as cursor:
            cursor.execute(_WITHDRAW_SQL, {"incidents": sorted(incident_ids), "now": now})


_WITHDRAW_SQL = """
    UPDATE incidents_message SET status = 'superseded', finished_at = %(now)s
     WHERE id = ANY (ARRAY (
           SELECT m.id FROM incidents_message AS m
            WHERE m.storm_id = ANY (ARRAY (
                  SELECT DISTINCT own.storm_id
                    FROM incidents_duty AS d JOIN incidents_message AS own ON own.id = d.message_id
                   WHERE d.incident_id = ANY(%(incidents)s) AND own.storm_id IS NOT NULL))
              AND m.kind = 'acknowledged' AND m.status = 'waiting' AND m.claimed_until IS NULL AND NOT m.is_in_doubt
              AND NOT EXISTS (
                  SELECT FROM incidents_message AS own
                    JOIN incidents_duty AS d ON d.message_id = own.id
                    JOIN incidents_incident AS i ON i.id = d.incident_id
                   WHERE own.storm_id = m.storm_id AND i.resolved_at IS NULL)
            ORDER BY m.id
              FOR UPDATE))
"""
