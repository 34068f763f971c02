"""Sentry's wire format: the envelope grammar, the places where the key may stand, and what each request is answered."""

import base64
import contextlib
import gzip
import json
import uuid
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import AuthError, BodyTooLargeError, EnvelopeError, IngestError, UnknownKeyError
from checkins.messages import CheckInMessage, CheckInStatus, LossReport, Outcome, RefusedCheckIn, Source
from checkins.protocols import sentry_envelope, sentry_key
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Sender
from checkins.protocols.sentry import LOSS_REPORTS_MAX, ROUTES
from checkins.protocols.sentry_envelope import parse_envelope
from checkins.protocols.sentry_key import parse_auth, parse_dsn_key

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
    limits = Limits(envelope_items_max=3)
    assert len(parse_envelope(b"{}\n" + item * 3, limits).items) == 3
    with pytest.raises(BodyTooLargeError, match="more than 3 items"):
        parse_envelope(b"{}\n" + item * 4, limits)


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


# Requests: who speaks, what is said, and what is answered

PROJECT_ID = 42
NOW = datetime(2026, 11, 23, 10, 44, 9, 200_000, tzinfo=UTC)
ID_TEXT = "941723b3aef34230b0dda4e899818344"
EVENT_ID = "9bcf8290d35740b69389768966df76b6"
CRONTAB = {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}
LIMITS = Limits()
AUTH = {"x-sentry-auth": HEADER}


def make_request(
    path: str, body: bytes = b"", *, method: str = "POST", query: str = "", headers: Mapping[str, str] = AUTH
) -> IngestRequest:
    return IngestRequest(
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        body_bytes=len(body),
        received_at=NOW,
    )


def route(request: IngestRequest) -> tuple[Any, dict[str, str]]:
    for pattern, protocol in ROUTES:
        if found := pattern.fullmatch(request.path):
            return protocol, {name: text for name, text in found.groupdict().items() if text is not None}
    raise AssertionError(request.path)


def identify(request: IngestRequest) -> Sender:
    protocol, address = route(request)
    sender = protocol.identify(request, address, LIMITS)
    assert isinstance(sender, Sender)
    return sender


def decode(request: IngestRequest, limits: Limits = LIMITS) -> Decoded:
    protocol, address = route(request)
    decoded = protocol.decode(request, address, KnownSender(PROJECT_ID), limits)
    assert isinstance(decoded, Decoded)
    return decoded


def answer_of(decoded: Decoded) -> Answer:
    """Return the answer, which is the same whatever becomes of the messages, also while they are spooled."""
    stored = decoded.answer([Outcome(accepted=True) for _ in decoded.messages])
    assert decoded.answer([Outcome(accepted=False) for _ in decoded.messages]) == stored
    return stored


def assert_error(answer: Answer, status: int, *, says: str) -> list[str]:
    assert answer.status == status, answer
    assert dict(answer.headers)[b"content-type"] == b"application/json"
    body = json.loads(answer.body)
    assert set(body) == {"detail", "causes"}
    assert says in body["detail"]
    assert all(isinstance(cause, str) for cause in body["causes"])
    causes: list[str] = body["causes"]
    return causes


def kinds_and_fields(decoded: Decoded) -> list[tuple[str, str]]:
    [message] = decoded.messages
    assert isinstance(message, (CheckInMessage, RefusedCheckIn))
    return [(problem.kind.value, problem.field) for problem in message.problems]


def check_in(**fields: object) -> dict[str, object]:
    return {"check_in_id": ID_TEXT, "monitor_slug": "nightly", "status": "ok", **fields}


def envelope_of(*items: tuple[str, bytes] | dict[str, object], header: dict[str, object] | None = None) -> bytes:
    lines = [json.dumps(header or {}).encode()]
    for item in items:
        kind, payload = ("check_in", json.dumps(item).encode()) if isinstance(item, dict) else item
        lines += [json.dumps({"type": kind, "length": len(payload)}).encode(), payload]
    return b"\n".join(lines) + b"\n"


def post(body: bytes, **headers: str) -> IngestRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_request(f"/api/{PROJECT_ID}/envelope/", body, headers={**AUTH, **named})


