"""What the clock waits for, in the order in which it has to be resolved (pure).

    shards apply ticks  <-  volumes are decided  <-  ticks are written  <-  ingest nodes store what they received
                                                                        <-  beat sends the tick of each minute

The clock is where the last shard is. What holds it there is what the oldest minute waits for that is not applied;
what newer minutes wait for comes after that. `health.problems` adds what everything else waits for: engines, beat and
workers. Every page, probe and command is cut from that one list.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from checkins.node_facts import NodeFacts, NodeStanding, node_standing
from clocktasks.clock import MINUTE, whole_minute
from clocktasks.volume import VolumeDecision
from health.facts import Facts, Finding, Part, Rows, Rules, Severity, TickFacts
from lib.texts import Text

TICK_MAX = timedelta(seconds=14)
"""What a tick may take after its minute and the grace: a large one, on a busy machine."""
LATE_MAX = timedelta(seconds=150)
"""How long the clock may wait, and how old its newest finished tick may be, before people have to act. A tick is
written a second after its minute: two that do not come are no hiccup. A million misses are applied in less."""
PROCESS_SILENT_MAX = timedelta(seconds=60)
"""Beat and workers mark themselves as alive every ten or twenty seconds."""
SHARDS_NAMED_MAX = 5
"""More are only counted; the clock's page lists them."""


def normal_max(rules: Rules) -> timedelta:
    """Return how far the clock may be behind now while all is as it should be."""
    return MINUTE + rules.grace + TICK_MAX


def runs(facts: Facts, kind: str) -> bool:
    """Return whether a process of this kind was seen a moment ago."""
    seen_at = facts.last_seen.get(kind)
    return seen_at is not None and facts.now - seen_at <= PROCESS_SILENT_MAX


def is_ledger_late(facts: Facts, rows: Rows) -> bool:
    """Return whether no tick was written for too long, or none ever although there was time for one."""
    written_at = facts.watched_since if rows.newest is None else rows.newest.dispatched_at
    return facts.now - written_at > LATE_MAX


def find_reasons(facts: Facts, rows: Rows) -> Iterator[Finding]:
    """Yield what the minutes wait for that are not applied, the oldest minute first."""
    newest, at = rows.newest, rows.applied_until
    if newest is None or at is None:
        yield _first_tick_reason(facts, rows)
        return
    if at - facts.now > MINUTE:
        yield Finding(
            Part.CLOCK,
            Severity.BAD if at - facts.now > LATE_MAX else Severity.NOTE,
            Text("The clock is at %(at)s, which is still to come: this host's time went back.", at=when(at, facts.now)),
            Text(
                "See that the clocks of all hosts are right. What was done too early is taken back within ten minutes."
            ),
        )
    yield from _shards_reason(facts, rows)
    if rows.oldest_undecided is not None:
        yield _volume_reason(facts, rows.oldest_undecided, rows.rules)
    wait = _severity(facts, rows, position=newest.at, since=newest.dispatched_at)
    blocking = blocking_nodes(facts, rows)
    for node in blocking:
        yield from find_node(node, facts, rows, wait=wait)
    if not blocking and newest.at < _due(facts, rows):
        yield _unwritten_reason(facts, rows, newest, wait)


def blocking_nodes(facts: Facts, rows: Rows) -> Sequence[NodeFacts]:
    """Return the nodes that keep the next tick from being written: they have not stored all of its minute."""
    if rows.newest is None or rows.newest.at >= _due(facts, rows):
        return ()
    end = rows.newest.at + MINUTE
    return [node for node in rows.nodes if node.dropped_at is None and node.watermark < end]


def when(at: datetime, now: datetime, *, seconds: bool = False) -> str:
    """Return the time of day in UTC, with the date if that is not today."""
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S} UTC" if seconds else f"{day}{at:%H:%M} UTC"


def _due(facts: Facts, rows: Rows) -> datetime:
    return whole_minute(facts.now - rows.rules.grace)


def _severity(facts: Facts, rows: Rows, *, position: datetime, since: datetime) -> Severity:
    """Return how bad it is that the clock, or a part of it, is at `position` and waits `since` an instant."""
    if facts.now - since > LATE_MAX:
        return Severity.BAD
    return Severity.NOTE if facts.now - position > normal_max(rows.rules) else Severity.NORMAL


def _first_tick_reason(facts: Facts, rows: Rows) -> Finding:
    if is_ledger_late(facts, rows):
        return Finding(
            Part.CLOCK,
            Severity.BAD,
            Text("No tick was ever written: nothing is judged, and nobody is notified.%(more)s", more=_queued(facts)),
            _ledger_todo(facts),
        )
    return Finding(
        Part.CLOCK,
        Severity.NORMAL,
        Text("The first tick is written a minute after beat and a worker have started."),
        Text("See that both run; `make run` starts them."),
    )


def _shards_reason(facts: Facts, rows: Rows) -> Iterator[Finding]:
    decided, positions, tick = rows.decided_until, rows.positions, rows.oldest_unfinished
    if decided is None:
        return
    behind = sorted(shard for shard, position in positions.items() if position < decided)
    since = facts.now if tick is None or tick.at > decided else tick.decided_at or tick.dispatched_at
    oldest = min((positions[shard] for shard in behind), default=facts.now)
    severity = _severity(facts, rows, position=oldest, since=since)
    if not behind:
        if severity is not Severity.BAD or tick is None:
            return
        what = Text("Tick %(at)s is not finished, although no shard is behind.", at=when(tick.at, facts.now))
    else:
        busy = Text("workers are busy") if runs(facts, "worker") else Text("workers are busy or none runs")
        what = _shards(behind, total=len(positions), busy=busy)
    yield Finding(
        Part.CLOCK,
        severity,
        what,
        Text("Read the workers' log; more workers take more shards, one at a time.")
        if runs(facts, "worker")
        else Text(
            "See that a worker runs which reads the queue clock, and read its log; more workers take more shards."
        ),
        since=oldest if behind else since,
    )


