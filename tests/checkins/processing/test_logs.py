"""What jobs print: kept with the run that printed it, or as a note; any bytes, and never a sign of life."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as search
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from checkins.messages import LogMessage, ProblemKind, RunLog, Source
from checkins.models import CheckIn, CheckInLog, ProcessingError
from checkins.processing.apply import receive
from monitors.models import Monitor, MonitorEnvironment
from tests.factories import NOW, MonitorEnvironmentFactory, MonitorFactory, ProjectFactory
from tests.messages import make_config, make_message, run_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
OUTPUT = RunLog(b"3 files copied\n", 15)


def ping(status, monitor, *, at=NOW, log=OUTPUT, **fields):
    """A Healthchecks ping with a body."""
    return make_message(status, monitor=monitor, at=at, source=Source.HEALTHCHECKS, log=log, **fields)


def log_ping(monitor, *, at=NOW, run=None, log=OUTPUT, environment="production", **fields):
    """A ping to /log: output without a status."""
    values = {"project_id": monitor.project_id, "slug": monitor.slug, "raw_slug": monitor.slug} | fields
    return LogMessage(
        environment=environment,
        check_in_id=None if run is None else run_id(run),
        received_at=at,
        source=Source.HEALTHCHECKS,
        log=log,
        payload={},
        **values,
    )


def logs():
    rows = CheckInLog.objects.order_by("received_at", "id")
    return [(row.guid, row.status, bytes(row.body)) for row in rows]


# --- The log of a run -------------------------------------------------------------------------------------------------


def test_what_comes_with_a_word_is_kept_with_its_run():
    row = MonitorEnvironmentFactory()
    [outcome] = receive([ping("error", row.monitor, exit_status=3)], now=NOW)
    log = CheckInLog.objects.get()
    assert (log.monitor_environment, log.guid, log.status) == (row, outcome.guid, "error")
    assert (bytes(log.body), log.size_bytes) == (b"3 files copied\n", 15)
    assert (log.received_at, log.source) == (NOW, "healthchecks")
    assert CheckIn.objects.get().exit_status == 3


def test_each_word_of_a_run_has_a_log_of_its_own():
    monitor = MonitorFactory()
    receive([ping("in_progress", monitor, log=RunLog(b"begin", 5))], now=NOW)
    receive([ping("ok", monitor, at=NOW + MINUTE, log=RunLog(b"end", 3))], now=NOW)
    guid = CheckIn.objects.get().guid
    assert logs() == [(guid, "in_progress", b"begin"), (guid, "ok", b"end")]


def test_a_word_without_output_keeps_nothing():
    receive([ping("ok", MonitorFactory(), log=None)], now=NOW)
    assert logs() == []


def test_of_large_output_the_last_part_is_kept_and_how_much_it_was():
    receive([ping("ok", MonitorFactory(), log=RunLog(b"the end", 3_000_000))], now=NOW)
    log = CheckInLog.objects.get()
    assert (bytes(log.body), log.size_bytes) == (b"the end", 3_000_000)


def test_a_word_that_changes_nothing_leaves_no_second_log():
    """The same error comes once more since its client missed the answer."""
    monitor = MonitorFactory()
    for second in (0, 5):
        receive([ping("error", monitor, run=1, at=NOW + second * timedelta(seconds=1))], now=NOW)
    assert logs() == [(run_id(1), "error", b"3 files copied\n")]


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        ({"environment": "staging"}, ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH),
        ({"status": "error"}, ProblemKind.CHECKIN_FINISHED),
    ],
)
def test_a_refused_word_leaves_no_log(refused, kind):
    monitor = MonitorFactory()
    receive([ping("ok", monitor, run=1, log=None)], now=NOW)
    again = {"status": "ok", "run": 1} | refused
    [outcome] = receive([ping(again.pop("status"), monitor, at=NOW + MINUTE, **again)], now=NOW)
    assert [problem.kind for problem in outcome.problems] == [kind]
    assert logs() == []


# --- Output without a status ------------------------------------------------------------------------------------------


def test_output_of_a_named_run_is_kept_with_it():
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, run=run) for run in (1, 2)], now=NOW)
    [outcome] = receive([log_ping(monitor, at=NOW + MINUTE, run=1)], now=NOW)
    assert (outcome.accepted, outcome.guid) == (True, run_id(1))
    assert logs() == [(run_id(1), "", b"3 files copied\n")]


def test_output_that_names_no_run_belongs_to_the_newest_one_in_progress():
    monitor = MonitorFactory()
    for run in (1, 2):
        receive([make_message("in_progress", monitor=monitor, at=NOW + run * MINUTE, run=run)], now=NOW)
    receive([log_ping(monitor, at=NOW + 3 * MINUTE)], now=NOW)
    assert [guid for guid, *_ in logs()] == [run_id(2)]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
def test_lines_between_start_and_end_belong_to_their_run_in_the_order_in_which_they_came(at_once):
    """Borgmatic sends its lines to /log first, and then the state."""
    monitor = MonitorFactory()
    messages = [
        ping("in_progress", monitor, log=None),
        log_ping(monitor, at=NOW + MINUTE, log=RunLog(b"one", 3)),
        log_ping(monitor, at=NOW + 2 * MINUTE, log=RunLog(b"two", 3)),
        ping("ok", monitor, at=NOW + 3 * MINUTE, log=None),
    ]
    for batch in [messages] if at_once else [[message] for message in messages]:
        receive(batch, now=NOW)
    guid = CheckIn.objects.get().guid
    assert logs() == [(guid, "", b"one"), (guid, "", b"two")]


def test_output_is_a_note_when_nothing_runs():
    row = MonitorEnvironmentFactory()
    [outcome] = receive([log_ping(row.monitor, at=NOW + MINUTE)], now=NOW)
    assert (outcome.accepted, outcome.guid) == (True, None)
    assert logs() == [(None, "", b"3 files copied\n")]
    assert CheckInLog.objects.get().monitor_environment == row


def test_output_that_comes_before_its_run_is_found_by_its_id():
    monitor = MonitorFactory()
    receive([log_ping(monitor, run=1)], now=NOW)
    receive([make_message("ok", monitor=monitor, at=NOW + MINUTE, run=1)], now=NOW)
    assert [guid for guid, *_ in logs()] == [CheckIn.objects.get().guid]


def test_output_is_no_sign_of_life():
    """A job that writes a line and does nothing else is missed as if it had been silent."""
    row = MonitorEnvironmentFactory()
    receive([log_ping(row.monitor, at=NOW + 4 * MINUTE)], now=NOW)
    before = (row.last_checkin, row.next_checkin, row.next_checkin_latest, row.status, row.ok_streak)
    row.refresh_from_db()
    assert (row.last_checkin, row.next_checkin, row.next_checkin_latest, row.status, row.ok_streak) == before
    assert not CheckIn.objects.exists()


def test_output_does_not_move_a_deadline():
    monitor = MonitorFactory()
    receive([make_message("in_progress", monitor=monitor, run=1)], now=NOW)
    deadline = CheckIn.objects.get().timeout_at
    receive([log_ping(monitor, at=NOW + 20 * MINUTE, run=1)], now=NOW)
    assert CheckIn.objects.get().timeout_at == deadline


def test_output_creates_the_environment_that_it_names_and_expects_nothing_there():
    monitor = MonitorFactory()
    receive([log_ping(monitor, environment="staging")], now=NOW)
    row = MonitorEnvironment.objects.get()
    assert (row.environment.name, row.status, row.next_checkin) == ("staging", "active", None)


def test_output_for_an_unknown_monitor_is_refused_or_creates_it_if_it_may():
    project = ProjectFactory()
    unknown = MonitorFactory.build(project=project, project_id=project.id, slug="new")
    [refused] = receive([log_ping(unknown)], now=NOW)
    assert [problem.kind for problem in refused.problems] == [ProblemKind.MONITOR_NOT_FOUND]
    assert ProcessingError.objects.get().slug == "new"
    [created] = receive([log_ping(unknown, config_if_new=make_config("0 3 * * *"))], now=NOW)
    assert (created.accepted, created.created) == (True, True)
    assert Monitor.objects.get().crontab == "0 3 * * *"
    assert logs() == [(None, "", b"3 files copied\n")]


def test_d13_output_counts_towards_the_limit_of_its_minute(settings):
    settings.CHECKINS_PER_MINUTE = 2
    monitor = MonitorFactory()
    outcomes = receive([log_ping(monitor) for _ in range(3)], now=NOW)
    assert [outcome.accepted for outcome in outcomes] == [True, True, False]
    assert len(logs()) == 2


# --- Any bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"\x00", id="NUL, which no text of PostgreSQL holds"),
        pytest.param(b"caf\xe9", id="Latin 1"),
        pytest.param("日本"[:2].encode()[1:-1], id="cut inside two letters"),
        pytest.param(b'\\x41 \\ " {,} NULL', id="what array literals are made of"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(b"x" * 100_000, id="the most that is kept"),
    ],
)
def test_a_log_is_kept_byte_by_byte(body):
    monitor = MonitorFactory()
    receive([ping("ok", monitor, log=RunLog(body, len(body))), log_ping(monitor, log=RunLog(body, len(body)))], now=NOW)
    assert [bytes(row.body) for row in CheckInLog.objects.all()] == [body, body]


class AnyBytes(TestCase):
    """Hypothesis needs a transaction for each of its examples."""

    @search(max_examples=25)
    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
    def test_a_batch_of_logs_comes_back_as_it_was(self, bodies):
        monitor = MonitorFactory()
        messages = [
            log_ping(monitor, at=NOW + number * MINUTE, log=RunLog(body, len(body)))
            for number, body in enumerate(bodies)
        ]
        receive(messages, now=NOW)
        assert [body for *_, body in logs()] == bodies
