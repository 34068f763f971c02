"""Ingest nodes: the processes that receive check-ins, and their watermarks (shell).

A node is a row that outlives its process: its id is in its spool file, and the holder of this file is the node.

    register_node -> [ batch: check-ins, advance | drain: lock_node, check-ins, advance | beat ]... -> deregister
    the clock: drop_silent_nodes, stored_until, and then it ticks no minute that a live node has not passed (P2)

A watermark says: "all check-ins that this node received before it are committed". It is written in the transaction of
the check-ins that it covers, so nobody sees the one without the others. The node has to make sure that its watermark
never passes check-ins in its memory, in a transaction of any of its connections, or in its spool.

A node that is silent for too long is dropped, so that a dead machine does not stop the clock forever. No check-in is
lost by that, but the clock judges minutes without the node: a check-in that it has acknowledged and only stores later
may come after its own miss. So dropping takes minutes, and is logged as a warning. When a dropped node reports again,
it is live at once, with its real watermark: the clock cannot undo the minutes that it has applied, and from then on it
waits until the node has stored everything. A node therefore never has to know that it was dropped, and must not move
its watermark to the present just because it is back.

No function here reads a clock: a node passes its own `now`, and the clock passes its own. The two are never compared,
so a machine is neither dropped nor kept because its clock is wrong.
"""

import logging
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from checkins.exceptions import CheckInsError
from checkins.models import IngestNode
from lib.sql import array_literal
from monitors.pruning import remove_piece

logger = logging.getLogger(__name__)

LEFT_KEPT = timedelta(days=1)
"""How long the row of a node that left can be viewed. Its spool was empty, so nothing depends on the row."""
DROPPED_KEPT = timedelta(days=30)
"""How long the row of a dropped node is kept. Without it, a spool that reappears may repeat its newest batch."""


SPANS_KEPT = timedelta(days=400)
"""How long listening spans are kept. The clock itself reads them once, when it writes the minute."""
VOLUMES_KEPT = timedelta(days=7)
"""The ledger copies the counts within a minute or two, unless no worker runs for days."""
SPAN_THAT_ENDED = """
    ended AS (
        INSERT INTO checkins_listeningspan (node_id, since, until)
        SELECT id, started_at, seen_at FROM checkins_ingestnode
         WHERE id = %(id)s AND started_at < %(since)s::timestamptz AND started_at <= seen_at AND left_at IS NULL)"""
"""A process that was frozen, or whose machine slept, did not listen meanwhile: its span ended when it was last seen."""


NEVER_BACK = """
    started_at = CASE WHEN started_at > %(now)s::timestamptz + interval '2 minutes'
                      THEN coalesce(%(since)s, %(now)s) ELSE greatest(started_at, %(since)s) END,
    watermark = CASE WHEN watermark > %(now)s::timestamptz + interval '2 minutes'
                     THEN least(%(watermark)s::timestamptz, %(now)s) ELSE greatest(watermark, %(watermark)s) END,
    seen_at = CASE WHEN seen_at > %(now)s::timestamptz + interval '2 minutes'
                   THEN %(now)s ELSE greatest(seen_at, %(now)s) END"""
"""The times of a node only increase, since its reports may arrive out of order. If they are minutes ahead of its own
clock, that clock was wrong and has been set back: what it reported about future times is void."""


class NodeError(CheckInsError):
    """The node is not allowed to write; its transaction has to be rolled back."""


class FencedError(NodeError):
    """The batch or the spool entries were committed before, or the node has left: the transaction must not commit."""


class UnknownNodeError(NodeError):
    """The node has no row, or it has left: it has to register first."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The committed state of a node: its newest batch, the newest entry of its spool, and its watermark."""

    batch: int
    spool_position: int
    watermark: datetime


# --- A node's own calls ---------------------------------------------------------------------------------------------