def plain(query: str = "", path: str = f"nightly/{KEY}/", **options: Any) -> IngestRequest:
    return make_request(f"/api/{PROJECT_ID}/cron/{path}", query=query, headers={}, **{"method": "GET", **options})


def post_json(body: bytes | object, content_type: str = "application/json", query: str = "") -> IngestRequest:
    return make_request(
        f"/api/{PROJECT_ID}/cron/nightly/{KEY}/",
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"content-type": content_type},
        query=query,
    )


# Envelopes


def test_an_envelope_with_a_check_in_is_answered_with_its_event_id():
    decoded = decode(post(envelope_of(check_in(), header={"event_id": EVENT_ID})))
    [message] = decoded.messages
    assert isinstance(message, CheckInMessage)
    assert (message.project_id, message.slug, message.status) == (PROJECT_ID, "nightly", CheckInStatus.OK)
    assert (message.check_in_id, message.received_at) == (uuid.UUID(ID_TEXT), NOW)
    assert message.source == Source.SENTRY_ENVELOPE
    assert answer_of(decoded) == Answer(
        200, b'{"id": "%s"}' % EVENT_ID.encode(), ((b"content-type", b"application/json"),)
    )


@pytest.mark.parametrize("event_id", [None, 5, {}])
def test_an_envelope_without_event_id_is_answered_with_an_empty_object(event_id: object):
    assert answer_of(decode(post(envelope_of(check_in(), header={"event_id": event_id})))).body == b"{}"


@pytest.mark.parametrize("event_id", ['a"b', "\ud800", "\x00é"])
def test_an_odd_event_id_comes_back_as_it_is(event_id: str):
    answer = answer_of(decode(post(envelope_of(header={"event_id": event_id}))))
    assert json.loads(answer.body) == {"id": event_id}


def test_all_check_ins_of_an_envelope_are_taken_in_order_and_other_items_are_not_read():
    decoded = decode(
        post(
            envelope_of(
                ("event", b'{"message": "not\nparsed'),
                check_in(monitor_slug="first"),
                ("attachment", bytes(300_000)),
                check_in(monitor_slug="second"),
                ("made_up", b"[" * 5000),
                check_in(monitor_slug="third", status="success"),
            )
        )
    )
    assert [type(message) for message in decoded.messages] == [CheckInMessage, CheckInMessage, RefusedCheckIn]
    assert [message.slug for message in decoded.messages if not isinstance(message, LossReport)] == [
        "first",
        "second",
        "third",
    ]
    assert answer_of(decoded).status == 200


@pytest.mark.parametrize("kind", ["event", "transaction", "session", "sessions", "log", "client_report", "made_up"])
def test_an_envelope_without_check_ins_is_accepted_and_says_nothing(kind: str):
    decoded = decode(post(envelope_of((kind, b"whatever"))))
    assert (decoded.messages, answer_of(decoded).status) == ([], 200)
    assert answer_of(decode(post(b"{}"))).status == 200


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain;charset=UTF-8", "multipart/form-data"])
def test_the_content_type_of_an_envelope_means_nothing(content_type: str):
    assert len(decode(post(envelope_of(check_in()), content_type=content_type)).messages) == 1


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", lambda plain: zstandard.compress(plain)),
        ("identity", bytes),
    ],
)
def test_compressed_envelopes_are_read(encoding: str, encode: Callable[[bytes], bytes]):
    decoded = decode(post(encode(envelope_of(check_in())), content_encoding=encoding))
    assert isinstance(decoded.messages[0], CheckInMessage)


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"status": "success"}, "CHECKIN_VALIDATION_FAILED", "status"),
        ({"status": None}, "CHECKIN_VALIDATION_FAILED", "status"),
        ({"check_in_id": "job-17"}, "CHECKIN_INVALID_GUID", "check_in_id"),
        ({"environment": "a/b"}, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ({"environment": "\x00"}, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ({"monitor_slug": "???"}, "CHECKIN_VALIDATION_FAILED", "monitor_slug"),
    ],
)
def test_the_client_of_a_refused_check_in_still_has_its_200(fields: dict[str, object], kind: str, field: str):
    decoded = decode(post(envelope_of(check_in(**fields))))
    assert kinds_and_fields(decoded) == [(kind, field)]
    assert isinstance(decoded.messages[0], RefusedCheckIn)
    assert answer_of(decoded).status == 200


