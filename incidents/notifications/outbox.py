"""The outbox: notifications, their messages and the results (shell; no connection to a mail server).

    incident changes -> Notification (same transaction) -> address: Message for each recipient -> claim -> record

Every step is a short transaction, and none is open while a mail is sent (`delivery`). A claim expires, so the messages
of a killed worker are sent again, under the same key; a worker that lost its claim cannot record a result.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from incidents.models import Issue, Message, Notification
from incidents.notifications.attempts import ATTEMPTS_MAX, ERROR_LENGTH_MAX, LEASE, next_attempt_in
from incidents.notifications.wake import wake_after_commit
from lib.sql import array_literal, insert_rows

MESSAGE_NAMESPACE = uuid.UUID("b0a4f6a7-7f3f-4c64-a1b1-6d1f4c9f2e02")
ADDRESSED_MAX = 1_000
"""How many notifications one transaction turns into messages."""
OPENED, RESOLVED = Notification.Transition.OPENED.value, Notification.Transition.RESOLVED.value
COVERS = {
    Message.Kind.OPENED.value: [OPENED],
    Message.Kind.RESOLVED.value: [RESOLVED],
    Message.Kind.PASSED.value: [OPENED, RESOLVED],
    Message.Kind.CLOCK.value: [],
}
"""The transitions that a message of each kind covers."""
_MESSAGE_COLUMNS = {
    "incident_id": "bigint",
    "kind": "text",
    "recipient": "text",
    "idempotency_key": "uuid",
    "subject": "text",
    "body": "text",
    "created_at": "timestamptz",
    "due_at": "timestamptz",
    "attempt_count": "integer",
    "status": "text",
    "last_error": "text",
}


def notify_opened(incidents: Mapping[int, datetime]) -> None:
    """Write notifications about new incidents, given with the instant of each (P5).

    Delivery is woken when the transaction commits. The caller leaves out incidents of archived issues.
    """
    if not incidents:
        return
    insert_rows(
        "incidents_notification",
        {"incident_id": "bigint", "transition": "text", "channel": "text", "created_at": "timestamptz"},
        [(id_, OPENED, Notification.Channel.EMAIL.value, incidents[id_]) for id_ in sorted(incidents)],
    )
    wake_after_commit()


def notify_resolved(incidents: Mapping[int, datetime]) -> None:
    """Write notifications about resolved incidents, given with the instant of each (P5).

    None is written for an archived issue, nor for an incident whose opening had no notification.
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
                "archived": Issue.Status.ARCHIVED.value,
            },
        )
        if cursor.rowcount:
            wake_after_commit()


_NOTIFY_RESOLVED_SQL = """
    INSERT INTO incidents_notification (incident_id, transition, channel, created_at)
    SELECT i.id, %(resolved)s, %(channel)s, changed.at
      FROM unnest(%(ids)s::bigint[], %(instants)s::timestamptz[]) AS changed (incident_id, at)
      JOIN incidents_incident AS i ON i.id = changed.incident_id
     WHERE NOT EXISTS (SELECT FROM incidents_issue WHERE id = i.issue_id AND status = %(archived)s)
       AND EXISTS (SELECT FROM incidents_notification WHERE incident_id = i.id AND transition = %(opened)s)
     ORDER BY i.id
        ON CONFLICT (incident_id, transition, channel) DO NOTHING
"""


def write_message(*, key_name: str, recipients: Sequence[str], subject: str, body: str, now: datetime) -> None:
    """Write a message from the clock to each recipient, in the caller's transaction; `key_name` identifies it.

    The same name and recipient are written once.
    """
    _insert_messages(
        [
            (None, Message.Kind.CLOCK.value, recipient, _key(key_name, "clock", recipient), subject, body)
            for recipient in recipients
        ],
        now=now,
    )
    wake_after_commit()


# --- from notifications to messages


@dataclass(frozen=True, slots=True)
class _Duty:
    id: int
    incident_id: int
    guid: uuid.UUID
    transition: str
    is_late: bool
    is_open: bool
    is_quiet: bool


