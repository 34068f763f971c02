"""Claiming messages and recording what became of them (shell; no connection to a receiver).

A claim expires, so the messages of a killed worker are sent again, under the same key; a worker that lost its claim
cannot record a result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from incidents.models import Channel, Message
from incidents.models.channels import EMAIL
from incidents.notifications.attempts import ATTEMPTS_MAX, ERROR_LENGTH_MAX, GIVE_UP_AFTER, LEASE
from incidents.notifications.breaker import Breaker, Result, after
from incidents.notifications.outbox import COVERS
from incidents.notifications.rates import Rate, paced_after, rate_of, tokens
from incidents.notifications.tested import record_results
from lib.sql import array_literal, fetch_rows, plan_for_few_of_many, update_rows

OF_STORMS = (Message.Kind.DIGEST.value, Message.Kind.STORM_OVER.value)
MANY = 500
"""So many new notifications change what PostgreSQL knows of the tables."""
LANE_MAX = 50
"""Messages of one channel that are claimed at once. They are sent one after the other."""
CHANNELS_MAX = 50
"""Channels that one process sends to at the same time."""


def claim_mails(*, limit: int, now: datetime) -> list[Message]:
    """Claim mails that are due, oldest first, in a transaction of their own, and return them.

    A message about an incident waits for an earlier one to the same recipient, so that the end is never sent before the
    beginning. Messages locked by other workers are skipped.
    """
    return _claim(_CLAIM_MAILS_SQL, {"limit": limit}, now=now)


@transaction.atomic
def claim_for_lanes(*, channels: int = CHANNELS_MAX, now: datetime) -> list[Message]:
    """Claim messages for at most so many channels that have none on the way, oldest first, and return them.

    Of a channel whose breaker is open only its oldest message is claimed, when a probe is due; of the others no more
    than their services take now (`rates`).
    """
    if channels <= 0:
        return []
    plan_for_few_of_many()
    free = {row.id: row for row in (_Free(*row) for row in fetch_rows(_FREE_SQL, {"now": now, "limit": channels}))}
    most = {id_: _lane_of(one, now=now) for id_, one in free.items()}
    if not free:
        return []
    parameters = {"channels": list(most), "most": list(most.values())}
    messages = _claim(_CLAIM_LANES_SQL, parameters, now=now)
    counts = Counter(message.channel_id for message in messages if message.channel_id is not None)
    paced = [
        (id_, paced_after(_rate_of(free[id_]), free[id_].paced_until, count, now=now))
        for id_, count in sorted(counts.items())
    ]
    update_rows("incidents_channel", {"paced_until": "timestamptz"}, paced)
    return messages


class _Free(NamedTuple):
    """A channel that messages wait for and that has none on the way. It is locked."""

    id: int
    kind: str
    is_open: bool
    paced_until: datetime | None


def _lane_of(free: _Free, *, now: datetime) -> int:
    """Return how many messages of a channel to claim."""
    return 1 if free.is_open else min(LANE_MAX, tokens(_rate_of(free), free.paced_until, now=now))


def _rate_of(free: _Free) -> Rate:
    return rate_of(free.kind, settings.NOTIFY_PER_SECOND)


def next_paced(now: datetime) -> datetime | None:
    """Return when the next message may be sent that waits for the rate of its channel only; None if none does."""
    found: datetime | None = fetch_rows(_NEXT_PACED_SQL, {"now": now})[0][0]
    return found


_NEXT_PACED_SQL = """
    SELECT min(paced_until) FROM incidents_channel AS c
     WHERE paced_until > %(now)s AND coalesce(probe_at, slow_until, %(now)s) <= %(now)s
       AND EXISTS (SELECT FROM incidents_message AS m
                    WHERE m.channel_id = c.id AND m.status = 'waiting' AND m.due_at <= %(now)s)
"""


def earlier_refs(messages: Sequence[Message]) -> dict[tuple[int, str], str]:
    """Return what the channels returned for the first message about an incident, by incident and recipient."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT DISTINCT ON (incident_id, recipient) incident_id, recipient, external_ref FROM incidents_message
             WHERE (incident_id, recipient) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))
               AND status = 'sent' AND external_ref <> ''
             ORDER BY incident_id, recipient, id
            """,
            [[message.incident_id for message in messages], [message.recipient for message in messages]],
        )
        return {(incident_id, recipient): ref for incident_id, recipient, ref in cursor.fetchall()}


def storm_refs(storm_ids: Sequence[int]) -> dict[int, str]:
    """Return what the channels returned for the digests of storms."""
    digests = Message.objects.filter(storm_id__any_of=list(storm_ids), kind=Message.Kind.DIGEST, status="sent")
    return dict(digests.values_list("storm_id", "external_ref"))


def look_again() -> None:
    """Let PostgreSQL count the messages: what it knew before many were written makes it read all of them for each."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE incidents_message, incidents_duty, incidents_notification")


