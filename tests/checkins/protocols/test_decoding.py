"""Compressed bodies and JSON: everything is bounded, and nothing but our own errors comes out."""

import contextlib
import gzip
import json
import math
import time
import tracemalloc
import zlib
from collections.abc import Callable
from unittest.mock import ANY

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import BodyError, BodyTooLargeError, JsonError
from checkins.protocols.decoding import decode_body, decode_json, decode_start

PLAIN = b'{"type":"check_in"}\n' * 500
BOMB_BYTES = 50_000_000


def raw_deflate(plain: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(plain) + deflate.flush()


def zstd_of_unknown_size(plain: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(plain) + compressor.flush()


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", lambda plain: brotli.compress(plain, quality=4)),
    ("zstd", zstandard.compress),
    ("zstd", zstd_of_unknown_size),
]
every_encoding = pytest.mark.parametrize(
    ("encoding", "encode"), ENCODERS, ids=["gzip", "zlib", "raw deflate", "brotli", "zstd", "zstd streamed"]
)


@every_encoding
def test_a_body_is_read_up_to_the_limit_and_not_beyond(encoding: str, encode: Callable[[bytes], bytes]):
    body = encode(PLAIN)
    assert decode_body(body, encoding, len(PLAIN) + 1) == PLAIN
    assert decode_body(body, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(BodyTooLargeError):
        decode_body(body, encoding, len(PLAIN) - 1)


@every_encoding
def test_an_empty_body_is_empty(encoding: str, encode: Callable[[bytes], bytes]):
    assert decode_body(encode(b""), encoding, 10) == b""


@every_encoding
def test_a_body_that_ends_early_or_goes_on_is_refused(encoding: str, encode: Callable[[bytes], bytes]):
    body = encode(PLAIN)
    for end in range(len(body)):
        with pytest.raises(BodyError):
            decode_body(body[:end], encoding, 1_000_000)
    with pytest.raises(BodyError):
        decode_body(body + b"\x1f\x8bmore", encoding, 1_000_000)


@every_encoding
def test_a_bomb_is_too_large_and_never_held_in_memory(encoding: str, encode: Callable[[bytes], bytes]):
    bomb = encode(bytes(BOMB_BYTES))
    assert len(bomb) < BOMB_BYTES / 500
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            decode_body(bomb, encoding, 100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < BOMB_BYTES / 10


def test_a_zstd_frame_may_not_ask_for_a_huge_window():
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(PLAIN) + compressor.flush()
    with pytest.raises(BodyError):
        decode_body(body, "zstd", 1_000_000)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity", " identity "])
def test_identity_is_the_body_itself(encoding: str):
    assert decode_body(PLAIN, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(BodyTooLargeError):
        decode_body(PLAIN, encoding, len(PLAIN) - 1)


def test_names_of_encodings_have_no_case_and_gzip_has_an_old_one():
    assert decode_body(gzip.compress(PLAIN), "GZip", 10_000) == PLAIN
    assert decode_body(gzip.compress(PLAIN), "x-gzip", 10_000) == PLAIN


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "x" * 1000])
def test_an_unknown_encoding_is_refused(encoding: str):
    with pytest.raises(BodyError, match="is not known"):
        decode_body(PLAIN, encoding, 10_000)


@every_encoding
def test_the_start_of_a_body_is_read_whatever_follows(encoding: str, encode: Callable[[bytes], bytes]):
    body = encode(PLAIN)
    assert decode_start(body, encoding, 100)[:100] == PLAIN[:100]
    assert decode_start(body, encoding, 20_000) == PLAIN
    assert len(decode_start(encode(bytes(BOMB_BYTES)), encoding, 100)) < 1_000_000
    assert decode_start(PLAIN, "", 100) == PLAIN[:100]
    with pytest.raises(BodyError):
        decode_start(PLAIN, encoding, 100)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "zstd"]))
def test_arbitrary_bytes_raise_nothing_but_body_errors(body: bytes, encoding: str):
    with contextlib.suppress(BodyError, BodyTooLargeError):
        assert len(decode_body(body, encoding, 1000)) <= 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'\xef\xbb\xbf{"bom": true}', {"bom": True}),
        (b'"latin-1 \xe9"', "latin-1 \ufffd"),
        (b'"\\ud800"', "\ud800"),
        (b'"\\u0000"', "\x00"),
        (b"[Infinity, -Infinity, 1e999]", [math.inf, -math.inf, math.inf]),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551616", 2**64),
        (b"[NaN, 1" + b"0" * 300 + b"]", [ANY, 10**300]),
        (b"1" + b"0" * 300, 10**300),
        (b"9" * 5000, math.inf),
    ],
)
def test_json_is_read_where_its_meaning_is_plain(text: bytes, value: object):
    assert decode_json(text) == value


