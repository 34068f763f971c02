"""A batch of requests, from bytes to answers: find senders, decode messages, apply them in one transaction (shell).

Runs in the thread of the micro-batcher, which owns the database connection. The protocols decode bytes and write
answers; this module only looks up the senders in the database and applies the messages.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.db import transaction

from checkins.messages import CheckInMessage, LogMessage, Message, Outcome
from checkins.nodes import NodeError
from checkins.processing.apply import apply, retried, was_overtaken
from checkins.processing.finding import Hints
from checkins.processing.reading import Reading
from checkins.processing.senders import find_sender, find_senders
from checkins.processing.waiting import store_failed, store_failed_request
from checkins.protocols.request import Answer, IngestRequest, KnownSender, Sender
from lib.pg_errors import is_not_now, use_connection
from lib.sql import find_by_index

logger = logging.getLogger(__name__)

BATCH_MESSAGES_MAX = 1_000
"""Messages of one batch (D35). One request may have more; it is stored in several batches."""
NEW_MONITOR_MESSAGES = 8
"""A message that may create a monitor counts as this many: it takes as long."""
BATCH_BYTES_MAX = 8 << 20
"""Unpacked bytes after which a batch accepts no further request."""


def prepare(requests: Sequence[IngestRequest | Reading], *, hints: Hints) -> list[Reading]:
    """Find the senders of requests and decode these, from the first on, until a batch is full; at least one.

    Before any transaction begins: a request of an unknown sender may take long to decode. Two short statements at most.
    """
    readings = [one if isinstance(one, Reading) else Reading(one) for one in requests]
    use_connection()
    if all(reading.is_prepared for reading in readings):
        return readings
    return read(readings, find_senders(readings, hints=hints), hints=hints)


def read(readings: Sequence[Reading], known: Mapping[Sender, KnownSender], *, hints: Hints) -> list[Reading]:
    """Decode requests, from the first on, until a batch is full, and return these. Makes no query."""
    count = size = 0
    for number, reading in enumerate(readings, 1):
        if reading.sender is not None:
            sender = known.get(reading.sender)
            reading.decode(sender if sender is not None and sender.works_at(reading.request.received_at) else None)
        reading.is_prepared = True
        count += sum(_weight(message, hints) for message in reading.rest)
        size += reading.plain_bytes
        if count >= BATCH_MESSAGES_MAX or size >= BATCH_BYTES_MAX:
            return list(readings[:number])
    return list(readings)


def share_out(readings: Sequence[Reading], *, hints: Hints) -> list[int]:
    """Return how many messages of each request fit into one batch, from the first on; at least one."""
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
    before_commit: Callable[[Mapping[datetime, int]], None] | None = None,
    hints: Hints | None = None,
    shares: Sequence[int] | None = None,
) -> list[Answer]:
    """Apply requests in order and return their answers. Everything is committed when this returns (P1).

    Of more than fit a batch (D35) those at the end are left: there are as many answers as requests that were applied.
    `shares`: of each request only so many messages, the next that are not stored; it is answered once all are.
    `before_commit` is called last in the transaction, with the number of messages by minute of reception. An
    unexpected error on one message fails that one alone, which is stored for another try (D14). Raises an error that
    `is_not_now` recognises if the database is not available, and whatever `before_commit` raises: then nothing was
    applied. The caller passes `hints` from one call to the next; they only save time.
    """
    hints = Hints() if hints is None else hints
    readings = prepare(requests, hints=hints)
    if shares is None:
        shares = [len(reading.rest) for reading in readings]
    parts = [reading.rest[:share] for reading, share in zip(readings, shares, strict=True)]

    def transact(receive: Callable[[Sequence[Message]], list[Outcome]]) -> list[Outcome]:
        with transaction.atomic():
            find_by_index()
            volume: dict[datetime, int] = {}
            outcomes = _store(readings, parts, receive, volume)
            if before_commit is not None:
                before_commit(volume)
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
    """Apply a batch; if one of its messages fails unexpectedly, apply all the others."""
    try:
        return retried(lambda: transact(lambda messages: apply(messages, now=now, hints=hints)))
    except Exception as error:
        if is_not_now(error) or isinstance(error, NodeError):
            raise
        hints.forget()
        logger.warning("a batch failed and is applied in parts to isolate the failing message", exc_info=error)
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
            store_failed_request(reading.request, *reading.failure)
        if part:
            at = reading.request.received_at
            if not minute <= at < until:
                minute = at.replace(second=0, microsecond=0)
                until = minute + timedelta(minutes=1)
            volume[minute] = volume.get(minute, 0) + len(part)
    return outcomes


def store_unread(request: IngestRequest, error: Exception) -> bool:
    """Store a request as failed (D14) without decoding it; return whether its sender is known."""
    sender = find_sender(request, Hints())
    if sender is not None:
        store_failed_request(request, sender, error)
    return sender is not None


def _apply_in_parts(messages: Sequence[Message], *, now: datetime) -> list[Outcome]:
    """Apply messages; if one of them meets an unexpected error, find it by bisection and store it for a person (D14).

    Check-ins parked for a monitor that they create stay parked, as one of these may be at fault: `settle_parked`
    applies them.
    """
    try:
        with transaction.atomic():
            return apply(messages, now=now, hints=Hints(), applies_parked=False)
    except Exception as error:
        if is_not_now(error) or was_overtaken(error):
            raise
        if len(messages) == 1:
            logger.exception("a check-in could not be applied and is stored for another try")
            store_failed(messages[0], error)
            return [Outcome(accepted=True)]
    half = len(messages) // 2
    return _apply_in_parts(messages[:half], now=now) + _apply_in_parts(messages[half:], now=now)
