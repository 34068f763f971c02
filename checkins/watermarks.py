"""The clock's view of the nodes: up to when all is stored, when none listened, how much was received (shell)."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from checkins.models import IngestNode
from checkins.node_facts import NodeFacts
from lib.sql import fetch_rows

logger = logging.getLogger(__name__)


POLL_GAP_MAX = timedelta(seconds=10)
"""How much silence may be counted between two polls of the clock. A waiting clock polls every second. If it could not
poll for longer, the database was away or no worker ran: the node may have been stopped too, and is not dropped."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The guarantee of the nodes: every check-in that a live node received before `until` is committed.

    `live`: the nodes that the clock waits for, those furthest behind first.
    """

    until: datetime
    live: tuple[NodeFacts, ...]


def stored_until(now: datetime) -> Settled:
    """Return the newest instant that all live nodes have passed, or `now` if there are none."""
    live = _nodes(IngestNode.objects.filter(left_at__isnull=True, dropped_at__isnull=True))
    return Settled(until=min((node.watermark for node in live), default=now), live=live)


def listening_spans(since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Return the spans in which nodes listened that touch the given time: (begin, end) pairs, unsorted, overlapping."""
    return [
        (begin, end)
        for begin, end in fetch_rows(
            """
            SELECT since, until FROM checkins_listeningspan WHERE until > %(since)s AND since < %(until)s
             UNION ALL
            SELECT started_at, seen_at FROM checkins_ingestnode WHERE seen_at > %(since)s AND started_at < %(until)s
            """,
            {"since": since, "until": until},
        )
    ]


def lost_spans(since: datetime, until: datetime, *, now: datetime) -> list[tuple[datetime, datetime]]:
    """Return the spans in which acknowledged check-ins were lost (D43), in the form of `listening_spans`.

    A loss is known when it is over. One that ends after `now` was reported with a wrong clock and is ignored: it would
    make all that falls due until then unknown.
    """
    return [
        (begin, end)
        for begin, end in fetch_rows(
            """
            SELECT since, until FROM checkins_lostspan
             WHERE until >= %(since)s AND since < %(until)s AND until <= %(now)s::timestamptz + interval '2 minutes'
            """,
            {"since": since, "until": until, "now": now},
        )
    ]


def next_listening(since: datetime) -> datetime | None:
    """Return the first known instant from `since` on at which a node listened; None if none has yet."""
    ((at,),) = fetch_rows(
        """
        SELECT min(greatest(since, %(since)s)) FROM (
               SELECT since FROM checkins_listeningspan WHERE until > %(since)s
                UNION ALL
               SELECT started_at FROM checkins_ingestnode WHERE seen_at > %(since)s) AS span (since)
        """,
        {"since": since},
    )
    result: datetime | None = at
    return result


def volumes(since: datetime, until: datetime) -> dict[datetime, int]:
    """Return how many messages were received in each minute from `since` to before `until`; no entry for none."""
    return dict(
        fetch_rows(
            """
            SELECT minute, sum(count)::bigint FROM checkins_minutevolume
             WHERE minute >= %(since)s AND minute < %(until)s GROUP BY minute
            """,
            {"since": since, "until": until},
        )
    )


def drop_silent_nodes(now: datetime, *, silent_max: timedelta) -> tuple[NodeFacts, ...]:
    """Poll all live nodes, drop those that were silent for `silent_max` of observed time, and return these.

    Each drop is logged once as a warning, also if several clocks poll at the same time.
    """
    dropped = _drop_silent_nodes(now, silent_max=silent_max)
    for node in dropped:
        logger.warning(
            "ingest node %s (%s) is dropped: it was last seen at %s, and the clock no longer waits for it. Its "
            "check-ins were stored up to %s, with %d in its spool. Check-ins that it has acknowledged and not "
            "stored are safe on its disk; by the time it is back they may have been judged as missed",
            node,
            node.id,
            node.seen_at.isoformat(timespec="seconds"),
            node.watermark.isoformat(timespec="seconds"),
            node.spooled_count,
        )
    return dropped


@transaction.atomic
def _drop_silent_nodes(now: datetime, *, silent_max: timedelta) -> tuple[NodeFacts, ...]:
    """Record which live nodes are silent at this poll, and drop those that were silent for too long.

    Every node counts as silent until its next report, which deletes the record: neither the interval of reports nor a
    comparison of clocks is needed. A node whose row is locked is reporting right now and is skipped.
    """
    parameters: dict[str, Any] = {"now": now, "gap": POLL_GAP_MAX, "silent_max": silent_max}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH polled AS (
                 SELECT id, greatest(silence_seen_at, %(now)s) AS until,
                        coalesce(silent_since + greatest(%(now)s - silence_seen_at - %(gap)s, interval '0'),
                                 %(now)s) AS since
                   FROM checkins_ingestnode
                  WHERE left_at IS NULL AND dropped_at IS NULL
                  ORDER BY id FOR UPDATE SKIP LOCKED)
            UPDATE checkins_ingestnode AS node
               SET silent_since = since, silence_seen_at = until,
                   dropped_at = CASE WHEN until - since >= %(silent_max)s THEN %(now)s END
              FROM polled WHERE polled.id = node.id
            RETURNING node.id, node.dropped_at
            """,
            parameters,
        )
        ids = [node_id for node_id, dropped_at in cursor.fetchall() if dropped_at is not None]
    return _nodes(IngestNode.objects.filter(id__any_of=ids)) if ids else ()


def _nodes(rows: QuerySet[IngestNode]) -> tuple[NodeFacts, ...]:
    return tuple(row.facts() for row in rows.order_by("watermark", "id"))
