"""Clients send a message again when they missed the answer: the same words count once, the next run's by themselves.

A message with an id is recognised by it. A last word without id is recognised by its repeat key: what a protocol finds
equal in messages that are sent again, and different in all others.
"""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins.messages import RunLog, Source
from checkins.models import Attempt, CheckIn, CheckInLog, ProcessingError
from checkins.processing.apply import receive
from checkins.processing.runs import REPEAT_WINDOW
from incidents.models import Incident, Occurrence
from monitors.models import MonitorEnvironment
from tests.factories import NOW, MonitorFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
KEY, OTHER_KEY = uuid.UUID(int=1), uuid.UUID(int=2)
IN_ONE_BATCH_OR_TWO = pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])


def word(monitor, status="ok", *, after=0 * SECOND, key=KEY, **fields):
    """A last word without id, as a ping with a body is."""
    values = {"source": Source.HEALTHCHECKS, "repeat_key": key, "log": RunLog(b"done", 4)} | fields
    return make_message(status, monitor=monitor, at=NOW + after, **values)


def tell(*messages, at_once=False):
    """Apply messages in one batch or one by one; all of them are accepted."""
    batches = [messages] if at_once else [[message] for message in messages]
    outcomes = [outcome for batch in batches for outcome in receive(batch, now=batch[-1].received_at)]
    assert all(outcome.accepted and not outcome.problems for outcome in outcomes)


def runs():
    return list(CheckIn.objects.order_by("date_added", "id").values_list("status", "date_added"))


# --- Without an id ----------------------------------------------------------------------------------------------------


@IN_ONE_BATCH_OR_TWO
@pytest.mark.parametrize("status", ["ok", "error"])
def test_a_last_word_that_is_sent_again_counts_once(status, at_once):
    monitor = MonitorFactory()
    tell(word(monitor, status), word(monitor, status, after=3 * SECOND), at_once=at_once)
    assert runs() == [(status, NOW)]
    row = MonitorEnvironment.objects.get()
    assert row.ok_streak + row.failure_streak == 1
    assert Occurrence.objects.count() == int(status == "error")
    assert CheckInLog.objects.count() == 1
    assert not ProcessingError.objects.exists()


@IN_ONE_BATCH_OR_TWO
def test_the_end_of_an_open_run_that_is_sent_again_makes_no_second_run(at_once):
    monitor = MonitorFactory()
    opening = make_message("in_progress", monitor=monitor, source=Source.HEALTHCHECKS)
    tell(opening, word(monitor, after=9 * SECOND), word(monitor, after=12 * SECOND), at_once=at_once)
    assert runs() == [("ok", NOW)]


@pytest.mark.parametrize(
    ("after", "count"),
    [
        pytest.param(REPEAT_WINDOW - SECOND, 1, id="just before"),
        pytest.param(REPEAT_WINDOW, 1, id="at the end"),
        pytest.param(REPEAT_WINDOW + SECOND, 2, id="just after"),
    ],
)
@IN_ONE_BATCH_OR_TWO
def test_after_the_time_in_which_clients_try_again_the_same_word_is_the_next_runs(after, count, at_once):
    monitor = MonitorFactory()
    tell(word(monitor), word(monitor, after=after), at_once=at_once)
    assert len(runs()) == count


@IN_ONE_BATCH_OR_TWO
def test_a_job_that_prints_the_same_every_minute_is_heard_every_minute_also_from_a_backlog(at_once):
    """While PostgreSQL was away the spool kept ten minutes of it, which arrive at once."""
    monitor = MonitorFactory(crontab="* * * * *")
    tell(*(word(monitor, after=minute * MINUTE) for minute in range(10)), at_once=at_once)
    assert len(runs()) == 10
    assert MonitorEnvironment.objects.get().last_checkin == NOW + 9 * MINUTE


def test_a_backlog_that_arrives_after_newer_words_is_heard_too():
    monitor = MonitorFactory(crontab="* * * * *")
    tell(word(monitor, after=5 * MINUTE))
    tell(*(word(monitor, after=minute * MINUTE) for minute in range(5)), at_once=True)
    assert len(runs()) == 6


