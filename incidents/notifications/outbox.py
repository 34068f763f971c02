"""The outbox: notifications and messages are written into it (shell; nothing is sent here).

    incident changes -> Notification (same transaction) -> addressing: Duty and Message for each recipient -> claims

Every step is a short transaction, and none is open while something is sent (`delivery`).
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from incidents.models import Message, Notification
from incidents.notifications.routing import Recipient
from incidents.notifications.wake import wake_after_commit
from lib.sql import array_literal, fetch_rows, insert_rows

MESSAGE_NAMESPACE = uuid.UUID("b0a4f6a7-7f3f-4c64-a1b1-6d1f4c9f2e02")
OPENED, RESOLVED = Notification.Transition.OPENED.value, Notification.Transition.RESOLVED.value
COVERS = {
    Message.Kind.OPENED.value: [OPENED],
    Message.Kind.RESOLVED.value: [RESOLVED],
    Message.Kind.PASSED.value: [OPENED, RESOLVED],
    **{kind.value: [kind.value] for kind in (Message.Kind.REMINDER, Message.Kind.ESCALATED, Message.Kind.ACKNOWLEDGED)},
    # What these cover is in their duties.
    Message.Kind.DIGEST.value: [],
    Message.Kind.STORM_OVER.value: [],
    Message.Kind.CLOCK.value: [],
    Message.Kind.TEST.value: [],
    Message.Kind.FALLBACK.value: [],
    Message.Kind.REPORT.value: [],
}
"""The transitions that a message of each kind covers."""
TICK = "its tick is not finished in all shards"
"""Why an opening is held that a tick found."""
_MESSAGE_COLUMNS = {
    "incident_id": "bigint",
    "storm_id": "bigint",
    "kind": "text",
    "number": "smallint",
    "recipient": "text",
    "channel_id": "bigint",
    "idempotency_key": "uuid",
    "subject": "text",
    "body": "text",
    "created_at": "timestamptz",
    "due_at": "timestamptz",
    "attempt_count": "integer",
    "status": "text",
    "last_error": "text",
    "is_plain": "boolean",
    "external_ref": "text",
    "answer": "text",
}


class Opening(NamedTuple):
    """When an incident was found, and by which tick (None: by a check-in)."""

    at: datetime
    tick: datetime | None = None


def notify_opened(incidents: Mapping[int, Opening], *, held_until: datetime | None = None) -> None:
    """Write notifications about new incidents (P5). The caller leaves out incidents of archived issues.

    What a tick found is held until the tick is finished (`release_ticks`), at most until `held_until`, so that it goes
    out together. Delivery is woken when the transaction commits.
    """
    if not incidents:
        return
    insert_rows(
        "incidents_notification",
        {
            "incident_id": "bigint",
            "transition": "text",
            "channel": "text",
            "created_at": "timestamptz",
            "tick": "timestamptz",
            "held_until": "timestamptz",
            "held_by": "text",
        },
        [
            (id_, OPENED, Notification.Channel.EMAIL.value, at, tick, held_until, TICK if held_until else "")
            if tick
            else (id_, OPENED, Notification.Channel.EMAIL.value, at, None, None, "")
            for id_, (at, tick) in sorted(incidents.items())
        ],
    )
    wake_after_commit()


def release_ticks(until: datetime) -> int:
    """Let the openings go that ticks up to this one have found: these are finished in all shards. Returns how many.

    Delivery is woken when the transaction commits. Those that another worker addresses are left to it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE_TICKS_SQL, [until, TICK])
        if cursor.rowcount:
            wake_after_commit()
        return int(cursor.rowcount)


_RELEASE_TICKS_SQL = """
    UPDATE incidents_notification SET held_until = NULL, held_by = ''
     WHERE id = ANY (ARRAY (
           SELECT id FROM incidents_notification
            WHERE tick <= %s AND held_by = %s AND held_until IS NOT NULL AND addressed_at IS NULL
            ORDER BY id
              FOR UPDATE SKIP LOCKED))
"""
"""Index: notification_held."""


def next_release(now: datetime) -> datetime | None:
    """Return when the next held notification may be addressed; None if there is none."""
    rows = fetch_rows(
        "SELECT min(held_until) FROM incidents_notification WHERE held_until > %s AND addressed_at IS NULL", [now]
    )
    found: datetime | None = rows[0][0]
    return found


def notify_resolved(incidents: Mapping[int, datetime]) -> None:
    """Write notifications about resolved incidents, given with the instant of each (P5).

    None is written for an incident whose opening had no notification: it was muted, or its issue archived. If that
    happened later, the end is sent nevertheless, to whom the opening was sent: a pager must not stay open.
    """
    if not incidents:
        return
    ids = sorted(incidents)
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTIFY_RESOLVED_SQL,
            {
                "ids": array_literal("bigint", ids),
                "instants": array_literal("timestamptz", [incidents[id_] for id_ in ids]),
                "channel": Notification.Channel.EMAIL.value,
                "opened": OPENED,
                "resolved": RESOLVED,
            },
        )
        if cursor.rowcount:
            wake_after_commit()