def address(recipients: Sequence[str], *, now: datetime) -> int:
    """Write a message to each recipient for new notifications; returns how many notifications.

    The opening and the end of an incident become one message if the first was not sent yet. Without recipients only
    that fact is recorded; if the incident is still open when there are recipients, they are notified then, unless its
    environment was muted or its issue archived meanwhile.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # One at a time, or two workers could write the beginning and the end of an incident in the wrong order.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watchclock: address'))")
        if not recipients:
            cursor.execute(
                "UPDATE incidents_notification SET nobody_since = %s WHERE addressed_at IS NULL "
                "AND nobody_since IS NULL",
                [now],
            )
            return 0
        cursor.execute(_UNADDRESSED_SQL, [ADDRESSED_MAX])
        duties = [_Duty(*row) for row in cursor.fetchall()]
        if not duties:
            return 0
        opened = _opened_messages(duties)
        rows = [
            row
            for _, group in groupby(duties, key=attrgetter("incident_id"))
            for row in _messages_of(list(group), recipients, opened)
        ]
        _fold([(incident_id, to) for incident_id, kind, to, *_ in rows if kind != Message.Kind.OPENED.value], now=now)
        _insert_messages(rows, now=now)
        cursor.execute(
            "UPDATE incidents_notification SET addressed_at = %s, nobody_since = CASE WHEN id = ANY(%s) THEN NULL "
            "ELSE nobody_since END WHERE id = ANY(%s)",
            [now, [duty.id for duty in duties if _is_due(duty)], [duty.id for duty in duties]],
        )
    return len(duties)


_UNADDRESSED_SQL = """
    SELECT n.id, n.incident_id, i.guid, n.transition,
           EXISTS (SELECT 1 FROM incidents_notification o
                    WHERE o.incident_id = n.incident_id AND o.nobody_since IS NOT NULL) AS is_late,
           i.resolved_at IS NULL AS is_open,
           me.is_muted OR coalesce(s.status = 'archived', false) AS is_quiet
      FROM (SELECT * FROM incidents_notification WHERE addressed_at IS NULL ORDER BY id LIMIT %s) AS n
      JOIN incidents_incident i ON i.id = n.incident_id
      JOIN monitors_monitorenvironment me ON me.id = i.monitor_environment_id
      LEFT JOIN incidents_issue s ON s.id = i.issue_id
     ORDER BY n.incident_id, n.id
"""
"""Index: notification_unaddressed."""


def _is_due(duty: _Duty) -> bool:
    """Return whether to send: a late notification only if the incident is still open and not muted or archived."""
    return not duty.is_late or (duty.is_open and not duty.is_quiet)


def _opened_messages(duties: Sequence[_Duty]) -> dict[int, dict[str, str]]:
    """Return the state of the message about the opening, by incident and recipient."""
    resolved = [duty.incident_id for duty in duties if duty.transition == RESOLVED]
    found: dict[int, dict[str, str]] = {}
    if resolved:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT incident_id, recipient,
                       CASE WHEN status = 'waiting' AND claimed_until IS NULL THEN 'foldable' ELSE status END
                  FROM incidents_message WHERE incident_id = ANY(%s) AND kind = 'opened'
                 ORDER BY id
                   FOR UPDATE
                """,
                [resolved],
            )
            for incident_id, recipient, state in cursor.fetchall():
                found.setdefault(incident_id, {})[recipient] = state
    return found