@pytest.mark.parametrize("payload", [b"hello", b"[" * 50_000, b"5", b"null", b'"\\u0000\\ud800"', b"\xff\xfe"])
def test_a_check_in_that_is_no_json_object_is_refused_alone(payload: bytes):
    decoded = decode(post(envelope_of(("check_in", payload), check_in())))
    refused, accepted = decoded.messages
    assert isinstance(refused, RefusedCheckIn)
    assert isinstance(accepted, CheckInMessage)
    assert [problem.field for problem in refused.problems] == [""]
    assert answer_of(decoded).status == 200


def test_a_check_in_that_is_nested_too_deeply_is_refused_in_words():
    nested: object = 1
    for _ in range(LIMITS.nesting_max):
        nested = [nested]
    [refused] = decode(post(envelope_of(check_in(extra=nested)))).messages
    assert isinstance(refused, RefusedCheckIn)
    assert "nested too deeply, at most 50 levels are read" in refused.problems[0].message
    assert isinstance(decode(post(envelope_of(check_in(extra=[1])))).messages[0], CheckInMessage)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"hello", "not JSON"),
        (b'{}\n{"type":"check_in","length":500}\n{}', "only 2 follow"),
    ],
)
def test_a_broken_envelope_is_400_and_kept_for_the_project_s_people(body: bytes, says: str):
    decoded = decode(post(body))
    assert_error(answer_of(decoded), 400, says=says)
    assert kinds_and_fields(decoded) == [("CHECKIN_VALIDATION_FAILED", "")]


@pytest.mark.parametrize(("encoding", "says"), [("gzip", "valid gzip"), ("compress", "is not known")])
def test_a_body_that_cannot_be_decompressed_is_400(encoding: str, says: str):
    decoded = decode(post(b"hello", content_encoding=encoding))
    assert_error(answer_of(decoded), 400, says=says)
    assert kinds_and_fields(decoded) == [("CHECKIN_VALIDATION_FAILED", "")]


def test_a_decompression_bomb_is_413():
    decoded = decode(post(gzip.compress(bytes(LIMITS.body_bytes_max + 1)), content_encoding="gzip"))
    assert_error(answer_of(decoded), 413, says="more than 20971520 bytes")
    assert kinds_and_fields(decoded) == [("CHECKIN_VALIDATION_FAILED", "")]


def test_a_body_that_was_not_read_to_its_end_is_413():
    request = IngestRequest(
        method="POST",
        path=f"/api/{PROJECT_ID}/envelope/",
        query="",
        headers=AUTH,
        body=b"",
        body_bytes=LIMITS.body_bytes_max + 1,
        received_at=NOW,
    )
    assert_error(answer_of(decode(request)), 413, says="at most 20971520 are read")


def test_limits_of_bodies_and_items_are_settings():
    limits = Limits(body_bytes_max=1000, envelope_items_max=2)
    too_large = decode(post(envelope_of(("event", b"x" * 1000))), limits)
    assert_error(answer_of(too_large), 413, says="at most 1000 are read")
    assert answer_of(decode(post(envelope_of(("event", b"x" * 900))), limits)).status == 200
    too_many = decode(post(envelope_of(("a", b""), ("b", b""), check_in())), limits)
    assert_error(answer_of(too_many), 413, says="more than 2 items")
    assert kinds_and_fields(too_many) == [("CHECKIN_VALIDATION_FAILED", "")]


def test_a_check_in_that_is_too_large_is_413_and_the_others_of_its_envelope_count():
    body = envelope_of(check_in(x="x" * 500), check_in())
    decoded = decode(post(body), Limits(checkin_bytes_max=500))
    assert [type(message) for message in decoded.messages] == [RefusedCheckIn, CheckInMessage]
    assert_error(answer_of(decoded), 413, says="check_in item has more than 500 bytes")


# What else SDKs send


