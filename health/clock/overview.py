"""All that the clock's page and `manage.py clock` show, read with a few short statements (shell)."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from checkins.models import IngestNode
from checkins.node_facts import NodeFacts
from clocktasks.models import ClockIncident, Tick
from health.clock.lag import ClockStatus, explain
from health.clock.timeline import ROW_MINUTES, ROWS
from health.engines import Broker, read_engines
from health.facts import Facts, Rows, TickFacts
from health.queries import read_rows
from incidents.notifications.addressees import why_nobody
from incidents.notifications.previews import find_uncaught

TICKS_SHOWN = ROW_MINUTES * ROWS
NODES_LEFT_FOR = timedelta(hours=1)
NODES_LEFT_SHOWN = 10
INCIDENTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Overview:
    """The clock as it is at `now`.

    `ticks`: the newest two hours of the ledger, newest first. `left`: nodes that stopped lately. `incidents`: the
    latest ones, one that goes on first. `queues`: messages that wait in each queue of the broker.
    """

    now: datetime
    status: ClockStatus
    rows: Rows
    ticks: Sequence[TickFacts]
    left: Sequence[NodeFacts]
    incidents: Sequence[ClockIncident]
    queues: Mapping[str, int]

    @property
    def clocks_behind(self) -> list[tuple[int, str, datetime]]:
        """The shard clocks that are not at the newest tick that may be applied."""
        limit = self.rows.decided_until
        return [] if limit is None else [clock for clock in self.rows.clocks if clock[2] < limit]


def read_overview(now: datetime, *, known: Facts | None = None) -> Overview:
    """Return it as of `now`, and lock nothing.

    `known`: the facts that a web process has polled a few seconds ago. What Valkey and the broker said then is shown,
    so that nobody waits for one that does not answer. Without a poll they are asked, for a second each at most.
    """
    rows = read_rows(now)
    if known is not None and known.postgres is None:
        facts = replace(known, now=now, rows=rows, why_nobody=why_nobody())
    else:
        uncaught = find_uncaught() if known is None else known.uncaught
        since, intake = (now, None) if known is None else (known.watched_since, known.intake)
        facts = Facts(now, since, rows, intake=intake, why_nobody=why_nobody(), uncaught=uncaught)
        with closing(Broker()) as broker:
            facts = read_engines(facts, broker, before=known)
    left = IngestNode.objects.filter(left_at__gte=now - NODES_LEFT_FOR).order_by("-left_at")
    return Overview(
        now,
        explain(facts),
        rows,
        [TickFacts(*row) for row in Tick.objects.order_by("-at").values_list(*TickFacts._fields)[:TICKS_SHOWN]],
        [node.facts() for node in left[:NODES_LEFT_SHOWN]],
        list(ClockIncident.objects.order_by("-started_at")[:INCIDENTS_SHOWN]),
        facts.queues,
    )
