"""Uptime Kuma's push address: every backup tool speaks it, and looks at nothing but `ok`."""

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import BodyError
from checkins.messages import CheckInMessage, ProblemKind, RunLog, Source
from checkins.protocols.request import Limits
from checkins.protocols.uptime_kuma import ROUTES
from tests.pings import GUID, KEY, NO_MONITOR, NOW, PROJECT_ID, RAW_SLUG, SLUG, Exchange, assert_storable, failed, send

PUSH = f"/api/push/{GUID.hex}"
OK = 200, '{"ok":true}'
NOT_FOUND = 404, '{"ok":false,"msg":"Monitor not found or not active."}'


def push(target: str, **how) -> Exchange:
    return send(ROUTES, target, **how)


@pytest.mark.parametrize("token", [GUID.hex, GUID.hex.upper(), str(GUID), str(GUID).upper()])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_token_is_the_monitors_id(token, slash):
    exchange = push(f"/api/push/{token}{slash}")
    assert exchange.checkin == CheckInMessage(
        project_id=PROJECT_ID,
        slug=SLUG,
        raw_slug=RAW_SLUG,
        environment="production",
        status=exchange.checkin.status,
        check_in_id=None,
        received_at=NOW,
        source=Source.UPTIME_KUMA,
        payload={"method": "GET"},
    )
    assert exchange.said == OK
    assert exchange.header["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_any_method_is_a_push_and_a_body_does_not_matter(method):
    exchange = push(f"{PUSH}?status=up", method=method, body=b"\xff", headers={"content-encoding": "gzip"})
    assert exchange.checkin.log is None
    assert exchange.said == OK


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", "ok"),
        ("?", "ok"),
        ("?status=up", "ok"),
        ("?status=", "ok"),
        ("?msg=down", "ok"),
        ("?status=down", "error"),
        ("?status=pending", "error"),
        ("?status=UP", "error"),
        ("?status=%00", "error"),
    ],
)
def test_up_or_nothing_is_ok_and_any_other_word_is_an_error(query, status):
    exchange = push(PUSH + query)
    assert exchange.checkin.status == status
    assert exchange.said == OK


def test_the_message_is_the_runs_log():
    checkin = push(f"{PUSH}?status=down&msg=disk+full%FF&ping=", limits=Limits(log_bytes_max=5)).checkin
    assert checkin.log == RunLog(b"full\xff", 10)


@pytest.mark.parametrize(
    ("raw", "duration_ms"), [("12", 12), ("12.9", 12), ("0", 0), ("2147483647", 2_147_483_647), ("", None)]
)
def test_ping_is_the_duration_in_milliseconds(raw, duration_ms):
    checkin = push(f"{PUSH}?status=up&msg=OK&ping={raw}").checkin
    assert (checkin.duration_ms, checkin.problems) == (duration_ms, ())


@pytest.mark.parametrize("raw", ["-1", "2147483648", "nan", "soon", "1e999", "%00"])
def test_d18_a_bad_ping_is_dropped_and_the_push_counts(raw):
    exchange = push(f"{PUSH}?status=up&ping={raw}")
    assert (exchange.checkin.status, exchange.checkin.duration_ms) == ("ok", None)
    [problem] = exchange.checkin.problems
    assert (problem.kind, problem.field) == (ProblemKind.CHECKIN_VALIDATION_FAILED, "ping")
    assert "milliseconds from 0 to 2147483647" in problem.message
    assert exchange.said == OK


@pytest.mark.parametrize(("query", "name"), [("?environment=staging", "staging"), ("?environment=", "production")])
def test_the_environment_can_be_chosen(query, name):
    assert push(PUSH + query).checkin.environment == name


def test_an_unusable_environment_is_refused_and_stored():
    exchange = push(f"{PUSH}?environment=a/b")
    [problem] = exchange.refusal.problems
    assert (problem.kind, exchange.refusal.slug) == (ProblemKind.MONITOR_INVALID_ENVIRONMENT, SLUG)
    assert exchange.answer.status == 400
    assert json.loads(exchange.answer.body) == {"ok": False, "msg": problem.message}


@pytest.mark.parametrize(
    "path",
    [
        f"/api/push/{uuid.UUID(int=5).hex}",
        f"/api/push/{KEY}",
        "/api/push/pushToken12",
        f"/api/push/{{{GUID}}}",
        f"/api/push/{GUID}/start",
        f"/api/push//{GUID}",
        "/api/push",
        "/api/push/",
        f"/api/push/{GUID}%0A",
    ],
)
def test_an_unknown_token_is_not_found(path):
    exchange = push(path)
    assert exchange.said == NOT_FOUND
    assert not exchange.messages


def test_a_monitor_that_is_gone_is_not_found():
    assert push(PUSH, outcome=NO_MONITOR).said == NOT_FOUND


def test_d13_what_is_dropped_is_a_success_to_the_client():
    assert push(PUSH, outcome=failed(ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED)).said == OK


def test_a_request_that_cannot_be_read_is_refused_in_the_words_of_its_error():
    answer = ROUTES[0][1].refuse(BodyError("the body ended early"))
    assert (answer.status, json.loads(answer.body)) == (400, {"ok": False, "msg": "the body ended early"})


NAMES = st.sampled_from(["status", "msg", "ping", "environment", "x"])


@given(
    path=st.one_of(st.just(PUSH), st.text(st.characters()).map(lambda text: "/api/push/" + text.replace("?", ""))),
    query=st.one_of(
        st.text(st.characters()),
        st.lists(st.tuples(NAMES, st.text(st.characters(), max_size=10)).map("=".join)).map("&".join),
    ),
    body=st.binary(max_size=20),
)
def test_any_push_is_a_message_or_an_answer_that_says_why_not(path, query, body):
    exchange = push(f"{path}?{query}", method="POST", body=body)
    assert exchange.answer.status in (200, 400, 404)
    assert json.loads(exchange.answer.body)["ok"] is (exchange.answer.status == 200)
    for message in exchange.messages:
        assert_storable(message)
