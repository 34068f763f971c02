"""JSON and plain values with msgspec, which knows no subclass of `str`: sentences (`lib.texts.Text`) become plain."""

from typing import Any

import msgspec


def as_plain_text(value: object) -> str:
    """Return a text without what it remembers, for encoders (`enc_hook`). Raises NotImplementedError for all else."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"a {type(value).__name__} cannot be encoded")


def to_json(value: object) -> bytes:
    """Return a value as JSON.

    >>> from lib.texts import Text
    >>> to_json({"why": Text("%(count)s keys", count=2)})
    b'{"why":"2 keys"}'
    """
    return msgspec.json.encode(value, enc_hook=as_plain_text)


def to_builtins(value: object) -> Any:
    """Return a value as dicts, lists, texts and numbers; instants become texts.

    >>> from lib.texts import Text
    >>> type(to_builtins([Text("no keys")])[0])
    <class 'str'>
    """
    return msgspec.to_builtins(value, enc_hook=as_plain_text)