def rate_limits(decoded: Decoded) -> list[str]:
    answer = answer_of(decoded)
    assert answer.status == 200
    headers = dict(answer.headers)
    assert b"retry-after" not in headers
    return [headers[b"x-sentry-rate-limits"].decode()] if b"x-sentry-rate-limits" in headers else []


def test_senders_of_other_items_are_asked_to_keep_them_for_an_hour_but_never_check_ins():
    for items in ([("event", b"{}")], [check_in(), ("session", b"{}")], [("made_up", b"")]):
        [limits] = rate_limits(decode(post(envelope_of(*items))))
        seconds, categories, scope = limits.split(":")
        assert (seconds, scope) == ("3600", "organization")
        named = categories.split(";")
        assert {"error", "transaction", "session", "log_item", "span", "profile", "attachment", "default"} < set(named)
        assert {"profile_chunk", "replay", "feedback", "security", "trace_metric", "metric_bucket"} < set(named)
        # An empty category means every one of them; client reports are `internal`, and of use to us.
        assert not {"", "monitor", "monitor_seat", "internal"} & set(named)


def test_senders_of_nothing_but_check_ins_and_client_reports_are_asked_for_nothing():
    report = ("client_report", b'{"discarded_events":[]}')
    for items in ([], [check_in()], [report], [check_in(), report]):
        assert rate_limits(decode(post(envelope_of(*items)))) == []


@pytest.mark.parametrize(
    ("client", "is_asked"),
    [
        ("sentry.python/2.75.0", True),
        ("sentry.python/1.45.1", True),
        ("sentry.python/1.17.0", False),
        ("sentry.python.django/1.39.2", False),
        ("sentry.javascript.node/1.12.0", True),
        ("sentry-ruby/5.12.0", False),
        ("sentry.ruby.rails/5.17.3", False),
        ("sentry-ruby/6.1.0", True),
        ("sentry-ruby/5.28.0", True),
    ],
)
def test_sdks_that_would_hold_back_check_ins_too_are_not_asked(client: str, is_asked: bool):
    header = f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client={client}"
    for headers in ({"x_sentry_auth": header}, {"user_agent": client}):
        assert len(rate_limits(decode(post(envelope_of(("event", b"{}")), **headers)))) == is_asked


# Loss reports (D19)


def report_of(*entries: object, timestamp: object = 1795430040.28) -> tuple[str, bytes]:
    return "client_report", json.dumps({"timestamp": timestamp, "discarded_events": list(entries)}).encode()


def lost(**fields: object) -> dict[str, object]:
    return {"reason": "network_error", "category": "monitor", "quantity": 1, **fields}


def losses_in(*items: tuple[str, bytes] | dict[str, object]) -> list[tuple[str, int]]:
    decoded = decode(post(envelope_of(*items)))
    assert answer_of(decoded).status == 200
    return [(message.reason, message.quantity) for message in decoded.messages if isinstance(message, LossReport)]


def test_d19_lost_check_ins_of_a_client_report_are_told_beside_the_check_ins():
    decoded = decode(post(envelope_of(report_of(lost()), check_in())))
    assert isinstance(decoded.messages[1], CheckInMessage)
    assert decoded.messages[:1] == [
        LossReport(
            project_id=PROJECT_ID,
            reason="network_error",
            quantity=1,
            reported_at=datetime(2026, 11, 23, 10, 34, 0, 280_000, tzinfo=UTC),
            received_at=NOW,
            source=Source.SENTRY_ENVELOPE,
        )
    ]
    assert answer_of(decoded).status == 200


def test_d19_only_check_ins_count_and_each_reason_is_told():
    report = report_of(
        lost(category="error"),
        lost(reason="queue_overflow", quantity=7),
        lost(category="transaction", quantity=3),
        lost(reason="ratelimit_backoff", quantity=2),
    )
    assert losses_in(report, check_in(), report_of(lost())) == [
        ("queue_overflow", 7),
        ("ratelimit_backoff", 2),
        ("network_error", 1),
    ]


