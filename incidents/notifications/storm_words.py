"""What a message about a storm says in its headline and below it (pure)."""

from datetime import datetime

import msgspec

from incidents.notifications.alert import Event
from incidents.notifications.channels.wording import moment
from incidents.notifications.folding import Cause


class Count(msgspec.Struct, frozen=True):
    """How many incidents a message is about, and how many of them are over.

    For a summary also: how many members the storm has, and how many of them nobody has been told the end of, after it.
    """

    told: int
    over: int
    members: int = 0
    left: int = 0


def event_of(count: Count, *, is_digest: bool) -> Event:
    """Return what a message about a storm is: a list of incidents, or the end of all."""
    return Event.DIGEST if is_digest or count.left else Event.STORM_OVER


def headline(count: Count, project: str, *, is_digest: bool) -> str:
    """Return what has happened in one line.

    >>> headline(Count(told=60, over=0), "ops", is_digest=True)
    '60 jobs of ops are failing'
    >>> headline(Count(told=60, over=12), "ops", is_digest=True)
    '48 jobs of ops are failing, 12 have recovered'
    >>> headline(Count(told=5, over=5, members=60, left=0), "ops", is_digest=False)
    'All 60 jobs of ops have recovered'
    >>> headline(Count(told=12, over=12, members=60, left=1), "ops", is_digest=False)
    '12 jobs of ops have recovered, 1 is still failing'
    """
    if is_digest and count.over == count.told:
        return f"{_jobs(count.told)} of {project} failed and {_have(count.told)} recovered"
    if is_digest:
        still = f"{_jobs(count.told - count.over)} of {project} {_are(count.told - count.over)} failing"
        return f"{still}, {count.over:,} {_have(count.over)} recovered" if count.over else still
    if count.left:
        return (
            f"{_jobs(count.told)} of {project} {_have(count.told)} recovered, "
            f"{count.left:,} {_are(count.left)} still failing"
        )
    everybody = f"All {_jobs(count.members)}" if count.members > 1 else "1 job"
    return f"{everybody} of {project} {_have(count.members)} recovered"


def sentences(cause: Cause, count: Count, at: datetime, timezone: str, *, is_digest: bool) -> str:
    """Return what is said below the headline. `at`: the tick, or when the storm began."""
    if not is_digest:
        rest = "" if count.left else " This was the last message about them."
        return f"They failed together, at {moment(at, timezone)}.{rest}"
    match cause:
        case Cause.TICK:
            return f"They were found to fail at the same time, at {moment(at, timezone)}."
        case Cause.ERRORS:
            return f"They reported errors within a short time, up to {moment(at, timezone)}."
        case Cause.QUIET:
            return "This happened during your quiet hours."
        case Cause.REMINDER:
            return "They are still failing, and nobody has acknowledged them."
        case Cause.ESCALATION:
            return "Nobody has acknowledged them."


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
