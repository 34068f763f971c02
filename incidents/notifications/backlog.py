"""What has waited long for a channel is sent in one message when the channel accepts messages again (shell).

    more than a few messages, each older than a minute -> a storm with a digest; they are folded into it

A channel has a breaker that shows it. Mail has none: a run sends one mail first, and folds when the server accepts it.

Only what its recipient knows nothing of is folded, with all that waits about the same incident, so that the order
stays: the digest has the duties of all. The end of an incident whose opening was sent joins them where no alert is left
open by that, and no earlier message is changed or continued.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from django.db import connection, transaction

from incidents.models import Message
from incidents.models.channels import EMAIL
from incidents.notifications.acknowledged_storms import acknowledge_storms
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Capability
from incidents.notifications.folding import ERRORS_MAX, Cause, Group, News
from incidents.notifications.routing import Recipient
from incidents.notifications.storms import begun, gather
from lib.sql import fetch_rows, plan_for_few_of_many

LEAST = ERRORS_MAX + 1
WAITED = timedelta(minutes=1)
"""Whatever works, and is not limited by its rate, has sent a message long before."""
CHANNELS_MAX = 50
"""Of one transaction; the next one goes on."""
MailTo: TypeAlias = tuple[int, str]
"""A channel and an address of it; channel 0 is ALERT_EMAIL_TO."""
OPENED, PASSED, RESOLVED = (kind.value for kind in (Message.Kind.OPENED, Message.Kind.PASSED, Message.Kind.RESOLVED))
_KINDS = sorted(kind for kind, sender in SENDERS.items() if Capability.KEEP_ALIVE not in sender.CAN)
_FOLLOWS = frozenset({Capability.KEEPS_ALERTS, Capability.UPDATE, Capability.THREAD})


class _Waiting(NamedTuple):
    """A message about an incident that waits. `notification`: one that it reports; None if none is known.

    Without a channel it is a mail to an address of ALERT_EMAIL_TO. `is_free`: it is due, or was tried, and nobody can
    have received it.
    """

    channel: int | None
    kind_of_channel: str
    project: int
    recipient: str
    incident: int
    guid: UUID
    id: int
    kind: str
    notification: int | None
    is_free: bool
    is_member: bool


def fold_backlogs(*, now: datetime) -> int:
    """Fold the messages that have waited for channels that take messages again; returns how many."""
    found = [id_ for (id_,) in fetch_rows(_BACKLOGS_SQL, _parameters(now) | {"kinds": _KINDS})]
    return _fold(_OF_CHANNELS, {"channels": found}, now=now) if found else 0


@transaction.atomic
def mail_backlogs(*, now: datetime, after: MailTo = (-1, "")) -> list[MailTo]:
    """Return for whom more than a few mails wait: pairs of channel and address, at most so many after this one."""
    plan_for_few_of_many()
    parameters = _parameters(now) | {"email": EMAIL, "channel": after[0], "recipient": after[1]}
    return [(channel, recipient) for channel, recipient in fetch_rows(_MAILS_SQL, parameters)]


def fold_mails(*, now: datetime) -> int:
    """Fold the mails that have waited for the mail server, which takes mails again; returns how many."""
    count, after = 0, (-1, "")
    while found := mail_backlogs(now=now, after=after):
        channels, recipients = zip(*found, strict=True)
        count += _fold(_OF_MAILS, {"channels": list(channels), "recipients": list(recipients)}, now=now)
        after = found[-1]
    return count


def _parameters(now: datetime) -> dict[str, Any]:
    return {"now": now, "before": now - WAITED, "limit": CHANNELS_MAX, "least": LEAST}


_FREE = """m.claimed_until IS NULL AND NOT m.is_in_doubt AND (m.due_at <= %(now)s OR m.attempt_count > 0)"""
_COUNTED = f"""
    m.status = 'waiting' AND m.incident_id IS NOT NULL AND m.kind IN ('{OPENED}', '{PASSED}', '{RESOLVED}')
    AND m.created_at <= %(before)s AND {_FREE}"""
_BACKLOGS_SQL = f"""
    SELECT c.id FROM incidents_channel AS c
     WHERE c.kind = ANY(%(kinds)s) AND c.folds AND c.project_id IS NOT NULL AND c.open_since IS NULL
       AND coalesce(c.slow_until, %(now)s) <= %(now)s
       AND (SELECT count(*) FROM (
                   SELECT FROM incidents_message AS m
                    WHERE m.channel_id = c.id AND {_COUNTED}
                    LIMIT %(least)s) AS few) >= %(least)s
     ORDER BY c.id LIMIT %(limit)s