@transaction.atomic
def _claim(sql: str, parameters: Mapping[str, Any], *, now: datetime) -> list[Message]:
    # A storm has written thousands of messages since the planner looked last.
    plan_for_few_of_many()
    # A receiver does not answer faster when a test clock runs faster.
    lease = LEASE * (settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1)
    rows = fetch_rows(sql, {"now": now, "until": now + lease, "attempts_max": ATTEMPTS_MAX, **parameters})
    if not rows:
        return []
    related = "incident__monitor_environment__"
    return list(
        Message.objects.filter(id__any_of=[id_ for (id_,) in rows])
        .select_related(f"{related}monitor__project", f"{related}environment", "channel__member", "storm__project")
        .order_by("due_at", "id")
    )


_CLAIM_SQL = """
    UPDATE incidents_message SET claimed_until = %(until)s, attempt_count = attempt_count + 1,
           is_in_doubt = is_in_doubt OR claimed_until IS NOT NULL
     WHERE id = ANY (ARRAY ({chosen} FOR UPDATE OF m SKIP LOCKED))
    RETURNING id
"""
"""The array keeps the planner from searching twice. A worker whose claim has run out may have sent the message."""
_DUE_SQL = """
    m.status = 'waiting' AND m.due_at <= %(now)s AND (m.claimed_until IS NULL OR m.claimed_until <= %(now)s)
    AND m.attempt_count < %(attempts_max)s
    AND NOT EXISTS (
        SELECT 1 FROM incidents_message AS earlier
         WHERE earlier.incident_id = m.incident_id AND earlier.recipient = m.recipient
           AND earlier.finished_at IS NULL AND earlier.id < m.id)
    AND NOT EXISTS (
        SELECT 1 FROM incidents_message AS earlier
         WHERE earlier.storm_id = m.storm_id AND earlier.finished_at IS NULL AND earlier.id < m.id)
    AND NOT EXISTS (
        SELECT 1 FROM incidents_duty AS d JOIN incidents_message AS earlier ON earlier.id = d.message_id
         WHERE d.incident_id = m.incident_id AND d.recipient = m.recipient
           AND earlier.storm_id IS NOT NULL AND earlier.kind = 'digest' AND earlier.finished_at IS NULL
           AND earlier.id < m.id)
    AND (m.kind <> 'storm_over' OR NOT EXISTS (
        SELECT 1 FROM incidents_duty AS d JOIN incidents_message AS other
            ON other.incident_id = d.incident_id AND other.recipient = d.recipient
         WHERE d.message_id = m.id AND other.kind <> 'resolved' AND other.finished_at IS NULL))
"""
"""The conditions on others: earlier about the same incident, earlier of the same storm, the digest of a storm with the
same incident, and what notifies a recipient of an incident whose end the summary of a storm reports.

What waits is not finished. It is said in this way, since the planner takes the indexes of waiting messages for small
ones, and would read one of them whole for each message of a storm.
"""
_CLAIM_MAILS_SQL = _CLAIM_SQL.format(
    chosen=f"""
    SELECT m.id FROM incidents_message AS m LEFT JOIN incidents_channel AS c ON c.id = m.channel_id
     WHERE {_DUE_SQL} AND (c.id IS NULL OR c.kind = '{EMAIL}')
     ORDER BY m.due_at, m.id LIMIT %(limit)s"""  # noqa: S608
)
"""Index: message_due."""
_FREE_SQL = f"""
    SELECT c.id, c.kind, c.open_since IS NOT NULL, c.paced_until FROM incidents_channel AS c
     WHERE c.kind <> '{EMAIL}' AND coalesce(c.probe_at, %(now)s) <= %(now)s
       AND coalesce(c.slow_until, %(now)s) <= %(now)s AND coalesce(c.paced_until, %(now)s) <= %(now)s
       AND (SELECT 1 FROM incidents_message AS w
             WHERE w.channel_id = c.id AND w.status = 'waiting' AND w.due_at <= %(now)s LIMIT 1) = 1
       AND NOT EXISTS (SELECT 1 FROM incidents_message AS f
                        WHERE f.channel_id = c.id AND f.status = 'waiting' AND f.claimed_until > %(now)s)
     LIMIT %(limit)s
       FOR NO KEY UPDATE OF c SKIP LOCKED
"""  # noqa: S608
"""Indexes: message_due_in_channel, message_on_the_way. With a limit the first is searched for each channel, and not
read whole: many messages may be due."""
_CLAIM_LANES_SQL = _CLAIM_SQL.format(
    chosen=f"""
    SELECT m.id FROM incidents_message AS m
     WHERE {_DUE_SQL.replace("m.status = 'waiting'", "m.finished_at IS NULL")} AND m.id = ANY (ARRAY (
           SELECT lane.id FROM unnest(%(channels)s::bigint[], %(most)s::integer[]) AS c (id, most)
            CROSS JOIN LATERAL (
                  SELECT m.id FROM incidents_message AS m WHERE m.channel_id = c.id AND {_DUE_SQL}
                   ORDER BY m.due_at, m.id LIMIT c.most) AS lane
            WHERE NOT EXISTS (SELECT 1 FROM incidents_message AS f
                               WHERE f.channel_id = c.id AND f.status = 'waiting' AND f.claimed_until > %(now)s)))
     ORDER BY m.id"""  # noqa: S608
)
"""Index: message_due_in_channel. Who has locked a channel asks again whether messages are on the way to it: another
worker may have claimed some before."""


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
                array_literal("bigint", [message.id for message in messages]),
                array_literal("integer", [message.attempt_count for message in messages]),
                array_literal("text", [message.subject for message in messages]),
                array_literal("text", [message.body for message in messages]),
            ],
        )


