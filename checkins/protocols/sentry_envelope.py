"""The grammar of Sentry's envelopes (pure)."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from checkins.exceptions import (
    BodyTooLargeError,
    EnvelopeError,
    JsonError,
)
from checkins.protocols.decoding import decode_json
from checkins.protocols.request import Limits

ENVELOPE_HEADER_BYTES_MAX = 64 * 1024  # read before the sender is verified


ITEM_HEADER_BYTES_MAX = 4 * 1024


KNOWN_HEADER_BYTES_MAX = 200
"""Longer headers of items are read anew each time: the known ones are held in memory."""


_DEFAULT_LIMITS = Limits()


class EnvelopeItem(NamedTuple):
    """One item. The payload is not parsed; only some types are used."""

    type: str
    payload: bytes


class Envelope(NamedTuple):
    """A parsed envelope. Every field of the header is optional; only `event_id` and `dsn` are read."""

    header: Mapping[str, object]
    items: tuple[EnvelopeItem, ...]


def parse_envelope(body: bytes, limits: Limits = _DEFAULT_LIMITS) -> Envelope:
    """Split an envelope into its items.

    With `length` in its header a payload is exactly that many bytes, which may hold line feeds, and a line feed or the
    end follows. Without it the payload ends at the next line feed or at the end. Raises EnvelopeError, or
    BodyTooLargeError for more than `envelope_items_max` items.
    """
    if not body or body.isspace():
        raise EnvelopeError("the envelope is empty")
    header_line, at = read_line(body, 0)
    header = parse_header(header_line, "envelope header", limits)
    items: list[EnvelopeItem] = []
    while at < len(body):
        item_header_line, at = read_line(body, at)
        if not item_header_line.strip():
            if not body[at:].strip():  # some senders end with more than one line feed
                break
            raise EnvelopeError(f"item {len(items) + 1}: its header is an empty line")
        if len(items) == limits.envelope_items_max:
            raise BodyTooLargeError(f"the envelope has more than {limits.envelope_items_max} items")
        item, at = _parse_item(body, item_header_line, at, f"item {len(items) + 1}", limits)
        items.append(item)
    return Envelope(header, tuple(items))


def read_line(body: bytes, start: int) -> tuple[bytes, int]:
    """Return the line that begins at `start`, and the start of the next one."""
    end = body.find(b"\n", start)
    return (body[start:], len(body)) if end < 0 else (body[start:end], end + 1)


def _parse_item(body: bytes, header_line: bytes, start: int, where: str, limits: Limits) -> tuple[EnvelopeItem, int]:
    """Return the item whose payload begins at `start`, and the start of the next item's header."""
    if len(header_line) > ITEM_HEADER_BYTES_MAX:
        raise EnvelopeError(f"{where}: its header has more than {ITEM_HEADER_BYTES_MAX} bytes")
    read = _known_header if len(header_line) <= KNOWN_HEADER_BYTES_MAX else decode_json
    headers = parse_header(header_line, f"{where}: header", limits, read=read)
    item_type = headers.get("type")
    if not isinstance(item_type, str):
        raise EnvelopeError(f"{where}: its header names no type")
    length = headers.get("length")
    if length is None:
        payload, end = read_line(body, start)
        return EnvelopeItem(item_type, payload), end
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise EnvelopeError(f"{where}: its length is not a number of bytes")
    end = start + length
    if end > len(body):
        raise EnvelopeError(f"{where}: its length is {length} bytes, but only {len(body) - start} follow")
    if end < len(body) and body[end : end + 1] != b"\n":
        raise EnvelopeError(f"{where}: no line feed after its {length} bytes")
    return EnvelopeItem(item_type, body[start:end]), end + 1


_known_header = lru_cache(maxsize=1024)(decode_json)
"""Items of one kind and length have the same header."""


def parse_header(
    line: bytes, where: str, limits: Limits, *, read: Callable[[bytes, int], object] = decode_json
) -> Mapping[str, object]:
    """Return the JSON object in a line; `where` names the line in errors. Raises EnvelopeError."""
    try:
        header = read(line, limits.nesting_max)
    except JsonError as error:
        raise EnvelopeError(f"{where}: {error}") from error
    if not isinstance(header, dict):
        raise EnvelopeError(f"{where}: not a JSON object")
    return header