def _shards(behind: Sequence[int], *, total: int, busy: Text) -> Text:
    if len(behind) == total > 1:
        return Text("All %(total)s shards are behind: %(busy)s.", total=total, busy=busy)
    if len(behind) > SHARDS_NAMED_MAX:
        return Text("%(count)s of %(total)s shards are behind: %(busy)s.", count=len(behind), total=total, busy=busy)
    *others, last = map(str, behind)
    if not others:
        return Text("Shard %(last)s is behind: %(busy)s.", last=last, busy=busy)
    return Text("Shards %(others)s and %(last)s are behind: %(busy)s.", others=", ".join(others), last=last, busy=busy)


def _volume_reason(facts: Facts, tick: TickFacts, rules: Rules) -> Finding:
    at, percent = when(tick.at, facts.now), f"{abs(tick.deviation_percent or 0):.0f} %"
    if tick.decision == VolumeDecision.RECOVERING:
        what = Text("An incident of volume may be over since %(at)s", at=at)
    elif tick.deviation_percent is None:
        what = Text("The volume of check-ins is unusual at %(at)s", at=at)
    elif tick.deviation_percent < 0:
        what = Text("The volume of check-ins fell by %(percent)s at %(at)s", percent=percent, at=at)
    else:
        what = Text("The volume of check-ins rose by %(percent)s at %(at)s", percent=percent, at=at)
    until = when(tick.at + rules.decision_window * MINUTE, facts.now)
    return Finding(
        Part.CLOCK,
        Severity.NOTE,
        Text("%(what)s; it is decided by %(until)s at the latest.", what=what, until=until),
        Text("See that check-ins reach Watchclock. The clock decides by itself."),
        since=tick.at,
    )


def find_node(node: NodeFacts, facts: Facts, rows: Rows, *, wait: Severity | None = None) -> Iterator[Finding]:
    """Yield what has to be known about a node; `wait`: how bad it is that the clock waits for it (None: it does not).

    A live node with an empty spool is worth no finding unless the clock waits for it.
    """
    now = facts.now
    known: dict[str, object] = {"node": str(node), "count": node.spooled_count}
    known["until"] = when(node.watermark, now, seconds=True)
    standing = node_standing(node, now)
    if standing is NodeStanding.SILENT:
        yield Finding(
            Part.INGEST,
            Severity.BAD,
            Text(
                "Ingest node %(node)s has stored its check-ins only up to %(until)s and was last seen at %(seen)s, "
                "with %(count)s in its spool.",
                **known,
                seen=when(node.seen_at, now, seconds=True),
            )
            if node.spooled_count
            else Text(
                "Ingest node %(node)s has stored its check-ins only up to %(until)s and was last seen at %(seen)s.",
                **known,
                seen=when(node.seen_at, now, seconds=True),
            ),
            Text(
                "Bring that web process or its database connection back. If it stays silent, the clock goes on without "
                "it from about %(at)s on.",
                at=when(node.seen_at + rows.rules.dropped_after, now),
            ),
            since=node.seen_at,
        )
    elif standing is NodeStanding.DROPPED and node.spooled_count:
        yield Finding(
            Part.INGEST,
            Severity.BAD,
            Text(
                "Ingest node %(node)s is gone with %(count)s acknowledged check-ins in its spool, and the clock goes "
                "on without it.",
                **known,
            ),
            Text("Start a web process with the same SPOOL_DIRECTORY on that host."),
            since=node.seen_at,
        )
    elif standing is NodeStanding.LIVE and node.spooled_count:
        yield Finding(
            Part.SPOOL,
            Severity.BAD if wait is Severity.BAD else Severity.NOTE,
            Text(
                "Ingest node %(node)s has stored its check-ins only up to %(until)s and has %(count)s in its spool "
                "(PostgreSQL was away or slow).",
                **known,
            ),
            Text("They are being stored. If they do not become fewer, read the log of that web process."),
            since=node.watermark,
        )
    elif wait is not None:
        what = Text("Ingest node %(node)s has stored its check-ins only up to %(until)s.", **known)
        todo = Text("Usually it takes a second. If it does not move, see how busy PostgreSQL and that host are.")
        yield Finding(Part.INGEST, wait, what, todo, since=node.watermark)


def _unwritten_reason(facts: Facts, rows: Rows, newest: TickFacts, severity: Severity) -> Finding:
    if facts.now - newest.dispatched_at <= normal_max(rows.rules):
        next_tick = newest.at + MINUTE
        what = Text("Tick %(at)s is about to be written.", at=when(next_tick, facts.now))
        return Finding(Part.CLOCK, severity, what, Text("Wait a few seconds."), since=next_tick)
    return Finding(
        Part.CLOCK,
        severity,
        Text(
            "No tick was written since %(at)s: is beat running? Is a worker?%(more)s",
            at=when(newest.at, facts.now),
            more=_queued(facts),
        ),
        _ledger_todo(facts),
        since=newest.dispatched_at,
    )


def _queued(facts: Facts) -> str:
    waiting = facts.queues.get("clock", 0)
    return Text(" %(count)s messages wait for a worker.", count=waiting) if waiting else ""


def _ledger_todo(facts: Facts) -> str:
    if runs(facts, "beat") and runs(facts, "worker"):
        return Text("Beat and a worker run: see that a worker reads the queue clock, and read its log.")
    return Text("See that beat runs, and a worker that reads the queue clock.")
