"""Entries of the spool: the bytes of a request, its number, and how often it was tried (pure)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from checkins.protocols.request import IngestRequest

FORMAT = 1
"""How a request is written: a msgpack map of its fields. A number of its own for each entry, since a file outlives the
version of Watchclock that wrote it."""
ALONE_AFTER_DEATHS = 2
"""After so many deaths of the process an entry is tried alone."""
GIVEN_UP_AFTER_DEATHS = 3
"""After so many deaths of the process an entry is not tried again, but stored as failed (D14, D36)."""
ALONE_AFTER_FAILURES = 3
"""The same for an entry whose batch failed in a way that the batch may have caused."""
GIVEN_UP_AFTER_FAILURES = 20
"""More than by deaths: it may well be PostgreSQL, which is slow, or is restarted again and again."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IngestRequest)


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """A request that waits. `batch` is the number of the batch in which it may be committed already, if any."""

    seq: int
    batch: int | None
    request: IngestRequest
    deaths: int = 0
    failures: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be tried alone (D36)."""
        return self.deaths >= ALONE_AFTER_DEATHS or self.failures >= ALONE_AFTER_FAILURES

    @property
    def is_given_up(self) -> bool:
        """Whether it is not to be tried again."""
        return self.deaths >= GIVEN_UP_AFTER_DEATHS or self.failures >= GIVEN_UP_AFTER_FAILURES

    @property
    def tries(self) -> int:
        """How often it was tried without success."""
        return self.deaths + self.failures


def microseconds(at: datetime) -> int:
    """Return the microseconds from 1970 to an instant."""
    return (at - EPOCH) // MICROSECOND


def encode(request: IngestRequest) -> bytes:
    """Return the bytes of a request, in the format `FORMAT`."""
    try:
        return _encoder.encode(request)
    except UnicodeEncodeError:  # A lone surrogate. The edge makes none, but one request may not cost the others.
        return _encoder.encode(
            msgspec.structs.replace(
                request,
                method=_valid(request.method),
                path=_valid(request.path),
                query=_valid(request.query),
                headers={_valid(name): _valid(value) for name, value in request.headers.items()},
            )
        )


def _valid(text: str) -> str:
    return text.encode(errors="replace").decode()


def decode(format_number: int, request: bytes) -> IngestRequest:
    """Return the request that these bytes are. Raises `msgspec.DecodeError` and `ValueError`."""
    if format_number != FORMAT:
        raise msgspec.DecodeError(f"format {format_number} is not known, only {FORMAT}")
    return _decoder.decode(request)