def test_a_bare_nan_is_read():
    value = decode_json(b"NaN")
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize("text", [b"", b" ", b"{", b"{} {}", b"\x00", b"'a'", b"\xff\xfe{\x00}\x00", b'"a\nb"', b"01"])
def test_what_is_no_json_is_refused(text: bytes):
    with pytest.raises(JsonError, match="not JSON"):
        decode_json(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_an_error_and_no_crash(opening: bytes):
    with pytest.raises(JsonError, match="too deeply"):
        decode_json(opening * 100_000)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_as_many_levels_as_allowed_are_read(opening: bytes, closing: bytes):
    levels_each = opening.count(b"{") + opening.count(b"[")

    def nested(levels: int) -> bytes:
        return opening * (levels // levels_each) + b"1" + closing * (levels // levels_each)

    decode_json(nested(10), 10)
    decode_json(nested(50))
    with pytest.raises(JsonError, match="too deeply, at most 10 levels are read"):
        decode_json(nested(12), 10)
    with pytest.raises(JsonError, match="too deeply, at most 50 levels are read"):
        decode_json(nested(52))


def test_many_brackets_are_no_depth():
    flat = [{}, [], "[[[[{{{{"] * 1000
    assert decode_json(json.dumps(flat).encode(), 3) == flat


@given(st.binary() | st.text().map(lambda text: json.dumps(text).encode()))
def test_arbitrary_bytes_raise_nothing_but_json_errors(text: bytes):
    with contextlib.suppress(JsonError):
        decode_json(text)


NUMBERS = st.from_regex(rb"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
PIECES_OF_TEXT = st.sampled_from(
    [
        b"a",
        b"\\n",
        b"\\/",
        b"\\u0000",
        b"\\ud83d",
        b"\\ude00",
        b"\\u00E9",
        b"\xc3\xa9",
        b"\xff",
        b"\xed\xa0\x80",
        b"\x7f",
        b"\t",
    ]
)
TEXTS = st.lists(PIECES_OF_TEXT, max_size=4).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
WORDS = st.sampled_from([b"null", b"true", b"false", b"NaN", b"-Infinity", b"01", b"1.", b"", b"\xef\xbb\xbf1"])
JSON_TEXTS = st.recursive(
    NUMBERS | TEXTS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda members: b"[" + b" ,".join(members) + b"]")
        | st.lists(st.tuples(TEXTS, inner), max_size=4).map(
            lambda members: b"{" + b",".join(key + b": " + value for key, value in members) + b"}"
        )
    ),
    max_leaves=12,
)


@given(JSON_TEXTS)
def test_the_fast_and_the_lenient_parser_read_the_same_value(text: bytes):
    try:
        expected = json.loads(text.decode("utf-8-sig", errors="replace"))
    except ValueError:
        with pytest.raises(JsonError):
            decode_json(text)
    else:
        # Equal is not enough: 1, 1.0 and True are.
        assert repr(decode_json(text)) == repr(expected)


def test_d35_more_values_than_are_read_are_refused_before_anything_is_built_of_them():
    text = b'{"x": [' + b",".join([b"[]"] * 6_000_000) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(JsonError, match="at most 100000 values") as refused:
            decode_json(text)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


def test_d35_commas_and_brackets_in_texts_are_no_values():
    text = b'["' + b",[{" * 100_000 + b'", "\\"", "' + b"," * 100_000 + b'"]'
    value = decode_json(text)
    assert isinstance(value, list)
    assert len(value) == 3


@pytest.mark.parametrize("text", [b'"",' * 3_000_000, b'"" ' * 3_000_000, b'"' + b",[" * 3_000_000, b"{" * 100_001])
def test_d35_the_count_of_values_ends_early_whatever_is_sent(text: bytes):
    started = time.process_time()
    with pytest.raises(JsonError):
        decode_json(text)
    assert time.process_time() - started < 10, "a tenth of a second where nobody else uses the machine"
