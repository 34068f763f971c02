"""What a check-in item means, part by part: `parse_checkin` never raises and always returns one of two types."""

import contextlib
import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import JsonError
from checkins.messages import (
    PROBLEM_MEANINGS,
    CheckInMessage,
    CheckInStatus,
    ProblemKind,
    RefusedCheckIn,
    Source,
)
from checkins.protocols import fields as parsing
from checkins.protocols.decoding import decode_checked, decode_json
from checkins.protocols.fields import parse_checkin, storable, unreadable_checkin
from monitors.configuration import Configuration
from monitors.schedule import IntervalUnit, Schedule
from monitors.slugs import slugify
from project.local.children import BASE_DIR

NOW = datetime(2026, 11, 23, 10, 44, 9, 200_000, tzinfo=UTC)
ID_TEXT = "941723b3aef34230b0dda4e899818344"
ABSENT = object()

# As sent by the real clients: sentry-sdk 2.75.0 for Python, sentry-cli 3.8.2, @sentry/node 11.12.0.
PYTHON_SDK = """{"type":"check_in","monitor_slug":"sdk-checkin-pair","check_in_id":"941723b3aef34230b0dda4e899818344",
"status":"in_progress","duration":null,"environment":"production","release":"driver@1.0.0","monitor_config":{"schedule":
{"type":"crontab","value":"*/5 * * * *"},"timezone":"Europe/Vienna","checkin_margin":2,"max_runtime":10,
"failure_issue_threshold":2,"recovery_threshold":3,"owner":"user:1"},"event_id":"9bcf8290d35740b69389768966df76b6",
"timestamp":"2026-11-23T10:44:09.193834Z","contexts":{"trace":{"trace_id":"037e995f57474b6198fa76ef24b8599f",
"span_id":"9f7e8ed8f789af64","parent_span_id":null}},"server_name":"vm","sdk":{"name":"sentry.python"},
"platform":"python"}"""
SENTRY_CLI_START = """{"check_in_id":"8ed187886f584480a81137c317ca44f9","monitor_slug":"cli-ok","status":"in_progress",
"environment":"production","monitor_config":{"schedule":{"type":"crontab","value":"*/10 * * * *"},"checkin_margin":3,
"max_runtime":15,"timezone":"Europe/Vienna","failure_issue_threshold":2,"recovery_threshold":2}}"""
SENTRY_CLI_END = """{"check_in_id":"8ed187886f584480a81137c317ca44f9","monitor_slug":"cli-ok","status":"ok",
"environment":"production","duration":0.20410812}"""
NODE_SDK = """{"check_in_id":"22b54a292e254d7ba8ee8d914ce9228c","monitor_slug":"node-pair","status":"in_progress",
"release":"driver@1.0.0","environment":"production","monitor_config":{"schedule":{"type":"interval","value":90,
"unit":"minute"}},"contexts":{"trace":{"trace_id":"eb35b2d4b6fa4d7c8ba1a4ecbd4f4b1e","span_id":"ad5f3169347dcb2c"}}}"""


def parse(payload: object, slug: str | None = None) -> CheckInMessage | RefusedCheckIn:
    return parse_checkin(payload, project_id=42, received_at=NOW, source=Source.SENTRY_ENVELOPE, slug=slug)


def payload_with(**fields: object) -> dict[str, object]:
    payload = {"monitor_slug": "nightly", "status": "ok", "check_in_id": ID_TEXT, **fields}
    return {key: value for key, value in payload.items() if value is not ABSENT}


def accepted(**fields: object) -> CheckInMessage:
    message = parse(payload_with(**fields))
    assert isinstance(message, CheckInMessage), message
    return message


def refused(**fields: object) -> RefusedCheckIn:
    message = parse(payload_with(**fields))
    assert isinstance(message, RefusedCheckIn), message
    return message


def with_config(**config: object) -> CheckInMessage:
    base: dict[str, object] = {"schedule": {"type": "crontab", "value": "0 * * * *"}}
    config = {key: value for key, value in {**base, **config}.items() if value is not ABSENT}
    return accepted(monitor_config=config)


def kinds_and_fields(message: CheckInMessage | RefusedCheckIn) -> list[tuple[ProblemKind, str]]:
    return [(problem.kind, problem.field) for problem in message.problems]


