"""Sentry's wire format: the envelope grammar, and every place where the key may stand."""

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import AuthError, BodyTooLargeError, EnvelopeError
from checkins.protocols.sentry import ENVELOPE_ITEMS_MAX, parse_auth, parse_dsn_key, parse_envelope

KEY = "0123456789abcdef0123456789abcdef"
HEADER = f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=sentry.python/2.75.0"


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# The grammar


def items_of(body: bytes) -> list[tuple[str, bytes]]:
    return [(item.type, item.payload) for item in parse_envelope(body).items]


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b"{}", []),
        (b"{}\n", []),
        (b'{}\n{"type":"check_in","length":2}\n{}\n', [("check_in", b"{}")]),
        (b'{}\n{"type":"check_in","length":2}\n{}', [("check_in", b"{}")]),
        (b'{}\n{"type":"check_in"}\n{}\n', [("check_in", b"{}")]),
        (b'{}\n{"type":"check_in"}\n{}', [("check_in", b"{}")]),
        (b'{}\n{"type":"check_in","length":null}\n{}', [("check_in", b"{}")]),
        (b'{}\n{"type":"attachment","length":3}\na\nb\n{"type":"x"}\ny', [("attachment", b"a\nb"), ("x", b"y")]),
        (b'{}\n{"type":"attachment","length":0}\n\n{"type":"x"}\ny\n', [("attachment", b""), ("x", b"y")]),
        (b'{}\n{"type":"attachment","length":0}', [("attachment", b"")]),
        (b'{}\n{"type":"x"}', [("x", b"")]),
        (b'{}\n{"type":"x"}\n\n\n\n', [("x", b"")]),
        (b'{}\r\n{"type":"x"}\r\ny\r\n', [("x", b"y\r")]),
    ],
)
def test_an_envelope_is_split_into_its_items(body: bytes, items: list[tuple[str, bytes]]):
    assert items_of(body) == items


def test_a_length_counts_bytes_and_not_characters():
    payload = '{"monitor_slug":"Füße"}'.encode()
    body = b'{}\n{"type":"check_in","length":%d}\n%s\n' % (len(payload), payload)
    assert items_of(body) == [("check_in", payload)]


def test_several_items_in_one_envelope_are_all_taken():
    check_in = b'{"monitor_slug":"a","status":"ok"}'
    report = b'{"discarded_events":[]}'
    body = b'{"event_id":"9bcf8290d35740b69389768966df76b6"}\n' + b"".join(
        b'{"type":"%s","length":%d}\n%s\n' % (kind, len(payload), payload)
        for kind, payload in [(b"check_in", check_in), (b"client_report", report), (b"check_in", check_in)]
    )
    envelope = parse_envelope(body)
    assert envelope.header == {"event_id": "9bcf8290d35740b69389768966df76b6"}
    assert [item.type for item in envelope.items] == ["check_in", "client_report", "check_in"]
    assert [item.payload for item in envelope.items] == [check_in, report, check_in]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"hello", "envelope header: not JSON"),
        (b"[]", "envelope header: not a JSON object"),
        (b"\x1f\x8b\x08", "envelope header: not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}\nhello\n{}", "item 1: header: not JSON"),
        (b"{}\n5\n{}", "item 1: header: not a JSON object"),
        (b"{}\n{}\n{}", "item 1: its header names no type"),
        (b'{}\n{"type":5}\n{}', "item 1: its header names no type"),
        (b'{}\n{"type":"x","length":-1}\n', "item 1: its length is not a number of bytes"),
        (b'{}\n{"type":"x","length":"1"}\ny', "item 1: its length is not a number of bytes"),
        (b'{}\n{"type":"x","length":true}\ny', "item 1: its length is not a number of bytes"),
        (b'{}\n{"type":"x","length":1.0}\ny', "item 1: its length is not a number of bytes"),
        (b'{}\n{"type":"x","length":2}\ny', "item 1: its length is 2 bytes, but only 1 follow"),
        (b'{}\n{"type":"x","length":1}\nyz', "item 1: no line feed after its 1 bytes"),
        (b'{}\n\n{"type":"x"}\ny', "item 1: its header is an empty line"),
        (b'{}\n{"type":"x"}\ny\n\n{"type":"x"}\ny', "item 2: its header is an empty line"),
    ],
)
def test_a_broken_envelope_is_refused_with_its_reason(body: bytes, reason: str):
    with pytest.raises(EnvelopeError, match=reason):
        parse_envelope(body)


def test_the_number_of_items_is_bounded():
    item = b'{"type":"x"}\n\n'
    assert len(parse_envelope(b"{}\n" + item * ENVELOPE_ITEMS_MAX).items) == ENVELOPE_ITEMS_MAX
    with pytest.raises(BodyTooLargeError):
        parse_envelope(b"{}\n" + item * (ENVELOPE_ITEMS_MAX + 1))


LINES = st.sampled_from([b"{}", b'{"type":"check_in"}', b'{"type":"x","length":3}', b"", b"abc"]) | st.binary(
    max_size=9
)


@given(st.binary() | st.lists(LINES).map(b"\n".join))
def test_arbitrary_bytes_raise_nothing_but_envelope_errors(body: bytes):
    with contextlib.suppress(EnvelopeError):
        envelope = parse_envelope(body)
        assert sum(len(item.payload) for item in envelope.items) <= len(body)


