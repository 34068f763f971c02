"""Why the clock is not at now: one sentence, and what holds it up, in the order in which that has to go (pure).

    shards apply ticks  <-  volumes are decided  <-  ticks are written  <-  ingest nodes store what they received
                                                                        <-  beat says that a minute has passed

The clock is where the last shard is. What keeps it there is what the oldest minute waits for that is not applied;
what newer minutes wait for comes after that. It is built on the facts of `health.problems`, whose findings say
whether anything is wrong; this says why the clock stands where it stands, also when all is as it should be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from clocktasks.clock import MINUTE, whole_minute
from clocktasks.volume import VolumeDecision
from health.facts import Facts, Finding, NodeFacts, Part, Rows
from health.problems import HEARD_MAX, NODE_SILENT_MAX, find_clock_incident, find_problems
from lib.durations import duration

SECOND = timedelta(seconds=1)
TICK_MAX = timedelta(seconds=14)
"""What a tick may take after its minute and the grace: a large one, on a busy machine."""
NAMED_MAX = 5
"""Nodes or shards that are named one by one; the tables below have all of them."""
BEFORE_THE_CLOCK = {Part.POSTGRES, Part.MIGRATIONS, Part.VALKEY, Part.BROKER, Part.BEAT, Part.WORKER}
"""What everything else waits for, as `health.problems` finds it."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The oldest tick whose volume is not decided, with its decision so far and how far the volume is off."""

    at: datetime
    decision: VolumeDecision
    deviation_percent: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the clock stands at `facts.now`.

    `positions`: up to which tick each shard has applied everything, the slowest of its kinds. `decision_window`: how
    many ticks a suspicion lasts at most. `node_silent_max`: how long a silent ingest node is waited for. `grace`: how
    long a minute is over before it is written.
    """

    facts: Facts
    suspicion: Suspicion | None = None
    positions: Mapping[int, datetime] = field(default_factory=dict)
    decision_window: int = 5
    node_silent_max: timedelta = timedelta(seconds=120)
    grace: timedelta = SECOND

    @property
    def normal_max(self) -> timedelta:
        """How far the clock may be behind now without a reason worth telling."""
        return MINUTE + self.grace + TICK_MAX


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the clock is (None: nowhere yet), how far behind now, whether that is normal, and why in words.

    `reasons`: what holds it up, what blocks first first, each with what to do. `besides`: what else is wrong.
    """

    at: datetime | None
    behind: timedelta | None
    is_normal: bool
    headline: str
    reasons: Sequence[Finding]
    besides: Sequence[Finding]