# What the real clients send


def test_the_python_sdk_s_check_in_is_read_whole():
    payload = json.loads(PYTHON_SDK)
    assert parse(payload) == CheckInMessage(
        project_id=42,
        slug="sdk-checkin-pair",
        raw_slug="sdk-checkin-pair",
        environment="production",
        status=CheckInStatus.IN_PROGRESS,
        check_in_id=uuid.UUID("941723b3-aef3-4230-b0dd-a4e899818344"),
        duration_ms=None,
        trace_id=uuid.UUID("037e995f-5747-4b61-98fa-76ef24b8599f"),
        sent_at=datetime(2026, 11, 23, 10, 44, 9, 193_834, tzinfo=UTC),
        received_at=NOW,
        source=Source.SENTRY_ENVELOPE,
        config=Configuration(
            schedule=Schedule.from_crontab("*/5 * * * *", "Europe/Vienna"),
            timezone="Europe/Vienna",
            checkin_margin_minutes=2,
            max_runtime_minutes=10,
            failure_threshold=2,
            recovery_threshold=3,
            owner="user:1",
        ),
        config_problem=None,
        problems=(),
        payload=payload,
    )


def test_sentry_cli_s_pair_is_one_id_with_configuration_first_and_duration_last():
    start, end = parse(json.loads(SENTRY_CLI_START)), parse(json.loads(SENTRY_CLI_END))
    assert isinstance(start, CheckInMessage)
    assert isinstance(end, CheckInMessage)
    assert start.check_in_id == end.check_in_id == uuid.UUID("8ed187886f584480a81137c317ca44f9")
    assert start.config is not None
    assert start.config.checkin_margin_minutes == 3
    assert (end.status, end.duration_ms, end.config) == (CheckInStatus.OK, 204, None)
    assert start.problems == end.problems == ()


def test_the_node_sdk_s_interval_names_nothing_but_the_schedule():
    message = parse(json.loads(NODE_SDK))
    assert isinstance(message, CheckInMessage)
    assert message.config == Configuration(schedule=Schedule.from_interval(90, "minute"))
    assert message.sent_at is None


def test_the_smallest_check_in_is_a_slug_and_a_status():
    message = parse({"monitor_slug": "nightly", "status": "error"})
    assert isinstance(message, CheckInMessage)
    assert (message.environment, message.check_in_id, message.trace_id) == ("production", None, None)


# The monitor


