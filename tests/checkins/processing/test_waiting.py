"""D14: a check-in that an unexpected error kept from being applied is kept, and can be processed again by a person."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from checkins.messages import LogMessage, Problem, ProblemKind, RunLog, Source
from checkins.models import Attempt, CheckIn, CheckInLog, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.retry import retry_failed
from checkins.processing.transitions import decide_checkin
from checkins.processing.waiting import ERROR_CHARACTERS_MAX, described, restored, store_failed
from checkins.protocols.request import Limits
from incidents.models import Incident, Occurrence
from monitors.configuration import Configuration
from monitors.models import Monitor, MonitorEnvironment
from tests.connections import in_another_connection
from tests.factories import NOW, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory, WaitingCheckInFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
LATER = NOW + 600 * MINUTE
BAD_DURATION = Problem(
    ProblemKind.CHECKIN_VALIDATION_FAILED, "duration", "'soon'", "duration 'soon' is not a number of seconds."
)
EVERYTHING: dict[str, Any] = {
    "duration_ms": 1_500,
    "trace_id": uuid.UUID(int=7),
    "sent_at": NOW - timedelta(seconds=2),
    "config": make_config("0 3 * * *", timezone="Europe/Berlin", checkin_margin_minutes=7, owner="team:night"),
    "repeat_key": uuid.UUID(int=8),
    "exit_status": 3,
    "log": RunLog(b"caf\xe9 \x00", 300_000),
    "problems": (BAD_DURATION,),
    "payload": {"monitor_slug": "Job!", "status": "error", "deep": [{"a": None}, 1.5, True]},
}


def a_log(project, **fields):
    values: dict[str, Any] = {
        "slug": "job",
        "raw_slug": "Job!",
        "check_in_id": run_id(1),
        "environment": "staging",
        "payload": {},
    }
    return LogMessage(
        project_id=project.id,
        received_at=NOW,
        source=Source.HEALTHCHECKS,
        log=RunLog(bytes(range(256)), 256),
        **(values | fields),
    )


def failed(message):
    """Keep a message as it is kept when applying it failed; return its row's id."""
    try:
        raise ValueError("seven is not a number")
    except ValueError as error:
        store_failed(message, error)
    return WaitingCheckIn.objects.latest("id").id


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_d14_what_failed_is_kept_with_the_error_and_where_it_happened():
    project = ProjectFactory()
    failed(make_message("ok", project_id=project.id, environment="staging", source=Source.SENTRY_HTTP))
    row = WaitingCheckIn.objects.get()
    assert (row.project, row.slug, row.environment, row.source) == (project, "job", "staging", "sentry_http")
    assert (row.reason, row.received_at) == ("failed", NOW)
    assert row.error.endswith("ValueError: seven is not a number\n")
    assert "test_waiting.py" in row.error


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda project: make_message("ok", project_id=project.id), id="the least"),
        pytest.param(lambda project: make_message("error", project_id=project.id, run=1, **EVERYTHING), id="the most"),
        pytest.param(
            lambda project: make_message(
                "ok",
                project_id=project.id,
                config_if_new=Configuration(schedule=make_config().schedule),
                config_problem=BAD_DURATION,
            ),
            id="a configuration for a new monitor",
        ),
        pytest.param(a_log, id="output"),
        pytest.param(lambda project: a_log(project, check_in_id=None, config_if_new=make_config()), id="a note"),
    ],
)
def test_d14_a_message_is_kept_whole(make):
    message = make(ProjectFactory())
    failed(message)
    assert restored(WaitingCheckIn.objects.get(), Limits()) == [message]


def test_a_message_that_an_older_version_kept_names_the_same_zone():
    named, assumed = make_config(timezone="Europe/Vienna"), make_config()
    for config, names in ((named, ["timezone"]), (assumed, [])):
        message = make_message("ok", project_id=ProjectFactory().id, config=config)
        failed(message)
        row = WaitingCheckIn.objects.latest("id")
        row.message["fields"]["config"] |= {"named": names, "ignored": []}
        del row.message["fields"]["config"]["timezone"]
        assert restored(row, Limits()) == [message]


def test_an_error_that_postgresql_cannot_store_is_kept_as_far_as_it_can():
    text = described(ValueError("a\x00b\ud800c" + "x" * 2 * ERROR_CHARACTERS_MAX))
    assert len(text) == ERROR_CHARACTERS_MAX
    assert described(ValueError("a\x00b\ud800c")).endswith("a\ufffdb\ufffdc\n")


# --- Processing it again ----------------------------------------------------------------------------------------------


KEYS = {
    "starting_checkin",
    "resolving_checkin",
    "id",
    "guid",
    "monitor",
    "monitor_environment",
    "checkin",
    "issue",
    "incident",
    "config",
}


def rows():
    """Everything that processing writes, without the keys that every insert makes anew."""
    models = (Monitor, MonitorEnvironment, CheckIn, Attempt, CheckInLog, ProcessingError, Incident, Occurrence)
    return {
        model.__name__: [
            {
                field.name: bytes(value) if isinstance(value := getattr(row, field.attname), memoryview) else value
                for field in model._meta.concrete_fields
                if field.name not in KEYS or (model is CheckIn and field.name == "guid")
            }
            for row in model._default_manager.order_by("pk")
        ]
        for model in models
    }


def undone(work):
    """Return what is in the tables after `work`, which is then undone."""
    with transaction.atomic():
        work()
        found = rows()
        transaction.set_rollback(True)
    return found


