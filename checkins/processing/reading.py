"""A request until its answer: its sender, its cost, its messages, each determined once (shell).

The size of a request is not its cost: a few bytes can unpack to megabytes, or contain thousands of check-ins. So the
first `LIGHT_BYTES_MAX` bytes are unpacked before anything else. A request that is complete then, and has few JSON
objects, is *light*: nearly every check-in is. Others are *heavy*, and wait in a queue of their own, so that they delay
only each other (D35).
"""

import logging
import threading
from collections.abc import Callable, Sequence

import msgspec

from checkins.exceptions import IngestError, UnknownKeyError
from checkins.messages import Message, Outcome
from checkins.processing.limits import limits
from checkins.protocols.decoding import decode_body, decode_start
from checkins.protocols.pings import LOG_UNPACKED_BYTES_MAX
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Sender
from checkins.protocols.routes import find_route

logger = logging.getLogger(__name__)

LIGHT_BYTES_MAX = 64 << 10
"""Most unpacked bytes of a request that is read at once, and of any request of an unknown sender."""
LIGHT_OBJECTS_MAX = 200
"""Opening braces in a light request: some fifty check-ins with their configurations."""
UNVERIFIED_BYTES_MAX = 8 << 20
"""Unpacked bytes of heavy requests that are read at once, for their answers, while they are spooled."""

_JSON = ((b"content-type", b"application/json"),)
NO_ADDRESS = Answer(404, b'{"detail": "nothing is at this address"}', _JSON)
BUSY = Answer(
    503,
    b'{"detail": "the queue of the server is full: nothing was stored, send it again later"}',
    _JSON,
)
NO_ROOM = Answer(
    503,
    b'{"detail": "PostgreSQL is away, and the spool is full or its disk is: nothing was stored, send it again later"}',
    _JSON,
)
FAILED = Answer(
    400,
    b'{"detail": "this request made the server fail; nothing of it could be used, and the failure is in its log"}',
    _JSON,
)
UNKNOWN_WHILE_AWAY = Answer(
    503,
    f'{{"detail": "PostgreSQL is away, and until it is back at most {LIGHT_BYTES_MAX} unpacked bytes are accepted from '
    'a key that was not used before: nothing was stored, send it again later"}'.encode(),
    _JSON,
)