@pytest.mark.parametrize(
    ("raw", "slug"),
    [
        ("some/slug@with-weird|stuff", "someslugwith-weirdstuff"),
        ("beat-Nightly Report v1.2", "beat-nightly-report-v12"),
        ("Füßchen  é", "fuchen-e"),
        ("a -- b", "a-b"),
        ("--edge--", "edge"),
        ("_private_", "private"),
        ("app.tasks.send_mail", "apptaskssend_mail"),
        ("x" * 50, "x" * 50),
        ("x" * 132, "x" * 41 + "-4dfe4b52"),
        ("x" * 49 + "-yz", "x" * 41 + "-a55fa573"),
        ("X" * 51, "x" * 41 + "-" + hashlib.sha256(b"X" * 51).hexdigest()[:8]),
        ("x" * 40 + "-" + "y" * 20, "x" * 40 + "-" + hashlib.sha256(b"x" * 40 + b"-" + b"y" * 20).hexdigest()[:8]),
        ("42", "42"),
        ("tab\tnew\nline", "tab-new-line"),
        ("nul\x00 \ud800", "nul"),
        ("日本語", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_a_raw_name_has_one_slug(raw: str, slug: str):
    assert slugify(raw) == slug
    assert slugify(slug) == slug


@given(st.text(alphabet="ab9_-", max_size=60) | st.text(max_size=60))
def test_a_name_that_is_a_slug_already_has_the_slug_that_the_rule_gives(raw: str):
    spelt_out = f" {raw}"  # a blank at the edge is no part of the slug, and no slug has one
    assert slugify(raw) == slugify(spelt_out)


def test_the_raw_name_is_kept_beside_the_slug():
    message = accepted(monitor_slug="beat-Nightly Report v1.2")
    assert (message.slug, message.raw_slug) == ("beat-nightly-report-v12", "beat-Nightly Report v1.2")


@pytest.mark.parametrize("raw", [ABSENT, None, "", "///", 7, ["nightly"], {}])
def test_a_check_in_without_usable_slug_is_refused(raw: object):
    message = refused(monitor_slug=raw)
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "monitor_slug")]
    assert message.slug == ""


def test_the_slug_of_the_address_wins():
    message = parse(payload_with(monitor_slug="body"), slug="The Path")
    assert isinstance(message, CheckInMessage)
    assert (message.slug, message.raw_slug) == ("the-path", "The Path")


# The environment


@pytest.mark.parametrize("raw", [ABSENT, None, ""])
def test_d13_an_absent_environment_is_production(raw: object):
    assert accepted(environment=raw).environment == "production"


@pytest.mark.parametrize("raw", ["staging", "é" * 64, "EU west", "a\\b", "x" * 63, "x" * 64])
def test_an_environment_of_up_to_64_characters_is_kept_as_it_is(raw: str):
    assert accepted(environment=raw).environment == raw


@pytest.mark.parametrize(
    "raw", ["x" * 65, "a/b", "a\nb", "a\n", "a\rb", "a\fb", "a\x00b", "a\ud800b", 1, ["production"], True]
)
def test_a_bad_environment_refuses_the_check_in(raw: object):
    message = refused(environment=raw)
    assert kinds_and_fields(message) == [(ProblemKind.MONITOR_INVALID_ENVIRONMENT, "environment")]
    assert message.slug == "nightly"
    assert len(message.environment) <= 64


# The status


@pytest.mark.parametrize("raw", ["in_progress", "ok", "error"])
def test_jobs_have_three_words(raw: str):
    assert accepted(status=raw).status == CheckInStatus(raw)


@pytest.mark.parametrize("raw", [ABSENT, None, "", "OK", "success", "missed", "timeout", "unknown", 1, ["ok"], {}])
def test_any_other_status_refuses_the_check_in_and_says_which_are_allowed(raw: object):
    message = refused(status=raw)
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "status")]
    assert "in_progress, ok, error" in message.problems[0].message


# The id


@pytest.mark.parametrize(
    "raw",
    [ID_TEXT, ID_TEXT.upper(), "941723b3-aef3-4230-b0dd-a4e899818344", "941723B3-AEF3-4230-B0DD-A4E899818344"],
    ids=["hex", "upper hex", "dashed", "upper dashed"],
)
def test_an_id_is_read_in_every_form_that_clients_use(raw: str):
    assert accepted(check_in_id=raw).check_in_id == uuid.UUID(ID_TEXT)


@pytest.mark.parametrize("raw", [ABSENT, None, "", "0" * 32, str(uuid.UUID(int=0))])
def test_no_id_and_the_zero_id_mean_the_latest_run(raw: object):
    assert accepted(check_in_id=raw).check_in_id is None


@pytest.mark.parametrize(
    "raw",
    [
        "job-17",
        ID_TEXT[:-1],
        ID_TEXT + "0",
        "{" + ID_TEXT + "}",
        "urn:uuid:" + ID_TEXT,
        ID_TEXT + "\n",
        "-" * 32,
        17,
        [],
    ],
)
def test_an_id_that_is_no_uuid_refuses_the_check_in(raw: object):
    assert kinds_and_fields(refused(check_in_id=raw)) == [(ProblemKind.CHECKIN_INVALID_GUID, "check_in_id")]


def test_a_refusal_names_all_its_reasons():
    message = refused(monitor_slug=None, environment="a/b", status="done", check_in_id="1")
    assert [field for _, field in kinds_and_fields(message)] == ["monitor_slug", "environment", "status", "check_in_id"]


# D18: a bad part is dropped, not the signal


@pytest.mark.parametrize(
    ("raw", "duration_ms"),
    [
        (0, 0),
        (0.0, 0),
        (12, 12_000),
        (0.20410812, 204),
        ("1.5", 1500),
        ("2e1", 20_000),
        (2_147_483.646, 2_147_483_646),
        (2_147_483.647, 2_147_483_647),
        (ABSENT, None),
        (None, None),
        ("", None),
    ],
)
def test_a_duration_in_seconds_becomes_whole_milliseconds(raw: object, duration_ms: int | None):
    message = accepted(duration=raw)
    assert (message.duration_ms, message.problems) == (duration_ms, ())


