"""Healthchecks pings: what each address, query and body means, and the exact answers that clients compare."""

import gzip
import uuid
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import BodyError
from checkins.messages import CheckInMessage, LogMessage, ProblemKind, RunLog, Source
from checkins.protocols.healthchecks import ROUTES
from checkins.protocols.request import Limits
from monitors.configuration import Configuration
from monitors.schedule import Schedule
from tests.pings import (
    CREATED,
    GUID,
    KEY,
    NO_MONITOR,
    NOW,
    PROJECT_ID,
    RAW_SLUG,
    SLUG,
    Exchange,
    assert_storable,
    failed,
    send,
)

BY_GUID = f"/ping/{GUID}"
BY_SLUG = f"/ping/{KEY}/backup-db"
RUN_ID = uuid.UUID("941723b3-aef3-4230-b0dd-a4e899818344")

OK = 200, "OK"
NOT_FOUND = 404, "not found"
INVALID_URL = 400, "invalid url format"
INVALID_UUID = 400, "invalid uuid format"


def ping(target: str, **how) -> Exchange:
    return send(ROUTES, target, **how)


# What the address says


@pytest.mark.parametrize("address", [BY_GUID, BY_SLUG])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("action", "status", "exit_status"),
    [
        ("", "ok", None),
        ("/start", "in_progress", None),
        ("/fail", "error", None),
        ("/0", "ok", 0),
        ("/1", "error", 1),
        ("/3", "error", 3),
        ("/255", "error", 255),
        ("/007", "error", 7),
        ("/000", "ok", 0),
    ],
)
def test_the_end_of_the_address_says_how_the_run_stands(address, action, slash, status, exit_status):
    exchange = ping(address + action + slash)
    assert exchange.checkin.status == status
    assert exchange.checkin.exit_status == exit_status
    assert exchange.said == OK


def test_a_monitors_own_address_is_a_whole_check_in():
    checkin = ping(BY_GUID).checkin
    assert checkin == CheckInMessage(
        project_id=PROJECT_ID,
        slug=SLUG,
        raw_slug=RAW_SLUG,
        environment="production",
        status=checkin.status,
        check_in_id=None,
        received_at=NOW,
        source=Source.HEALTHCHECKS,
        payload={"method": "GET"},
    )


def test_a_ping_key_and_slug_name_the_monitor():
    checkin = ping(BY_SLUG).checkin
    assert (checkin.project_id, checkin.slug, checkin.raw_slug) == (PROJECT_ID, "backup-db", "backup-db")
    assert checkin.config_if_new is None


def test_d27_a_slug_longer_than_ours_keeps_apart_from_others_and_is_kept_as_it_was():
    checkin = ping(f"/ping/{KEY}/{'a' * 100}").checkin
    assert (checkin.slug, checkin.raw_slug) == ("a" * 41 + "-28165978", "a" * 100)


@pytest.mark.parametrize(
    ("written", "slug"),
    [("Backup", "backup"), ("My%20Job", "my-job"), ("back.up", "backup"), ("b%C3%A4ckup", "backup"), ("a%00b", "ab")],
)
def test_d28_capitals_dots_and_spaces_of_a_slug_are_taken(written, slug):
    checkin = ping(f"/ping/{KEY}/{written}/start").checkin
    assert (checkin.slug, checkin.status) == (slug, "in_progress")


@pytest.mark.parametrize("address", [BY_GUID, BY_SLUG])
@pytest.mark.parametrize("exit_status", [1, 256, 1000, -1, -9, 3221225786])
def test_d28_any_exit_status_is_an_error_and_0_is_ok(address, exit_status):
    checkin = ping(f"{address}/{exit_status}").checkin
    assert (checkin.status, checkin.exit_status) == ("error", exit_status)
    assert ping(f"{address}/0").checkin.status == "ok"


@pytest.mark.parametrize("slug", ["start", "fail", "log", "0", "ok", "run", "complete"])
def test_a_word_right_after_the_key_is_a_slug(slug):
    checkin = ping(f"/ping/{KEY}/{slug}").checkin
    assert (checkin.slug, checkin.status, checkin.source) == (slug, "ok", Source.HEALTHCHECKS)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_any_method_is_a_ping(method):
    exchange = ping(BY_GUID, method=method)
    assert exchange.checkin.status == "ok"
    assert exchange.said == OK