@IN_ONE_BATCH_OR_TWO
def test_each_time_a_word_is_sent_again_is_measured_from_the_run_that_it_ended(at_once):
    """A job that prints the same every 30 seconds: at least every second of its runs is heard."""
    monitor = MonitorFactory(crontab="* * * * *")
    tell(*(word(monitor, after=30 * n * SECOND) for n in range(5)), at_once=at_once)
    assert [at for _, at in runs()] == [NOW, NOW + 60 * SECOND, NOW + 120 * SECOND]


@IN_ONE_BATCH_OR_TWO
@pytest.mark.parametrize(
    "other", [{"key": OTHER_KEY}, {"key": None}, {"environment": "staging"}], ids=["key", "no key", "environment"]
)
def test_what_differs_is_another_run(other, at_once):
    monitor = MonitorFactory()
    tell(word(monitor), word(monitor, after=SECOND, **other), at_once=at_once)
    assert len(runs()) == 2


@IN_ONE_BATCH_OR_TWO
def test_the_same_key_of_another_monitor_is_another_run(at_once):
    first = MonitorFactory()
    second = MonitorFactory(project=first.project)
    tell(word(first), word(second, after=SECOND), at_once=at_once)
    assert len(runs()) == 2


@IN_ONE_BATCH_OR_TWO
def test_words_that_nothing_tells_apart_from_the_next_runs_are_counted(at_once):
    """A ping without a body has no repeat key: better heard twice than not at all."""
    monitor = MonitorFactory()
    tell(word(monitor, key=None, log=None), word(monitor, key=None, log=None, after=SECOND), at_once=at_once)
    assert len(runs()) == 2


@IN_ONE_BATCH_OR_TWO
def test_a_second_run_with_the_same_words_counts(at_once):
    """It began in between, so its end is no repetition."""
    monitor = MonitorFactory()
    opening = make_message("in_progress", monitor=monitor, at=NOW + 5 * SECOND, source=Source.HEALTHCHECKS)
    tell(word(monitor, "error"), opening, word(monitor, "error", after=9 * SECOND), at_once=at_once)
    assert runs() == [("error", NOW), ("error", NOW + 5 * SECOND)]
    assert (Incident.objects.count(), Occurrence.objects.count()) == (1, 2)


@IN_ONE_BATCH_OR_TWO
def test_a_word_is_recognised_behind_other_words_of_a_moment(at_once):
    monitor = MonitorFactory()
    between = word(monitor, "error", key=OTHER_KEY, after=SECOND)
    tell(word(monitor), between, word(monitor, after=2 * SECOND), at_once=at_once)
    assert runs() == [("ok", NOW), ("error", NOW + SECOND)]


# --- With an id -------------------------------------------------------------------------------------------------------


@IN_ONE_BATCH_OR_TWO
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["ok", "ok"], id="ok"),
        pytest.param(["error", "error"], id="error"),
        pytest.param(["in_progress", "in_progress", "ok", "ok"], id="both messages"),
        pytest.param(["in_progress", "ok", "in_progress"], id="the beginning, after the end"),
    ],
)
def test_messages_of_a_named_run_that_are_sent_again_change_nothing(words, at_once):
    """sentry-cli sends each message up to six times: the same id, status and duration."""
    monitor = MonitorFactory()
    duration_ms = {"in_progress": None, "ok": 1_500, "error": 1_500}
    messages = [
        make_message(status, monitor=monitor, at=NOW + n * SECOND, run=1, duration_ms=duration_ms[status])
        for n, status in enumerate(words)
    ]
    tell(*messages, at_once=at_once)
    [run] = CheckIn.objects.all()
    assert (run.status, run.duration_ms) == ("error" if "error" in words else "ok", 1_500)
    assert not Attempt.objects.exists()
    assert not ProcessingError.objects.exists()


# --- What it costs ----------------------------------------------------------------------------------------------------


def test_looking_for_repetitions_is_one_statement_more():
    """For the whole batch, however many words have keys."""
    monitors = [MonitorFactory() for _ in range(5)]
    tell(*(word(monitor) for monitor in monitors), at_once=True)
    with_keys = [word(monitor, after=2 * MINUTE) for monitor in monitors]
    without = [word(monitor, after=4 * MINUTE, key=None) for monitor in monitors]
    counts = []
    for batch in (without, with_keys):
        with CaptureQueriesContext(connection) as queries:
            receive(batch, now=NOW)
        counts.append(len(queries))
    assert counts[1] == counts[0] + 1
