"""What recipients have been notified of: by a message of their own, or in the digest of a storm (shell)."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from incidents.models import Message
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.quiet import QuietHours
from lib.sql import fetch_rows

OPENED, ESCALATED = Message.Kind.OPENED.value, Message.Kind.ESCALATED.value
OBLIGING = [OPENED, ESCALATED]
"""The kinds of messages that report an open incident, and oblige to report its end."""


class Notified(NamedTuple):
    """A message that notified, or will notify, a recipient that an incident is open.

    `is_unsent`: nobody can have received it, so it may still become another message. `storm` is the storm whose digest
    it is; `key` its key. `kind` is that of its channel; empty for ALERT_EMAIL_TO.
    """

    recipient: str
    channel: int | None
    kind: str
    quiet: QuietHours | None
    is_unsent: bool
    is_sent: bool
    storm: int | None
    key: uuid.UUID

    @property
    def keeps_alerts(self) -> bool:
        """Whether the service keeps an alert until it receives the end: that is no noise, so it gets it at once."""
        return Capability.KEEPS_ALERTS in self._can

    @property
    def shows_first(self) -> bool:
        """Whether later messages change or continue the first one, so that they must be about the same incident."""
        return bool(self._can & {Capability.UPDATE, Capability.THREAD})

    @property
    def _can(self) -> frozenset[Capability]:
        return SENDERS[self.kind].CAN if self.kind in SENDERS else frozenset()

    def quiet_until(self, now: datetime) -> datetime | None:
        """Return until when the recipient is not to be notified that it is over; None if at once."""
        return None if self.quiet is None or self.keeps_alerts else self.quiet.end_after(now)


def notified_of(incident_ids: Sequence[int]) -> dict[int, list[Notified]]:
    """Return who has been notified that these incidents are open, or will be. The messages are locked, in id order.

    Of messages about one incident only the first to a recipient. An escalation that nobody can have received does not
    count: it is of no use when the incident is over.
    """
    found: dict[int, list[Notified]] = {}
    if not incident_ids:
        return found
    parameters = {"ids": list(incident_ids), "kinds": OBLIGING}
    fetch_rows(_LOCK_SQL, parameters)
    seen: set[tuple[int, str, int | None]] = set()
    for incident_id, begin, end, zone, recipient, channel, kind, *rest in fetch_rows(_NOTIFIED_SQL, parameters):
        quiet = QuietHours(begin, end, zone) if begin is not None and end is not None else None
        one = Notified(recipient, channel, kind or "", quiet, *rest)
        if (incident_id, recipient, one.storm) not in seen:
            seen.add((incident_id, recipient, one.storm))
            found.setdefault(incident_id, []).append(one)
    return found


_MESSAGES_SQL = """
    SELECT m.incident_id, m.id FROM incidents_message AS m
     WHERE m.incident_id = ANY(%(ids)s) AND m.kind = ANY(%(kinds)s) AND m.status <> 'folded'
     UNION ALL
    SELECT d.incident_id, d.message_id FROM incidents_duty AS d
      JOIN incidents_notification AS n ON n.id = d.notification_id AND n.transition IN ('opened', 'escalated')
      JOIN incidents_message AS m ON m.id = d.message_id AND m.kind = 'digest'
     WHERE d.incident_id = ANY(%(ids)s)
"""
_LOCK_SQL = f"""
    SELECT id FROM incidents_message WHERE id IN (SELECT id FROM ({_MESSAGES_SQL}) AS notified (incident_id, id))
     ORDER BY id FOR UPDATE
"""  # noqa: S608
_NOTIFIED_SQL = f"""
    SELECT notified.incident_id, c.quiet_from, c.quiet_until, c.timezone, m.recipient, m.channel_id, c.kind,
           now.is_unsent, m.status = 'sent', m.storm_id, m.idempotency_key
      FROM ({_MESSAGES_SQL}) AS notified (incident_id, id)
      JOIN incidents_message AS m ON m.id = notified.id
      LEFT JOIN incidents_channel AS c ON c.id = m.channel_id
     CROSS JOIN LATERAL (
           SELECT m.status = 'waiting' AND m.claimed_until IS NULL AND NOT m.is_in_doubt
                  AND (m.attempt_count = 0 OR m.storm_id IS NULL) AS is_unsent
           ) AS now
      LEFT JOIN incidents_storm AS s ON s.id = m.storm_id
     WHERE NOT (m.kind = 'escalated' OR coalesce(s.cause = 'escalation', false))
        OR NOT (now.is_unsent OR m.status = 'superseded')
     ORDER BY notified.incident_id, m.id
"""  # noqa: S608
"""What failed for certain is as good as unsent. What may have been accepted is not: a pager must be
notified of the end. What was folded is sent by another message.
Indexes: message_once_per_recipient_kind_and_number, the one of duties by incident."""