@pytest.mark.parametrize("address", [BY_GUID, BY_SLUG])
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("/" + "9" * 5000, INVALID_URL),
        ("?rid=123", INVALID_UUID),
        ("?rid=", INVALID_UUID),
        ("?rid", INVALID_UUID),
        ("/start?rid=%00", INVALID_UUID),
    ],
)
def test_what_is_malformed_is_refused_in_set_words_and_stored(address, end, said):
    exchange = ping(address + end)
    assert exchange.said == said
    assert exchange.refusal.slug in (SLUG, "backup-db")
    [problem] = exchange.refusal.problems
    assert problem.field == ("exit status" if said == INVALID_URL else "rid")
    assert "it takes" in problem.message


@pytest.mark.parametrize("address", [BY_GUID, BY_SLUG])
@pytest.mark.parametrize("end", ["/-", "/anything", "/Start", "/1.5", "/%C2%B2", "/+1", "/start "])
def test_an_unknown_action_is_not_found_and_stored(address, end):
    exchange = ping(address + end)
    assert exchange.answer.status == 404
    assert "/start, /fail, /log" in exchange.said[1]
    [problem] = exchange.refusal.problems
    assert problem.kind is ProblemKind.CHECKIN_VALIDATION_FAILED
    assert problem.field == "action"


@pytest.mark.parametrize("slug", ["a" * 201, "---", "_", "...", "%E6%97%A5%E6%9C%AC"])
def test_a_slug_of_other_characters_is_an_invalid_url(slug):
    exchange = ping(f"/ping/{KEY}/{slug}?create=1")
    assert exchange.said == INVALID_URL
    [problem] = exchange.refusal.problems
    assert problem.field == "slug"


@pytest.mark.parametrize(
    "path",
    [
        f"/ping/{uuid.UUID(int=5)}",
        f"/ping/{uuid.UUID(int=5)}/start",
        f"/ping/{KEY[::-1]}/backup-db?create=1",
        "/ping/aBcDeFgHiJkLmNoPqRsT_-/backup-db?create=1",
        f"/ping/{KEY.upper()}/backup-db",
        f"/ping/{str(GUID).upper()}/start",
        f"/ping/{GUID.hex}/start",
        f"/ping/{GUID}/start/again",
    ],
)
def test_an_unknown_sender_is_not_found(path):
    exchange = ping(path)
    assert exchange.said == NOT_FOUND
    assert not exchange.messages


@pytest.mark.parametrize(
    "path",
    ["/ping", "/ping/", f"/ping/{str(GUID).upper()}", f"/ping/{GUID.hex}", "/ping/job-17", f"/ping/{KEY}/", "/ping//"],
)
def test_an_address_that_is_none_gets_an_answer_that_says_what_is_one(path):
    exchange = ping(path)
    assert exchange.answer.status == 404
    assert "/ping/<uuid>" in exchange.said[1]


# What the query says


@pytest.mark.parametrize("text", [str(RUN_ID), str(RUN_ID).upper(), RUN_ID.hex])
@pytest.mark.parametrize("action", ["", "/start", "/fail", "/3"])
def test_a_run_id_pairs_start_and_end(action, text):
    assert ping(f"{BY_GUID}{action}?rid={text}").checkin.check_in_id == RUN_ID


def test_the_answer_to_a_slug_that_is_not_known():
    assert ping(BY_SLUG, outcome=NO_MONITOR).said == NOT_FOUND


@pytest.mark.parametrize("query", ["", "?create=0", "?create=", "?create"])
def test_without_create_no_monitor_is_created(query):
    assert ping(BY_SLUG + query).checkin.config_if_new is None


def test_create_makes_a_monitor_that_expects_one_ping_a_day_with_an_hour_of_margin():
    exchange = ping(f"{BY_SLUG}?create=1", outcome=CREATED)
    daily = Schedule.from_interval(1, "day")
    assert exchange.checkin.config_if_new == Configuration(schedule=daily, checkin_margin_minutes=60)
    assert exchange.checkin.config is None
    assert exchange.said == (201, "Created")


def test_create_is_plain_ok_for_a_known_monitor_and_while_spooling():
    assert ping(f"{BY_SLUG}?create=1").said == OK


def test_create_means_nothing_at_a_monitors_own_address():
    assert ping(f"{BY_GUID}?create=1").checkin.config_if_new is None


def test_no_room_for_another_monitor_is_not_found():
    outcome = failed(ProblemKind.MONITOR_LIMIT_EXCEEDED)
    assert ping(f"{BY_SLUG}?create=1", outcome=outcome).said == NOT_FOUND


