"""Our own JSON protocol: one check-in or many, a result for each, and nothing that one of them can do to the others."""

import gzip
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import IngestError, UnknownKeyError
from checkins.messages import (
    CheckInMessage,
    CheckInStatus,
    Outcome,
    Problem,
    ProblemKind,
    RefusedCheckIn,
    RunLog,
    Source,
)
from checkins.protocols.request import Answer, Decoded, IngestRequest, KnownSender, Limits, Sender
from checkins.protocols.rest import ROUTES
from monitors.configuration import Configuration
from monitors.schedule import Schedule

KEY = "0123456789abcdef0123456789abcdef"
PROJECT_ID = 42
NOW = datetime(2026, 11, 23, 10, 44, 9, 200_000, tzinfo=UTC)
ID_TEXT = "941723b3-aef3-4230-b0dd-a4e899818344"
LIMITS = Limits()
[(PATTERN, PROTOCOL)] = ROUTES


def make_request(body: bytes | object, **headers: str) -> IngestRequest:
    plain = body if isinstance(body, bytes) else json.dumps(body).encode()
    return IngestRequest(
        method="POST",
        path="/api/v1/checkins",
        query="",
        headers={
            "authorization": f"Bearer {KEY}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        body=plain,
        body_bytes=len(plain),
        received_at=NOW,
    )


def decode(body: bytes | object, limits: Limits = LIMITS, **headers: str) -> Decoded:
    return PROTOCOL.decode(make_request(body, **headers), {}, KnownSender(PROJECT_ID), limits)


def check_in(**fields: object) -> dict[str, object]:
    return {"monitor": "nightly", "status": "ok", **fields}


def accepted(**fields: object) -> CheckInMessage:
    [message] = decode(check_in(**fields)).messages
    assert isinstance(message, CheckInMessage), message
    return message


def answer_of(decoded: Decoded, *outcomes: Outcome) -> dict[str, Any]:
    """Return what is answered: by default what it is while everything waits in the spool."""
    answer = decoded.answer(outcomes or [Outcome(accepted=True) for _ in decoded.messages])
    assert (answer.status, dict(answer.headers)[b"content-type"]) == (202, b"application/json"), answer
    body: dict[str, Any] = json.loads(answer.body)
    return body


def kinds_and_fields(message: object) -> list[tuple[str, str]]:
    assert isinstance(message, (CheckInMessage, RefusedCheckIn))
    return [(problem.kind.value, problem.field) for problem in message.problems]


def assert_error(answer: Answer, status: int, *, says: str) -> list[str]:
    assert answer.status == status, answer
    body = json.loads(answer.body)
    assert set(body) == {"detail", "causes"}
    assert says in body["detail"]
    causes: list[str] = body["causes"]
    return causes


# Who speaks


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"  Bearer   {KEY} "])
def test_the_bearer_token_is_the_key(authorization: str):
    assert PROTOCOL.identify(make_request(b"", authorization=authorization), {}, LIMITS) == Sender(public_key=KEY)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"authorization": ""}, "missing authorization"),
        ({"authorization": f"Basic {KEY}"}, "missing authorization"),
        ({"authorization": KEY}, "missing authorization"),
        ({"authorization": "Bearer"}, "malformed key ''"),
        ({"authorization": "Bearer abc"}, "malformed key 'abc'"),
        ({"authorization": f"Bearer {KEY.upper()}"}, "malformed"),
        ({"authorization": f"Bearer {KEY}0"}, "malformed"),
    ],
)
def test_without_a_key_it_is_401_and_says_what_would_do(headers: Mapping[str, str], says: str):
    with pytest.raises(IngestError) as caught:
        PROTOCOL.identify(make_request(check_in(), **headers), {}, LIMITS)
    answer = PROTOCOL.refuse(caught.value)
    [cause] = assert_error(answer, 401, says=says)
    assert "Bearer" in cause
    assert (b"www-authenticate", b"Bearer") in answer.headers


def test_an_unknown_key_is_403():
    answer = PROTOCOL.refuse(UnknownKeyError("the key is not known"))
    [cause] = assert_error(answer, 403, says="not known")
    assert "32 lower-case hex digits" in cause
    assert b"www-authenticate" not in dict(answer.headers)


# What a check-in says


