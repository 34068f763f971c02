"""Notifying channels that an incident is acknowledged (shell).

    acknowledged -> Notification (same transaction) -> Duty and Message for each channel with the opening
                                                    -> Message for each pager whose whole storm is acknowledged now

Mail is not sent: who gets the mail about the end need not know before. The channel where somebody acknowledged knows.
Pagers whose API has no acknowledgement get no message either: it would count as sent, and send nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from incidents.models import Message, Notification
from incidents.models.channels import EMAIL
from incidents.notifications.acknowledged_storms import acknowledge_storms
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.outbox import NewMessage, insert_messages, message_key, renumber, write_duties
from incidents.notifications.routing import Recipient
from incidents.notifications.wake import wake_after_commit
from lib.sql import fetch_rows

ADDRESSED_MAX = 1_000
ACKNOWLEDGED = Notification.Transition.ACKNOWLEDGED.value
REASON = "notified of its opening"
NOTIFIED_OF_NONE = {EMAIL} | {
    kind
    for kind, sender in SENDERS.items()
    if Capability.KEEPS_ALERTS in sender.CAN and not sender.CAN & {Capability.ACKNOWLEDGE, Capability.KEEP_ALIVE}
}
"""Kinds of channels that get no message about an acknowledgement. One that forgets alerts is sent them anew with it."""


def notify_acknowledged(incident_ids: Sequence[int], *, now: datetime) -> None:
    """Write the notifications about an acknowledgement. The caller has locked the incidents."""
    renumber(ACKNOWLEDGED, incident_ids, now=now, is_addressed=False)
    wake_after_commit()


@transaction.atomic
def address_acknowledged(*, now: datetime) -> int:
    """Write messages for new acknowledgements; returns how many were examined. Call again while it returns the most.

    One waits until the opening is addressed: whoever does not know of an incident gets no acknowledgement.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watchclock: address'))")
        cursor.execute(_HOLD_SQL, {"now": now})
    found = fetch_rows(_NEW_SQL, {"now": now, "limit": ADDRESSED_MAX})
    if not found:
        return 0
    notified = notified_recipients([incident_id for _, incident_id, *_ in found])
    messages: list[NewMessage] = []
    duties: list[tuple[int, NewMessage]] = []
    for id_, incident_id, guid, number, is_due, own_channel in found:
        for name, channel_id, kind in notified.get(incident_id, ()) if is_due else ():
            if channel_id is None or kind in NOTIFIED_OF_NONE or channel_id == own_channel:
                continue
            key = message_key(guid, f"{ACKNOWLEDGED} {number}", name)
            recipient = Recipient(name, channel_id, REASON)
            message = NewMessage(incident_id, Message.Kind.ACKNOWLEDGED.value, recipient, key, number=number)
            messages.append(message)
            duties.append((id_, message))
    insert_messages(messages, now=now)
    write_duties(duties, now=now)
    acknowledge_storms([incident_id for _, incident_id, _, _, is_due, _ in found if is_due], now=now)
    Notification.objects.filter(id__any_of=[id_ for id_, *_ in found]).update(addressed_at=now)
    return len(found)


_NEW_SQL = """
    SELECT n.id, n.incident_id, i.guid, n.number,
           i.resolved_at IS NULL AND i.acknowledged_at = n.created_at, i.acknowledged_channel
      FROM incidents_notification AS n
      JOIN incidents_incident AS i ON i.id = n.incident_id
     WHERE n.addressed_at IS NULL AND n.nobody_since IS NULL AND n.transition = 'acknowledged'
       AND coalesce(n.held_until, %(now)s) <= %(now)s
       AND NOT EXISTS (SELECT 1 FROM incidents_notification AS o
                        WHERE o.incident_id = n.incident_id AND o.transition = 'opened' AND o.addressed_at IS NULL
                          AND o.nobody_since IS NULL AND i.resolved_at IS NULL)
     ORDER BY n.id LIMIT %(limit)s
"""
_HOLD_SQL = """
    UPDATE incidents_notification AS n SET held_until = o.held_until, held_by = o.held_by
      FROM incidents_notification AS o
     WHERE n.addressed_at IS NULL AND n.nobody_since IS NULL AND n.transition = 'acknowledged'
       AND coalesce(n.held_until, %(now)s) <= %(now)s
       AND o.incident_id = n.incident_id AND o.transition = 'opened' AND o.addressed_at IS NULL
       AND o.held_until > %(now)s
"""
"""An acknowledgement is held as long as the opening, and is not late meanwhile. Index: notification_new."""


def notified_recipients(incident_ids: list[int]) -> dict[int, list[tuple[str, int | None, str | None]]]:
    """Return who was notified, or is about to be, that each incident opened: recipient, channel and its kind.

    Only those notified of this incident alone: the alert of a storm is not about one (`acknowledged_storms`).
    """
    found: dict[int, list[tuple[str, int | None, str | None]]] = {}
    for incident_id, recipient, channel_id, kind in fetch_rows(_NOTIFIED_SQL, [incident_ids]):
        found.setdefault(incident_id, []).append((recipient, channel_id, kind))
    return found


_NOTIFIED_SQL = """
    SELECT DISTINCT d.incident_id, d.recipient, d.channel_id, c.kind
      FROM incidents_duty AS d
      JOIN incidents_notification AS n ON n.id = d.notification_id
      JOIN incidents_message AS m ON m.id = d.message_id AND m.incident_id = d.incident_id
      LEFT JOIN incidents_channel AS c ON c.id = d.channel_id
     WHERE d.incident_id = ANY(%s) AND n.transition IN ('opened', 'escalated') AND m.status IN ('waiting', 'sent')
     ORDER BY d.incident_id, d.recipient
"""