@pytest.mark.parametrize(
    "kind",
    [
        ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED,
        ProblemKind.MONITOR_DISABLED,
        ProblemKind.CHECKIN_FINISHED,
        ProblemKind.MONITOR_ENVIRONMENT_LIMIT_EXCEEDED,
    ],
)
def test_d13_what_is_dropped_is_a_success_to_the_client(kind):
    assert ping(BY_GUID, outcome=failed(kind)).said == OK


@pytest.mark.parametrize("query", ["?foo=bar", "?status=fail", "?", "?&&=&", "?%FF=%FF", "?msg=%00", "?\xe9=\ud800"])
def test_other_parameters_are_ignored(query):
    exchange = ping(BY_GUID + query)
    assert (exchange.checkin.status, exchange.checkin.source) == ("ok", Source.HEALTHCHECKS)
    assert exchange.said == OK


def test_the_query_is_kept_for_a_problem_without_the_key():
    payload = ping(f"{BY_SLUG}/fail?foo=b%61r", method="POST").checkin.payload
    assert payload == {"method": "POST", "action": "fail", "query": "foo=b%61r"}


@pytest.mark.parametrize(("query", "name"), [("?environment=staging", "staging"), ("?environment=", "production")])
def test_the_environment_can_be_chosen(query, name):
    assert ping(BY_GUID + query).checkin.environment == name


@pytest.mark.parametrize("raw", ["a/b", "x" * 65, "%0A", "%FF", "%00"])
def test_an_unusable_environment_is_refused_with_a_sentence(raw):
    exchange = ping(f"{BY_GUID}?environment={raw}")
    assert exchange.answer.status == 400
    assert exchange.said[1].startswith("environment ")
    assert "it takes a text of at most 64 characters" in exchange.said[1]
    assert exchange.header["content-type"] == "text/plain; charset=utf-8"
    [problem] = exchange.refusal.problems
    assert problem.kind is ProblemKind.MONITOR_INVALID_ENVIRONMENT


# What the body says


@pytest.mark.parametrize("action", ["", "/start", "/fail", "/3"])
def test_the_body_is_the_runs_log(action):
    assert ping(BY_GUID + action, method="POST", body=b"rows=3").checkin.log == RunLog(b"rows=3", 6)


def test_an_empty_body_is_no_log():
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert ping(f"{BY_GUID}/3", method="POST", headers=headers).checkin.log is None


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", "é".encode()[:1], bytes(range(256)), b"{"])
def test_any_bytes_are_a_log(body):
    assert ping(BY_GUID, body=body).checkin.log == RunLog(body, len(body))


@pytest.mark.parametrize(("size", "kept"), [(9, b"xxxxxxxxy"), (10, b"xxxxxxxxxy"), (11, b"xxxxxxxxxy")])
def test_of_a_larger_body_the_last_part_is_kept(size, kept):
    body = b"x" * (size - 1) + b"y"
    assert ping(BY_GUID, body=body, limits=Limits(log_bytes_max=10)).checkin.log == RunLog(kept, size)


def test_a_body_of_which_only_the_last_part_was_read_says_how_large_it_was():
    assert ping(BY_GUID, body=b"the end", body_bytes=3_000_000).checkin.log == RunLog(b"the end", 3_000_000)


@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("br", brotli.compress), ("Deflate", zlib.compress)]
)
def test_a_compressed_body_is_kept_readable(encoding, encode):
    checkin = ping(BY_GUID, body=encode(b"rows=3" * 100), headers={"content-encoding": encoding}).checkin
    assert checkin.log == RunLog(b"rows=3" * 100, 600)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "utf-8", "\xff"])
def test_a_body_that_cannot_be_decompressed_is_kept_as_it_is(encoding):
    exchange = ping(BY_GUID, body=b"plain", headers={"content-encoding": encoding})
    assert exchange.checkin.log == RunLog(b"plain", 5)
    assert exchange.said == OK


def test_a_body_that_is_too_large_when_decompressed_is_kept_as_it_is():
    body = gzip.compress(b"x" * 1001)
    limits = Limits(body_bytes_max=1000)
    checkin = ping(BY_GUID, body=body, headers={"content-encoding": "gzip"}, limits=limits).checkin
    assert checkin.log == RunLog(body, len(body))


def test_the_end_of_a_compressed_body_is_kept_as_it_is():
    body = gzip.compress(b"rows=3")
    exchange = ping(BY_GUID, body=body, body_bytes=len(body) + 1, headers={"content-encoding": "gzip"})
    assert exchange.checkin.log == RunLog(body, len(body) + 1)


