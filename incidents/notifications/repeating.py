"""Writing reminders and steps of escalations: messages of their own, or of storms (shell).

More than a few for one recipient at once are one message, as when they opened. Quiet hours hold them until their end.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from incidents.models import Channel, Message
from incidents.notifications.folding import ERRORS_MAX, Cause, Group, News
from incidents.notifications.outbox import NewMessage, insert_messages, message_key, renumber, write_duties
from incidents.notifications.routes import folds, quiet_hours
from incidents.notifications.routing import Recipient
from incidents.notifications.storms import begun, gather
from incidents.notifications.wake import wake_after_commit

REMINDER, ESCALATED = Message.Kind.REMINDER.value, Message.Kind.ESCALATED.value
DIGEST = Message.Kind.DIGEST.value
CAUSES = {REMINDER: Cause.REMINDER, ESCALATED: Cause.ESCALATION}


class Again(NamedTuple):
    """An open incident that a recipient is notified of again, or because nobody has acknowledged it."""

    incident_id: int
    guid: UUID
    project_id: int
    is_critical: bool
    recipient: Recipient


def notify_again(kind: str, due: Sequence[Again], channels: Mapping[int, Channel], *, now: datetime) -> None:
    """Write a notification for each incident, numbered in it, and the messages to its recipients.

    `channels` are those of the recipients. The caller has locked the incidents.
    """
    if not due:
        return
    notifications = renumber(kind, [one.incident_id for one in due], now=now, is_addressed=True)
    once = {(one.incident_id, one.recipient.name): one for one in due}
    counts = Counter(_group(kind, one) for one in once.values())
    quiet = {id_: until for id_, channel in channels.items() if (until := _quiet_until(channel, now)) is not None}
    messages: list[NewMessage] = []
    duties: list[tuple[int, NewMessage]] = []
    groups: dict[Group, list[News]] = {}
    for one in once.values():
        id_, number = notifications[one.incident_id]
        group = _group(kind, one)
        if counts[group] > ERRORS_MAX and _folds(channels, one.recipient):
            groups.setdefault(group, []).append(
                News(
                    one.incident_id, one.guid, one.project_id, None, one.recipient, (id_,), is_critical=one.is_critical
                )
            )
            continue
        key = message_key(one.guid, f"{kind} {number}", one.recipient.name)
        due_at = None if one.is_critical or one.recipient.channel is None else quiet.get(one.recipient.channel)
        message = NewMessage(one.incident_id, kind, one.recipient, key, number=number, due_at=due_at)
        messages.append(message)
        duties.append((id_, message))
    insert_messages(messages, now=now)
    duties += _of_storms(groups, quiet, now=now)
    write_duties(duties, now=now)
    wake_after_commit()


def _of_storms(
    groups: Mapping[Group, list[News]], quiet: Mapping[int, datetime], *, now: datetime
) -> list[tuple[int, NewMessage]]:
    """Write the digests; returns the duties that they carry. One that waits still takes what comes later."""
    if not groups:
        return []
    waiting = begun({group.recipient for group in groups})
    loud = {group.channel for group, members in groups.items() if any(member.is_critical for member in members)}
    calm = {channel: until for channel, until in quiet.items() if channel not in loud}
    digests = gather(groups, waiting, due=calm, now=now, salt=now.isoformat())
    return [
        (member.changes[0], NewMessage(member.incident, DIGEST, member.recipient, digests[group]))
        for group, members in groups.items()
        for member in members
    ]


def _group(kind: str, one: Again) -> Group:
    return Group(CAUSES[kind], one.project_id, one.recipient.name, one.recipient.channel)


def _folds(channels: Mapping[int, Channel], recipient: Recipient) -> bool:
    return recipient.channel is None or folds(channels[recipient.channel])


def _quiet_until(channel: Channel, now: datetime) -> datetime | None:
    hours = quiet_hours(channel)
    return None if hours is None else hours.end_after(now)
