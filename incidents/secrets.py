"""Secrets at rest: those of a channel are one encrypted JSON object; second factors use the same keys.

Fernet is AES-128-CBC with HMAC-SHA256 and carries the instant of encryption. It binds a text to nothing, so the guid of
the channel is inside: a row copied over another does not reveal a secret to another project.
"""

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from django.conf import settings

from incidents.exceptions import IncidentsError
from lib.encoding import to_json

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

INFO = b"watchclock channel secrets v1"


class UnsealError(IncidentsError):
    """Secrets cannot be read: somebody must enter them again, or restore the key."""


class _Content(msgspec.Struct):
    guid: UUID
    values: dict[str, str]


def seal(values: Mapping[str, str], *, guid: UUID) -> str:
    """Return the secrets of a channel, encrypted with the first key."""
    return encrypt(to_json(_Content(guid=guid, values=dict(values))))


def unseal(token: str, *, guid: UUID) -> dict[str, str]:
    """Return the secrets of a channel. Raises `UnsealError` if no key fits, or they belong to another channel."""
    try:
        content = msgspec.json.decode(decrypt(token), type=_Content)
    except msgspec.MsgspecError:
        raise UnsealError("The secrets of this channel are damaged. Enter them again.") from None
    if content.guid != guid:
        raise UnsealError("The stored secrets belong to another channel. Enter those of this one again.")
    return content.values


def rotate(token: str) -> str:
    """Return the same secrets encrypted with the first key; unchanged if they are. Raises `UnsealError`."""
    return token if is_current(token) else encrypt(decrypt(token))


def is_current(token: str) -> bool:
    """Return whether secrets are encrypted with the first key."""
    from cryptography.fernet import InvalidToken

    try:
        _keys()[0].decrypt(token.encode())
    except InvalidToken:
        return False
    return True


def encrypt(content: bytes) -> str:
    """Return a text that only the keys open, encrypted with the first one."""
    return _keys()[0].encrypt(content).decode()


def decrypt(token: str) -> bytes:
    """Return what was encrypted with any of the keys. Raises `UnsealError`."""
    # Imported by the processes that need it, when they do.
    from cryptography.fernet import InvalidToken, MultiFernet

    try:
        return MultiFernet(_keys()).decrypt(token.encode())
    except InvalidToken:
        raise UnsealError(
            "The stored secrets cannot be decrypted with any key of SECRETS_KEYS, SECRET_KEY or "
            "SECRET_KEY_FALLBACKS. Restore the key, or enter them again."
        ) from None


def _keys() -> list["Fernet"]:
    """Return the ciphers, the one that encrypts first. Those derived from SECRET_KEY always decrypt."""
    return list(_ciphers(tuple(settings.SECRETS_KEYS), (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)))


@lru_cache(maxsize=4)
def _ciphers(keys: tuple[str, ...], secret_keys: tuple[str, ...]) -> tuple["Fernet", ...]:
    from cryptography.fernet import Fernet

    return tuple(Fernet(key) for key in [*(key.encode() for key in keys), *map(derive_key, secret_keys)])


def derive_key(secret_key: str) -> bytes:
    """Return the key that belongs to a SECRET_KEY. That is random already, so deriving need not be slow."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=INFO).derive(secret_key.encode())
    return base64.urlsafe_b64encode(derived)