_NOTIFY_RESOLVED_SQL = """
    INSERT INTO incidents_notification (incident_id, transition, channel, created_at)
    SELECT i.id, %(resolved)s, %(channel)s, changed.at
      FROM unnest(%(ids)s::bigint[], %(instants)s::timestamptz[]) AS changed (incident_id, at)
      JOIN incidents_incident AS i ON i.id = changed.incident_id
     WHERE EXISTS (SELECT FROM incidents_notification WHERE incident_id = i.id AND transition = %(opened)s)
     ORDER BY i.id
        ON CONFLICT (incident_id, transition, channel) DO NOTHING
"""


def write_message(*, key_name: str, recipients: Sequence[Recipient], subject: str, body: str, now: datetime) -> None:
    """Write a message from the clock to each recipient, in the caller's transaction; `key_name` identifies it.

    The same name and recipient are written once.
    """
    insert_messages(
        [
            NewMessage(None, Message.Kind.CLOCK.value, to, text_key(key_name, "clock", to.name), subject, body)
            for to in recipients
        ],
        now=now,
    )
    wake_after_commit()


class NewMessage(NamedTuple):
    """A message to be written, due now unless `due_at` says otherwise.

    Without an incident or a storm it is from the clock, and has its text already.
    """

    incident_id: int | None
    kind: str
    recipient: Recipient
    key: uuid.UUID
    subject: str = ""
    body: str = ""
    number: int = 0
    storm: int | None = None
    due_at: datetime | None = None


def message_key(guid: uuid.UUID, kind: str, recipient: str) -> uuid.UUID:
    """Return the key of the message of that kind about an incident to a recipient: always the same."""
    return text_key(str(guid), kind, recipient)


def text_key(name: str, kind: str, recipient: str) -> uuid.UUID:
    """Return the key of the message that a name stands for, of that kind to a recipient."""
    return uuid.uuid5(MESSAGE_NAMESPACE, f"{name}:{kind}:{recipient}")


def insert_messages(messages: Sequence[NewMessage], *, now: datetime) -> None:
    """Write messages. One that is there already stays as it is."""
    insert_rows(
        "incidents_message",
        _MESSAGE_COLUMNS,
        [
            (
                new.incident_id,
                new.storm,
                new.kind,
                new.number,
                new.recipient.name,
                new.recipient.channel,
                new.key,
                new.subject,
                new.body,
                now,
                new.due_at or now,
                0,
                Message.Status.WAITING.value,
                "",
                False,
                "",
                "",
            )
            for new in messages
        ],
        on_conflict="ON CONFLICT DO NOTHING",
    )


def write_duties(duties: Sequence[tuple[int, NewMessage]], *, now: datetime) -> None:
    """Write whom notifications, given by id, concern; each with the message that carries it, which is written."""
    if not duties:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _DUTIES_SQL,
            [
                now,
                array_literal("bigint", [message.incident_id for _, message in duties]),
                array_literal("bigint", [notification_id for notification_id, _ in duties]),
                array_literal("bigint", [message.recipient.channel for _, message in duties]),
                array_literal("text", [message.recipient.name for _, message in duties]),
                array_literal("text", [message.recipient.reason for _, message in duties]),
                array_literal("uuid", [message.key for _, message in duties]),
            ],
        )


_DUTIES_SQL = """
    INSERT INTO incidents_duty
           (incident_id, notification_id, channel_id, recipient, reason, number, message_id, created_at)
    SELECT new.incident_id, new.notification_id, new.channel_id, new.recipient, new.reason, n.number, m.id, %s
      FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::uuid[])
           AS new (incident_id, notification_id, channel_id, recipient, reason, key)
      JOIN incidents_message AS m ON m.idempotency_key = new.key
      JOIN incidents_notification AS n ON n.id = new.notification_id
     ORDER BY m.id
        ON CONFLICT (notification_id, recipient, number) DO NOTHING
"""


def renumber(
    kind: str, incident_ids: Sequence[int], *, now: datetime, is_addressed: bool
) -> dict[int, tuple[int, int]]:
    """Write a notification that may come more than once; returns its id and its number, by incident.

    `is_addressed`: the caller writes the messages. The caller has locked the incidents.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _RENUMBER_SQL,
            {"ids": sorted(set(incident_ids)), "kind": kind, "now": now, "addressed_at": now if is_addressed else None},
        )
        return {incident_id: (id_, number) for incident_id, id_, number in cursor.fetchall()}


_RENUMBER_SQL = """
    INSERT INTO incidents_notification AS old (incident_id, transition, channel, created_at, number, addressed_at)
    SELECT id, %(kind)s, 'email', %(now)s, 1, %(addressed_at)s::timestamptz FROM unnest(%(ids)s::bigint[]) AS new (id)
        ON CONFLICT (incident_id, transition, channel) DO UPDATE
       SET number = old.number + 1, created_at = excluded.created_at, addressed_at = excluded.addressed_at,
           sent_at = NULL, nobody_since = NULL, held_until = NULL, held_by = ''
    RETURNING incident_id, id, number
"""
