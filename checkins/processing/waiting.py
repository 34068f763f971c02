"""Check-ins that are stored and acknowledged, but cannot be applied yet (shell).

Parked ones wait for their monitor, which usually comes with the run's other message (D17). Failed ones met an
unexpected error and wait for a person (D14).
"""

import logging
import re
import traceback
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings

from checkins.messages import CheckInMessage, LogMessage, LossReport, Message, RefusedCheckIn, Source
from checkins.models import WaitingCheckIn
from checkins.processing.problems import shortened
from checkins.protocols.fields import ENVIRONMENT_CHARACTERS_MAX, storable
from checkins.protocols.request import IngestRequest, KnownSender, Limits
from checkins.protocols.routes import find_route
from lib.encoding import to_builtins
from lib.sql import array_literal, fetch_rows, insert_rows
from monitors.slugs import SLUG_CHARACTERS_MAX

logger = logging.getLogger(__name__)

ERROR_CHARACTERS_MAX = 10_000
FAILED_DEPTH_MAX = 100
"""Levels stored of a failed message. Payloads have fewer, so a usual message is stored whole."""
Waiting = CheckInMessage | LogMessage
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_TYPES: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (CheckInMessage, LogMessage, RefusedCheckIn, LossReport)
}


def park(messages: Iterable[Waiting]) -> None:
    """Store messages until their monitor exists. One statement; needs the transaction that acknowledges them."""
    _insert(
        [
            (
                message.project_id,
                message.slug,
                message.environment,
                "monitor_unknown",
                "",
                message.source.value,
                message.received_at,
                {
                    "type": type(message).__name__,
                    "fields": msgspec.structs.replace(message, payload=shortened(message.payload)),
                },
            )
            for message in messages
        ]
    )


def store_failed(message: Message, error: Exception) -> None:
    """Store a message of any kind that could not be applied because of an unexpected error.

    Values that PostgreSQL cannot store are replaced: they may be the reason.
    """
    slug, environment = ("", "") if isinstance(message, LossReport) else (message.slug, message.environment)
    _keep_failed(message.project_id, slug, environment, message.source, message.received_at, message, error)


def store_failed_request(request: IngestRequest, sender: KnownSender, error: Exception) -> None:
    """Store a whole request that could not be decoded because of an unexpected error.

    Values in its address and headers that PostgreSQL cannot store are replaced. The body may be any bytes.
    """
    _keep_failed(sender.project_id, sender.slug or "", "", Source.REST, request.received_at, request, error)


def _keep_failed(
    project_id: int,
    slug: str,
    environment: str,
    source: Source,
    received_at: datetime,
    message: Message | IngestRequest,
    error: Exception,
) -> None:
    kept = {"type": type(message).__name__, "fields": storable(to_builtins(message), FAILED_DEPTH_MAX)}
    shown = str(storable(slug))[:SLUG_CHARACTERS_MAX], str(storable(environment))[:ENVIRONMENT_CHARACTERS_MAX]
    _insert([(project_id, *shown, "failed", described(error), source.value, received_at, kept)])


def described(error: Exception) -> str:
    """Return the end of the error's traceback, in a form that PostgreSQL can store."""
    text = "".join(traceback.format_exception(error))
    return _NOT_STORABLE.sub("\ufffd", text[-ERROR_CHARACTERS_MAX:])


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


def restored(row: WaitingCheckIn, limits: Limits) -> list[Message]:
    """Return the messages in a row; a whole request is decoded within the limits.

    Raises msgspec.ValidationError or KeyError if another version wrote it and this one cannot read it.
    """
    if row.message["type"] != IngestRequest.__name__:
        return [_restored(row.message)]
    request = msgspec.convert(row.message["fields"], IngestRequest)
    found = find_route(request.path)
    assert found is not None, "only requests with a protocol are stored"
    protocol, address = found
    sender = KnownSender(row.project_id, row.slug or None, row.slug or None)
    return list(protocol.decode(request, address, sender, limits).messages)


def _restored(kept: dict[str, Any]) -> Message:
    fields = dict(kept["fields"])
    for name in ("config", "config_if_new"):
        config = fields.get(name) or {}
        if "timezone" in config.get("named", ()):  # An earlier version named the zone like this.
            fields[name] = {**config, "timezone": config["schedule"]["timezone"]}
    return msgspec.convert(fields, _TYPES[str(kept["type"])])


def claim_parked(keys: Collection[tuple[int, str]]) -> list[Waiting]:
    """Remove and return the messages that wait for monitors of these projects and slugs, oldest first.

    The transaction that removes them applies them. A message of another version that this one cannot read stays as
    failed (D14): it must not prevent the creation of the monitor.
    """
    if not keys:
        return []
    projects, slugs = zip(*sorted(keys), strict=True)
    rows = fetch_rows(
        """
        SELECT w.id, w.message::text
          FROM unnest(%s::bigint[], %s::text[]) AS wanted (project_id, slug)
          JOIN checkins_waitingcheckin AS w
            ON w.project_id = wanted.project_id AND w.slug = wanted.slug AND w.reason = 'monitor_unknown'
         ORDER BY w.received_at, w.id
           FOR UPDATE OF w
        """,
        [array_literal("bigint", projects), array_literal("text", slugs)],
    )
    if not rows:
        return []
    parked = [(id_, message) for id_, text in rows if (message := _read_or_fail(id_, text)) is not None]
    WaitingCheckIn.objects.filter(id__any_of=[id_ for id_, _ in parked]).delete()
    return [message for _, message in parked]


def _read_or_fail(id_: int, text: str) -> Waiting | None:
    """Return a parked message; None for one that this version cannot read, which becomes a failed one."""
    try:
        message = _restored(msgspec.json.decode(text))
        if isinstance(message, (CheckInMessage, LogMessage)):
            return message
        raise TypeError(f"{type(message).__name__} does not wait for a monitor")
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        logger.exception("a parked check-in cannot be read and is stored for another try")
        WaitingCheckIn.objects.filter(id=id_).update(reason="failed", error=described(error))
        return None


def parking_time() -> timedelta:
    """Return how long a check-in waits for its monitor."""
    return timedelta(seconds=settings.PARKED_CHECKIN_SECONDS)


def claim_settled(*, now: datetime, most: int) -> tuple[list[Waiting], list[Waiting]]:
    """Remove up to `most` parked messages: those whose monitor exists by now, and those that waited too long.

    The same transaction has to apply the first and report the second as "monitor not found". Messages that another
    process settles at this moment are skipped, and only settled ones are locked. A message of another version that
    this one cannot read stays as failed (D14). Needs a transaction.
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
    if not rows:
        return [], []
    ready: list[Waiting] = []
    late: list[Waiting] = []
    taken = []
    for id_, monitor_is_there, text in rows:
        message = _read_or_fail(id_, text)
        if message is None:
            continue
        (ready if monitor_is_there else late).append(message)
        taken.append(id_)
    WaitingCheckIn.objects.filter(id__any_of=taken).delete()
    return ready, late