"""  # noqa: S608
"""Index: message_due_in_channel."""
_MAILS_SQL = f"""
    SELECT DISTINCT channel, recipient FROM (
           SELECT coalesce(m.channel_id, 0) AS channel, m.recipient
             FROM incidents_message AS m
             LEFT JOIN incidents_channel AS c ON c.id = m.channel_id
             JOIN incidents_incident AS i ON i.id = m.incident_id
             JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
             JOIN monitors_monitor AS mo ON mo.id = me.monitor_id
            WHERE {_COUNTED} AND (c.id IS NULL OR c.kind = %(email)s AND c.folds)
            GROUP BY m.channel_id, m.recipient, mo.project_id
           HAVING count(DISTINCT m.incident_id) >= %(least)s) AS found
     WHERE (channel, recipient) > (%(channel)s, %(recipient)s)
     ORDER BY channel, recipient LIMIT %(limit)s
"""  # noqa: S608
"""Index: message_waiting."""


@transaction.atomic
def _fold(which: str, parameters: Mapping[str, Any], *, now: datetime) -> int:
    with connection.cursor() as cursor:
        # Like addressing, which must not write the end of an incident meanwhile.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watchclock: address'))")
    plan_for_few_of_many()
    rows = fetch_rows(_WAITING_SQL.format(which=which), {"now": now, "email": EMAIL, **parameters})
    waiting = sorted((_Waiting(*row) for row in rows), key=lambda one: (*_about(one), one.id))
    groups: dict[Group, list[_Waiting]] = {}
    for _, own in groupby(waiting, key=_about):
        about = list(own)
        if _is_foldable(about):
            groups.setdefault(_group_of(about[0]), []).extend(about)
    groups = {group: own for group, own in groups.items() if len({one.incident for one in own}) >= LEAST}
    if not groups:
        return 0
    news = {group: [_news(one) for one in own] for group, own in groups.items()}
    keys = gather(news, begun({group.recipient for group in groups}), due={}, now=now, salt=f" {now.isoformat()}")
    ids = [one.id for own in groups.values() for one in own]
    digests = [keys[group] for group, own in groups.items() for _ in own]
    with connection.cursor() as cursor:
        cursor.execute(_MOVE_SQL, [now, ids, digests])
        cursor.execute(_FOLDED_SQL, [now, ids])
    acknowledge_storms({one.incident for own in groups.values() for one in own}, now=now)
    return len(ids)


def _about(one: _Waiting) -> tuple[int, str, int]:
    return one.channel or 0, one.recipient, one.incident


_OF_CHANNELS = "m.channel_id = ANY(%(channels)s)"
_OF_MAILS = """(coalesce(m.channel_id, 0), m.recipient)
           IN (SELECT * FROM unnest(%(channels)s::bigint[], %(recipients)s::text[]))"""
_WAITING_SQL = f"""
    SELECT m.channel_id, coalesce(c.kind, %(email)s), mo.project_id, m.recipient, m.incident_id, i.guid, m.id, m.kind,
           (SELECT min(d.notification_id) FROM incidents_duty AS d WHERE d.message_id = m.id), {_FREE},
           EXISTS (SELECT FROM incidents_duty AS d JOIN incidents_message AS other ON other.id = d.message_id
                    WHERE d.incident_id = m.incident_id AND d.recipient = m.recipient
                      AND other.storm_id IS NOT NULL AND other.finished_at IS NULL)
      FROM incidents_message AS m
      LEFT JOIN incidents_channel AS c ON c.id = m.channel_id
      JOIN incidents_incident AS i ON i.id = m.incident_id
      JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor AS mo ON mo.id = me.monitor_id
     WHERE m.status = 'waiting' AND {{which}}
     ORDER BY m.id
       FOR UPDATE OF m
"""  # noqa: S608
"""Locked in id order, as everywhere."""
_MOVE_SQL = """
    UPDATE incidents_duty AS d SET message_id = digest.id, created_at = %s
      FROM unnest(%s::bigint[], %s::uuid[]) AS moved (id, key)
      JOIN incidents_message AS digest ON digest.idempotency_key = moved.key
     WHERE d.message_id = moved.id
"""
_FOLDED_SQL = "UPDATE incidents_message SET status = 'folded', finished_at = %s WHERE id = ANY(%s)"


def _is_foldable(about: Sequence[_Waiting]) -> bool:
    """Return whether all that waits about one incident for one recipient may be sent in a digest."""
    if any(not one.is_free or one.is_member or one.notification is None for one in about):
        return False
    kinds = {one.kind for one in about}
    if kinds & {OPENED, PASSED}:
        return True
    sender = SENDERS.get(about[0].kind_of_channel)
    return kinds == {RESOLVED} and (sender is None or not sender.CAN & _FOLLOWS)


def _group_of(one: _Waiting) -> Group:
    return Group(Cause.BACKLOG, one.project, one.recipient, one.channel)


def _news(one: _Waiting) -> News:
    assert one.notification is not None, "it is foldable"
    recipient = Recipient(one.recipient, one.channel, "")
    return News(one.incident, one.guid, one.project, None, recipient, (one.notification,))