def test_every_field_is_read():
    item = {
        "monitor": "Nightly Backup",
        "status": "error",
        "id": ID_TEXT,
        "environment": "staging",
        "duration": 1.5,
        "exit_status": 3,
        "log": "no space left",
        "trace_id": "037e995f57474b6198fa76ef24b8599f",
        "timestamp": "2026-11-23T10:44:00Z",
        "config": {"schedule": {"type": "crontab", "value": "0 3 * * *"}, "timezone": "Europe/Vienna"},
        "made_up": [1],
    }
    [message] = decode(item).messages
    assert message == CheckInMessage(
        project_id=PROJECT_ID,
        slug="nightly-backup",
        raw_slug="Nightly Backup",
        environment="staging",
        status=CheckInStatus.ERROR,
        check_in_id=uuid.UUID(ID_TEXT),
        received_at=NOW,
        source=Source.REST,
        duration_ms=1500,
        trace_id=uuid.UUID("037e995f57474b6198fa76ef24b8599f"),
        sent_at=datetime(2026, 11, 23, 10, 44, tzinfo=UTC),
        config=Configuration(schedule=Schedule.from_crontab("0 3 * * *", "Europe/Vienna"), timezone="Europe/Vienna"),
        exit_status=3,
        log=RunLog(b"no space left", 13),
        payload={name: value for name, value in item.items() if name != "log"},
    )


def test_the_smallest_check_in_is_a_monitor_and_a_status():
    message = accepted()
    assert (message.environment, message.check_in_id, message.log, message.exit_status) == (
        "production",
        None,
        None,
        None,
    )
    assert message.problems == ()


def test_null_is_the_same_as_nothing():
    names = ["id", "environment", "duration", "exit_status", "log", "trace_id", "timestamp", "config", "monitor_config"]
    message = accepted(**dict.fromkeys(names))
    assert (message.problems, message.config, message.config_problem) == ((), None, None)


def test_the_configuration_may_have_sentry_s_name():
    assert accepted(monitor_config={"schedule": {"type": "crontab", "value": "0 3 * * *"}}).config is not None


@pytest.mark.parametrize(
    ("fields", "kind", "field", "says"),
    [
        ({"monitor": None}, "CHECKIN_VALIDATION_FAILED", "monitor", "monitor (not sent) was refused"),
        ({"monitor": "???"}, "CHECKIN_VALIDATION_FAILED", "monitor", "monitor '???' was refused"),
        ({"status": "success"}, "CHECKIN_VALIDATION_FAILED", "status", "in_progress, ok, error"),
        ({"id": "job-17"}, "CHECKIN_INVALID_GUID", "id", "id 'job-17' was refused: it takes a UUID"),
        ({"environment": "a/b"}, "MONITOR_INVALID_ENVIRONMENT", "environment", "environment 'a/b' was refused"),
    ],
)
def test_a_refused_check_in_has_its_reason_in_the_words_of_this_protocol(
    fields: dict[str, object], kind: str, field: str, says: str
):
    decoded = decode(check_in(**fields))
    [message] = decoded.messages
    assert isinstance(message, RefusedCheckIn)
    assert kinds_and_fields(message) == [(kind, field)]
    assert message.payload == check_in(**fields)
    body = answer_of(decoded)
    assert (body["accepted"], body["refused"]) == (0, 1)
    [result] = body["results"]
    [problem] = result["problems"]
    assert (result["accepted"], problem["kind"], problem["field"]) == (False, kind, field)
    assert says in problem["message"]


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"duration": "soon"}, "CHECKIN_VALIDATION_FAILED", "duration"),
        ({"trace_id": "x"}, "CHECKIN_VALIDATION_FAILED", "trace_id"),
        ({"exit_status": 1 << 63}, "CHECKIN_VALIDATION_FAILED", "exit_status"),
        ({"exit_status": "x"}, "CHECKIN_VALIDATION_FAILED", "exit_status"),
        ({"exit_status": True}, "CHECKIN_VALIDATION_FAILED", "exit_status"),
        ({"exit_status": 1.5}, "CHECKIN_VALIDATION_FAILED", "exit_status"),
        ({"log": 5}, "CHECKIN_VALIDATION_FAILED", "log"),
    ],
)
def test_d18_a_bad_part_is_dropped_and_the_check_in_counts(fields: dict[str, object], kind: str, field: str):
    message = accepted(**fields)
    assert kinds_and_fields(message) == [(kind, field)]
    assert message.problems[0].message.startswith(f"{field} ")
    assert (message.duration_ms, message.trace_id, message.exit_status, message.log) == (None, None, None, None)