@pytest.mark.parametrize(
    "raw",
    [
        -3,
        -0.0001,
        2_147_483.648,
        10**400,
        1e308,
        "inf",
        "nan",
        float("inf"),
        float("nan"),
        True,
        False,
        "1_0",
        " 1",
        "x",
        [],
    ],
)
def test_d18_a_bad_duration_is_dropped_and_the_check_in_counts(raw: object):
    message = accepted(duration=raw)
    assert message.duration_ms is None
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "duration")]


def test_a_heartbeat_may_carry_a_duration():
    assert accepted(status="in_progress", duration=2).duration_ms == 2000


@pytest.mark.parametrize("raw", ["xyz", "0" * 31, 5, ["a"]])
def test_d18_a_bad_trace_id_is_dropped_and_the_check_in_counts(raw: object):
    message = accepted(contexts={"trace": {"trace_id": raw}})
    assert message.trace_id is None
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "contexts.trace.trace_id")]


@pytest.mark.parametrize("raw", [ABSENT, None, "text", [], {}, {"trace": None}, {"trace": []}, {"trace": {}}])
def test_contexts_without_a_trace_are_no_problem(raw: object):
    message = accepted(contexts=raw)
    assert (message.trace_id, message.problems) == (None, ())


@pytest.mark.parametrize(
    ("raw", "sent_at"),
    [
        ("2026-11-23T10:44:09.193834Z", datetime(2026, 11, 23, 10, 44, 9, 193_834, tzinfo=UTC)),
        ("2026-11-23T11:44:09+01:00", datetime(2026, 11, 23, 10, 44, 9, tzinfo=UTC)),
        ("2026-11-23T10:44:09", datetime(2026, 11, 23, 10, 44, 9, tzinfo=UTC)),
        (1_795_430_649, datetime(2026, 11, 23, 10, 44, 9, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", None),
        ("yesterday", None),
        (1e300, None),
        (True, None),
        ([], None),
        (ABSENT, None),
    ],
)
def test_the_client_s_timestamp_is_read_or_left_out(raw: object, sent_at: datetime | None):
    message = accepted(timestamp=raw)
    assert (message.sent_at, message.problems) == (sent_at, ())


# The configuration


@pytest.mark.parametrize(
    ("config", "schedule"),
    [
        ({"schedule": {"type": "crontab", "value": "0 3 * * *"}}, Schedule.from_crontab("0 3 * * *")),
        ({"schedule": {"type": "crontab", "value": " @daily "}}, Schedule.from_crontab("0 0 * * *")),
        ({"schedule_type": "crontab", "schedule": "0  3 * * *"}, Schedule.from_crontab("0 3 * * *")),
        ({"schedule": {"type": "interval", "value": 2, "unit": "hour"}}, Schedule.from_interval(2, "hour")),
        ({"schedule": {"type": "interval", "value": "2", "unit": "hour"}}, Schedule.from_interval(2, "hour")),
        ({"schedule_type": "interval", "schedule": [2, "hour"]}, Schedule.from_interval(2, "hour")),
        ({"schedule_type": "interval", "schedule": ["2", "hour"]}, Schedule.from_interval(2, "hour")),
    ],
)
def test_a_schedule_is_read_in_both_shapes(config: dict[str, object], schedule: Schedule):
    message = accepted(monitor_config=config)
    assert message.config == Configuration(schedule=schedule)
    assert message.problems == ()


@pytest.mark.parametrize(
    ("schedule", "hint"),
    [
        (ABSENT, "crontab or interval"),
        (None, "crontab or interval"),
        ("0 3 * * *", "crontab or interval"),
        ([2, "hour"], "crontab or interval"),
        ({"type": "solar", "value": "sunrise"}, "crontab or interval"),
        ({"type": ["crontab"], "value": "0 3 * * *"}, "crontab or interval"),
        ({"type": "crontab", "value": "0 0 31 2 *"}, "never matches"),
        ({"type": "crontab", "value": "*/5 0 3 * * *"}, "seconds"),
        ({"type": "crontab", "value": "@reboot"}, "nickname"),
        ({"type": "crontab"}, "text"),
        ({"type": "crontab", "value": "² * * * *"}, "minute"),
        ({"type": "interval", "value": 30, "unit": "second"}, "minute"),
        ({"type": "interval", "value": 0, "unit": "hour"}, "from 1"),
        ({"type": "interval", "value": 1.5, "unit": "hour"}, "whole number"),
        ({"type": "interval", "value": True, "unit": "hour"}, "whole number"),
        ({"type": "interval", "value": 1, "unit": []}, "minute"),
        ({"type": "interval", "value": 1}, "minute"),
    ],
)
def test_d18_without_usable_schedule_the_configuration_is_left_out_and_the_check_in_counts(schedule: object, hint: str):
    message = with_config(schedule=schedule, max_runtime="ten")
    assert message.config is None
    assert message.config_problem is not None
    assert message.config_problem.kind == ProblemKind.MONITOR_INVALID_CONFIG
    assert message.config_problem.field.startswith("monitor_config.schedule")
    assert hint in message.config_problem.message
    assert message.problems == ()


@pytest.mark.parametrize("zone", ["Mars/Phobos", "posix/UTC", 5, ["UTC"], "\x00"])
def test_d18_an_unknown_time_zone_is_dropped_and_the_schedule_is_kept(zone: object):
    message = with_config(timezone=zone)
    assert message.config == Configuration(schedule=Schedule.from_crontab("0 * * * *"))
    (problem,) = message.problems
    assert (problem.kind, problem.field) == (ProblemKind.MONITOR_INVALID_CONFIG, "monitor_config.timezone")


@pytest.mark.parametrize("config", ["0 3 * * *", [], 5, True])
def test_d18_a_configuration_of_another_shape_is_left_out_and_the_check_in_counts(config: object):
    message = accepted(monitor_config=config)
    assert message.config_problem is not None
    assert message.config_problem.field == "monitor_config"


def test_no_configuration_is_no_problem():
    message = accepted(monitor_config=None)
    assert (message.config, message.config_problem, message.problems) == (None, None, ())


@pytest.mark.parametrize("nothing", [None, ABSENT])
def test_null_and_absent_keys_are_not_named(nothing: object):
    keys = ("timezone", "checkin_margin", "max_runtime", "failure_issue_threshold", "recovery_threshold", "owner")
    message = with_config(**dict.fromkeys(keys, nothing))
    assert message.config == Configuration(schedule=Schedule.from_crontab("0 * * * *"))


def test_an_empty_time_zone_and_owner_are_not_named():
    assert with_config(timezone="", owner="").config == Configuration(schedule=Schedule.from_crontab("0 * * * *"))


@pytest.mark.parametrize(
    ("key", "attribute", "raw", "minutes"),
    [
        ("checkin_margin", "checkin_margin_minutes", 0, 1),
        ("checkin_margin", "checkin_margin_minutes", 1, 1),
        ("checkin_margin", "checkin_margin_minutes", 40_320, 40_320),
        ("checkin_margin", "checkin_margin_minutes", 40_321, 40_320),
        ("checkin_margin", "checkin_margin_minutes", 100_000, 40_320),
        ("max_runtime", "max_runtime_minutes", 1, 1),
        ("max_runtime", "max_runtime_minutes", 10_080, 10_080),
        ("max_runtime", "max_runtime_minutes", 10_081, 10_080),
        ("failure_issue_threshold", "failure_threshold", 720, 720),
        ("recovery_threshold", "recovery_threshold", 1, 1),
    ],
)
def test_margin_and_runtime_are_clamped(key: str, attribute: str, raw: int, minutes: int):
    message = with_config(**{key: raw})
    assert message.config is not None
    named: dict[str, Any] = {attribute: minutes}
    assert message.config == Configuration(Schedule.from_crontab("0 * * * *"), **named)
    assert message.problems == ()


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("checkin_margin", -1),
        ("checkin_margin", "two"),
        ("checkin_margin", 1.5),
        ("checkin_margin", True),
        ("max_runtime", 0),
        ("max_runtime", "10.5"),
        ("max_runtime", []),
        ("failure_issue_threshold", 721),
        ("failure_issue_threshold", 0),
        ("recovery_threshold", 721),
        ("recovery_threshold", "x"),
    ],
)
def test_d18_a_bad_key_of_the_configuration_is_dropped_and_the_rest_is_taken(key: str, raw: object):
    message = with_config(timezone="Europe/Vienna", **{key: raw})
    assert message.config == Configuration(
        schedule=Schedule.from_crontab("0 * * * *", "Europe/Vienna"), timezone="Europe/Vienna"
    )
    assert kinds_and_fields(message) == [(ProblemKind.MONITOR_INVALID_CONFIG, f"monitor_config.{key}")]
    assert message.config_problem is None


