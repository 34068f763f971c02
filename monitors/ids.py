"""Ids that are derived from their objects, so that the same object cannot be written twice (pure)."""

import hashlib
import uuid
from collections.abc import Callable

_FREE_BITS = ((1 << 128) - 1) & ~(0xF << 76) & ~(0x3 << 62)
_VERSION_AND_VARIANT = 0x5 << 76 | 0x2 << 62


def derive_from(namespace: uuid.UUID) -> Callable[[str], uuid.UUID]:
    """Return a function like `uuid.uuid5(namespace, name)`, in half the time: a tick needs many.

    >>> space = uuid.UUID("9d7d8f0e-3f0b-4a0e-9a53-0b5f4b0d6a51")
    >>> derive_from(space)("7:ä") == uuid.uuid5(space, "7:ä")
    True
    """
    start = hashlib.sha1(namespace.bytes, usedforsecurity=False)

    def derive(name: str) -> uuid.UUID:
        digest = start.copy()
        digest.update(name.encode())
        number = int.from_bytes(digest.digest()[:16], "big")
        return uuid.UUID(int=number & _FREE_BITS | _VERSION_AND_VARIANT)

    return derive