@pytest.mark.parametrize("name", ["config", "monitor_config"])
def test_d18_a_bad_configuration_is_named_as_it_was_sent(name: str):
    good = {"type": "crontab", "value": "0 3 * * *"}
    part = accepted(**{name: {"schedule": good, "max_runtime": "ten"}})
    assert kinds_and_fields(part) == [("MONITOR_INVALID_CONFIG", f"{name}.max_runtime")]
    assert part.problems[0].message.startswith(f"{name}.max_runtime 'ten' was left out")
    assert part.config is not None
    decoded = decode(check_in(**{name: {"schedule": "daily"}}))
    [whole] = decoded.messages
    assert isinstance(whole, CheckInMessage)
    assert whole.config_problem is not None
    assert whole.config_problem.field == f"{name}.schedule"
    [result] = answer_of(decoded)["results"]
    assert [problem["field"] for problem in result["problems"]] == [f"{name}.schedule"]
    assert result["accepted"] is True


@pytest.mark.parametrize(("raw", "exit_status"), [(0, 0), (255, 255), ("3", 3), ("", None)])
def test_exit_statuses(raw: object, exit_status: int | None):
    assert accepted(exit_status=raw).exit_status == exit_status
    assert accepted(exit_status=raw).problems == ()


def test_of_a_large_log_the_last_part_is_kept():
    [message] = decode(check_in(log="a" * 1000 + "é" * 10), Limits(log_bytes_max=25, checkin_bytes_max=200)).messages
    assert isinstance(message, CheckInMessage)
    assert message.log == RunLog(b"aaaaa" + "é".encode() * 10, 1020)


def test_odd_characters_are_no_reason_to_lose_a_check_in():
    message = accepted(log="a\ud800\x00b", monitor="night\x00ly\ud800", made_up={"\x00": "\ud800"})
    assert message.log == RunLog(b"a?\x00b", 4)
    assert message.slug == "nightly"
    assert "\\u0000" not in json.dumps(message.payload)


