"""Which openings are reported together, in one message to one recipient (pure).

    what one tick opened, for one project and route     two or more make a storm
    errors that one pass found, for the same            more than ten do
    what happens in the quiet hours of a recipient      one digest at their end, but for what is critical
    what has waited a minute for a channel, or mail     more than ten do, when it accepts messages again (`backlog`)

Everything else has a message of its own. Nothing waits for a storm longer than its tick takes.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from incidents.notifications.routing import Recipient

ERRORS_MAX = 10
"""So many errors are reported one by one."""
LISTED_MAX = 50
"""Incidents that one message lists; it counts the others."""


class Cause(StrEnum):
    """Why openings are reported together, as in `Storm.cause`."""

    TICK = "tick"
    ERRORS = "errors"
    QUIET = "quiet"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    BACKLOG = "backlog"


class News(msgspec.Struct, frozen=True):
    """What one recipient is to be notified of about one incident: that it opened, that it is over, or both.

    `changes` are the ids of the notifications. `tick`: the tick that opened it; None for an error.
    """

    incident: int
    guid: UUID
    project: int
    tick: datetime | None
    recipient: Recipient
    changes: tuple[int, ...]
    is_over: bool = False
    is_critical: bool = False


class Group(msgspec.Struct, frozen=True):
    """What a storm is known by: the news of it are sent together. A digest of quiet hours is for all routes."""

    cause: Cause
    project: int
    recipient: str
    channel: int | None
    route: int = 0
    tick: datetime | None = None


def fold(
    news: Iterable[News],
    *,
    quiet: Mapping[int, datetime],
    unfolded: Collection[int],
    begun: Collection[Group],
) -> tuple[list[News], dict[Group, list[News]]]:
    """Return the news that have messages of their own, and the others by group.

    `quiet` are the channels that want quiet now, `unfolded` those that want a message for each incident. `begun` are
    the storms whose message waits: they take what comes late.
    """
    alone: list[News] = []
    groups: dict[Group, list[News]] = {}
    for one in news:
        channel = one.recipient.channel
        if channel in quiet and not one.is_critical:
            groups.setdefault(Group(Cause.QUIET, one.project, one.recipient.name, channel), []).append(one)
        elif channel in unfolded:
            alone.append(one)
        else:
            groups.setdefault(group_of(one), []).append(one)
    for group, members in list(groups.items()):
        if group not in begun and len(members) < _least(group):
            alone += groups.pop(group)
    return alone, groups


def group_of(one: News) -> Group:
    """Return the storm that an opening belongs to, if there is one."""
    cause = Cause.TICK if one.tick else Cause.ERRORS
    return Group(cause, one.project, one.recipient.name, one.recipient.channel, one.recipient.route, one.tick)


def _least(group: Group) -> int:
    return {Cause.TICK: 2, Cause.ERRORS: ERRORS_MAX + 1, Cause.QUIET: 1}[group.cause]
