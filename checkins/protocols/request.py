"""A request and its answer as values, and the interface of a protocol (pure).

Every client protocol is one module of this package that defines a `Protocol`: how to identify the sender, how to decode
messages, and which answers its clients expect. Everything between (queue, database, spool) is the same for all.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from checkins.exceptions import IngestError
from checkins.messages import Message, Outcome

HEADERS_READ = frozenset({"authorization", "content-encoding", "content-type", "user-agent", "x-sentry-auth"})
"""Lower-case names of the headers that decoders read. The others are dropped."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a request is read, in bytes unless stated otherwise; the defaults are those of the settings."""

    body_bytes_max: int = 20 * 1024 * 1024
    """Of a body, as sent and decompressed. SDKs send more than check-ins to the same address."""
    checkin_bytes_max: int = 100 * 1024
    """Of one check-in."""
    log_bytes_max: int = 100_000
    """Of a run's log; of a larger one the last part is stored."""
    nesting_max: int = 50
    """Levels of a JSON value."""
    envelope_items_max: int = 1_000
    """Items in a Sentry envelope."""
    rest_items_max: int = 1_000
    """Check-ins in one REST request."""


class IngestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as received: the input of decoders, and the content of the spool.

    `path` is percent-decoded, `query` is not. `headers` holds only `HEADERS_READ`, with lower-case names. `body` is as
    sent, compressed or not; if a protocol stores only its last part it may be shorter than `body_bytes`.
    `received_at` is when the last byte of the body was received, aware UTC. `first` and `end` select messages, counted
    from 0, since the others are stored already; without an end, all that follow.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    body_bytes: int
    received_at: datetime
    first: int = 0
    end: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """The answer to a client. Headers have lower-case names; the edge adds content-length and CORS."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Sender(msgspec.Struct, frozen=True, cache_hash=True):
    """The sender that a request names: a key (of the project in the address, if given), or a monitor's own address.

    The database verifies it.
    """

    project_id: int | None = None
    public_key: str | None = None
    monitor_guid: uuid.UUID | None = None


class KnownSender(msgspec.Struct, frozen=True):
    """A verified sender: its project, and its monitor if it used a monitor's own address.

    `key_id` is the ingest key whose budgets are charged: 0 for a monitor's address, None if none are. A key or an
    address that was replaced works for requests received before `ends_at`.
    """

    project_id: int
    slug: str | None = None
    raw_slug: str | None = None
    key_id: int | None = None
    ends_at: datetime | None = None

    def works_at(self, received_at: datetime) -> bool:
        """Return whether a request that was received then is accepted."""
        return self.ends_at is None or received_at < self.ends_at


class Decoded(NamedTuple):
    """The messages of a request, and the function that answers it from their outcomes, one for each, in order."""

    messages: Sequence[Message]
    answer: Callable[[Sequence[Outcome]], Answer]


class Protocol(NamedTuple):
    """One client protocol.

    `methods` are the allowed ones (None: any but OPTIONS). With `keeps_tail`, a body that is too large is no reason to
    refuse: its last `log_bytes_max` bytes are stored.
    `identify` returns the sender or raises IngestError. `decode` never raises: invalid input becomes a
    `RefusedCheckIn` with an answer that explains it. `refuse` turns an IngestError into the answer that clients expect;
    for an unknown sender it receives an `UnknownKeyError`.
    The mapping holds the named groups of the address's pattern, without those that did not match.
    """

    methods: frozenset[str] | None
    keeps_tail: bool
    identify: Callable[[IngestRequest, Mapping[str, str], Limits], Sender]
    decode: Callable[[IngestRequest, Mapping[str, str], KnownSender, Limits], Decoded]
    refuse: Callable[[IngestError], Answer]