# Many at once


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"checkins": items}])
def test_each_of_many_has_its_own_result(wrap: Any):
    items = [check_in(id=ID_TEXT), 5, check_in(status="success"), check_in(duration=-1), None, check_in(monitor="b")]
    decoded = decode(wrap(items))
    assert [type(message) for message in decoded.messages] == [
        CheckInMessage,
        RefusedCheckIn,
        RefusedCheckIn,
        CheckInMessage,
        RefusedCheckIn,
        CheckInMessage,
    ]
    body = answer_of(decoded)
    assert (body["accepted"], body["refused"]) == (3, 3)
    results = body["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4, 5]
    assert [result["accepted"] for result in results] == [True, False, False, True, False, True]
    assert [result["id"] for result in results] == [ID_TEXT, None, None, None, None, None]
    assert [[problem["field"] for problem in result["problems"]] for result in results] == [
        [],
        [""],
        ["status"],
        ["duration"],
        [""],
        [],
    ]
    assert results[1]["problems"] == [
        {
            "kind": "CHECKIN_VALIDATION_FAILED",
            "field": "",
            "value": "5",
            "message": "check-in 5 was refused: it takes a JSON object.",
        }
    ]


def test_what_became_of_a_check_in_is_told():
    guid = uuid.uuid4()
    not_found = Problem(
        ProblemKind.MONITOR_NOT_FOUND, "monitor_slug", "'nightly'", "monitor_slug 'nightly' is not known."
    )
    decoded = decode([check_in(duration=-1), check_in(), check_in()])
    assert isinstance(decoded.messages[0], CheckInMessage)
    body = answer_of(
        decoded,
        # What the message itself says may come back with the outcome; it is told once.
        Outcome(accepted=True, guid=guid, problems=list(decoded.messages[0].problems)),
        Outcome(problems=[not_found]),
        Outcome(parked=True),
    )
    assert (body["accepted"], body["refused"]) == (2, 1)
    first, second, third = body["results"]
    assert (first["id"], [problem["field"] for problem in first["problems"]]) == (str(guid), ["duration"])
    assert (second["accepted"], second["id"]) == (False, None)
    assert second["problems"] == [
        {
            "kind": "MONITOR_NOT_FOUND",
            "field": "monitor",
            "value": "'nightly'",
            "message": "monitor 'nightly' is not known.",
        }
    ]
    assert third["accepted"] is True


@pytest.mark.parametrize("body", [[], {"checkins": []}])
def test_no_check_ins_are_fine(body: object):
    assert answer_of(decode(body)) == {"accepted": 0, "refused": 0, "results": []}


def test_one_that_is_too_large_or_too_deep_is_refused_alone():
    nested: object = 1
    for _ in range(60):
        nested = [nested]
    decoded = decode([check_in(x="x" * 500), check_in(x=nested), check_in()], Limits(checkin_bytes_max=500))
    assert [type(message) for message in decoded.messages] == [RefusedCheckIn, RefusedCheckIn, CheckInMessage]
    large, deep, _ = answer_of(decoded)["results"]
    assert "at most 500 bytes beside its log" in large["problems"][0]["message"]
    assert "at most 50 levels" in deep["problems"][0]["message"]
    assert isinstance(decode(check_in(log="x" * 5000), Limits(checkin_bytes_max=500)).messages[0], CheckInMessage)


# What cannot be read at all


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"hello", 400, "not JSON"),
        (b"5", 400, "neither a check-in nor an array"),
        (b'"x"', 400, "neither a check-in nor an array"),
        (b"null", 400, "neither a check-in nor an array"),
        (b'{"checkins":5}', 400, "neither a check-in nor an array"),
        (b'{"checkins":{}}', 400, "neither a check-in nor an array"),
        (b"[" * 50_000, 400, "nested too deeply"),
        (json.dumps([check_in()] * 4).encode(), 413, "the body has 4 check-ins, at most 3 are read"),
        (b" " * 1001, 413, "the body has 1001 bytes, at most 1000 are read"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_kept_for_the_project_s_people(body: bytes, status: int, says: str):
    body_bytes_max = 100_000 if body.startswith(b"[[") else 1000
    decoded = decode(body, Limits(rest_items_max=3, body_bytes_max=body_bytes_max))
    [message] = decoded.messages
    assert isinstance(message, RefusedCheckIn)
    assert kinds_and_fields(message) == [("CHECKIN_VALIDATION_FAILED", "")]
    for outcome in (Outcome(accepted=True), Outcome()):
        [cause] = assert_error(decoded.answer([outcome]), status, says=says)
        assert cause.startswith("body: it takes a check-in as a JSON object, an array")


def test_compressed_bodies_are_read_and_bounded():
    body = gzip.compress(json.dumps(check_in()).encode())
    assert isinstance(decode(body, content_encoding="gzip").messages[0], CheckInMessage)
    bomb = gzip.compress(bytes(5000))
    assert decode(bomb, Limits(body_bytes_max=1000), content_encoding="gzip").answer([Outcome()]).status == 413
    assert decode(b"hello", content_encoding="gzip").answer([Outcome()]).status == 400


@pytest.mark.parametrize("path", ["/api/v1/checkins", "/api/v1/checkins/"])
def test_the_address_has_an_optional_slash(path: str):
    assert PATTERN.fullmatch(path)
    assert PROTOCOL.methods == frozenset({"POST"})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ITEMS = JSON_VALUES | st.fixed_dictionaries(
    {"monitor": st.just("nightly") | JSON_VALUES, "status": st.just("ok") | JSON_VALUES},
    optional=dict.fromkeys(
        ["id", "environment", "duration", "exit_status", "log", "trace_id", "timestamp", "config"], JSON_VALUES
    ),
)


@given(st.lists(ITEMS, max_size=5))
def test_any_items_have_a_result_each(items: list[object]):
    decoded = decode(items)
    assert len(decoded.messages) == len(items)
    body = answer_of(decoded)
    assert body["accepted"] + body["refused"] == len(items) == len(body["results"])
    for message, result in zip(decoded.messages, body["results"], strict=True):
        assert isinstance(message, CheckInMessage) == result["accepted"]
        assert result["accepted"] or result["problems"]
        assert not isinstance(message, CheckInMessage) or "log" not in message.payload


@given(st.binary())
def test_any_body_is_answered(body: bytes):
    decoded = decode(body)
    assert decoded.answer([Outcome() for _ in decoded.messages]).status in (202, 400)
