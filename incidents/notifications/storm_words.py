"""What a message about a storm says in its headline and below it (pure)."""

from datetime import datetime

import msgspec

from incidents.notifications.alert import Event
from incidents.notifications.channels.wording import moment
from incidents.notifications.folding import Cause
from incidents.notifications.words import ENGLISH, number, say


class Count(msgspec.Struct, frozen=True):
    """How many incidents a message is about, and how many of them are over.

    For a summary also: how many members the storm has, and of how many nobody has received the end, after it.
    """

    reported: int
    over: int
    members: int = 0
    left: int = 0


def event_of(count: Count, *, is_digest: bool) -> Event:
    """Return what a message about a storm is: a list of incidents, or the end of all."""
    return Event.DIGEST if is_digest or count.left else Event.STORM_OVER


def headline(count: Count, project: str, *, is_digest: bool, language: str = ENGLISH) -> str:
    """Return what has happened in one line.

    >>> headline(Count(reported=60, over=0), "ops", is_digest=True)
    '60 jobs of ops are failing'
    >>> headline(Count(reported=60, over=12), "ops", is_digest=True)
    '48 jobs of ops are failing, 12 have recovered'
    >>> headline(Count(reported=5, over=5, members=60, left=0), "ops", is_digest=False)
    'All 60 jobs of ops have recovered'
    >>> headline(Count(reported=12, over=12, members=60, left=1), "ops", is_digest=False)
    '12 jobs of ops have recovered, 1 is still failing'
    """
    reported, over, left = count.reported, count.over, count.left
    if is_digest and over == reported:
        one, many = (
            "{count} job of {project} failed and has recovered",
            "{count} jobs of {project} failed and have recovered",
        )
        return _say(language, reported, one, many, project=project)
    if is_digest:
        one, many = "{count} job of {project} is failing", "{count} jobs of {project} are failing"
        still = _say(language, reported - over, one, many, project=project)
        one, many = "{first}, {count} has recovered", "{first}, {count} have recovered"
        return _say(language, over, one, many, first=still) if over else still
    one, many = "{count} job of {project} has recovered", "{count} jobs of {project} have recovered"
    if left:
        first = _say(language, reported, one, many, project=project)
        one, many = "{first}, {count} is still failing", "{first}, {count} are still failing"
        return _say(language, left, one, many, first=first)
    return _say(language, max(count.members, 1), one, "All {count} jobs of {project} have recovered", project=project)


def sentences(
    cause: Cause, count: Count, at: datetime, timezone: str, *, is_digest: bool, language: str = ENGLISH
) -> str:
    """Return what is said below the headline. `at`: the tick, or when the storm began."""
    when = moment(at, timezone)
    if not is_digest:
        together = say(language, "They failed together, at {moment}.", moment=when)
        return together if count.left else f"{together} {say(language, 'This was the last message about them.')}"
    match cause:
        case Cause.TICK:
            return say(language, "They were found to fail at the same time, at {moment}.", moment=when)
        case Cause.ERRORS:
            return say(language, "They reported errors within a short time, up to {moment}.", moment=when)
        case Cause.QUIET:
            return say(language, "This happened during your quiet hours.")
        case Cause.REMINDER:
            return say(language, "They are still failing, and nobody has acknowledged them.")
        case Cause.ESCALATION:
            return say(language, "Nobody has acknowledged them.")
        case Cause.BACKLOG:
            return say(language, "This had waited until this channel took messages again.")


def _say(language: str, count: int, one: str, many: str, **values: str) -> str:
    return say(language, one if count == 1 else many, count=number(language, count), **values)