@transaction.atomic(durable=True)
def register_node(
    node_id: uuid.UUID,
    *,
    watermark: datetime,
    now: datetime,
    host: str,
    pid: int,
    listening_since: datetime | None = None,
) -> Registration:
    """Register a node, or adopt it from the process that held its spool before. Committed when this returns.

    Call this before the process accepts its first request. `watermark` is the oldest reception time in the spool, or
    `now` if that is empty: requests that the earlier process had only in memory were never acknowledged. It may move
    the node's watermark forward, never back. `listening_since` is when the process began to listen (`now` if not
    given): it may have used its spool for a while before there was a database to register in. The span in which the
    earlier process listened is stored as a `ListeningSpan`.

    Waits for a transaction of the earlier process that is about to commit: after its `advance` it holds the row.
    A transaction without `advance` cannot commit any more: its process would have to send both.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO checkins_listeningspan (node_id, since, until)
            SELECT id, started_at, seen_at FROM checkins_ingestnode
             WHERE id = %(id)s AND started_at < %(since)s AND started_at <= seen_at
            """,
            {"id": node_id, "since": listening_since or now},
        )
        cursor.execute(
            """
            INSERT INTO checkins_ingestnode AS node
                   (id, host, pid, started_at, seen_at, watermark, batch, spool_position, spooled_count)
            VALUES (%(id)s, %(host)s, %(pid)s, %(since)s, %(now)s, least(%(watermark)s, %(now)s), 0, 0, 0)
                ON CONFLICT (id) DO UPDATE
               SET host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,
                   seen_at = CASE WHEN node.seen_at > excluded.seen_at + interval '2 minutes' THEN excluded.seen_at
                                  ELSE greatest(node.seen_at, excluded.seen_at) END,
                   watermark = CASE WHEN node.watermark > excluded.seen_at + interval '2 minutes'
                                    THEN excluded.watermark ELSE greatest(node.watermark, excluded.watermark) END,
                   silent_since = NULL, silence_seen_at = NULL, dropped_at = NULL, left_at = NULL
            RETURNING batch, spool_position, watermark
            """,
            {
                "id": node_id,
                "host": host,
                "pid": pid,
                "now": now,
                "since": listening_since or now,
                "watermark": watermark,
            },
        )
        return Registration(*cursor.fetchone())


def announce(opened: Mapping[uuid.UUID, datetime]) -> None:
    """Make the clock wait for nodes that could not register yet, each since it may hold check-ins.

    What it waits for already stays as it is. A node that left or was dropped before that time was opened again since.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO checkins_ingestnode AS node
                   (id, host, pid, started_at, seen_at, watermark, batch, spool_position, spooled_count)
            SELECT id, %(host)s, 0, since, since, since, 0, 0, 0
              FROM unnest(%(ids)s::uuid[], %(since)s::timestamptz[]) AS opened (id, since)
             WHERE NOT EXISTS (SELECT FROM checkins_ingestnode AS known WHERE known.id = opened.id
                                  AND coalesce(known.left_at, known.dropped_at, 'infinity') >= opened.since)
             ORDER BY id
                ON CONFLICT (id) DO UPDATE
               SET silent_since = NULL, silence_seen_at = NULL, dropped_at = NULL, left_at = NULL
             WHERE coalesce(node.left_at, node.dropped_at) < excluded.started_at
            """,
            {
                "host": socket.gethostname(),
                "ids": array_literal("uuid", list(opened)),
                "since": array_literal("timestamptz", list(opened.values())),
            },
        )


