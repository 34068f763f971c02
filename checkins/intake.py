"""A batch of requests, from bytes to answers: who speaks, what is said, stored in one transaction (shell).

Runs in the thread of the micro-batcher, which owns the database connection. The protocols decide what bytes mean and
what is answered; this module only asks the database who the senders are, and has the messages applied.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from django.db import Error, InterfaceError, OperationalError, connection, transaction

from checkins.messages import CheckInMessage, LogMessage, Message, Outcome
from checkins.nodes import NodeError
from checkins.protocols.request import Answer, IngestRequest, KnownSender, Sender
from checkins.reading import Reading
from checkins.resolving import Hints
from checkins.services import apply, retried, was_overtaken
from checkins.waiting import keep_failed, keep_failed_request
from lib.sql import array_literal, fetch_rows

logger = logging.getLogger(__name__)

BATCH_MESSAGES_MAX = 1_000
"""Messages of one batch (D35). One request may have more; it is stored in several batches."""
NEW_MONITOR_MESSAGES = 8
"""For how many of them one counts that may create a monitor: it takes as long."""
BATCH_BYTES_MAX = 8 << 20
"""Unpacked bytes after which a batch takes no further request."""

RETRYABLE_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, resources, an operator's intervention, the system: the same statement may succeed later."""
RETRYABLE_STATES = frozenset({"25006", "25P03", "40001", "40P01", "55P03"})
"""Read-only, silence in a transaction (we were frozen), serialization, deadlock, a lock that was not to be had in time.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

SUSPICIOUS_STATES = frozenset({"25P03", "40001", "40P01", "57014"})
"""Silence in a transaction, serialization, deadlock, a statement that took too long."""


class StatementError(Exception):
    """An error that psycopg raises as that of a connection, while the connection is sound: it is the statement's."""


def is_not_now(error: BaseException) -> bool:
    """Tell whether the database cannot take anything at this moment, so that the same may succeed later.

    It is away, starting, shutting down, read-only, out of disk or connections, or busy with the rows for too long. An
    error without a state is the connection's only if that is really gone (D36): to be asked in the thread that has it.
    """
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:
        return isinstance(error, (OperationalError, InterfaceError)) and not _is_connected()
    return state[:2] in RETRYABLE_CLASSES or state in RETRYABLE_STATES


def is_suspicious(error: BaseException) -> bool:
    """Tell whether an error that `is_not_now` knows may all the same be what the batch itself brings about (D36).

    The connection broke under it, or it took too long. Not: PostgreSQL was not there, or somebody else held a lock.
    """
    state = getattr(error.__cause__, "sqlstate", None)
    return state in SUSPICIOUS_STATES or (state is None and isinstance(error.__cause__, psycopg.Error))


_used = threading.local()


def use_connection() -> None:
    """Remember the connection that the coming statements of this thread use: Django opens another when it is gone."""
    connection.ensure_connection()
    _used.connection = connection.connection


def _is_connected() -> bool:
    now = connection.connection
    return now is not None and not now.closed and now is getattr(_used, "connection", now)


def prepare(requests: Sequence[IngestRequest | Reading], *, hints: Hints) -> list[Reading]:
    """Find out who sent requests and what they say: of as many as fill a batch, from the first on, and of one at least.

    Before any transaction begins: what a stranger sends may take long to read. Two short statements at most.
    """
    readings = [one if isinstance(one, Reading) else Reading(one) for one in requests]
    use_connection()
    if all(reading.is_prepared for reading in readings):
        return readings
    return read(readings, find_senders(readings, hints=hints), hints=hints)


def find_senders(readings: Sequence[Reading], *, hints: Hints) -> Mapping[Sender, KnownSender]:
    """Return who of the senders of requests is known. Two statements at most."""
    return _find_senders({reading.sender for reading in readings if reading.sender is not None}, hints)