@given(st.lists(st.tuples(st.text(), st.binary()), max_size=5), st.booleans())
def test_what_was_put_in_comes_out(items: list[tuple[str, bytes]], ends_with_line_feed: bool):
    lines = [b"{}"]
    for kind, payload in items:
        lines += [json.dumps({"type": kind, "length": len(payload)}).encode(), payload]
    assert items_of(b"\n".join(lines) + b"\n" * ends_with_line_feed) == items


# Where the key may stand


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        f"Sentry sentry_version=7, sentry_client=sentry-cli/3.8.2, sentry_timestamp=1795432440.1, sentry_key={KEY}",
        f"Sentry sentry_key={KEY}, sentry_version=7, sentry_secret=s3cret",
        f"sentry sentry_key={KEY},sentry_version=6",
        f"  Sentry   sentry_key = {KEY} , ",
    ],
)
def test_the_key_in_a_sentry_header_is_found(header: str):
    assert parse_auth(x_sentry_auth=header) == KEY
    assert parse_auth(authorization=header) == KEY


def test_the_key_is_found_in_the_query_in_basic_auth_and_in_the_path():
    query = {"sentry_version": "7", "sentry_key": KEY, "sentry_client": "sentry.javascript.node/11.12.0"}
    assert parse_auth(query=query) == KEY
    assert parse_auth(authorization=basic(KEY)) == KEY
    assert parse_auth(authorization=basic(KEY, "ignored").replace("Basic", "basic")) == KEY
    assert parse_auth(path_key=KEY) == KEY


@pytest.mark.parametrize(
    "authorization", ["", "Bearer abc", "Basic", "Basic ???", "Basic /w==", f"Basic {KEY}", "Digest x"]
)
def test_another_kind_of_authorization_is_not_a_key(authorization: str):
    assert parse_auth(authorization=authorization) is None
    assert parse_auth(authorization=authorization, x_sentry_auth=HEADER) == KEY


def test_no_key_anywhere_is_none_so_that_the_envelope_may_name_it():
    assert parse_auth() is None
    assert parse_auth(x_sentry_auth="", query={"sentry_version": "7"}) is None


PLACES: dict[str, dict[str, object]] = {
    "X-Sentry-Auth": {"x_sentry_auth": HEADER},
    "Authorization: Sentry": {"authorization": HEADER},
    "Authorization: Basic": {"authorization": basic(KEY)},
    "query": {"query": {"sentry_key": KEY}},
    "path": {"path_key": KEY},
}


@pytest.mark.parametrize(
    ("first", "second"),
    [(a, b) for a in PLACES for b in PLACES if a < b and not (a.startswith("Auth") and b.startswith("Auth"))],
)
def test_two_keys_at_once_are_refused(first: str, second: str):
    with pytest.raises(AuthError, match="multiple") as caught:
        parse_auth(**{**PLACES[first], **PLACES[second]})  # type: ignore[arg-type]
    assert caught.value.status == 401


def test_a_sentry_header_without_key_is_refused():
    with pytest.raises(AuthError) as caught:
        parse_auth(x_sentry_auth="Sentry sentry_version=7")
    assert caught.value.status == 401


@pytest.mark.parametrize("key", ["", "abc", KEY.upper(), KEY + "0", KEY[:-1] + "g", KEY + "\n", "0" * 31 + "\u0660"])
def test_a_malformed_key_is_refused_wherever_it_stands(key: str):
    for place in (
        {"query": {"sentry_key": key}},
        {"path_key": key},
        {"authorization": basic(key)},
    ):
        with pytest.raises(AuthError, match="malformed") as caught:
            parse_auth(**place)
        assert caught.value.status == 400
    with pytest.raises(AuthError, match="malformed") as caught:
        parse_auth(x_sentry_auth=f"Sentry sentry_key={key.strip()}0")
    assert caught.value.status == 400


@pytest.mark.parametrize("version", ["8", "70", "x", "", "-1", "7.5", "9" * 5000])
def test_a_protocol_version_above_7_or_unreadable_is_refused(version: str):
    for place in (
        {"query": {"sentry_key": KEY, "sentry_version": version}},
        {"x_sentry_auth": f"{HEADER}, sentry_version={version}"},
    ):
        with pytest.raises(AuthError, match="version") as caught:
            parse_auth(**place)
        assert caught.value.status == 400


@pytest.mark.parametrize("version", ["7", "6", "4"])
def test_protocol_versions_up_to_7_are_taken(version: str):
    assert parse_auth(query={"sentry_key": KEY, "sentry_version": version}) == KEY


@pytest.mark.parametrize("dsn", [f"http://{KEY}@host/1", f"https://{KEY}:secret@host:8000/prefix/1"])
def test_the_key_of_a_dsn_is_its_user(dsn: str):
    assert parse_dsn_key(dsn) == KEY


@pytest.mark.parametrize(
    ("dsn", "status"),
    [
        (None, 401),
        (5, 401),
        ("", 401),
        ("http://host/1", 401),
        ("http://[/1", 401),
        ("http://abc@host/1", 400),
        (f"http://{KEY.upper()}@host/1", 400),
    ],
)
def test_a_dsn_without_usable_key_is_refused(dsn: object, status: int):
    with pytest.raises(AuthError) as caught:
        parse_dsn_key(dsn)
    assert caught.value.status == status