def advance(
    node_id: uuid.UUID,
    *,
    batch: int | None,
    watermark: datetime,
    now: datetime,
    spooled_count: int,
    spool_position: int | None = None,
    listening_since: datetime | None = None,
    volume: Mapping[datetime, int] | None = None,
) -> None:
    """Record what the caller's transaction commits: its last statement, sent alone and followed by nothing but COMMIT.

    `watermark` (at or before `now`) holds once this transaction is committed. `batch` is the number of a batch, higher
    than that of any before; None in the transaction of a drain, which passes `spool_position` instead, the newest
    applied entry of the spool. `volume` is the number of messages by minute of reception, and `listening_since` is
    since when the process listens without a break, if that may have changed.
    Locks the node's row until the end of the transaction.

    Raises FencedError if that number or position is committed already, or the node has left: the caller rolls back.
    Batches commit in the order of their numbers, and none while the spool holds entries of an uncertain one: a higher
    number would mean that they are committed (`Spool.settle`).
    """
    assert connection.in_atomic_block, "the watermark moves with the check-ins that it covers"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH {SPAN_THAT_ENDED}, received AS (
                 INSERT INTO checkins_minutevolume AS known (node_id, minute, count)
                 SELECT %(id)s, minute, count
                   FROM unnest(%(minutes)s::timestamptz[], %(counts)s::integer[]) AS new (minute, count)
                     ON CONFLICT (minute, node_id) DO UPDATE SET count = known.count + excluded.count)
            UPDATE checkins_ingestnode
               SET {NEVER_BACK},
                   batch = coalesce(%(batch)s, batch), spool_position = coalesce(%(position)s, spool_position),
                   spooled_count = %(spooled)s, silent_since = NULL, silence_seen_at = NULL, dropped_at = NULL
             WHERE id = %(id)s AND left_at IS NULL
               AND (%(batch)s::bigint IS NULL OR batch < %(batch)s)
               AND (%(position)s::bigint IS NULL OR spool_position < %(position)s)
            """,  # noqa: S608 - no values in the text
            {
                "since": listening_since,
                "minutes": array_literal("timestamptz", list(volume or ())),
                "counts": array_literal("integer", list((volume or {}).values())),
                "id": node_id,
                "watermark": watermark,
                "now": now,
                "batch": batch,
                "position": spool_position,
                "spooled": spooled_count,
            },
        )
        if cursor.rowcount == 0:
            raise FencedError(f"node {node_id} has committed batch {batch} or spool position {spool_position} already")


def lock_node(node_id: uuid.UUID) -> Registration:
    """Return the committed state of the node, and lock it until the caller's transaction ends.

    Waits for a batch whose COMMIT is in progress: an uncertain batch that is not committed then never will be. Raises
    UnknownNodeError.
    """
    assert connection.in_atomic_block, "a lock ends with its transaction"
    row = (
        IngestNode.objects.select_for_update()
        .filter(id=node_id, left_at__isnull=True)
        .values_list("batch", "spool_position", "watermark")
        .first()
    )
    if row is None:
        raise UnknownNodeError(f"node {node_id} is not registered")
    return Registration(*row)


def beat(
    node_id: uuid.UUID,
    *,
    watermark: datetime,
    now: datetime,
    spooled_count: int,
    listening_since: datetime | None = None,
) -> None:
    """Send a heartbeat with the watermark of the node, while no batch does.

    The watermark is the real one: the oldest reception time in memory, in a transaction or in the spool, else `now`;
    this matters most after a silence. `listening_since` as in `advance`. Raises UnknownNodeError.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH {SPAN_THAT_ENDED}
            UPDATE checkins_ingestnode
               SET {NEVER_BACK},
                   spooled_count = %(spooled)s, silent_since = NULL, silence_seen_at = NULL, dropped_at = NULL
             WHERE id = %(id)s AND left_at IS NULL
            """,  # noqa: S608 - no values in the text
            {
                "id": node_id,
                "since": listening_since,
                "watermark": watermark,
                "now": now,
                "spooled": spooled_count,
            },
        )
        if cursor.rowcount == 0:
            raise UnknownNodeError(f"node {node_id} is not registered")


def deregister(node_id: uuid.UUID, *, now: datetime) -> None:
    """Deregister a node: the clock no longer waits for it. All that it received is stored, and its spool is empty.

    A node whose newest `advance` or `beat` reported a spool with entries may not leave
    (`ingest_node_left_with_an_empty_spool`, IntegrityError).
    """
    IngestNode.objects.filter(id=node_id, left_at__isnull=True).update(
        left_at=now, silent_since=None, silence_seen_at=None, dropped_at=None
    )


def record_losses(node_id: uuid.UUID, spans: Sequence[tuple[datetime, datetime]]) -> None:
    """Record between which reception times the node's spool has lost check-ins (D43). Repeating this does nothing.

    Call this before the node's watermark passes them, so that the clock has not judged these minutes yet. Check-ins
    received before the watermark are stored: none of them is lost.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO checkins_lostspan (node_id, since, until)
            SELECT %(id)s, CASE WHEN watermark < lost.until THEN greatest(lost.since, watermark) ELSE lost.since END,
                   lost.until
              FROM unnest(%(since)s::timestamptz[], %(until)s::timestamptz[]) AS lost (since, until)
              LEFT JOIN checkins_ingestnode ON id = %(id)s
                ON CONFLICT DO NOTHING
            """,
            {
                "id": node_id,
                "since": array_literal("timestamptz", [since for since, _ in spans]),
                "until": array_literal("timestamptz", [until for _, until in spans]),
            },
        )


def forget_gone_nodes(*, now: datetime) -> int:
    """Remove one piece each of nodes that left or were dropped long ago, and of old records; return how many rows."""
    gone = "left_at < %s OR dropped_at < %s"
    return (
        remove_piece("checkins_ingestnode", gone, [now - LEFT_KEPT, now - DROPPED_KEPT], order_by="started_at")
        + remove_piece("checkins_listeningspan", "until < %s", [now - SPANS_KEPT], order_by="until")
        + remove_piece("checkins_lostspan", "until < %s", [now - SPANS_KEPT], order_by="until")
        + remove_piece("checkins_minutevolume", "minute < %s", [now - VOLUMES_KEPT], order_by="minute")
    )


def live_ids() -> set[uuid.UUID]:
    """Return the nodes that the clock waits for."""
    return set(IngestNode.objects.filter(left_at__isnull=True, dropped_at__isnull=True).values_list("id", flat=True))


# --- The clock's calls ----------------------------------------------------------------------------------------------