class Reading:
    """One request during the processing of its batch.

    `sender` is None for a request that is refused without one. `answer` is the answer to a request that is not decoded.
    `is_prepared`: its sender was looked up in the database, and it is decoded. `messages` are the decoded ones, and
    `outcomes` the results of the first of these: a request with many messages is stored in several batches.
    """

    __slots__ = (
        "_decoded_for",
        "_lock",
        "_plain",
        "address",
        "answer",
        "decoded",
        "failure",
        "is_heavy",
        "is_prepared",
        "messages",
        "outcomes",
        "plain_bytes",
        "protocol",
        "request",
        "sender",
    )

    def __init__(self, request: IngestRequest) -> None:
        self.request = request
        self.answer: Answer | None = None
        self.sender: Sender | None = None
        self.is_heavy = False
        self.plain_bytes = len(request.body)
        self.is_prepared = False
        self.decoded: Decoded | None = None
        self.failure: tuple[KnownSender, Exception] | None = None
        self.messages: Sequence[Message] = ()
        self.outcomes: list[Outcome] = []
        self._plain = request
        self._lock = threading.Lock()
        self._decoded_for: KnownSender | None = None
        found = find_route(request.path)
        if found is None:
            self.answer = NO_ADDRESS
            return
        self.protocol, self.address = found
        try:
            self.sender = self.protocol.identify(request, self.address, limits())
        except IngestError as error:
            self.answer = self.protocol.refuse(error)
        except Exception:
            logger.exception("the sender of %s %a could not be determined", request.method, request.path)
            self.answer = FAILED
        if request.body and self.sender is not None:
            self._weigh()

    def _weigh(self) -> None:
        encoding = self.request.headers.get("content-encoding", "")
        body = self.request.body
        if encoding:
            try:
                body = decode_start(body, encoding, LIGHT_BYTES_MAX + 1)
            except IngestError:
                return  # The error is reported when it is decoded.
            if len(body) > LIGHT_BYTES_MAX:
                self.is_heavy = True
                return
            if self.request.body_bytes == len(self.request.body):
                self._plain = _without_encoding(self.request, body)
                self.plain_bytes = len(body)
        if not self.protocol.keeps_tail:  # A log is not JSON.
            self.is_heavy = len(body) > LIGHT_BYTES_MAX or body.count(b"{") > LIGHT_OBJECTS_MAX

    def decode(self, sender: KnownSender | None) -> None:
        """Decode the request, once for each sender; refuse it if the sender is not known."""
        with self._lock:
            self._decode(sender)

    def _decode(self, sender: KnownSender | None) -> None:
        if self.sender is None or (sender is not None and sender == self._decoded_for):
            return
        self.decoded = self.failure = None
        self.messages = ()
        self._decoded_for = sender
        if sender is None:
            self.answer = self.protocol.refuse(UnknownKeyError("the key is not an active key of this project"))
            return
        try:
            decoded = self.protocol.decode(self._unpacked(), self.address, sender, limits())
            part = decoded.messages[self.request.first : self.request.end]
            self.messages = [msgspec.structs.replace(message, key_id=sender.key_id) for message in part]
            self.decoded = decoded  # Last: an earlier error is answered as a failure.
        except Exception as error:
            logger.exception("%s %a could not be decoded", self.request.method, self.request.path)
            self.failure = sender, error
            self.answer = FAILED

    def _unpacked(self) -> IngestRequest:
        """Return the request without its Content-Encoding; unchanged if it cannot be unpacked: decoding reports that.

        Unpacked bytes of heavy requests are not cached.
        """
        request, encoding = self._plain, self._plain.headers.get("content-encoding", "")
        if not (self.is_heavy and encoding and request.body_bytes == len(request.body)):
            return request
        bytes_max = LOG_UNPACKED_BYTES_MAX if self.protocol.keeps_tail else limits().body_bytes_max
        self.plain_bytes = bytes_max
        try:
            body = decode_body(request.body, encoding, bytes_max)
        except IngestError:
            return request
        self.plain_bytes = len(body)
        return _without_encoding(request, body)

    @property
    def rest(self) -> Sequence[Message]:
        """The messages that are not stored yet."""
        return self.messages[len(self.outcomes) :] if self.outcomes else self.messages

    def part(self, begin: int, end: int | None = None) -> IngestRequest:
        """Return the request with only some of its messages, counted as in `messages`."""
        first = self.request.first
        if not begin and end is None:
            return self.request
        return msgspec.structs.replace(
            self.request, first=first + begin, end=self.request.end if end is None else first + end
        )

    def conclude(self) -> Answer:
        """Return the answer for the outcomes; messages without one yet, or of other parts, count as accepted."""
        if self.decoded is not None:
            if len(self.outcomes) == len(self.decoded.messages):
                return self.decoded.answer(self.outcomes)
            before, known = [Outcome(accepted=True)] * self.request.first, list(self.outcomes)
            after = [Outcome(accepted=True)] * (len(self.decoded.messages) - len(before) - len(known))
            return self.decoded.answer([*before, *known, *after])
        assert self.answer is not None, "a request that is not decoded was refused"
        return self.answer

    def answer_unverified(self, *, is_known: bool = True) -> tuple[bool, Answer]:
        """Return whether the request has to be spooled, and its answer, while its sender cannot be looked up.

        Requests that can be refused without the database are refused as usual. Others get the answer for a known sender
        whose check-ins are accepted, and must be durable first. `is_known`: the sender was seen before; heavy requests
        from other senders are not decoded.
        """
        if self.sender is not None:
            if self.is_heavy and not is_known:
                return False, UNKNOWN_WHILE_AWAY
            with self._lock:  # Another thread may be decoding it, for a batch that was too slow.
                if self._decoded_for is None:
                    self._decode(
                        KnownSender(
                            project_id=self.sender.project_id or 1,
                            slug="unknown" if self.sender.monitor_guid else None,
                            raw_slug="unknown" if self.sender.monitor_guid else None,
                        )
                    )
        return bool(self.messages) or self.failure is not None, self.conclude()


def answer_some(readings: Sequence[Reading], is_known: Callable[[Sender], bool]) -> list[tuple[bool, Answer]]:
    """Return the result of `answer_unverified` for requests, from the first on, while the heavy ones fit a batch."""
    answers = []
    size = 0
    for reading in readings:
        try:
            known = not reading.is_heavy or reading.sender is None or is_known(reading.sender)
            answers.append(reading.answer_unverified(is_known=known))
        except Exception:
            logger.exception("%s %a could not be answered", reading.request.method, reading.request.path)
            answers.append((True, FAILED))
        size += reading.plain_bytes if reading.is_heavy else 0
        if size >= UNVERIFIED_BYTES_MAX:
            break
    return answers


def _without_encoding(request: IngestRequest, body: bytes) -> IngestRequest:
    headers = {name: text for name, text in request.headers.items() if name != "content-encoding"}
    return msgspec.structs.replace(request, headers=headers, body=body, body_bytes=len(body))