def read(readings: Sequence[Reading], known: Mapping[Sender, KnownSender], *, hints: Hints) -> list[Reading]:
    """Read what requests say, of as many as fill a batch, from the first on, and return these. Asks no database."""
    count = size = 0
    for number, reading in enumerate(readings, 1):
        if reading.sender is not None:
            reading.decode(known.get(reading.sender))
        reading.is_prepared = True
        count += sum(_weight(message, hints) for message in reading.rest)
        size += reading.plain_bytes
        if count >= BATCH_MESSAGES_MAX or size >= BATCH_BYTES_MAX:
            return list(readings[:number])
    return list(readings)


def share_out(readings: Sequence[Reading], *, hints: Hints) -> list[int]:
    """Return how many messages of each request fit one batch, of requests from the first on, and of one at least."""
    shares: list[int] = []
    room = BATCH_MESSAGES_MAX
    for reading in readings:
        count = 0
        for message in reading.rest:
            room -= _weight(message, hints)
            if room < 0 and (count or shares):
                return [*shares, count] if count else shares
            count += 1
        shares.append(count)
    return shares


def _weight(message: Message, hints: Hints) -> int:
    if not isinstance(message, (CheckInMessage, LogMessage)):
        return 1
    brings_config = message.config_if_new is not None or (
        isinstance(message, CheckInMessage) and message.config is not None
    )
    return NEW_MONITOR_MESSAGES if brings_config and (message.project_id, message.slug) not in hints.monitors else 1


def take(
    requests: Sequence[IngestRequest | Reading],
    *,
    now: datetime,
    also: Callable[[Mapping[datetime, int]], None] | None = None,
    hints: Hints | None = None,
    shares: Sequence[int] | None = None,
) -> list[Answer]:
    """Apply requests in order and return their answers. Everything is committed when this returns (P1).

    Of more than fit a batch (D35) those at the end are left: there are as many answers as requests that were applied.
    `shares`: of each request only so many messages, the next that are not stored; it is answered once all are.
    `also` is called last in the transaction, with the number of messages by minute of reception. An unexpected error on
    one message fails that one alone, which is kept to be tried again (D14). Raises what `is_not_now` knows if the
    database takes nothing, and what `also` raises: then nothing was applied. `hints` are kept by the caller from one
    call to the next; they only save time.
    """
    hints = Hints() if hints is None else hints
    readings = prepare(requests, hints=hints)
    if shares is None:
        shares = [len(reading.rest) for reading in readings]
    parts = [reading.rest[:share] for reading, share in zip(readings, shares, strict=True)]

    def transact(receive: Callable[[Sequence[Message]], list[Outcome]]) -> list[Outcome]:
        with transaction.atomic():
            volume: dict[datetime, int] = {}
            outcomes = _store(readings, parts, receive, volume)
            if also is not None:
                also(volume)
            return outcomes

    outcomes = _transacted(transact, now=now, hints=hints)
    at = 0
    for reading, part in zip(readings, parts, strict=True):
        reading.outcomes += outcomes[at : at + len(part)]
        at += len(part)
    return [reading.conclude() for reading in readings if not reading.rest]


def _transacted(
    transact: Callable[[Callable[[Sequence[Message]], list[Outcome]]], list[Outcome]], *, now: datetime, hints: Hints
) -> list[Outcome]:
    """Apply a batch, or if one of its messages fails unexpectedly, all the others."""
    try:
        return retried(lambda: transact(lambda messages: apply(messages, now=now, hints=hints)))
    except Exception as error:
        if is_not_now(error) or isinstance(error, NodeError):
            raise
        hints.forget()
        logger.warning("a batch failed, and is applied in parts to find out why", exc_info=error)
    return retried(lambda: transact(lambda messages: _apply_in_parts(messages, now=now)))


