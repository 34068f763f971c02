"""A batch of requests, from bytes to answers: who speaks, what is said, stored in one transaction (shell).

Runs in the thread of the micro-batcher, which owns the database connection. The protocols decide what bytes mean and
what is answered; this module only asks the database who the senders are, and has the messages applied.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import Error, InterfaceError, OperationalError, transaction

from checkins.exceptions import IngestError, UnknownKeyError
from checkins.limits import limits
from checkins.messages import Message, Outcome
from checkins.nodes import NodeError
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Protocol, Sender
from checkins.protocols.routes import find_route
from checkins.resolving import Hints
from checkins.services import apply, retried, was_overtaken
from checkins.waiting import keep_failed, keep_failed_request
from monitors.bulk import array_literal, fetch_rows

logger = logging.getLogger(__name__)

NO_ADDRESS = Answer(404, b'{"detail": "nothing is at this address"}', ((b"content-type", b"application/json"),))
BUSY = Answer(
    503,
    b'{"detail": "the server has as much waiting as it can keep: nothing was stored, send it again later"}',
    ((b"content-type", b"application/json"),),
)
FAILED = Answer(
    400,
    b'{"detail": "this request made the server fail; nothing of it could be used, and the failure is in its log"}',
    ((b"content-type", b"application/json"),),
)

RETRYABLE_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, resources, an operator's intervention, the system: the same statement may succeed later."""
RETRYABLE_STATES = frozenset({"25006", "25P03", "40001", "40P01", "55P03"})
"""Read-only, silence in a transaction (we were frozen), serialization, deadlock, a lock that was not to be had in time.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


def is_not_now(error: BaseException) -> bool:
    """Tell whether the database cannot take anything at this moment, so that the same may succeed later.

    It is away, starting, shutting down, read-only, out of disk or connections, or busy with the rows for too long.
    """
    if isinstance(error, InterfaceError):
        return True
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is None:  # The connection broke, or was never there.
        return isinstance(error, OperationalError)
    return state[:2] in RETRYABLE_CLASSES or state in RETRYABLE_STATES


def take(
    requests: Sequence[IngestRequest],
    *,
    now: datetime,
    also: Callable[[Mapping[datetime, int]], None] | None = None,
    hints: Hints | None = None,
) -> list[Answer]:
    """Apply requests in order and return their answers. Everything is committed when this returns (P1).

    `also` is called last in the transaction, with the number of messages by minute of reception. An unexpected error on
    one message fails that one alone, which is kept to be tried again (D14). Raises what `is_not_now` knows if the
    database takes nothing, and what `also` raises: then nothing was applied. `hints` are kept by the caller from one
    call to the next; they only save time.
    """
    hints = Hints() if hints is None else hints

    def transact(receive: Callable[[Sequence[Message]], list[Outcome]]) -> list[Answer]:
        with transaction.atomic():
            volume: dict[datetime, int] = {}
            answers = _take(requests, receive, hints, volume)
            if also is not None:
                also(volume)
            return answers

    try:
        return retried(lambda: transact(lambda messages: apply(messages, now=now, hints=hints)))
    except Exception as error:
        if is_not_now(error) or isinstance(error, NodeError):
            raise
        hints.forget()
        logger.warning("a batch failed, and is applied in parts to find out why", exc_info=error)
    return retried(lambda: transact(lambda messages: _apply_in_parts(messages, now=now)))


def _take(
    requests: Sequence[IngestRequest],
    receive: Callable[[Sequence[Message]], list[Outcome]],
    hints: Hints,
    volume: dict[datetime, int],
) -> list[Answer]:
    readings = [_Reading(request) for request in requests]
    known = _find_senders({reading.sender for reading in readings if reading.sender is not None}, hints)
    messages: list[Message] = []
    for reading in readings:
        reading.decode(known)
        if reading.decoded is not None:
            messages += reading.decoded.messages
    outcomes = receive(messages) if messages else []
    answers = []
    at = 0
    for reading in readings:
        if reading.failure is not None:
            keep_failed_request(reading.request, *reading.failure)
        count = 0 if reading.decoded is None else len(reading.decoded.messages)
        if count:
            minute = reading.request.received_at.replace(second=0, microsecond=0)
            volume[minute] = volume.get(minute, 0) + count
        answers.append(reading.conclude(outcomes[at : at + count]))
        at += count
    return answers


def answer_unheard(request: IngestRequest) -> tuple[bool, Answer]:
    """Return whether a request has to be kept, and its answer, while nobody can be asked who its sender is.

    What needs no database to be refused is refused as ever. Everything else gets the answer that it gets when its
    sender is known and its check-ins are taken, and must be durable before that.
    """
    reading = _Reading(request)
    if reading.sender is not None:
        assumed = KnownSender(
            project_id=reading.sender.project_id or 1,
            slug="unknown" if reading.sender.monitor_guid else None,
            raw_slug="unknown" if reading.sender.monitor_guid else None,
        )
        reading.decode({reading.sender: assumed})
    outcomes = [Outcome(accepted=True) for _ in (reading.decoded.messages if reading.decoded else ())]
    return bool(outcomes) or reading.failure is not None, reading.conclude(outcomes)


class Route(NamedTuple):
    """The protocol at an address, and the named parts of the address."""

    protocol: Protocol
    address: Mapping[str, str]


class _Reading:
    """One request on its way through the batch."""

    def __init__(self, request: IngestRequest) -> None:
        self.request = request
        self.answer: Answer | None = None
        self.sender: Sender | None = None
        self.decoded: Decoded | None = None
        self.failure: tuple[KnownSender, Exception] | None = None
        found = find_route(request.path)
        if found is None:
            self.answer = NO_ADDRESS
            return
        self.route = Route(*found)
        try:
            self.sender = self.route.protocol.identify(request, self.route.address, limits())
        except IngestError as error:
            self.answer = self.route.protocol.refuse(error)
        except Exception:
            logger.exception("nobody could find out who sent %s %a", request.method, request.path)
            self.answer = FAILED

    def decode(self, known: Mapping[Sender, KnownSender]) -> None:
        """Read what is said, if the sender is known."""
        if self.sender is None:
            return
        sender = known.get(self.sender)
        if sender is None:
            unknown = UnknownKeyError("the key is not an active key of this project")
            self.answer = self.route.protocol.refuse(unknown)
            return
        try:
            self.decoded = self.route.protocol.decode(self.request, self.route.address, sender, limits())
        except Exception as error:
            logger.exception("%s %a could not be decoded", self.request.method, self.request.path)
            self.failure = sender, error
            self.answer = FAILED

    def conclude(self, outcomes: Sequence[Outcome]) -> Answer:
        """Return the answer that fits the outcomes."""
        if self.decoded is not None:
            return self.decoded.answer(outcomes)
        assert self.answer is not None, "what is not decoded was refused"
        return self.answer


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
    for sender in senders:
        if sender.public_key is not None:
            keys.add(sender.public_key)
        elif sender.monitor_guid is not None:
            hinted = hints.senders.get(sender.monitor_guid)
            if hinted is not None:
                monitor = hints.monitors.get((hinted[0].project_id, hinted[0].slug or ""))
                if monitor is not None and monitor.id == hinted[1]:
                    known[sender] = hinted[0]
                    continue
            guids.append(sender.monitor_guid)
    if keys:
        projects = dict(
            fetch_rows(
                """
                SELECT public_key, project_id FROM monitors_ingestkey
                 WHERE public_key = ANY(%s::text[]) AND is_active
                """,
                [array_literal("text", sorted(keys))],
            )
        )
        for sender in senders:
            project_id = projects.get(sender.public_key)
            if project_id is not None and sender.project_id in (None, project_id):
                known[sender] = KnownSender(project_id)
    if guids:
        rows = fetch_rows(
            """
            SELECT guid, id, project_id, slug, name FROM monitors_monitor
             WHERE guid = ANY(%s::uuid[]) AND status <> 'pending_deletion'
            """,
            [array_literal("uuid", guids)],
        )
        for guid, id_, project_id, slug, name in rows:
            found = KnownSender(project_id, slug, name)
            known[Sender(monitor_guid=guid)] = found
            hints.senders[guid] = found, id_
    return known
