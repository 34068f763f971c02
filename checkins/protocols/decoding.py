"""Bytes of a request body -> plain bytes -> JSON value (pure), with every size and depth bounded.

Any input from a client becomes a value or one of our own errors; nothing else is raised.
"""

import io
import json
import re
import zlib
from collections.abc import Callable, Sequence

import brotli  # type: ignore[import-untyped]
import msgspec
import zstandard

from checkins.exceptions import BodyError, BodyTooLargeError, JsonError

GZIP_WBITS = 16 + zlib.MAX_WBITS  # zlib's code for a gzip header
ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024  # RFC 9659: senders of content coding "zstd" must not use more
NESTING_MAX = 50  # a check-in needs 4
JSON_VALUES_MAX = 100_000
"""Values in one request: a thousand check-ins with all their fields have a quarter. Each takes memory and time, however
few bytes it has: 2 kB can unpack to six million empty lists (D35)."""
LENIENT_BYTES_MAX = 1 << 20
"""Of a text that is read again leniently where it is no strict JSON."""
_TOKENS = re.compile(rb'[,\[{]|"(?:[^"\\]|\\.)*+"', re.DOTALL)


def decode_body(body: bytes, content_encoding: str, bytes_max: int) -> bytes:
    """Undo one Content-Encoding (identity, gzip, deflate, br, zstd; any case) and return at most `bytes_max` bytes.

    Never holds much more than `bytes_max` decompressed bytes: a few KiB can stand for gigabytes.
    Raises BodyTooLargeError, or BodyError if the body is truncated, damaged or of an encoding not named here.
    """
    plain = decode_start(body, content_encoding, bytes_max + 1)
    if len(plain) > bytes_max:
        raise BodyTooLargeError(f"the body has more than {bytes_max} bytes")
    return plain