@pytest.mark.parametrize("owner", ["user:1", "team:backend", "user:ada@example.com"])
def test_an_owner_is_kept_as_text(owner: str):
    assert with_config(owner=owner).config == Configuration(schedule=Schedule.from_crontab("0 * * * *"), owner=owner)


@pytest.mark.parametrize(
    "owner", ["ada", "group:1", "user:", "user: 1", "user:\x00", "team:" + "x" * 196, 5, ["user:1"]]
)
def test_d18_a_bad_owner_is_dropped_and_the_rest_is_taken(owner: object):
    message = with_config(owner=owner)
    assert message.config == Configuration(schedule=Schedule.from_crontab("0 * * * *"))
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "monitor_config.owner")]


def test_unknown_keys_are_ignored():
    message = with_config(alert_rule_id=5, isolateTrace=True)
    assert message.problems == ()
    assert accepted(release="1", event_id=5, sdk=[]).problems == ()


def test_an_interval_unit_is_one_of_the_domain_s():
    config = with_config(schedule={"type": "interval", "value": 3, "unit": "week"}).config
    assert config == Configuration(schedule=Schedule.from_interval(3, IntervalUnit.WEEK))


# Problems are for people


def test_a_problem_names_field_value_and_what_is_allowed():
    [problem] = accepted(duration="inf").problems
    assert problem.value == "'inf'"
    assert problem.message == "duration 'inf' was left out: it takes seconds from 0 to 2147483.647."