def _messages_of(
    duties: Sequence[_Duty], recipients: Sequence[str], opened: Mapping[int, Mapping[str, str]]
) -> Iterable[tuple[int, str, str, uuid.UUID, str, str]]:
    """Return the messages for the new notifications of one incident.

    The recipients of the opening are also notified about the end, even if the addresses have changed since. An older
    version did not store its recipients.
    """
    due = [duty for duty in duties if _is_due(duty)]
    transitions = {duty.transition for duty in due}
    if not transitions:
        return
    incident_id, guid = due[0].incident_id, due[0].guid
    before = opened.get(incident_id, {})
    if transitions == {OPENED, RESOLVED}:
        kinds = dict.fromkeys(recipients, Message.Kind.PASSED.value)
    elif transitions == {OPENED}:
        kinds = dict.fromkeys(recipients, Message.Kind.OPENED.value)
    else:
        kinds = {
            to: Message.Kind.PASSED.value if state == "foldable" else Message.Kind.RESOLVED.value
            for to, state in before.items()
        } or dict.fromkeys(recipients, Message.Kind.RESOLVED.value)
    for to, kind in kinds.items():
        yield incident_id, kind, to, message_key(guid, kind, to), "", ""


def _fold(pairs: Sequence[tuple[int, str]], *, now: datetime) -> None:
    """Fold unsent messages about openings into the messages that cover both opening and end."""
    if not pairs:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE incidents_message AS m SET status = 'folded', finished_at = %s
              FROM unnest(%s::bigint[], %s::text[]) AS newer (incident_id, recipient)
             WHERE m.incident_id = newer.incident_id AND m.recipient = newer.recipient AND m.kind = 'opened'
               AND m.status = 'waiting' AND m.claimed_until IS NULL
            """,
            [now, [incident_id for incident_id, _ in pairs], [recipient for _, recipient in pairs]],
        )


def message_key(guid: uuid.UUID, kind: str, recipient: str) -> uuid.UUID:
    """Return the key of the message of that kind about an incident to a recipient: always the same."""
    return _key(str(guid), kind, recipient)


def _key(name: str, kind: str, recipient: str) -> uuid.UUID:
    return uuid.uuid5(MESSAGE_NAMESPACE, f"{name}:{kind}:{recipient}")


def _insert_messages(rows: Sequence[tuple[int | None, str, str, uuid.UUID, str, str]], *, now: datetime) -> None:
    insert_rows(
        "incidents_message",
        _MESSAGE_COLUMNS,
        [(*row, now, now, 0, Message.Status.WAITING.value, "") for row in rows],
        on_conflict="ON CONFLICT DO NOTHING",
    )


# --- sending


def claim(*, limit: int, now: datetime) -> list[Message]:
    """Claim messages that are due, oldest first, in a transaction of their own, and return them.

    A message about an incident waits for an earlier one to the same recipient, so that the end is never sent before the
    beginning. Messages locked by other workers are skipped.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # A mail server does not answer faster when a test clock runs faster.
        lease = LEASE * (settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1)
        cursor.execute(_CLAIM_SQL, {"now": now, "until": now + lease, "limit": limit, "attempts_max": ATTEMPTS_MAX})
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return []
        related = "incident__monitor_environment__"
        return list(
            Message.objects.filter(id__any_of=ids)
            .select_related(f"{related}monitor", f"{related}environment")
            .order_by("due_at", "id")
        )


_CLAIM_SQL = """
    UPDATE incidents_message SET claimed_until = %(until)s, attempt_count = attempt_count + 1
     WHERE id = ANY (ARRAY (
           SELECT id FROM incidents_message AS m
            WHERE status = 'waiting' AND due_at <= %(now)s AND (claimed_until IS NULL OR claimed_until <= %(now)s)
              AND attempt_count < %(attempts_max)s
              AND NOT EXISTS (
                  SELECT 1 FROM incidents_message AS earlier
                   WHERE earlier.incident_id = m.incident_id AND earlier.recipient = m.recipient
                     AND earlier.status = 'waiting' AND earlier.id < m.id)
            ORDER BY due_at, id
            LIMIT %(limit)s
              FOR UPDATE SKIP LOCKED))
    RETURNING id
"""
"""Index: message_due. The array keeps the planner from searching twice."""