@pytest.mark.parametrize("quantity", [0, -1, 1.5, True, "1", None, [], {}])
def test_d19_what_is_no_number_of_check_ins_is_ignored(quantity: object):
    assert losses_in(report_of(lost(quantity=quantity), lost(quantity=2))) == [("network_error", 2)]


def test_d19_numbers_and_reasons_stay_storable():
    entries = [lost(quantity=2**70), lost(reason="a\x00\ud800"), lost(reason="x" * 1000), lost(reason=None)]
    assert losses_in(report_of(*entries)) == [
        ("network_error", 2**31 - 1),
        ("a\ufffd\ufffd", 1),
        ("x" * 100, 1),
        ("unknown", 1),
    ]


@pytest.mark.parametrize(
    ("timestamp", "reported_at"),
    [
        ("2026-11-23T10:34:00.280000Z", datetime(2026, 11, 23, 10, 34, 0, 280_000, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
        ([], None),
        (1e300, None),
    ],
)
def test_d19_a_report_is_kept_whatever_its_clock_says(timestamp: object, reported_at: datetime | None):
    [message] = decode(post(envelope_of(report_of(lost(), timestamp=timestamp)))).messages
    assert isinstance(message, LossReport)
    assert message.reported_at == reported_at


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"[]",
        b"5",
        b"{}",
        b"[" * 9999,
        b'{"discarded_events":{}}',
        b'{"discarded_events":[1,null,[],{}]}',
        b'{"discarded_events":[{"category":"monitor","quantity":1}],"x":"%s"}' % (b"x" * LIMITS.checkin_bytes_max),
    ],
)
def test_d19_a_broken_report_is_ignored_and_its_envelope_is_not(payload: bytes):
    decoded = decode(post(envelope_of(("client_report", payload), check_in())))
    assert [type(message) for message in decoded.messages] == [CheckInMessage]
    assert answer_of(decoded).status == 200


def test_d19_an_envelope_brings_a_bounded_number_of_reports():
    report = report_of(*[lost()] * 70)
    assert len(losses_in(report, report)) == LOSS_REPORTS_MAX


# Whose is it?


@pytest.mark.parametrize("place", ["header", "authorization", "basic", "query", "dsn"])
def test_every_form_of_authorization_names_the_same_sender(place: str):
    headers = {
        "header": {"x-sentry-auth": HEADER},
        "authorization": {"authorization": HEADER},
        "basic": {"authorization": basic(KEY)},
    }.get(place, {})
    query = f"sentry_version=7&sentry_key={KEY}&sentry_client=x%2F1" if place == "query" else ""
    header: dict[str, object] = {"dsn": f"http://{KEY}@host/1"} if place == "dsn" else {}
    for encode, encoding in ((bytes, "identity"), (brotli.compress, "br"), (gzip.compress, "gzip")):
        request = make_request(
            "/api/42/envelope/",
            encode(envelope_of(check_in(), header=header)),
            query=query,
            headers={**headers, "content-encoding": encoding},
        )
        assert identify(request) == Sender(project_id=42, public_key=KEY)


def test_a_dsn_in_the_envelope_is_ignored_where_the_request_names_a_key():
    assert identify(post(envelope_of(header={"dsn": "http://another@host/1"}))).public_key == KEY


def test_of_a_body_without_key_only_the_start_is_looked_at():
    bomb = gzip.compress(b'{"dsn":"http://%s@host/1"}\n' % KEY.encode() + bytes(30_000_000))
    headers = {"content-encoding": "gzip"}
    assert identify(make_request("/api/42/envelope/", bomb, headers=headers)).public_key == KEY
    endless = gzip.compress(b'{"x":"' + b"x" * 30_000_000)
    with pytest.raises(AuthError, match="missing authorization"):
        identify(make_request("/api/42/envelope/", endless, headers=headers))