def test_a_long_value_is_shortened():
    [problem] = refused(status="x" * 10_000).problems
    assert len(problem.value) <= 100
    assert len(problem.message) <= 250


def test_every_kind_of_problem_has_its_meaning():
    assert set(PROBLEM_MEANINGS) == set(ProblemKind)


def test_a_message_that_is_no_json_is_kept_as_text():
    message = unreadable_checkin(
        b'{"a\x00": \xff', "not JSON", project_id=42, received_at=NOW, source=Source.SENTRY_HTTP
    )
    assert kinds_and_fields(message) == [(ProblemKind.CHECKIN_VALIDATION_FAILED, "")]
    assert message.payload == {"raw": '{"a\ufffd": \ufffd'}
    assert (message.slug, message.environment) == ("", "production")


# Anything may arrive

NASTY_TEXT = st.text(st.characters(exclude_categories=()))  # with surrogates and NUL
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY_TEXT,
    lambda members: st.lists(members, max_size=4) | st.dictionaries(NASTY_TEXT, members, max_size=4),
    max_leaves=12,
)


def mostly(*plausible: object) -> st.SearchStrategy[Any]:
    return st.sampled_from(plausible) | JSON_VALUES


CHECK_INS = st.fixed_dictionaries(
    {"monitor_slug": mostly("nightly", "n" * 60), "status": mostly("ok", "error")},
    optional={
        "check_in_id": mostly(ID_TEXT, None),
        "environment": mostly("staging", ""),
        "duration": mostly(1.5, "2"),
        "timestamp": mostly("2026-11-23T10:44:09Z") | st.floats().map(str),
        "contexts": mostly({"trace": {"trace_id": ID_TEXT}}) | st.fixed_dictionaries({"trace": JSON_VALUES}),
        "monitor_config": JSON_VALUES
        | st.fixed_dictionaries(
            {
                "schedule": mostly("0 * * * *", [1, "hour"])
                | st.fixed_dictionaries(
                    {"type": mostly("crontab", "interval"), "value": mostly("* * * * *", 1), "unit": mostly("day")}
                )
            },
            optional={
                "schedule_type": mostly("crontab", "interval"),
                "timezone": mostly("UTC"),
                "checkin_margin": mostly(1),
                "max_runtime": mostly(1),
                "failure_issue_threshold": mostly(1),
                "recovery_threshold": mostly(1),
                "owner": mostly("user:1"),
            },
        ),
    },
)