def _store(
    readings: Sequence[Reading],
    parts: Sequence[Sequence[Message]],
    receive: Callable[[Sequence[Message]], list[Outcome]],
    volume: dict[datetime, int],
) -> list[Outcome]:
    messages = [message for part in parts for message in part]
    outcomes = receive(messages) if messages else []
    minute = until = datetime.max.replace(tzinfo=UTC)
    for reading, part in zip(readings, parts, strict=True):
        if reading.failure is not None:
            keep_failed_request(reading.request, *reading.failure)
        if part:
            at = reading.request.received_at
            if not minute <= at < until:
                minute = at.replace(second=0, microsecond=0)
                until = minute + timedelta(minutes=1)
            volume[minute] = volume.get(minute, 0) + len(part)
    return outcomes


def keep_unread(request: IngestRequest, error: Exception) -> bool:
    """Keep a request as failed (D14) without looking at what it says; return whether its sender is known at all."""
    reading = Reading(request)
    sender = None if reading.sender is None else _find_senders({reading.sender}, Hints()).get(reading.sender)
    if sender is not None:
        keep_failed_request(request, sender, error)
    return sender is not None


def find_sender(request: IngestRequest, hints: Hints) -> bool:
    """Tell whether a request comes from somebody who is known; what it says is not looked at."""
    sender = Reading(request).sender
    return sender is not None and sender in _find_senders({sender}, hints)


def _apply_in_parts(messages: Sequence[Message], *, now: datetime) -> list[Outcome]:
    """Apply messages; if an unexpected error hits one of them, find it by halves and keep it for a person (D14).

    What is parked for a monitor that comes with them stays so: it may be what fails, and `settle_parked` finds out.
    """
    try:
        with transaction.atomic():
            return apply(messages, now=now, hints=Hints(), takes_parked=False)
    except Exception as error:
        if is_not_now(error) or was_overtaken(error):
            raise
        if len(messages) == 1:
            logger.exception("a check-in could not be applied, and waits to be tried again")
            keep_failed(messages[0], error)
            return [Outcome(accepted=True)]
    half = len(messages) // 2
    return _apply_in_parts(messages[:half], now=now) + _apply_in_parts(messages[half:], now=now)


def _find_senders(senders: set[Sender], hints: Hints) -> dict[Sender, KnownSender]:
    """Return those that exist: active keys, of the project they name if they name one, and monitors.

    Two statements at most. A monitor that is hinted at may not be there any more: that is found out when it is locked.
    """
    known: dict[Sender, KnownSender] = {}
    keys = set()
    guids = []
    asked = []
    for sender in senders:
        if sender.public_key is not None:
            keys.add(sender.public_key)
            asked.append(sender)
        elif sender.monitor_guid is not None:
            hinted = hints.senders.get(sender.monitor_guid)
            if hinted is not None:
                monitor = hints.monitors.get((hinted[0].project_id, hinted[0].slug or ""))
                if monitor is not None and monitor.id == hinted[1]:
                    known[sender] = hinted[0]
                    continue
            guids.append(sender.monitor_guid)
            asked.append(sender)
    if keys:
        rows = fetch_rows(
            """
            SELECT public_key, id, project_id FROM monitors_ingestkey
             WHERE public_key = ANY(%s::text[]) AND is_active
            """,
            [array_literal("text", sorted(keys))],
        )
        active = {public_key: KnownSender(project_id, key_id=id_) for public_key, id_, project_id in rows}
        for sender in senders:
            key = active.get(sender.public_key)
            if key is not None and sender.project_id in (None, key.project_id):
                known[sender] = key
    if guids:
        rows = fetch_rows(
            """
            SELECT guid, id, project_id, slug, name FROM monitors_monitor
             WHERE guid = ANY(%s::uuid[]) AND status <> 'pending_deletion'
            """,
            [array_literal("uuid", guids)],
        )
        for guid, id_, project_id, slug, name in rows:
            found = KnownSender(project_id, slug, name, key_id=0)
            known[Sender(monitor_guid=guid)] = found
            hints.senders[guid] = found, id_
    for sender in asked:
        hints.hear(sender, is_known=sender in known)
    return known