@pytest.mark.parametrize("body", [b"", b"borg: 3 files"])
def test_a_log_is_no_check_in(body):
    exchange = ping(f"{BY_GUID}/log?rid={RUN_ID}&environment=staging", method="POST", body=body)
    assert exchange.log_message == LogMessage(
        project_id=PROJECT_ID,
        slug=SLUG,
        raw_slug=RAW_SLUG,
        environment="staging",
        check_in_id=RUN_ID,
        received_at=NOW,
        source=Source.HEALTHCHECKS,
        log=RunLog(body, len(body)),
        payload={"method": "POST", "action": "log", "query": f"rid={RUN_ID}&environment=staging"},
    )
    assert exchange.said == OK


def test_a_log_can_create_its_monitor():
    exchange = ping(f"{BY_SLUG}/log?create=1", body=b"hello", outcome=CREATED)
    assert exchange.log_message.config_if_new is not None
    assert exchange.said == (201, "Created")


# Which pings are the same one, sent again


def repeat_key(target: str = f"{BY_GUID}/fail", body: bytes = b"Traceback", agent: str = "wrapper") -> uuid.UUID | None:
    return ping(target, method="POST", body=body, headers={"user-agent": agent}).checkin.repeat_key


def test_a_last_word_with_a_body_is_recognised_when_it_is_sent_again():
    assert repeat_key() == repeat_key()
    assert repeat_key() is not None


@pytest.mark.parametrize(
    "other",
    [
        {"target": f"{BY_GUID}/1"},
        {"target": BY_GUID},
        {"target": f"{BY_SLUG}/fail"},
        {"target": f"{BY_GUID}/fail?environment=staging"},
        {"body": b"Traceback "},
        {"agent": "curl"},
    ],
    ids=str,
)
def test_another_word_address_body_or_program_is_another_message(other):
    assert repeat_key(**other) not in (repeat_key(), None)


@pytest.mark.parametrize(
    ("target", "body"), [(BY_GUID, b""), (f"{BY_GUID}/start", b"hello"), (f"{BY_GUID}?rid={RUN_ID}", b"hello")]
)
def test_nothing_tells_the_next_run_from_a_repetition_without_body_and_an_id_says_it_already(target, body):
    assert repeat_key(target, body) is None


# What else the answer says


def test_the_headers_of_a_success():
    assert ping(BY_GUID, limits=Limits(log_bytes_max=777)).header == {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "max-age=0, no-cache, no-store, must-revalidate, private",
        "ping-body-limit": "777",
    }


@pytest.mark.parametrize("target", [f"{BY_GUID}/256", f"{BY_GUID}?rid=", f"/ping/{uuid.UUID(int=5)}"])
def test_a_refusal_is_not_cached(target):
    assert "no-store" in ping(target).header["cache-control"]


def test_a_request_that_cannot_be_read_is_refused_in_the_words_of_its_error():
    answer = ROUTES[0][1].refuse(BodyError("the body ended early"))
    assert (answer.status, answer.body) == (400, b"the body ended early")


# Nothing that can be sent breaks it

PATHS = st.one_of(
    st.text(st.characters(), max_size=60).map(lambda text: "/ping/" + text),
    st.text(st.characters(), max_size=60).map(lambda text: f"{BY_GUID}/{text}"),
    st.text(st.characters(), max_size=120).map(lambda text: f"/ping/{KEY}/{text}"),
    st.sampled_from([BY_GUID, BY_SLUG, f"{BY_GUID}/log", f"{BY_SLUG}/start"]),
)
NAMES = st.sampled_from(["rid", "create", "environment", "env", "state", "stamp", "metric", "series", "msg", "x"])
QUERIES = st.one_of(
    st.text(st.characters()),
    st.text(st.characters(codec="ascii")),
    st.lists(st.tuples(NAMES, st.text("01a-:%&=+\x00\ud800\u00e9")).map("=".join)).map("&".join),
)


@given(
    path=PATHS,
    query=QUERIES,
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
    body=st.binary(max_size=300),
    encoding=st.sampled_from([None, "gzip", "br", "zstd", "deflate", "identity", "?"]),
    more=st.integers(0, 1),
)
def test_any_request_is_a_message_or_an_answer_that_says_why_not(path, query, method, body, encoding, more):
    headers = {} if encoding is None else {"content-encoding": encoding}
    target = path.replace("?", "%3F") + "?" + query
    exchange = ping(target, method=method, body=body, body_bytes=len(body) + more, headers=headers)
    assert exchange.answer.status in (200, 400, 404)
    assert exchange.answer.body
    assert (exchange.answer.status == 200) == any(
        isinstance(message, (CheckInMessage, LogMessage)) for message in exchange.messages
    )
    for message in exchange.messages:
        assert_storable(message)
