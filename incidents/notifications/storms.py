"""Storms in the outbox: one message about many openings, and summaries of their recoveries (shell).

    openings that belong together -> a storm with its digest -> summaries, until the last member has recovered

A member's opening and, if it comes before anybody claims the digest, its end are duties of the digest. Later ends are
duties of a summary, which waits for the last one, `SUMMARY_AFTER` at most. So what a message covers is in its duties,
and the order is strict: a summary waits for the digest, and for the summary before it.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection

from incidents.models import Message
from incidents.notifications.folding import Cause, Group, News
from incidents.notifications.outbox import MESSAGE_NAMESPACE, NewMessage, insert_messages, message_key
from incidents.notifications.routing import Recipient
from lib.sql import fetch_rows, insert_rows

SUMMARY_AFTER = timedelta(minutes=10)
"""So long a summary waits for the last member: nobody waits for ever."""
_HELD = (Cause.QUIET, Cause.REMINDER, Cause.ESCALATION)
"""Storms that wait for the end of quiet hours."""
DIGEST, STORM_OVER = Message.Kind.DIGEST.value, Message.Kind.STORM_OVER.value


class End(NamedTuple):
    """The end of an incident whose opening was sent to a recipient as a member of a storm."""

    storm: int
    change: int
    incident: int
    recipient: Recipient


def begun(recipients: Collection[str]) -> dict[Group, uuid.UUID]:
    """Return the keys of the digests that nobody has claimed yet, by their groups. They are locked."""
    rows = fetch_rows(_BEGUN_SQL, [sorted(recipients)]) if recipients else []
    return {
        Group(Cause(cause), project, recipient, channel, route or 0, tick): key
        for cause, project, recipient, channel, route, tick, key in rows
    }


_UNCLAIMED = "m.status = 'waiting' AND m.attempt_count = 0 AND m.claimed_until IS NULL"
_BEGUN_SQL = f"""
    SELECT s.cause, s.project_id, s.recipient, s.channel_id, s.route_id, s.tick, m.idempotency_key
      FROM incidents_message AS m JOIN incidents_storm AS s ON s.id = m.storm_id
     WHERE {_UNCLAIMED} AND m.kind = 'digest' AND m.recipient = ANY(%s)
     ORDER BY m.id
       FOR UPDATE OF m
"""  # noqa: S608
"""Index: message_storm_waiting."""


def gather(
    groups: Mapping[Group, list[News]],
    keys: Mapping[Group, uuid.UUID],
    *,
    due: Mapping[int, datetime],
    now: datetime,
    salt: str = "",
) -> dict[Group, uuid.UUID]:
    """Write a storm and its digest for each group that has none in `keys`; returns the keys of all.

    The digest is due at once, or when the quiet of its channel ends (`due`). `salt` distinguishes storms about
    changes that come more than once.
    """
    new = {_guid(members[0], salt): group for group, members in groups.items() if group not in keys}
    ids = dict(
        insert_rows(
            "incidents_storm",
            {
                "guid": "uuid",
                "cause": "text",
                "project_id": "bigint",
                "channel_id": "bigint",
                "route_id": "bigint",
                "recipient": "text",
                "tick": "timestamptz",
                "created_at": "timestamptz",
            },
            [
                (guid, one.cause.value, one.project, one.channel, one.route or None, one.recipient, one.tick, now)
                for guid, one in new.items()
            ],
            returning="guid, id",
        )
    )
    found = {group: keys[group] for group in groups if group in keys}
    messages = []
    for guid, group in new.items():
        found[group] = message_key(guid, DIGEST, group.recipient)
        recipient = Recipient(group.recipient, group.channel, "")
        at = due.get(group.channel, now) if group.channel is not None and group.cause in _HELD else now
        messages.append(NewMessage(None, DIGEST, recipient, found[group], storm=ids[guid], due_at=at))
    insert_messages(messages, now=now)
    if old := [found[group] for group in groups if group in keys]:
        with connection.cursor() as cursor:
            cursor.execute(_UNACKNOWLEDGED_SQL, {"now": now, "keys": old})
    return found


_UNACKNOWLEDGED_SQL = """
    UPDATE incidents_message AS m SET status = 'superseded', finished_at = %(now)s
      FROM incidents_message AS digest
     WHERE digest.idempotency_key = ANY(%(keys)s) AND m.storm_id = digest.storm_id
       AND m.kind = 'acknowledged' AND m.status = 'waiting' AND m.claimed_until IS NULL
"""
"""What waits to report that a storm is acknowledged: it has a new member. Nobody has claimed it, nor the digest."""


def _guid(first: News, salt: str) -> uuid.UUID:
    """Return the guid of a storm: nobody is notified twice of one change, so no other begins with the same."""
    return uuid.uuid5(MESSAGE_NAMESPACE, f"storm:{first.changes[0]}:{first.recipient.name}{salt}")


def summarise(ends: Iterable[End], *, due: Mapping[int, datetime], now: datetime) -> dict[int, uuid.UUID]:
    """Write a summary for each of the storms that has none waiting; returns the keys of their summaries, by storm."""
    recipients = {end.storm: end.recipient for end in ends}
    if not recipients:
        return {}
    keys: dict[int, uuid.UUID] = dict(fetch_rows(_SUMMARIES_SQL, [sorted(recipients)]))
    messages = []
    for storm, guid, count in fetch_rows(_COUNTS_SQL, [sorted(recipients.keys() - keys.keys())]):
        to = recipients[storm]
        keys[storm] = message_key(guid, f"{STORM_OVER}:{count + 1}", to.name)
        at = max(now + SUMMARY_AFTER, due.get(to.channel, now) if to.channel is not None else now)
        messages.append(NewMessage(None, STORM_OVER, to, keys[storm], number=count + 1, storm=storm, due_at=at))
    insert_messages(messages, now=now)
    return keys


_SUMMARIES_SQL = f"""
    SELECT m.storm_id, m.idempotency_key FROM incidents_message AS m
     WHERE {_UNCLAIMED} AND m.kind = 'storm_over' AND m.storm_id = ANY(%s)
     ORDER BY m.id
       FOR UPDATE
"""  # noqa: S608
_COUNTS_SQL = """
    SELECT s.id, s.guid, (SELECT count(*) FROM incidents_message WHERE storm_id = s.id AND kind = 'storm_over')
      FROM incidents_storm AS s WHERE s.id = ANY(%s)
"""


def hurry(storms: Collection[int], *, now: datetime) -> None:
    """Make the summaries of those storms due whose last member has recovered. Their duties are written."""
    if storms:
        with connection.cursor() as cursor:
            cursor.execute(_HURRY_SQL, {"storms": sorted(storms), "now": now})


_HURRY_SQL = f"""
    UPDATE incidents_message AS m SET due_at = %(now)s
     WHERE {_UNCLAIMED} AND m.kind = 'storm_over' AND m.storm_id = ANY(%(storms)s) AND m.due_at > %(now)s
       AND NOT EXISTS (
           SELECT FROM incidents_message AS own
             JOIN incidents_duty AS d ON d.message_id = own.id
             LEFT JOIN incidents_notification AS n ON n.id = d.notification_id
            WHERE own.storm_id = m.storm_id
            GROUP BY d.incident_id HAVING bool_and(n.transition <> 'resolved'))
"""  # noqa: S608
