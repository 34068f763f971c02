"""What Sentry's clients put on the wire: envelopes, and the many places where the public key may stand (pure).

An envelope is a header line, then items: a header line each and a payload. See docs/reference/ingest.md.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from checkins.decoding import decode_json
from checkins.exceptions import AuthError, BodyTooLargeError, EnvelopeError, JsonError

ENVELOPE_ITEMS_MAX = 1000  # clients send one to a few; what matters is that a body of tiny items stays cheap
CHECK_IN = "check_in"
PROTOCOL_VERSION_MAX = 7

_PUBLIC_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class EnvelopeItem:
    """One item. The payload is not looked into; only items of type `check_in` are of use to us."""

    type: str
    headers: Mapping[str, object]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope. Every field of the header is optional; `event_id` and `dsn` are the ones we read."""

    header: Mapping[str, object]
    items: tuple[EnvelopeItem, ...]


def parse_envelope(body: bytes) -> Envelope:
    """Split an envelope into its items.

    With `length` in its header a payload is exactly that many bytes, which may hold line feeds, and a line feed or the
    end follows. Without it the payload ends at the next line feed or at the end. Raises EnvelopeError, or
    BodyTooLargeError for more than ENVELOPE_ITEMS_MAX items.
    """
    if not body.strip():
        raise EnvelopeError("the envelope is empty")
    header_line, at = _line(body, 0)
    header = _parse_header(header_line, "envelope header")
    items: list[EnvelopeItem] = []
    while at < len(body):
        item_header_line, at = _line(body, at)
        if not item_header_line.strip():
            if not body[at:].strip():  # some senders end with more than one line feed
                break
            raise EnvelopeError(f"item {len(items) + 1}: its header is an empty line")
        if len(items) == ENVELOPE_ITEMS_MAX:
            raise BodyTooLargeError(f"the envelope has more than {ENVELOPE_ITEMS_MAX} items")
        item, at = _parse_item(body, item_header_line, at, f"item {len(items) + 1}")
        items.append(item)
    return Envelope(header, tuple(items))


def parse_auth(
    *,
    x_sentry_auth: str | None = None,
    authorization: str | None = None,
    query: Mapping[str, str] | None = None,
    path_key: str | None = None,
) -> str | None:
    """Find the public key in a request, or None if the request holds none at all (the envelope's `dsn` may).

    It may stand in `X-Sentry-Auth: Sentry sentry_key=...`, in `Authorization` of the same form or as the user name of
    HTTP Basic, in the query as `sentry_key`, or in the path. Raises AuthError: 401 for two of them at once or a Sentry
    header without key; 400 for a key that is not 32 lower-case hex digits, or an unknown protocol version.
    """
    query = query or {}
    headers = (x_sentry_auth, authorization)
    found: list[Mapping[str, str]] = [
        named for header in headers if (named := _sentry_header_fields(header)) is not None
    ]
    if (user := _basic_user(authorization)) is not None:
        found.append({"sentry_key": user})
    if "sentry_key" in query:
        found.append(query)
    if path_key is not None:
        found.append({"sentry_key": path_key})

    if not found:
        return None
    if len(found) > 1:
        raise AuthError("multiple authorization payloads: send the key in one place only", status=401)
    [fields] = found
    if "sentry_key" not in fields:
        raise AuthError("the authorization header names no sentry_key", status=401)
    _check_version(fields.get("sentry_version"))
    return _checked_key(fields["sentry_key"])


def parse_dsn_key(dsn: object) -> str:
    """The public key of an envelope header's `dsn`, the only one that tunnelled envelopes carry. Raises AuthError."""
    if dsn is None:
        raise AuthError("missing authorization information: the request names no key", status=401)
    try:
        user = urlsplit(dsn).username if isinstance(dsn, str) else None
    except ValueError:
        user = None
    if user is None:
        raise AuthError("the dsn in the envelope header cannot be read", status=401)
    return _checked_key(unquote(user))


def _line(body: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins at `start`, and where the next one does."""
    end = body.find(b"\n", start)
    return (body[start:], len(body)) if end < 0 else (body[start:end], end + 1)


def _parse_item(body: bytes, header_line: bytes, start: int, where: str) -> tuple[EnvelopeItem, int]:
    """The item whose payload begins at `start`, and where the next item's header does."""
    headers = _parse_header(header_line, f"{where}: header")
    item_type = headers.get("type")
    if not isinstance(item_type, str):
        raise EnvelopeError(f"{where}: its header names no type")
    length = headers.get("length")
    if length is None:
        payload, end = _line(body, start)
        return EnvelopeItem(item_type, headers, payload), end
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise EnvelopeError(f"{where}: its length is not a number of bytes")
    end = start + length
    if end > len(body):
        raise EnvelopeError(f"{where}: its length is {length} bytes, but only {len(body) - start} follow")
    if end < len(body) and body[end : end + 1] != b"\n":
        raise EnvelopeError(f"{where}: no line feed after its {length} bytes")
    return EnvelopeItem(item_type, headers, body[start:end]), end + 1


def _parse_header(line: bytes, where: str) -> dict[str, object]:
    try:
        header = decode_json(line)
    except JsonError as error:
        raise EnvelopeError(f"{where}: {error}") from error
    if not isinstance(header, dict):
        raise EnvelopeError(f"{where}: not a JSON object")
    return header


def _sentry_header_fields(header: str | None) -> dict[str, str] | None:
    """The fields of `Sentry name=value, name=value`; None for any other scheme, which is somebody else's header."""
    scheme, _, rest = (header or "").strip().partition(" ")
    if scheme.lower() != "sentry":
        return None
    pairs = (field.partition("=") for field in rest.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _basic_user(header: str | None) -> str | None:
    scheme, _, rest = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, _ = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return user if colon else None


def _check_version(version: str | None) -> None:
    if version is None:
        return
    if not re.fullmatch(r"[0-9]{1,5}", version) or int(version) > PROTOCOL_VERSION_MAX:
        raise AuthError(
            f"unsupported protocol version {version[:20]!r}: at most {PROTOCOL_VERSION_MAX} is known", status=400
        )


def _checked_key(key: str) -> str:
    if not _PUBLIC_KEY.fullmatch(key):
        raise AuthError("malformed public key: a key is 32 lower-case hex digits", status=400)
    return key
