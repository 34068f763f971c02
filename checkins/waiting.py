"""Check-ins that are kept and acknowledged, but cannot be applied yet (shell).

Parked ones wait for their monitor, which usually comes with the run's other message (D17). Failed ones met an
unexpected error and wait for a person (D14).
"""

import re
import traceback
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from django.conf import settings

from checkins.messages import CheckInMessage, LogMessage, Message, Source
from checkins.models import WaitingCheckIn
from checkins.protocols.request import IngestRequest, KnownSender, Limits
from checkins.protocols.routes import find_route
from monitors.bulk import array_literal, fetch_rows, insert_rows

ERROR_CHARACTERS_MAX = 10_000
Waiting = CheckInMessage | LogMessage
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_TYPES = {kind.__name__: kind for kind in (CheckInMessage, LogMessage)}


def park(messages: Iterable[Waiting]) -> None:
    """Keep messages until their monitor is there. One statement; needs the transaction that acknowledges them."""
    _keep([(message, "") for message in messages])


def keep_failed(message: Waiting, error: Exception) -> None:
    """Keep a message that an unexpected error kept from being applied."""
    _keep([(message, described(error))])


def keep_failed_request(request: IngestRequest, sender: KnownSender, error: Exception) -> None:
    """Keep a whole request that an unexpected error kept from being understood."""
    _insert(
        [
            (
                sender.project_id,
                sender.slug or "",
                "",
                "failed",
                described(error),
                Source.REST.value,
                request.received_at,
                {"type": IngestRequest.__name__, "fields": request},
            )
        ]
    )


def described(error: Exception) -> str:
    """Return the end of the error's traceback, as PostgreSQL can store it."""
    text = "".join(traceback.format_exception(error))
    return _NOT_STORABLE.sub("\ufffd", text[-ERROR_CHARACTERS_MAX:])


def _keep(messages: Collection[tuple[Waiting, str]]) -> None:
    _insert(
        [
            (
                message.project_id,
                message.slug,
                message.environment,
                "failed" if error else "monitor_unknown",
                error,
                message.source.value,
                message.received_at,
                {"type": type(message).__name__, "fields": message},
            )
            for message, error in messages
        ]
    )


def _insert(rows: Sequence[Sequence[object]]) -> None:
    insert_rows(
        "checkins_waitingcheckin",
        {
            "project_id": "bigint",
            "slug": "text",
            "environment": "text",
            "reason": "text",
            "error": "text",
            "source": "text",
            "received_at": "timestamptz",
            "message": "jsonb",
        },
        rows,
    )


def restored(row: WaitingCheckIn) -> list[Message]:
    """Return the messages in a row. Raises msgspec.ValidationError if a version wrote it that this one cannot read."""
    if row.message["type"] != IngestRequest.__name__:
        return [_restored(row.message)]
    request = msgspec.convert(row.message["fields"], IngestRequest)
    found = find_route(request.path)
    assert found is not None, "only requests with a protocol are kept"
    protocol, address = found
    sender = KnownSender(row.project_id, row.slug or None, row.slug or None)
    return list(protocol.decode(request, address, sender, Limits()).messages)


def _restored(kept: dict[str, object]) -> Waiting:
    kind = _TYPES[str(kept["type"])]
    message = msgspec.convert(kept["fields"], kind)
    assert isinstance(message, (CheckInMessage, LogMessage)), "only these wait"
    return message


def take_parked(keys: Collection[tuple[int, str]]) -> list[Waiting]:
    """Remove and return the messages that wait for monitors of these projects and slugs, oldest first.

    One statement. The transaction that removes them applies them.
    """
    if not keys:
        return []
    projects, slugs = zip(*sorted(keys), strict=True)
    rows = fetch_rows(
        """
        WITH taken AS (
             DELETE FROM checkins_waitingcheckin AS w
              USING unnest(%s::bigint[], %s::text[]) AS wanted (project_id, slug)
              WHERE w.project_id = wanted.project_id AND w.slug = wanted.slug AND w.reason = 'monitor_unknown'
          RETURNING w.received_at, w.id, w.message)
        SELECT message::text FROM taken ORDER BY received_at, id
        """,
        [array_literal("bigint", projects), array_literal("text", slugs)],
    )
    return [_restored(msgspec.json.decode(text)) for (text,) in rows]


def parking_time() -> timedelta:
    """How long a check-in waits for its monitor."""
    return timedelta(seconds=settings.PARKED_CHECKIN_SECONDS)


def take_settled(*, now: datetime, most: int) -> tuple[list[Waiting], list[Waiting]]:
    """Remove up to `most` parked messages: those whose monitor is there by now, and those that waited in vain.

    The first are to be received by the same transaction; for the second it has to say that nobody knows their monitor.
    What another process settles at this moment is left to it, and only what is settled is locked. What a version wrote
    that this one cannot read stays as failed (D14). Needs a transaction.
    """
    rows = fetch_rows(
        """
        WITH chosen AS MATERIALIZED (
             SELECT id, monitor_is_there FROM (
                    SELECT w.id, w.received_at, EXISTS (
                           SELECT FROM monitors_monitor m
                            WHERE m.project_id = w.project_id AND m.slug = w.slug AND m.status <> 'pending_deletion'
                           ) AS monitor_is_there
                      FROM checkins_waitingcheckin AS w
                     WHERE w.reason = 'monitor_unknown') AS parked
              WHERE monitor_is_there OR received_at <= %s
              ORDER BY received_at, id LIMIT %s)
        SELECT w.id, chosen.monitor_is_there, w.message::text
          FROM chosen JOIN checkins_waitingcheckin AS w ON w.id = chosen.id
         ORDER BY w.received_at, w.id
           FOR UPDATE OF w SKIP LOCKED
        """,
        [now - parking_time(), most],
    )
    ready: list[Waiting] = []
    late: list[Waiting] = []
    taken = []
    for id_, monitor_is_there, text in rows:
        try:
            message = _restored(msgspec.json.decode(text))
        except (msgspec.ValidationError, KeyError) as error:
            WaitingCheckIn.objects.filter(id=id_).update(reason="failed", error=described(error))
            continue
        (ready if monitor_is_there else late).append(message)
        taken.append(id_)
    WaitingCheckIn.objects.filter(id__in=taken).delete()
    return ready, late