def decode_start(body: bytes, content_encoding: str, most: int) -> bytes:
    """Undo one Content-Encoding, but return (and hold) no more than about the first `most` bytes.

    Raises BodyError like `decode_body`, but does not check anything after these bytes.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body[:most]
    decoder = _DECODERS.get(encoding)
    if decoder is None:
        raise BodyError(f"Content-Encoding {encoding[:40]!r} is not known: use {', '.join(_DECODERS)} or none")
    try:
        return decoder(body, most)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as error:
        raise BodyError(f"the body is not complete, valid {encoding} data") from error


def decode_json(text: bytes, nesting_max: int = NESTING_MAX) -> object:
    """Parse a JSON value, at most `nesting_max` arrays and objects deep, leniently where its meaning is clear.

    Strict parsers refuse a value for one bad field. Forms that clients really send are accepted: bare NaN and Infinity,
    1e999, lone surrogates. The last of two equal keys wins. Bytes that are not UTF-8 become U+FFFD, and integers of
    thousands of digits become floats. Raises JsonError.
    """
    return _read_json(text, nesting_max)[0]


def decode_checked(text: bytes, nesting_max: int = NESTING_MAX) -> tuple[object, bool]:
    """As `decode_json`; and whether PostgreSQL can store the value unchanged, False if that is not certain.

    It can if a strict parser accepts the text and the text has no escape that could be a NUL or half a character, no
    number that could need more than 64 bits, and no nesting beyond `PLAIN_NESTING_MAX`.
    """
    value, is_strict, brackets = _read_json(text, nesting_max)
    is_plain = is_strict and brackets <= PLAIN_NESTING_MAX and b"\\u" not in text
    return value, is_plain and _LONG_NUMBER not in text.translate(_DIGITS_ALIKE)


def _read_json(text: bytes, nesting_max: int) -> tuple[object, bool, int]:
    """Return a value, whether a strict parser accepted it, and how many brackets are in the text."""
    check_value_count((text,))
    is_strict = True
    try:
        try:
            value = msgspec.json.decode(text)  # a third of the time; if both accept a text, the value is the same
        except ValueError:
            if len(text) > LENIENT_BYTES_MAX:
                raise
            is_strict = False
            value = _LENIENT_JSON.decode(text.decode("utf-8-sig", errors="replace"))
    except ValueError as error:
        raise JsonError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise _nested_too_deeply(nesting_max) from error
    # Each level needs a bracket, so nearly every check-in needs no second check.
    brackets = text.count(b"{") + text.count(b"[")
    if brackets > nesting_max and is_deeper_than(nesting_max, value):
        raise _nested_too_deeply(nesting_max)
    return value, is_strict, brackets


def check_value_count(texts: Sequence[bytes], most: int = JSON_VALUES_MAX) -> None:
    """Raise JsonError if JSON texts hold more values than allowed, before any value is built.

    Each value but the first follows a comma or a bracket. These are counted everywhere first, which is quick; only if
    there are too many, those inside strings are excluded.
    """
    if sum(map(len, texts)) <= most:  # as nearly all
        return
    if sum(text.count(b",") + text.count(b"[") + text.count(b"{") for text in texts) <= most:
        return
    values = strings = 0
    for text in texts:
        for token in _TOKENS.finditer(text):
            if token[0][0] == _QUOTE:
                strings += 1
            else:
                values += 1
            if values > most or strings > 2 * most:
                raise JsonError(f"not usable JSON: at most {most} values are read of a request", status=413)


def _parse_int(digits: str) -> int | float:
    # Python refuses to turn thousands of digits into an int, with an error that would look like broken JSON.
    try:
        return int(digits)
    except ValueError:
        return float(digits)


_QUOTE = ord('"')
PLAIN_NESTING_MAX = 20
"""Levels of arrays and objects stored of a payload."""
_DIGITS_ALIKE = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG_NUMBER = b"0" * 19  # the largest of 64 bits, 9223372036854775807, is one too: it is checked further
_LENIENT_JSON = json.JSONDecoder(parse_int=_parse_int)


def is_deeper_than(levels: int, value: object) -> bool:
    """Return whether a JSON value has more than so many levels of arrays and objects. Recursion would be limited."""
    containers = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        if not containers:
            return False
        containers = [
            member
            for container in containers
            for member in (container.values() if isinstance(container, dict) else container)
            if isinstance(member, (dict, list))
        ]
    return bool(containers)


def _nested_too_deeply(nesting_max: int) -> JsonError:
    return JsonError(f"not usable JSON: it is nested too deeply, at most {nesting_max} levels are read")


# Each decoder returns at most (br: about) `most` bytes, and raises if the data end before their own end mark or
# continue after it.


def _gzip(body: bytes, most: int) -> bytes:
    return _inflate(body, most, GZIP_WBITS)


def _deflate(body: bytes, most: int) -> bytes:
    # In HTTP "deflate" means zlib data, but some clients send the bare deflate stream.
    try:
        return _inflate(body, most, zlib.MAX_WBITS)
    except zlib.error:
        return _inflate(body, most, -zlib.MAX_WBITS)


def _inflate(body: bytes, most: int, wbits: int) -> bytes:
    inflate = zlib.decompressobj(wbits)
    plain = inflate.decompress(body, most)
    # Several gzip members in a row (RFC 1952, 2.2) are refused too: no client sends them, and a body of a million empty
    # members would cost quadratic time.
    if len(plain) < most and (not inflate.eof or inflate.unused_data):
        raise EOFError
    return plain


def _brotli(body: bytes, most: int) -> bytes:
    decompressor = brotli.Decompressor()
    plain: bytes = decompressor.process(body, output_buffer_limit=most)
    if len(plain) < most and not decompressor.is_finished():
        raise EOFError
    return plain


def _zstd(body: bytes, most: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).stream_reader(io.BytesIO(body))
    plain = reader.read(most)
    # The reader accepts a truncated frame as a short one. If the frame is known to fit, it is decoded once more in one
    # piece, which detects that.
    if len(plain) < most:
        whole = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).decompressobj()
        whole.decompress(body)
        if not whole.eof or whole.unused_data:
            raise EOFError
    return plain


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