def refusal(request: IngestRequest) -> Answer:
    with pytest.raises(IngestError) as caught:
        identify(request)
    protocol, _ = route(request)
    answer = protocol.refuse(caught.value)
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    ("body", "query", "headers", "status", "says"),
    [
        (envelope_of(check_in()), "", {}, 401, "missing authorization"),
        (b"hello", "", {}, 401, "missing authorization"),
        (b"", "", {}, 401, "missing authorization"),
        (b"{}", "", {"authorization": "Bearer abc"}, 401, "missing authorization"),
        (b"{}", "", {"x-sentry-auth": "Sentry sentry_version=7"}, 401, "names no sentry_key"),
        (b"{}", "", {"x-sentry-auth": HEADER, "authorization": HEADER}, 401, "multiple"),
        (b"{}", f"sentry_key={KEY}", {"x-sentry-auth": HEADER}, 401, "multiple"),
        (b"{}", "", {"x-sentry-auth": HEADER.replace("=7", "=8")}, 400, "version"),
        (b"{}", "", {"x-sentry-auth": "Sentry sentry_key=abc"}, 400, "malformed public key 'abc'"),
        (b"{}", "sentry_key=%ff", {}, 400, "malformed"),
        (envelope_of(header={"dsn": "http://abc@host/1"}), "", {}, 400, "malformed"),
    ],
)
def test_requests_that_do_not_say_whose_they_are(
    body: bytes, query: str, headers: dict[str, str], status: int, says: str
):
    answer = refusal(make_request("/api/42/envelope/", body, query=query, headers=headers))
    [cause] = assert_error(answer, status, says=says)
    assert "32 lower-case hex digits" in cause


@pytest.mark.parametrize("project_id", [2**53, 10**19, "9" * 20])
def test_a_project_that_cannot_exist_is_as_unknown_as_any_other(project_id: object):
    assert_error(refusal(make_request(f"/api/{project_id}/envelope/", b"{}")), 403, says="not an active key")
    path = f"/api/{project_id}/cron/nightly/{KEY}/"
    assert_error(refusal(make_request(path, headers={})), 403, says="not an active key")


def test_an_unknown_key_is_403_with_what_is_allowed():
    for _, protocol in ROUTES:
        answer = protocol.refuse(UnknownKeyError("the key is not an active key of this project"))
        [cause] = assert_error(answer, 403, says="not an active key")
        assert cause.startswith("sentry_key: it takes one active key of the project in the address")


# One check-in over plain HTTP


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_plain_request_checks_in(method: str, slash: str):
    query = f"status=error&duration=1.5&environment=staging&check_in_id={uuid.UUID(ID_TEXT)}"
    request = plain(query, path=f"nightly/{KEY}{slash}", method=method)
    assert identify(request) == Sender(project_id=PROJECT_ID, public_key=KEY)
    decoded = decode(request)
    [message] = decoded.messages
    assert isinstance(message, CheckInMessage)
    assert (message.check_in_id, message.status, message.duration_ms) == (uuid.UUID(ID_TEXT), "error", 1500)
    assert (message.environment, message.source, message.slug) == ("staging", Source.SENTRY_HTTP, "nightly")
    assert answer_of(decoded) == Answer(202)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_json_body_checks_in_and_configures(content_type: str):
    decoded = decode(post_json({"status": "ok", "monitor_slug": "ignored", "monitor_config": CRONTAB}, content_type))
    [message] = decoded.messages
    assert isinstance(message, CheckInMessage)
    assert (message.slug, message.status) == ("nightly", CheckInStatus.OK)
    assert message.config is not None
    assert answer_of(decoded) == Answer(202)