def store_texts(messages: Sequence[Message]) -> None:
    """Store the texts of claimed messages before they are sent, so that a repetition has the same text."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE incidents_message AS m SET subject = new.subject, body = new.body
              FROM unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[]) AS new (id, attempt, subject, body)
             WHERE m.id = new.id AND m.attempt_count = new.attempt
            """,
            [
                [message.id for message in messages],
                [message.attempt_count for message in messages],
                [message.subject for message in messages],
                [message.body for message in messages],
            ],
        )


def record_sent(messages: Sequence[Message], *, now: datetime) -> int:
    """Record that the mail server accepted claimed messages, in them and in their notifications.

    Returns how many. Messages whose claims were lost meanwhile are not recorded, and may be sent twice.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SENT_SQL, [now, *_claims(messages)])
        sent = cursor.fetchall()
        cursor.execute(
            _NOTIFIED_SQL,
            [
                now,
                [incident_id for incident_id, kind in sent if incident_id for _ in COVERS[kind]],
                [transition for incident_id, kind in sent if incident_id for transition in COVERS[kind]],
            ],
        )
    return len(sent)


_HELD_SQL = """ANY (ARRAY (
           SELECT id FROM incidents_message AS m
            WHERE (id, attempt_count) IN (SELECT * FROM unnest(%s::bigint[], %s::integer[]))
              AND status = 'waiting' AND claimed_until IS NOT NULL
            ORDER BY id
              FOR UPDATE))"""
"""The given claims that are still held, locked in id order like everywhere."""
_SENT_SQL = f"""
    UPDATE incidents_message SET status = 'sent', finished_at = %s, claimed_until = NULL, last_error = ''
     WHERE id = {_HELD_SQL}
    RETURNING incident_id, kind
"""  # noqa: S608
_RELEASE_SQL = f"""
    UPDATE incidents_message SET claimed_until = NULL, attempt_count = attempt_count - 1 WHERE id = {_HELD_SQL}
"""  # noqa: S608
_NOTIFIED_SQL = """
    UPDATE incidents_notification SET sent_at = %s
     WHERE id = ANY (ARRAY (
           SELECT n.id FROM incidents_notification AS n
            WHERE (n.incident_id, n.transition) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
              AND n.sent_at IS NULL AND n.addressed_at IS NOT NULL
            ORDER BY n.id
              FOR UPDATE))
"""


def release(messages: Sequence[Message]) -> None:
    """Release claimed messages whose sending did not begin: they are due as before, and no attempt is counted."""
    if not messages:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RELEASE_SQL, _claims(messages))


def _claims(messages: Sequence[Message]) -> list[list[int]]:
    return [[message.id for message in messages], [message.attempt_count for message in messages]]


def record_failed(message: Message, *, error: str, is_refused: bool, now: datetime) -> bool:
    """Record that a claimed message was not sent, and when the next attempt is due, if there is one.

    `is_refused`: the mail server refused it permanently. Returns False if the claim was lost meanwhile.
    """
    wait = next_attempt_in(message.attempt_count, is_refused=is_refused, key=message.idempotency_key)
    changes = {"status": Message.Status.FAILED, "finished_at": now} if wait is None else {"due_at": now + wait}
    return bool(_held(message).update(**changes, claimed_until=None, last_error=error[:ERROR_LENGTH_MAX]))


def give_up(*, now: datetime) -> int:
    """Give up messages whose claims all expired without a result: they crash their workers. Returns how many."""
    stuck = Message.objects.filter(
        Q(claimed_until__isnull=True) | Q(claimed_until__lte=now),
        status=Message.Status.WAITING,
        attempt_count__gte=ATTEMPTS_MAX,
    )
    return stuck.update(
        status=Message.Status.FAILED,
        finished_at=now,
        claimed_until=None,
        last_error=f"none of the {ATTEMPTS_MAX} workers that claimed it recorded a result",
    )


def _held(message: Message) -> QuerySet[Message]:
    return Message.objects.filter(
        id=message.id, attempt_count=message.attempt_count, status=Message.Status.WAITING, claimed_until__isnull=False
    )