def record_sent(messages: Sequence[Message], *, now: datetime) -> int:
    """Record that receivers accepted claimed messages, in them and in their notifications, with what these returned.

    Returns how many. Messages whose claims were lost meanwhile are not recorded, and may be sent twice.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        ids, attempts = _claims(messages)
        refs, answers = ([getattr(message, name) for message in messages] for name in ("external_ref", "answer"))
        cursor.execute(_SENT_SQL, [now, ids, refs, answers, ids, attempts])
        sent = cursor.fetchall()
        cursor.execute(
            _NOTIFIED_SQL,
            [
                now,
                [incident_id for _, incident_id, kind, _ in sent if incident_id for _ in COVERS[kind]],
                [transition for _, incident_id, kind, _ in sent if incident_id for transition in COVERS[kind]],
                [number for _, incident_id, kind, number in sent if incident_id for _ in COVERS[kind]],
            ],
        )
        of_storms = [id_ for id_, _, kind, _ in sent if kind in OF_STORMS]
        if of_storms:
            cursor.execute(_STORM_NOTIFIED_SQL, [now, of_storms])
        recorded = {id_ for id_, *_ in sent}
        record_results([message for message in messages if message.id in recorded], is_accepted=True, now=now)
    return len(sent)


_HELD_SQL = """ANY (ARRAY (
           SELECT id FROM incidents_message AS m
            WHERE (id, attempt_count) IN (SELECT * FROM unnest(%s::bigint[], %s::integer[]))
              AND status = 'waiting' AND claimed_until IS NOT NULL
            ORDER BY id
              FOR UPDATE))"""
"""The given claims that are still held, locked in id order like everywhere."""
_SENT_SQL = f"""
    UPDATE incidents_message AS row
       SET status = 'sent', finished_at = %s, claimed_until = NULL, last_error = '',
           external_ref = new.ref, answer = new.answer
      FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS new (id, ref, answer)
     WHERE row.id = new.id AND row.id = {_HELD_SQL}
    RETURNING row.id, row.incident_id, row.kind, row.number
"""  # noqa: S608
_RELEASE_SQL = f"""
    UPDATE incidents_message
       SET claimed_until = NULL, attempt_count = attempt_count - 1,
           subject = CASE WHEN {{is_new}} THEN '' ELSE subject END, body = CASE WHEN {{is_new}} THEN '' ELSE body END
     WHERE id = {_HELD_SQL}
""".format(is_new="attempt_count = 1 AND (incident_id IS NOT NULL OR kind IN ('digest', 'storm_over'))")  # noqa: S608
"""Nobody has seen the text of what was not tried once, and a digest or a summary may become about more incidents.
Other messages were written with their text."""
_NOTIFIED_SQL = """
    UPDATE incidents_notification SET sent_at = %s
     WHERE id = ANY (ARRAY (
           SELECT n.id FROM incidents_notification AS n
            WHERE (n.incident_id, n.transition, n.number)
                  IN (SELECT * FROM unnest(%s::bigint[], %s::text[], %s::smallint[]))
              AND n.sent_at IS NULL AND n.addressed_at IS NOT NULL
            ORDER BY n.id
              FOR UPDATE))
