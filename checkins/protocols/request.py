"""A request and its answer as values, and what a protocol has to say about them (pure).

Every client protocol is one module of this package that makes a `Protocol`: who is speaking, what is said, and the
answer that its clients expect. Everything between (queue, database, spool) is the same for all.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from checkins.exceptions import IngestError
from checkins.messages import Message, Outcome

HEADERS_READ = frozenset({"authorization", "content-encoding", "content-type", "user-agent", "x-sentry-auth"})
"""Lower-case names of the headers that decoders look at. The others are not kept."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a request is read. Bytes, unless it says otherwise; the defaults are those of the settings."""

    body_bytes_max: int = 20 * 1024 * 1024
    """Of a body, as sent and decompressed. SDKs send more than check-ins to the same address."""
    checkin_bytes_max: int = 100 * 1024
    """Of one check-in."""
    log_bytes_max: int = 100_000
    """Of a run's log; of a larger one the last part is kept."""
    nesting_max: int = 50
    """Levels of a JSON value."""
    envelope_items_max: int = 1_000
    """Items in a Sentry envelope."""
    rest_items_max: int = 1_000
    """Check-ins in one REST request."""


class IngestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came: what decoders may look at, and what the spool keeps.

    `path` is percent-decoded, `query` is not. `headers` holds only `HEADERS_READ`, with lower-case names. `body` is as
    sent, compressed or not; where a protocol keeps only its last part it may be shorter than `body_bytes`.
    `received_at` is when the last byte of the body was there, aware UTC. `first` and `end`: of its messages only these
    are meant, counted from 0, since the others are stored already; without an end, all that follow.
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
    """What a client gets back. Headers have lower-case names; content-length and CORS are added on the way out."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Sender(msgspec.Struct, frozen=True, cache_hash=True):
    """Who a request says it is: a key (of the project in the address, if that names one), or a monitor's own address.

    Whether it is true is found out in the database.
    """

    project_id: int | None = None
    public_key: str | None = None
    monitor_guid: uuid.UUID | None = None


class KnownSender(msgspec.Struct, frozen=True):
    """A sender that was found: its project, and its monitor if it spoke through a monitor's own address.

    `key_id` is the ingest key that pays for what it sends: 0 for a monitor's address, None if nobody pays.
    """

    project_id: int
    slug: str | None = None
    raw_slug: str | None = None
    key_id: int | None = None


class Decoded(NamedTuple):
    """What a request says, and how to answer it once the outcomes of its messages are known, one for each, in order."""

    messages: Sequence[Message]
    answer: Callable[[Sequence[Outcome]], Answer]


class Protocol(NamedTuple):
    """One client protocol.

    `methods` are the allowed ones (None: any but OPTIONS). With `keeps_tail`, a body that is too large is no reason to
    refuse: its last `log_bytes_max` bytes are kept.
    `identify` reads who speaks and raises IngestError. `decode` never raises: what cannot be understood is a
    `RefusedCheckIn` with an answer that says so. `refuse` puts an IngestError into the words that clients expect;
    for a sender that is not known it gets an `UnknownKeyError`.
    The mapping holds the named groups of the address's pattern; those that took no part are left out.
    """

    methods: frozenset[str] | None
    keeps_tail: bool
    identify: Callable[[IngestRequest, Mapping[str, str], Limits], Sender]
    decode: Callable[[IngestRequest, Mapping[str, str], KnownSender, Limits], Decoded]
    refuse: Callable[[IngestError], Answer]