MESSAGES = [
    pytest.param([("ok", {"run": 1})], id="ok"),
    pytest.param([("error", {"run": 1, **EVERYTHING})], id="an error with all there is"),
    pytest.param([("in_progress", {"run": 1}), ("ok", {"run": 1, "at": NOW + MINUTE})], id="a run"),
    pytest.param(
        [("error", {"run": 1, "duration_ms": 5}), ("ok", {"run": 1, "at": NOW + MINUTE, "duration_ms": 6})],
        id="a retried run",
    ),
]


@pytest.mark.parametrize("messages", MESSAGES)
def test_d14_processed_again_it_leaves_the_same_rows_as_if_it_had_been_applied_at_once(messages):
    """Hours later: every time in them is that of reception."""
    monitor = MonitorEnvironmentFactory(monitor__slug="job", status="active").monitor
    sent = [make_message(status, monitor=monitor, **fields) for status, fields in messages]

    def at_once():
        for message in sent:
            receive([message], now=message.received_at)

    def again():
        assert retry_failed([failed(message) for message in sent], now=LATER) == (len(sent), 0)
        assert not WaitingCheckIn.objects.exists()

    assert undone(again) == undone(at_once)


def test_d14_output_that_is_processed_again_is_kept_as_if_it_had_been_at_once():
    monitor = MonitorEnvironmentFactory(monitor__slug="job", environment__name="staging").monitor
    log = a_log(monitor.project)
    at_once = undone(lambda: receive([log], now=NOW))
    assert undone(lambda: retry_failed([failed(log)], now=LATER)) == at_once
    assert at_once["CheckInLog"][0]["body"] == bytes(range(256))


def test_d14_what_comes_again_after_newer_check_ins_changes_history_and_nothing_that_is_expected():
    monitor = MonitorFactory(slug="job", crontab="0 * * * *")
    old = failed(make_message("error", monitor=monitor, run=1))
    receive([make_message("ok", monitor=monitor, at=NOW + 5 * MINUTE, run=2)], now=NOW + 5 * MINUTE)
    expected = MonitorEnvironment.objects.get().next_checkin
    assert retry_failed([old], now=LATER) == (1, 0)
    row = MonitorEnvironment.objects.get()
    assert (row.status, row.last_checkin, row.next_checkin) == ("ok", NOW + 5 * MINUTE, expected)
    assert CheckIn.objects.get(guid=run_id(1)).status == "error"
    assert not Incident.objects.exists()


def test_d14_what_fails_again_stays_with_the_new_error_and_the_others_are_applied(monkeypatch):
    monitor = MonitorFactory(slug="job")
    bad, good = (failed(make_message("ok", monitor=monitor, run=run)) for run in (1, 2))
    monkeypatch.setattr("checkins.processing.apply.decide_checkin", _cannot_decide_run_1())
    assert retry_failed([good, bad], now=LATER) == (1, 1)
    row = WaitingCheckIn.objects.get()
    assert (row.id, row.reason) == (bad, "failed")
    assert row.error.endswith("ZeroDivisionError: run 1\n")
    assert "seven is not a number" not in row.error
    assert [run.guid for run in CheckIn.objects.all()] == [run_id(2)]
    monkeypatch.undo()
    assert retry_failed([bad], now=LATER) == (1, 0)
    assert CheckIn.objects.count() == 2


def _cannot_decide_run_1():
    def decide(message, **facts):
        if message.check_in_id == run_id(1):
            raise ZeroDivisionError("run 1")
        return decide_checkin(message, **facts)

    return decide


def test_d14_what_another_version_wrote_and_this_one_cannot_read_stays():
    row = WaitingCheckInFactory(error="ValueError: 7")
    WaitingCheckIn.objects.update(message={"type": "CheckInMessage", "fields": {"status": "asleep"}})
    assert retry_failed([row.id], now=LATER) == (0, 1)
    assert "ValidationError" in WaitingCheckIn.objects.get().error


def test_d14_processing_again_what_is_gone_or_parked_does_nothing():
    parked = WaitingCheckInFactory()
    assert retry_failed([parked.id, parked.id + 1], now=LATER) == (0, 0)
    assert retry_failed([], now=LATER) == (0, 0)
    assert WaitingCheckIn.objects.get() == parked


def test_d14_processed_again_without_its_monitor_it_is_refused_as_it_would_have_been():
    project = ProjectFactory()
    rest = failed(make_message("ok", project_id=project.id, source=Source.REST))
    sentry = failed(make_message("ok", project_id=project.id))
    assert retry_failed([rest, sentry], now=LATER) == (2, 0)
    assert [error.kind for error in ProcessingError.objects.all()] == ["MONITOR_NOT_FOUND"]
    assert [row.reason for row in WaitingCheckIn.objects.all()] == ["monitor_unknown"]


@pytest.mark.django_db(transaction=True)
def test_d14_two_people_who_ask_at_once_get_it_applied_once():
    monitor = MonitorFactory(slug="job")
    id_ = failed(make_message("error", monitor=monitor, run=1))
    counts = []
    with in_another_connection(lambda: counts.append(retry_failed([id_], now=LATER))) as outcome:
        counts.append(retry_failed([id_], now=LATER))
    assert outcome.was_waited_for
    assert sorted(counts) == [(0, 0), (1, 0)]
    assert (CheckIn.objects.count(), Occurrence.objects.count()) == (1, 1)