"""
_STORM_NOTIFIED_SQL = """
    UPDATE incidents_notification SET sent_at = %s
     WHERE id = ANY (ARRAY (
           SELECT n.id FROM incidents_notification AS n
            WHERE n.id = ANY (ARRAY (SELECT notification_id FROM incidents_duty WHERE message_id = ANY(%s)))
              AND n.sent_at IS NULL AND n.addressed_at IS NOT NULL
            ORDER BY n.id
              FOR UPDATE))
"""


def release(messages: Sequence[Message]) -> None:
    """Release claimed messages whose sending did not begin: they are due as before, and no attempt is counted.

    What was not tried before is written anew when it is claimed again.
    """
    if not messages:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RELEASE_SQL, _claims(messages))


def _claims(messages: Sequence[Message]) -> list[list[int]]:
    return [[message.id for message in messages], [message.attempt_count for message in messages]]


def record_failed(
    message: Message,
    *,
    error: str,
    wait: timedelta | None,
    now: datetime,
    is_plain: bool = False,
    is_in_doubt: bool = False,
) -> bool:
    """Record that a claimed message was not sent, and that it is due again after `wait`; None gives it up.

    `is_plain`: from now on it is sent without markup. `is_in_doubt`: it may have arrived all the same. Returns False if
    the claim was lost meanwhile.
    """
    changes: dict[str, Any] = {"due_at": now + wait} if wait is not None else {}
    if wait is None:
        changes |= {"status": Message.Status.FAILED, "finished_at": now}
    if is_plain:
        changes["is_plain"] = True
    if is_in_doubt:
        changes["is_in_doubt"] = True
    with transaction.atomic():
        is_held = bool(_held(message).update(**changes, claimed_until=None, last_error=error[:ERROR_LENGTH_MAX]))
        if is_held and message.attempt_count == 1:
            record_results([message], is_accepted=False, now=now)
    return is_held


class Attempt(NamedTuple):
    """What an attempt says about its channel, and the words for people if it failed."""

    result: Result
    slows: bool = False
    retry_after: timedelta | None = None
    error: str = ""


def record_attempts(channel_id: int, attempts: Sequence[Attempt], *, now: datetime) -> None:
    """Move the breaker of a channel by these attempts, in order."""
    if all(attempt.result is Result.WORKS for attempt in attempts):
        # Whatever it was before, it is closed now.
        closed = {name: getattr(Breaker(), name) for name in Breaker.__struct_fields__}
        Channel.objects.filter(id=channel_id).update(**closed, delivered_at=now, last_error="")
        return
    with transaction.atomic():
        _move_breaker(channel_id, attempts, now=now)


def _move_breaker(channel_id: int, attempts: Sequence[Attempt], *, now: datetime) -> None:
    channel = Channel.objects.select_for_update().filter(id=channel_id).first()
    if channel is None:
        return
    breaker = Breaker(**{name: getattr(channel, name) for name in Breaker.__struct_fields__})
    for attempt in attempts:
        breaker = after(breaker, attempt.result, now=now, slows=attempt.slows, retry_after=attempt.retry_after)
        if attempt.result is Result.WORKS:
            channel.delivered_at, channel.last_error = now, ""
        else:
            channel.last_error = attempt.error[:ERROR_LENGTH_MAX]
    for name in Breaker.__struct_fields__:
        setattr(channel, name, getattr(breaker, name))
    channel.save(update_fields=[*Breaker.__struct_fields__, "delivered_at", "last_error"])


def give_up(*, now: datetime) -> int:
    """Give up messages that will not be sent any more; returns how many.

    Those whose claims all expired without a result: they crash their workers. And those to a channel that has been left
    alone for a day: nobody wants them when it is back.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _GIVE_UP_SQL,
            {
                "now": now,
                "created_before": now - GIVE_UP_AFTER,
                "attempts_max": ATTEMPTS_MAX,
                "late": f"not delivered within {GIVE_UP_AFTER.total_seconds() / 3600:g} hours",
                "crashes": f"none of the {ATTEMPTS_MAX} workers that claimed it recorded a result",
            },
        )
        return int(cursor.rowcount)


_GIVE_UP_SQL = """
    UPDATE incidents_message
       SET status = 'failed', finished_at = %(now)s, claimed_until = NULL,
           last_error = CASE WHEN attempt_count >= %(attempts_max)s THEN %(crashes)s ELSE %(late)s END
     WHERE status = 'waiting' AND (claimed_until IS NULL OR claimed_until <= %(now)s)
       AND (attempt_count >= %(attempts_max)s OR (channel_id IS NOT NULL AND created_at < %(created_before)s))
"""


def _held(message: Message) -> QuerySet[Message]:
    return Message.objects.filter(
        id=message.id, attempt_count=message.attempt_count, status=Message.Status.WAITING, claimed_until__isnull=False
    )
