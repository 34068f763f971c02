"""Keys in Sentry's headers, queries and DSNs (pure)."""

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from checkins.exceptions import (
    AuthError,
)

PROTOCOL_VERSION_MAX = 7


PROJECT_ID_MAX = 2**53 - 1  # what clients written in JavaScript can hold


KNOWN_HEADER_CHARACTERS_MAX = 300
"""Longer headers are read anew each time: the known ones are held in memory."""


_PUBLIC_KEY = re.compile(r"[0-9a-f]{32}")


KEY_ALLOWED = (
    "sentry_key: it takes one active key of the project in the address, 32 lower-case hex digits, in one place"
)


NO_KEY = "missing authorization information: the request names no key"


def parse_auth(
    *,
    x_sentry_auth: str | None = None,
    authorization: str | None = None,
    query: Mapping[str, str] | None = None,
    path_key: str | None = None,
) -> str | None:
    """Return the public key of a request, or None if the request has none at all (the envelope's `dsn` may).

    It may be in `X-Sentry-Auth: Sentry sentry_key=...`, in `Authorization` of the same form or as the user name of
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
    """Return the public key in an envelope header's `dsn`, the only one of tunnelled envelopes. Raises AuthError."""
    if dsn is None:
        raise AuthError(NO_KEY, status=401)
    try:
        user = urlsplit(dsn).username if isinstance(dsn, str) else None
    except ValueError:
        user = None
    if user is None:
        raise AuthError("the dsn in the envelope header cannot be read", status=401)
    return _checked_key(unquote(user))


def _sentry_header_fields(header: str | None) -> Mapping[str, str] | None:
    """Return the fields of `Sentry name=value, name=value`; None for any other scheme, which is ignored."""
    if header is None:
        return None
    return _known_header_fields(header) if len(header) <= KNOWN_HEADER_CHARACTERS_MAX else _read_header_fields(header)


def _read_header_fields(header: str) -> Mapping[str, str] | None:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "sentry":
        return None
    pairs = (field.partition("=") for field in rest.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


_known_header_fields = lru_cache(maxsize=1024)(_read_header_fields)
"""A client sends the same header with every check-in, and reading it took half of the time before the queue."""


def _basic_user(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, _ = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except ValueError:  # Not base64 (`binascii.Error`), not ASCII, or no text.
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
        raise AuthError(f"malformed public key {key[:40]!r}: a key is 32 lower-case hex digits", status=400)
    return key
