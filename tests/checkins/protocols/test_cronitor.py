"""Cronitor telemetry: its addresses, how they are told from Healthchecks', and what each parameter means."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkins.exceptions import BodyError
from checkins.messages import CheckInMessage, ProblemKind, RunLog, Source
from checkins.protocols import cronitor, healthchecks
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

ROUTES = (*cronitor.ROUTES, *healthchecks.ROUTES)
BY_P = f"/p/{KEY}/nightly"
BY_PING = f"/ping/{KEY}/nightly"
BY_GUID = f"/ping/{GUID}"
STATES = {"run": "in_progress", "complete": "ok", "fail": "error", "ok": "ok", "tick": "ok"}


def tell(target: str, **how) -> Exchange:
    return send(ROUTES, target, **how)


# Where telemetry is told


@pytest.mark.parametrize("address", [BY_P, BY_P + "/", BY_PING, BY_PING + "/", BY_GUID])
@pytest.mark.parametrize(("state", "status"), STATES.items())
def test_the_state_is_in_the_query(address, state, status):
    exchange = tell(f"{address}?state={state}")
    assert (exchange.checkin.status, exchange.checkin.source) == (status, Source.CRONITOR)
    assert exchange.answer.status == 200


@pytest.mark.parametrize("address", [BY_P, BY_PING, BY_GUID])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("state", ["run", "complete", "ok"])
def test_the_state_is_at_the_end_of_the_path(address, state, slash):
    exchange = tell(f"{address}/{state}{slash}")
    assert (exchange.checkin.status, exchange.checkin.source) == (STATES[state], Source.CRONITOR)
    assert exchange.answer.status == 200


def test_a_failure_at_the_end_of_the_path():
    assert tell(f"{BY_P}/fail").checkin.status == "error"
    assert tell(f"{BY_P}/fail").checkin.source is Source.CRONITOR


@pytest.mark.parametrize("address", [BY_PING, BY_GUID])
def test_a_failure_at_an_address_of_healthchecks_is_theirs_and_means_the_same(address):
    assert tell(f"{address}/fail").checkin.status == "error"
    assert tell(f"{address}/fail").checkin.source is Source.HEALTHCHECKS
    assert tell(f"{address}/fail?series=1").checkin.source is Source.CRONITOR


def test_the_state_in_the_query_wins():
    assert tell(f"{BY_P}/run?state=complete").checkin.status == "ok"
    assert tell(f"{BY_P}/run?state=").checkin.status == "in_progress"


@pytest.mark.parametrize(
    "query", ["state=complete", "stamp=1795431534.6", "metric=count:3", "series=1", "state=&rid=1"]
)
@pytest.mark.parametrize("address", [BY_PING, BY_GUID])
def test_these_parameters_make_it_cronitor(address, query):
    exchange = tell(f"{address}?{query}")
    assert (exchange.checkin.status, exchange.checkin.source) == ("ok", Source.CRONITOR)


@pytest.mark.parametrize(
    "end", ["", "?create=1", "?create=0", "?env=x", "?msg=state", "/start?state=run", "/log?state=run", "/0?state=fail"]
)
@pytest.mark.parametrize("address", [BY_PING, BY_GUID])
def test_without_them_it_is_healthchecks(address, end):
    [message] = tell(address + end).messages
    assert message.source is Source.HEALTHCHECKS


@pytest.mark.parametrize("query", ["", "?host=web-1", "?state="])
def test_without_a_state_it_is_a_heartbeat(query):
    exchange = tell(BY_P + query)
    assert (exchange.checkin.status, exchange.checkin.check_in_id) == ("ok", None)
    assert exchange.said == (200, "OK")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_body_is_discarded_and_any_of_three_methods_counts(method):
    exchange = tell(f"{BY_P}?state=run", method=method, body=b"hello", headers={"content-encoding": "br"})
    assert exchange.checkin.log is None
    assert exchange.answer.status == 200


@pytest.mark.parametrize(
    ("raw", "name", "slug"),
    [
        ("decorated%20fail", "decorated fail", "decorated-fail"),
        ("a,b.c", "a,b.c", "abc"),
        ("Nightly", "Nightly", "nightly"),
        ("d3x0c1", "d3x0c1", "d3x0c1"),
        ("jobs/import", "jobs/import", "jobsimport"),
        ("jobs%2Fimport", "jobs/import", "jobsimport"),
        ("run", "run", "run"),
        ("x%00y", "x\ufffdy", "xy"),
    ],
)
@pytest.mark.parametrize("state", ["?state=complete", "/complete"])
def test_a_monitor_key_is_taken_raw(raw, name, slug, state):
    checkin = tell(f"/p/{KEY}/{raw}{state}").checkin
    assert (checkin.raw_slug, checkin.slug, checkin.status) == (name, slug, "ok")


def test_an_unknown_monitor_key_creates_the_monitor():
    exchange = tell(f"{BY_P}?state=run", outcome=CREATED)
    daily = Schedule.from_interval(1, "day")
    assert exchange.checkin.config_if_new == Configuration(schedule=daily, checkin_margin_minutes=60)
    assert exchange.said == (200, "OK")


def test_a_monitors_own_address_creates_nothing():
    checkin = tell(f"{BY_GUID}/run").checkin
    assert (checkin.slug, checkin.raw_slug, checkin.config_if_new) == (SLUG, RAW_SLUG, None)


# What the query says


@pytest.mark.parametrize(
    "query", ["metric=duration:1.5", "duration=1.5", "duration=9&metric=count:3&metric=duration:1.5"]
)
def test_a_duration_is_in_seconds(query):
    assert tell(f"{BY_P}?state=complete&{query}").checkin.duration_ms == 1500


@pytest.mark.parametrize("query", ["metric=duration:-1", "metric=duration:nan", "duration=soon", "duration=1e999"])
def test_d18_a_bad_duration_is_dropped_and_the_check_in_counts(query):
    exchange = tell(f"{BY_P}?state=complete&{query}")
    assert exchange.checkin.duration_ms is None
    [problem] = exchange.checkin.problems
    assert (problem.kind, problem.field) == (ProblemKind.CHECKIN_VALIDATION_FAILED, "duration")
    assert exchange.answer.status == 200


@pytest.mark.parametrize("query", ["", "&duration=", "&metric=duration:", "&metric=count:3", "&metric=error_count:0"])
def test_other_metrics_and_none_are_no_duration(query):
    checkin = tell(f"{BY_P}?state=complete{query}").checkin
    assert (checkin.duration_ms, checkin.problems) == (None, ())


@pytest.mark.parametrize(("raw", "exit_status"), [("0", 0), ("3", 3), ("255", 255), ("", None)])
def test_the_status_code_is_the_exit_status(raw, exit_status):
    checkin = tell(f"{BY_P}?state=fail&status_code={raw}").checkin
    assert (checkin.exit_status, checkin.problems) == (exit_status, ())


@pytest.mark.parametrize("raw", ["1.5", "--1", "x", "%C2%B2", "9" * 5000])
def test_d18_a_bad_status_code_is_dropped_and_the_check_in_counts(raw):
    checkin = tell(f"{BY_P}?state=fail&status_code={raw}").checkin
    assert (checkin.status, checkin.exit_status) == ("error", None)
    [problem] = checkin.problems
    assert problem.field == "status_code"


@pytest.mark.parametrize("name", ["message", "msg"])
def test_the_message_is_the_runs_log(name):
    assert tell(f"{BY_P}?state=fail&{name}=no+such%20file").checkin.log == RunLog(b"no such file", 12)


def test_of_a_longer_message_the_last_part_is_kept():
    exchange = tell(f"{BY_P}?state=fail&message={'x' * 3000}yz", limits=Limits(log_bytes_max=4))
    assert exchange.checkin.log == RunLog(b"xxyz", 3002)


def test_a_message_of_any_bytes_is_kept():
    assert tell(f"{BY_P}?message=%FF%00%C3%A9").checkin.log == RunLog(b"\xff\x00\xc3\xa9", 4)


def test_a_message_with_unquoted_letters_is_kept():
    assert tell(f"{BY_P}?state=fail&message=kaputt%21+\xe9").checkin.log == RunLog("kaputt! \xe9".encode(), 10)


def test_an_empty_message_is_no_log():
    assert tell(f"{BY_P}?state=run&message=&msg=").checkin.log is None


@pytest.mark.parametrize(
    ("query", "name"),
    [("", "production"), ("&env=", "production"), ("&env=staging", "staging"), ("&environment=staging", "staging")],
)
def test_the_environment(query, name):
    assert tell(f"{BY_P}?state=run{query}").checkin.environment == name


def test_the_stamp_is_the_clients_clock():
    checkin = tell(f"{BY_P}?state=run&stamp=1795431534.5").checkin
    assert checkin.sent_at == datetime(2026, 11, 23, 10, 58, 54, 500_000, tzinfo=UTC)
    assert checkin.received_at == NOW


@pytest.mark.parametrize("raw", ["", "soon", "nan", "inf", "1e30", "-1e30"])
def test_a_bad_stamp_is_none(raw):
    assert tell(f"{BY_P}?state=run&stamp={raw}").checkin.sent_at is None


# Runs and repetitions


def run_of(query: str, address: str = BY_P) -> uuid.UUID | None:
    return tell(f"{address}?{query}").checkin.check_in_id


def test_a_series_pairs_start_and_end():
    assert run_of("state=run&series=1795431534.657841") == run_of("state=complete&series=1795431534.657841&host=b")
    assert run_of("state=run&series=1") is not None


@pytest.mark.parametrize(
    ("query", "address"),
    [
        ("state=run&series=2", BY_P),
        ("state=run&series=1&env=staging", BY_P),
        ("state=run&series=1", f"/p/{KEY}/weekly"),
    ],
)
def test_another_series_environment_or_monitor_is_another_run(query, address):
    assert run_of(query, address) not in (run_of("state=run&series=1"), None)


@pytest.mark.parametrize("query", ["state=run", "state=run&series="])
def test_without_series_a_run_has_no_id(query):
    assert run_of(query) is None


def repeat_key(query: str) -> uuid.UUID | None:
    return tell(f"{BY_P}?{query}").checkin.repeat_key


def test_a_retry_repeats_the_stamp():
    assert repeat_key("state=ok&stamp=1.5&try=1") == repeat_key("state=ok&stamp=1.5&try=2")
    assert repeat_key("state=ok&stamp=1.5") is not None


@pytest.mark.parametrize("query", ["state=ok&stamp=1.6", "state=fail&stamp=1.5", "state=ok&stamp=1.5&env=staging"])
def test_another_stamp_state_or_environment_is_another_message(query):
    assert repeat_key(query) not in (repeat_key("state=ok&stamp=1.5"), None)


@pytest.mark.parametrize("query", ["state=ok", "state=ok&stamp=", "state=ok&stamp=1.5&series=1"])
def test_without_stamp_nothing_tells_a_retry_and_a_series_says_it_already(query):
    assert repeat_key(query) is None


def test_ids_of_runs_stay_the_same_for_ever():
    """A restart or an upgrade between the start and the end of a run must not tear them apart."""
    assert run_of("state=run&series=1795431534.657841") == uuid.UUID("da16d5cd-f1e7-59fc-807f-adc7b6357013")


# What is refused


@pytest.mark.parametrize(
    ("target", "field", "value"),
    [
        (f"{BY_P}?state=sleeping", "state", "'sleeping'"),
        (f"{BY_P}?state=RUN", "state", "'RUN'"),
        (f"{BY_PING}?state=%00", "state", "'\ufffd'"),
        (f"{BY_P}?env=a/b", "env", "'a/b'"),
        (f"{BY_P}?environment=a/b", "environment", "'a/b'"),
        (f"/p/{KEY}/%21%21?state=run", "monitor key", "'!!'"),
    ],
)
def test_nonsense_is_refused_with_field_value_and_what_is_allowed_and_stored(target, field, value):
    exchange = tell(target)
    assert exchange.answer.status == 400
    [problem] = exchange.refusal.problems
    assert (problem.field, problem.value) == (field, value)
    assert exchange.said[1] == problem.message
    assert exchange.said[1].startswith(f"{field} {value} was refused: it takes ")
    assert exchange.refusal.source is Source.CRONITOR


@pytest.mark.parametrize("key", [KEY[::-1], KEY.upper(), "short", str(GUID), "x" * 5000])
def test_an_unknown_api_key_is_forbidden(key):
    exchange = tell(f"/p/{key}/nightly?state=run")
    assert exchange.answer.status == 403
    assert "32 lower-case hex digits" in exchange.said[1]


@pytest.mark.parametrize("path", ["/p", "/p/", f"/p/{KEY}", f"/p/{KEY}/"])
def test_an_address_that_is_none_gets_an_answer_that_says_what_is_one(path):
    exchange = tell(path)
    assert exchange.answer.status == 404
    assert "/p/<API key>/<monitor key>" in exchange.said[1]


def test_a_monitor_that_is_gone_is_not_found():
    assert tell(f"{BY_GUID}/run", outcome=NO_MONITOR).answer.status == 404


def test_no_room_for_another_monitor_is_forbidden():
    assert tell(BY_P, outcome=failed(ProblemKind.MONITOR_LIMIT_EXCEEDED)).answer.status == 403


def test_d13_what_is_dropped_is_a_success_to_the_client():
    assert tell(BY_P, outcome=failed(ProblemKind.MONITOR_ENVIRONMENT_RATELIMITED)).said == (200, "OK")


def test_a_request_that_cannot_be_read_is_refused_in_the_words_of_its_error():
    answer = ROUTES[0][1].refuse(BodyError("the body ended early"))
    assert (answer.status, answer.body) == (400, b"the body ended early")


# Nothing that can be sent breaks it

NAMES = st.sampled_from(
    ["state", "stamp", "metric", "series", "env", "host", "message", "duration", "status_code", "try", "?"]
)
VALUES = st.one_of(
    st.sampled_from(["run", "complete", "fail", "ok", "duration:", "duration:1.5", "1795431534.6", "1e400", "-1"]),
    st.text(st.characters(), max_size=20),
)


@given(
    path=st.one_of(st.text(st.characters()), st.text("ab/%20\x00", max_size=8)),
    query=st.lists(st.tuples(NAMES, VALUES).map("=".join)).map("&".join),
    start=st.sampled_from([f"/p/{KEY}/", f"/ping/{KEY}/", BY_GUID + "/", f"/p/{KEY}/nightly", BY_GUID]),
)
def test_any_telemetry_is_a_message_or_an_answer_that_says_why_not(start, path, query):
    exchange = tell(f"{start}{path.replace('?', '%3F')}?{query}")
    assert exchange.answer.status in (200, 400, 404)
    assert exchange.answer.body
    for message in exchange.messages:
        assert_storable(message)
        if isinstance(message, CheckInMessage):
            assert message.project_id == PROJECT_ID
            assert message.slug