@given(JSON_VALUES | CHECK_INS)
def test_anything_becomes_a_check_in_or_a_refusal_that_postgresql_can_keep(payload: object):
    message = parse(payload)
    texts = [json.dumps(message.payload, allow_nan=False), message.slug, message.environment]
    texts += [text for problem in message.problems for text in (problem.value, problem.message)]
    if isinstance(message, CheckInMessage):
        assert 1 <= len(message.slug) <= 50
        assert 1 <= len(message.environment) <= 64
        assert message.duration_ms is None or 0 <= message.duration_ms <= 2_147_483_647
        assert not (message.config and message.config_problem)
        texts += [message.raw_slug, (message.config and message.config.owner) or ""]
    else:
        assert isinstance(message, RefusedCheckIn)
        assert message.problems
    for text in texts:
        assert "\x00" not in text
        assert "\\u0000" not in text
        text.encode()  # a lone surrogate would not


@given(JSON_VALUES)
def test_storing_twice_changes_nothing(value: object):
    kept = storable(value)
    assert storable(kept) is kept


LARGE_NUMBERS = st.sampled_from(
    ["9" * 18, "9" * 19, str(2**63 - 1), str(-(2**63)), "1e308", "1e999", "NaN", "0." + "1" * 30]
)
NESTED = st.integers(18, 22).map(lambda levels: "[" * levels + "]" * levels)


@given(JSON_VALUES.map(json.dumps) | LARGE_NUMBERS.map("[{}]".format) | NESTED)
def test_what_is_taken_for_storable_without_a_look_is_storable(text: str):
    with contextlib.suppress(JsonError):
        value, is_storable = decode_checked(text.encode())
        assert not is_storable or storable(value) is value


def test_nearly_every_check_in_is_taken_for_storable_without_a_look():
    for text in (PYTHON_SDK, SENTRY_CLI_START, SENTRY_CLI_END, NODE_SDK):
        assert decode_checked(text.encode())[1]


@given(CHECK_INS)
def test_a_configuration_that_came_before_is_read_as_at_the_first_time(payload: dict[str, object]):
    first = parse(payload)
    parsing._known_config.cache_clear()
    assert parse(payload) == first
    assert parse(payload) == first


def test_a_configuration_that_is_not_like_those_of_clients_is_not_remembered():
    parsing._known_config.cache_clear()
    long = {"schedule": {"type": "crontab", "value": "0 * * * *"}, "unknown": "x" * 1_000}
    assert accepted(monitor_config=long).config is not None
    assert parsing._known_config.cache_info().currsize == 0


def test_what_can_be_stored_is_not_copied():
    value = {"text": "é", "list": [1, 1.5, None, True, {"deeper": "\u2026"}], "most": 2**63 - 1}
    assert storable(value) is value


def test_what_is_no_json_value_at_all_is_kept_as_text():
    assert storable({"a": b"bytes", "b": 2**64}) == {"a": "b'bytes'", "b": "integer of 65 bits"}


def test_deep_nesting_is_cut_off():
    deep: object = "bottom"
    for _ in range(900):
        deep = [deep]
    assert json.dumps(storable(deep)).count("[") == 20
    assert isinstance(parse({"monitor_slug": "a", "status": "ok", "x": deep}), CheckInMessage)


@given(CHECK_INS)
def test_what_json_can_carry_survives_its_decoder(payload: object):
    decoded = decode_json(json.dumps(payload).encode())
    assert type(parse(decoded)) is type(parse(payload))


def test_every_kind_of_problem_is_documented():
    page = (BASE_DIR / "docs/reference/processing-errors.md").read_text()
    assert [kind for kind in ProblemKind if f"| `{kind}` |" not in page] == []


def test_every_kind_of_problem_is_made_somewhere_and_no_other_is_documented():
    root = BASE_DIR
    made = {
        name
        for path in (root / "checkins").rglob("*.py")
        if path.name != "messages.py"
        for name in re.findall(r"ProblemKind\.([A-Z_]+)", path.read_text())
    }
    assert made == {kind.name for kind in ProblemKind}
    page = (root / "docs/reference/processing-errors.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)) == {kind.value for kind in ProblemKind}
