"""All that the clock's page and `manage.py clock` show, read with a few short statements (shell)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import redis
from django.conf import settings

from checkins.models import IngestNode
from clocktasks.clock import MINUTE
from clocktasks.models import ClockIncident, ShardClock, Tick
from clocktasks.volume import VolumeDecision, VolumeRules
from health import liveness
from health.clock.lag import Answer, Standing, Suspicion, explain
from health.clock.timeline import ROW_MINUTES, ROWS, TickRow
from health.facts import Facts, NodeFacts, Outage, Rows
from health.queries import read_rows

TICKS_SHOWN = ROW_MINUTES * ROWS
NODES_LEFT_FOR = timedelta(hours=1)
NODES_LEFT_SHOWN = 10
INCIDENTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Overview:
    """The clock as it is at `now`.

    `decided_until`: the newest tick that may be applied (None: there is none). `clocks`: shard, kind and position of
    every shard clock. `ticks`: the newest two hours of the ledger, newest first. `left`: nodes that went away lately,
    with when. `incidents`: the latest ones, one that goes on first.
    """

    now: datetime
    answer: Answer
    rows: Rows
    decided_until: datetime | None
    clocks: Sequence[tuple[int, str, datetime]]
    ticks: Sequence[TickRow]
    left: Sequence[tuple[str, datetime]]
    incidents: Sequence[ClockIncident]

    @property
    def clocks_behind(self) -> list[tuple[int, str, datetime]]:
        """The shard clocks that do not stand at `decided_until`."""
        limit = self.decided_until
        return [] if limit is None else [clock for clock in self.clocks if clock[2] < limit]

    @property
    def nodes(self) -> Sequence[NodeFacts]:
        """The ingest nodes that have not left."""
        return self.rows.nodes


def read_overview(now: datetime) -> Overview:
    """Return it as of `now`. Waits for Valkey a second at most, and locks nothing."""
    rows = read_rows(now)
    facts = _with_signs_of_life(Facts(now=now, watched_since=now, rows=rows))
    ticks = [TickRow(*row) for row in Tick.objects.order_by("-at").values_list(*TickRow._fields)[:TICKS_SHOWN]]
    clocks = list(ShardClock.objects.order_by("shard", "kind").values_list("shard", "kind", "position"))
    left = IngestNode.objects.filter(left_at__gte=now - NODES_LEFT_FOR).order_by("-left_at")
    rules: VolumeRules = settings.VOLUME_RULES
    suspicion = _suspicion(rows, ticks)
    positions: dict[int, datetime] = {}
    for shard, _, position in clocks:
        positions[shard] = min(position, positions.get(shard, position))
    standing = Standing(
        facts,
        suspicion,
        positions,
        rules.decision_window,
        timedelta(seconds=settings.INGEST_NODE_SILENT_SECONDS),
        timedelta(seconds=settings.CLOCK_GRACE_SECONDS),
    )
    newest = None if rows.newest is None else rows.newest.at
    return Overview(
        now,
        explain(standing),
        rows,
        newest if suspicion is None else suspicion.at - MINUTE,
        clocks,
        ticks,
        [(str(node), node.left_at) for node in left[:NODES_LEFT_SHOWN] if node.left_at is not None],
        list(ClockIncident.objects.order_by("-started_at")[:INCIDENTS_SHOWN]),
    )


def _with_signs_of_life(facts: Facts) -> Facts:
    """Add when beat and workers were last heard of, on whatever host."""
    heard: dict[str, datetime] = {}
    try:
        for (kind, _), at in liveness.last_heard().items():
            heard[kind.value] = max(at, heard.get(kind.value, at))
    except redis.RedisError as error:
        return replace(facts, valkey=Outage(facts.now, str(error)))
    return replace(facts, heard=heard)


def _suspicion(rows: Rows, ticks: Sequence[TickRow]) -> Suspicion | None:
    if rows.oldest_undecided is None:
        return None
    at = rows.oldest_undecided.at
    for tick in ticks:
        if tick.at == at and tick.decided_at is None:
            return Suspicion(at, VolumeDecision(tick.decision), tick.deviation_percent)
    return Suspicion(at, VolumeDecision.ABNORMAL, None)