def test_a_compressed_json_body_is_read():
    request = make_request(
        f"/api/{PROJECT_ID}/cron/nightly/{KEY}/",
        gzip.compress(b'{"status":"ok"}'),
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert isinstance(decode(request).messages[0], CheckInMessage)


def test_with_a_json_body_the_query_is_not_read():
    decoded = decode(post_json({}, query="status=ok"))
    assert assert_error(answer_of(decoded), 400, says="cannot be read") == [
        "status (not sent) was refused: it takes one of in_progress, ok, error."
    ]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_with_any_other_body_the_body_is_not_read(content_type: str):
    decoded = decode(post_json({"status": "error"}, content_type, query="status=ok"))
    [message] = decoded.messages
    assert isinstance(message, CheckInMessage)
    assert message.status == "ok"


def test_of_two_values_of_a_parameter_the_last_counts():
    [message] = decode(plain("status=error&status=ok")).messages
    assert isinstance(message, CheckInMessage)
    assert message.status == "ok"


@pytest.mark.parametrize("place", ["header", "basic", "query"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_path_may_end_at_the_slug(place: str, slash: str):
    headers = {"header": {"x-sentry-auth": HEADER}, "basic": {"authorization": basic(KEY)}}.get(place, {})
    query = "status=ok" + (f"&sentry_key={KEY}" if place == "query" else "")
    request = make_request(f"/api/42/cron/nightly{slash}", method="GET", query=query, headers=headers)
    assert identify(request) == Sender(project_id=42, public_key=KEY)
    [message] = decode(request).messages
    assert isinstance(message, CheckInMessage)
    assert message.slug == "nightly"


@pytest.mark.parametrize(
    ("raw", "slug"),
    [
        ("Some Job", "some-job"),
        ("some/job", "somejob"),
        ("söme.job", "somejob"),
        ("-some-job-", "some-job"),
        ("a\nb", "a-b"),
        ("a\udcffb", "ab"),
        ("a\x00b", "ab"),
    ],
)
def test_the_slug_of_the_path_is_taken_raw(raw: str, slug: str):
    [message] = decode(plain("status=ok", path=f"{raw}/{KEY}")).messages
    assert isinstance(message, CheckInMessage)
    assert message.slug == slug
    assert message.raw_slug.encode().decode() == message.raw_slug
    assert "\x00" not in message.raw_slug


@pytest.mark.parametrize(
    ("query", "kind", "field"),
    [
        ("status=success", "CHECKIN_VALIDATION_FAILED", "status"),
        ("status=ok&environment=" + "x" * 65, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ("status=ok&environment=%00", "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ("status=ok&environment=%ff", "MONITOR_INVALID_ENVIRONMENT", "environment"),
    ],
)
def test_a_value_that_only_processing_understands_is_202(query: str, kind: str, field: str):
    decoded = decode(plain(query))
    assert isinstance(decoded.messages[0], RefusedCheckIn)
    assert kinds_and_fields(decoded) == [(kind, field)]
    assert answer_of(decoded) == Answer(202)


def test_d18_a_bad_duration_is_202_and_the_check_in_counts():
    decoded = decode(plain("status=ok&duration=soon"))
    assert isinstance(decoded.messages[0], CheckInMessage)
    assert kinds_and_fields(decoded) == [("CHECKIN_VALIDATION_FAILED", "duration")]
    assert answer_of(decoded) == Answer(202)


@pytest.mark.parametrize(
    ("query", "kind", "field"),
    [
        ("", "CHECKIN_VALIDATION_FAILED", "status"),
        ("status=", "CHECKIN_VALIDATION_FAILED", "status"),
        ("status=ok&check_in_id=job-17", "CHECKIN_INVALID_GUID", "check_in_id"),
    ],
)
def test_a_query_that_cannot_be_read_is_400(query: str, kind: str, field: str):
    decoded = decode(plain(query))
    [cause] = assert_error(answer_of(decoded), 400, says="cannot be read")
    assert cause.startswith(field)
    assert kinds_and_fields(decoded) == [(kind, field)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" ", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"[" * 50_000, 400),
        (b'{"status":"ok","x":' + b"[" * 50 + b"]" * 50 + b"}", 400),
        (b" " * (LIMITS.checkin_bytes_max + 1), 413),
    ],
)
def test_a_json_body_that_cannot_be_read_is_refused(body: bytes, status: int):
    decoded = decode(post_json(body))
    assert_error(answer_of(decoded), status, says="")
    assert kinds_and_fields(decoded) == [("CHECKIN_VALIDATION_FAILED", "")]
    assert isinstance(decoded.messages[0], RefusedCheckIn)
    assert decoded.messages[0].slug == "nightly"


def test_many_parameters_are_no_reason_to_lose_a_check_in():
    assert isinstance(decode(plain("a=1&" * 4000 + "status=ok")).messages[0], CheckInMessage)


@pytest.mark.parametrize(
    ("path", "query", "status", "says"),
    [
        ("nightly", "status=ok", 401, "missing authorization"),
        (f"nightly/{KEY}", f"status=ok&sentry_key={KEY}", 401, "multiple"),
        ("nightly/abc/", "status=ok", 400, "malformed public key 'abc'"),
    ],
)
def test_the_plain_endpoint_checks_keys_as_the_other_does(path: str, query: str, status: int, says: str):
    assert_error(refusal(plain(query, path=path)), status, says=says)


# Addresses


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/api/1/envelope/", {"project_id": "1"}),
        ("/api/1/envelope", {"project_id": "1"}),
        ("/sentry/api/12345678901234567890/envelope/", {"project_id": "12345678901234567890"}),
        ("/a/b/api/7/envelope/", {"project_id": "7"}),
        ("/api/2/api/7/envelope/", {"project_id": "7"}),
        ("/api/1/cron/a/", {"project_id": "1", "slug": "a"}),
        ("/api/1/cron/a/b/key", {"project_id": "1", "slug": "a/b", "key": "key"}),
    ],
)
def test_addresses(path: str, address: dict[str, str]):
    protocol, found = route(make_request(path))
    assert found == address
    assert protocol.methods == ({"GET", "POST"} if "cron" in path else {"POST"})


@pytest.mark.parametrize(
    "path",
    [
        "/api/x/envelope/",
        "/api/123456789012345678901/envelope/",
        "/api//envelope/",
        "/api/1/envelope//",
        "/api/1/store/",
        "/prefix/api/1/cron/a/key/",
        "/api/1/cron/",
        "/api/\u0661/envelope/",
        "/xapi/1/envelope/",
        "api/1/envelope/",
    ],
)
def test_what_is_no_address(path: str):
    assert not any(pattern.fullmatch(path) for pattern, _ in ROUTES)


REQUESTS = st.builds(
    make_request,
    st.sampled_from(["/api/1/envelope/", f"/api/1/cron/a/{KEY}", "/api/1/cron/a"]),
    st.binary() | st.lists(LINES).map(b"\n".join) | st.just(envelope_of(check_in(), report_of(lost()))),
    method=st.sampled_from(["GET", "POST"]),
    query=st.text(max_size=20) | st.sampled_from(["status=ok", "status=%ff&sentry_key=%ff"]),
    headers=st.dictionaries(
        st.sampled_from(["x-sentry-auth", "authorization", "content-type", "content-encoding", "user-agent"]),
        st.text(max_size=20)
        | st.sampled_from([HEADER, basic(KEY), "gzip", "br", "zstd", "deflate", "application/json"]),
    ),
)


@given(REQUESTS)
def test_any_request_is_decoded_or_refused_in_words(request: IngestRequest):
    protocol, address = route(request)
    refusals = []
    try:
        protocol.identify(request, address, LIMITS)
    except IngestError as error:
        refusals.append(protocol.refuse(error))
    assert all(400 <= answer.status < 500 for answer in refusals)
    answer = answer_of(decode(request))
    assert 200 <= answer.status < 500
    assert answer.status != 429


# What is read once


@pytest.mark.parametrize(("characters", "is_held"), [(300, True), (301, False)])
def test_a_header_of_usual_length_is_read_once_and_a_long_one_is_not_held(characters: int, is_held: bool):
    sentry_key._known_header_fields.cache_clear()
    header = HEADER.ljust(characters, "x")
    assert [parse_auth(x_sentry_auth=header) for _ in range(3)] == [KEY] * 3
    held = sentry_key._known_header_fields.cache_info()
    assert (held.currsize, held.hits) == ((1, 2) if is_held else (0, 0))


@pytest.mark.parametrize(("length", "is_held"), [(200, True), (201, False)])
def test_an_items_header_of_usual_length_is_read_once_and_a_long_one_is_not_held(length: int, is_held: bool):
    sentry_envelope._known_header.cache_clear()
    body = b"{}\n" + b'{"type":"check_in","length":2}'.ljust(length) + b"\n{}\n"
    assert [items_of(body) for _ in range(3)] == [[("check_in", b"{}")]] * 3
    held = sentry_envelope._known_header.cache_info()
    assert (held.currsize, held.hits) == ((1, 2) if is_held else (0, 0))
