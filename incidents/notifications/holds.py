"""Whether people are notified of an incident now or later (pure).

    opening + what its monitor depends on + now -> Hold(until, by), or None: it is sent now

This is the one place that decides. A hold never lasts for ever, and it is decided anew at its end: nothing that is
held is lost. An incident that is over before its hold ends is not sent at all.

A failure is held behind another one only if people really know of that one: the upstream monitor is failing, a message
about it was sent or is on its way over a channel that works, and it is not muted, snoozed, in maintenance or itself
held. Otherwise the way goes on to what the upstream depends on. A way through a monitor that works leads nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

HOLD_MAX = timedelta(hours=6)
"""An opening is sent after that time, whatever happens to what its monitor depends on."""
RECOVERY = timedelta(minutes=10)
"""How long after the end of an upstream incident the monitors behind it may take to recover."""
WAIT_MAX = timedelta(minutes=15)
"""How long an opening waits at most for the verdict on what its monitor depends on: a child often fails first."""
LOOK_AGAIN = timedelta(minutes=1)
LOOK_AGAIN_SOON = timedelta(seconds=5)
"""After that time it is decided anew; the second one while the message about the upstream is being written."""
JUDGED_WITHIN = timedelta(minutes=1)
"""A slot is judged by the tick after its deadline."""
NAMED_MAX = 5
SNOOZED = "snoozed"
"""What the reason of a hold by a snooze begins with."""
LOOK_AGAIN_AT_FLAPS = timedelta(minutes=5)
FLAPS = "it is flapping"
"""Why people are not notified before it has settled."""
BEHIND = "it depends on "
"""What the reason of a hold behind other monitors begins with."""
WAITS = "it is not known yet whether what it depends on is failing"
"""Why an opening waits for a verdict. Such an incident is sent even if it is over by then."""


class Hold(msgspec.Struct, frozen=True):
    """An opening is not sent before `until`; `by` says why, in words."""

    until: datetime
    by: str


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor that others depend on, in the environment of the incident, and the monitors that it depends on.

    `is_notified`: people know of its open incident, or of the one that ended at `over_at`. `is_being_notified`: they
    are about to. `is_quiet`: muted, snoozed, archived, in maintenance or disabled. `pending_slot` is the oldest slot
    that is not judged yet, `judged_at` its deadline, `ok_at` when its last ok was received.
    """

    name: str
    upstreams: Sequence[int] = ()
    is_failing: bool = False
    is_notified: bool = False
    is_being_notified: bool = False
    is_quiet: bool = False
    over_at: datetime | None = None
    pending_slot: datetime | None = None
    judged_at: datetime | None = None
    ok_at: datetime | None = None


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The opening of an incident that nobody was notified of. `upstreams` are what its monitor depends on.

    `is_flapping`: an earlier incident has reported that, and it has not settled.
    """

    created_at: datetime
    upstreams: Sequence[int] = ()
    snoozed_until: datetime | None = None
    is_flapping: bool = False


def hold(opening: Opening, graph: Mapping[int, Upstream], *, now: datetime) -> Hold | None:
    """Return how long an opening is held and by what; None if it is sent now.

    `graph` has all monitors that are reached from the opening's; one that is missing holds nothing.
    """
    if opening.snoozed_until is not None and now < opening.snoozed_until:
        return Hold(opening.snoozed_until, f"{SNOOZED} until {opening.snoozed_until:%Y-%m-%d %H:%M} UTC")
    if opening.is_flapping:
        return until_settled(now=now)
    latest = opening.created_at + HOLD_MAX
    if now >= latest:
        return None
    holders: list[str] = []
    waits_until: list[datetime] = []
    for upstream in _walk(opening, graph):
        if holds(upstream, now=now):
            # The root is named, not what fails because of it.
            if not any(holds(graph[id_], now=now) for id_ in upstream.upstreams if id_ in graph):
                holders.append(_words(upstream))
        elif upstream.is_failing:
            if upstream.is_being_notified and not upstream.is_quiet:
                waits_until.append(min(now + LOOK_AGAIN_SOON, opening.created_at + WAIT_MAX))
        elif (verdict_at := _verdict_at(upstream, opening)) is not None:
            waits_until.append(min(now + LOOK_AGAIN, verdict_at))
    if holders:
        named = ", ".join(holders[:NAMED_MAX])
        more = f" and {len(holders) - NAMED_MAX} more" if len(holders) > NAMED_MAX else ""
        return Hold(min(now + LOOK_AGAIN, latest), f"{BEHIND}{named}{more}")
    if (until := min((at for at in waits_until if at > now), default=None)) is not None:
        return Hold(until, WAITS)
    return None


def until_settled(*, now: datetime) -> Hold:
    """Return the hold of an environment that flaps: it is decided anew when it may have settled."""
    return Hold(now + LOOK_AGAIN_AT_FLAPS, FLAPS)


def holds(upstream: Upstream, *, now: datetime) -> bool:
    """Return whether failures behind this monitor are held: people know of its incident, or did a moment ago."""
    if not upstream.is_notified or upstream.is_quiet:
        return False
    return upstream.is_failing or (upstream.over_at is not None and now < upstream.over_at + RECOVERY)


def _walk(opening: Opening, graph: Mapping[int, Upstream]) -> Iterator[Upstream]:
    """Yield the monitors above an opening, each once. The way goes on above those that fail or have just failed."""
    seen: set[int] = set()
    waiting = list(opening.upstreams)
    while waiting:
        id_ = waiting.pop()
        if id_ in seen or id_ not in graph:
            continue
        seen.add(id_)
        upstream = graph[id_]
        yield upstream
        if upstream.is_failing or upstream.over_at is not None:
            waiting += upstream.upstreams


def _verdict_at(upstream: Upstream, opening: Opening) -> datetime | None:
    """Return until when the opening waits for the verdict on a monitor that is not failing; None if it is known."""
    last = opening.created_at + WAIT_MAX
    if upstream.is_quiet or upstream.pending_slot is None or upstream.judged_at is None or upstream.pending_slot > last:
        return None
    if upstream.ok_at is not None and upstream.ok_at >= opening.created_at:
        return None
    return min(upstream.judged_at + JUDGED_WITHIN, last)


def _words(upstream: Upstream) -> str:
    return f"{upstream.name}, which {'is failing' if upstream.is_failing else 'has just recovered'}"
