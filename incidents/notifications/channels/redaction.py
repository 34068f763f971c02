"""Removing secrets from texts that people see (pure)."""

import base64
import re
from collections.abc import Collection
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

HIDDEN = "***"
PART_LENGTH_MIN = 6
"""A shorter part of a secret address, such as `v2`, says nothing."""


def redact(text: str, secrets: Collection[str]) -> str:
    """Return the text without the secrets, their parts and the ways in which they are usually written.

    A secret address is also found by its path and the values of its query, since receivers repeat those.

    >>> redact("no_team T0/B0/abcdefgh at /services/T0/B0/abcdefgh", ["https://hooks.example/services/T0/B0/abcdefgh"])
    'no_team T0/B0/*** at ***'
    """
    found = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, found)), HIDDEN, text) if found else text


def _forms(secret: str) -> set[str]:
    parts = {secret} | _parts(secret)
    forms = {
        form
        for part in parts
        for form in (part, quote(part, safe=""), quote(part), quote_plus(part), part.replace("/", "\\/"))
    }
    return (forms | {base64.b64encode(secret.encode()).decode()}) - {""}


def _parts(secret: str) -> set[str]:
    if "://" not in secret:
        return set()
    try:
        parts = urlsplit(secret)
    except ValueError:
        return set()
    pieces = {parts.path, parts.query, *parts.path.split("/"), *(found for _, found in parse_qsl(parts.query))}
    return {piece for piece in pieces if len(piece) >= PART_LENGTH_MIN}