def explain(standing: Standing) -> Answer:
    """Return why the clock is where it is. Clock times in words are UTC."""
    facts = standing.facts
    found = find_problems(facts)
    rows = facts.rows
    if rows is None:
        reasons = [finding for finding in found if finding.part in BEFORE_THE_CLOCK]
        return Answer(None, None, False, "Where the clock is cannot be seen: " + _clause(reasons), reasons, ())
    before = [finding for finding in found if finding.part in BEFORE_THE_CLOCK]
    if rows.newest is None:
        reasons = [*before, _first_tick_reason()]
        words = "The clock has no minute yet: " + _clause(reasons)
        return Answer(None, None, False, words, reasons, _besides(found, rows, reasons))

    at = min(standing.positions.values(), default=rows.newest.at)
    behind = facts.now - at
    whole = MINUTE if abs(behind) >= MINUTE else SECOND
    apart = duration(abs(behind) // whole * whole)
    reasons = list(_reasons(standing, rows, rows.newest.at, at))
    if behind < -MINUTE:
        words = f"The clock is at {_when(at, facts.now)}, {apart} ahead of now: this host's time went back."
        return Answer(at, behind, False, words, reasons, _besides(found, rows, reasons))
    if behind <= standing.normal_max:
        words = f"The clock is at {at:%H:%M}, {apart} behind now, which is normal."
        return Answer(at, behind, True, words, reasons, _besides(found, rows, reasons))
    reasons = [*before, *reasons]
    words = f"The clock waits at {_when(at, facts.now)}, {apart} behind: {_clause(reasons)}"
    return Answer(at, behind, False, words, reasons, _besides(found, rows, reasons))


def _besides(found: Sequence[Finding], rows: Rows, reasons: Sequence[Finding]) -> list[Finding]:
    """Return what is found that does not hold the clock up. Of the clock itself that is only a clock incident."""
    said = {(reason.part, reason.since) for reason in reasons}
    others = [f for f in found if f.part is not Part.CLOCK and (f.part, f.since) not in said]
    incident = find_clock_incident(rows)
    return others if incident is None else [incident, *others]


def _reasons(standing: Standing, rows: Rows, newest: datetime, at: datetime) -> Iterable[Finding]:
    """Yield what the minutes after `at` wait for, the oldest minute first."""
    suspicion = standing.suspicion
    decided = newest if suspicion is None else suspicion.at - MINUTE
    if at < decided:
        yield _shards_reason(standing, decided)
    if suspicion is not None:
        yield _suspicion_reason(suspicion, standing)
    due = whole_minute(standing.facts.now - standing.grace)
    if newest < due:
        waited_for = [node for node in _live(rows) if node.watermark < newest + MINUTE]
        if waited_for:
            yield from (_node_reason(node, standing) for node in waited_for[:NAMED_MAX])
        else:
            yield _unwritten_reason(standing, newest, due)


def _shards_reason(standing: Standing, decided: datetime) -> Finding:
    facts = standing.facts
    behind = sorted(shard for shard, position in standing.positions.items() if position < decided)
    total = len(standing.positions)
    one = len(behind) == 1
    if len(behind) == total > 1:
        who = f"all {total} shards are behind"
    elif len(behind) > NAMED_MAX:
        who = f"{len(behind)} of {total} shards are behind"
    else:
        who = f"shard{'' if one else 's'} {_enumeration(behind)} {'is' if one else 'are'} behind"
    heard_at = facts.heard.get("worker")
    runs = heard_at is not None and facts.now - heard_at <= HEARD_MAX
    why = "workers are busy" if runs else "workers are busy or none runs"
    oldest = min(standing.positions[shard] for shard in behind)
    return Finding(
        Part.CLOCK,
        facts.now - decided > standing.normal_max,
        f"{who}: {why}.",
        oldest,
        "Read the workers' log; more workers take more shards, one at a time."
        if runs
        else "See that a worker runs which reads the queue clock, and read its log; more workers take more shards.",
    )


def _suspicion_reason(suspicion: Suspicion, standing: Standing) -> Finding:
    until = suspicion.at + standing.decision_window * MINUTE
    if suspicion.decision is VolumeDecision.RECOVERING:
        what = f"an incident of volume may be over since {suspicion.at:%H:%M}"
    elif suspicion.deviation_percent is None:
        what = f"the volume of check-ins is unusual at {suspicion.at:%H:%M}"
    else:
        change = "fell" if suspicion.deviation_percent < 0 else "rose"
        what = f"the volume of check-ins {change} by {abs(suspicion.deviation_percent):.0f} % at {suspicion.at:%H:%M}"
    return Finding(
        Part.CLOCK,
        False,
        f"{what}; it is decided by {until:%H:%M} at the latest.",
        suspicion.at,
        "See that check-ins reach Watchclock. The clock decides by itself.",
    )


def _node_reason(node: NodeFacts, standing: Standing) -> Finding:
    now = standing.facts.now
    what = f"ingest node {node} has stored its check-ins only up to {_when(node.watermark, now, seconds=True)}"
    silent = now - node.seen_at
    if silent > NODE_SILENT_MAX:
        until = node.seen_at + standing.node_silent_max
        return Finding(
            Part.INGEST,
            True,
            f"{what} and was last heard of at {_when(node.seen_at, now, seconds=True)}"
            + (f", with {node.spooled_count:,} in its spool." if node.spooled_count else "."),
            node.seen_at,
            "Bring that web process or its database connection back. If it stays silent, the clock goes on without it "
            f"from about {_when(until, now)} on.",
        )
    if node.spooled_count:
        return Finding(
            Part.SPOOL,
            False,
            f"{what} and has {node.spooled_count:,} in its spool (PostgreSQL was away or slow).",
            node.watermark,
            "They are being stored. If they do not become fewer, read the log of that web process.",
        )
    return Finding(
        Part.INGEST,
        False,
        f"{what}.",
        node.watermark,
        "Usually it takes a second. If it does not move, see how busy PostgreSQL and that host are.",
    )


def _unwritten_reason(standing: Standing, newest: datetime, due: datetime) -> Finding:
    facts = standing.facts
    runs = {kind for kind, at in facts.heard.items() if facts.now - at <= HEARD_MAX}
    if facts.now - due <= standing.normal_max - MINUTE and due - newest == MINUTE:
        return Finding(Part.CLOCK, False, f"tick {due:%H:%M} is about to be written.", due, "Wait a few seconds.")
    todo = "See that beat runs, and a worker that reads the queue clock."
    if {"beat", "worker"} <= runs:
        todo = "Beat and a worker were heard of: see that a worker reads the queue clock, and read its log."
    return Finding(
        Part.CLOCK,
        True,
        f"no tick was written since {_when(newest, facts.now)}: is beat running? Is a worker?",
        newest,
        todo,
    )


def _first_tick_reason() -> Finding:
    return Finding(
        Part.CLOCK,
        False,
        "the first tick is written a minute after beat and a worker have started.",
        None,
        "See that both run; `make run` starts them.",
    )


def _live(rows: Rows) -> Sequence[NodeFacts]:
    """The nodes that the clock waits for, the one furthest behind first."""
    return sorted((node for node in rows.nodes if node.dropped_at is None), key=lambda node: (node.watermark, node.id))


def _clause(reasons: Sequence[Finding]) -> str:
    """Return the first reason as the second half of a sentence."""
    if not reasons:
        return "its work is under way."
    what = reasons[0].what
    return what if what.startswith(("PostgreSQL", "Valkey")) else what[:1].lower() + what[1:]


def _enumeration(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _when(at: datetime, now: datetime, *, seconds: bool = False) -> str:
    """Return the time of day, with the date if that is not today."""
    text = f"{at:%H:%M:%S}" if seconds else f"{at:%H:%M}"
    return text if at.date() == now.date() else f"{at:%Y-%m-%d} {text}"
