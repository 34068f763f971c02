"""D29, P9: the same history gives the same rows, however late the clock looked."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkins.editing import delete_monitors
from checkins.models import CheckIn, DeferredEnding
from checkins.processing.apply import receive
from checkins.processing.counting import count_stranded
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import write_ticks
from clocktasks.shards import process_clock_task
from clocktasks.volume import VolumeDecision
from incidents.models import Incident, Notification, Occurrence
from monitors.models import MonitorEnvironment
from tests.factories import MonitorFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db
T0 = datetime(2026, 1, 5, 13, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def tick(minutes, *, held=()):
    """Apply every tick up to so many minutes after the start, as beat and workers do.

    The ticks of the minutes in `held` wait for the decision about their volume, which ends normal (D4).
    """

    def decide(at):
        return VolumeDecision.ABNORMAL if (at - T0) // MINUTE in held else VolumeDecision.NORMAL

    until = T0 + minutes * MINUTE
    write_ticks(until, now=until, decide_as=decide)
    tasks = advance_ledger(until, now=until)
    while tasks:
        woken = process_clock_task(tasks.pop(0)).wake
        tasks += [] if woken is None else [woken]


def a_monitor(**fields):
    tick(0)
    return MonitorFactory(**{"crontab": "* * * * *", "checkin_margin": 1, "max_runtime": 2, **fields})


def say(monitor, *words):
    """Receive words, each a status, the seconds after the start and a run's number, in one batch."""
    messages = [
        make_message(status, monitor=monitor, at=at(seconds), run=run, sent_at=at(seconds))
        for status, seconds, run in words
    ]
    receive(messages, now=messages[-1].received_at)


# --- a job that skips one minute and runs again at the next ---------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1, 30])
@pytest.mark.parametrize("second", [0.3, 4.3])
def test_d29_a_job_that_skips_one_minute_is_an_incident_that_opens_and_is_resolved(settings, second, lag):
    settings.ALERT_EMAIL_TO = ["ops@example.com"]
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1))
    tick(1)
    if lag == 0 and second == 4.3:
        tick(2)
    say(monitor, ("ok", 120 + second, 2))
    tick(2 + lag)

    incident = Incident.objects.earliest("id")
    assert (incident.opened_at, incident.started_at, incident.resolved_at) == (at(120), at(60), at(120 + second))
    assert Occurrence.objects.filter(incident=incident).count() == 1
    told = Notification.objects.filter(incident=incident).order_by("created_at")
    assert list(told.values_list("transition", "created_at")) == [("opened", at(120)), ("resolved", at(120 + second))]


def test_d29_an_end_is_stored_and_acknowledged_before_it_is_counted():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1), ("ok", 125, 2))
    row = MonitorEnvironment.objects.get()

    assert CheckIn.objects.filter(status="ok").count() == 2
    assert (row.ok_streak, row.has_deferred, row.last_ok_received_at) == (1, True, at(1))


def test_d29_an_end_before_the_tick_is_seen_by_it_and_one_at_the_tick_is_not():
    """An interval's deadline lies within a minute; the tick at which it is due is the next whole one (D20)."""
    monitor = a_monitor(crontab="0 12 * * *", max_runtime=1)
    say(monitor, ("in_progress", 20, 1), ("error", 81, 2), ("ok", 119.9, 3))
    assert not DeferredEnding.objects.exists()

    say(monitor, ("ok", 120, 4))
    assert DeferredEnding.objects.get().received_at == at(120)


def test_d29_ends_wait_for_the_timeouts_of_the_tick_too():
    monitor = a_monitor(failure_threshold=2)
    say(monitor, ("in_progress", 0, 1), ("ok", 121, 2))
    tick(2)

    incident = Incident.objects.get()
    assert incident.resolved_at == at(121)
    kinds = [one.explanation["kind"] for one in Occurrence.objects.order_by("occurred_at")]
    assert kinds == ["timeout", "missed"]


def test_d29_a_batch_with_nothing_due_asks_nothing_more():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1))
    with connection.execute_wrapper(refuse_deferred):
        say(monitor, ("ok", 61, 2))


def refuse_deferred(execute, sql, *args):
    assert "deferred" not in sql.replace("me.has_deferred", "").replace("has_deferred", "")
    return execute(sql, *args)


# --- nothing waits for ever -------------------------------------------------------------------------------------------


def test_d29_what_waits_for_nothing_any_more_is_counted():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1), ("ok", 125, 2))
    MonitorEnvironment.objects.update(next_checkin_latest=at(600))

    assert count_stranded() == 1
    assert count_stranded() == 0
    row = MonitorEnvironment.objects.get()
    assert (row.ok_streak, row.has_deferred, DeferredEnding.objects.count()) == (2, False, 0)


def test_d29_what_waits_for_the_clock_goes_on_waiting():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1), ("ok", 125, 2))

    assert count_stranded() == 0
    assert DeferredEnding.objects.count() == 1


def test_d29_nothing_waits_for_what_is_being_deleted():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1), ("ok", 125, 2))
    delete_monitors([monitor.id], now=at(126))

    assert not DeferredEnding.objects.exists()


# --- the order of runs ------------------------------------------------------------------------------------------------


def test_d26_a_failure_that_a_newer_failure_has_overtaken_counts_in_the_order_of_the_runs():
    monitor = a_monitor(crontab="0 12 * * *", max_runtime=30)
    say(monitor, ("in_progress", 1, 1), ("in_progress", 2, 2), ("error", 3, 2), ("error", 4, 1))

    assert [one.occurred_at for one in Occurrence.objects.all()] == [at(1), at(2)]
    assert MonitorEnvironment.objects.get().failure_streak == 2


def test_d26_an_error_that_a_newer_ok_has_overtaken_is_recorded_and_does_not_count():
    monitor = a_monitor(crontab="0 12 * * *", max_runtime=30)
    say(monitor, ("in_progress", 1, 1), ("in_progress", 2, 2), ("ok", 3, 2), ("error", 4, 1))

    error = CheckIn.objects.get(status="error")
    assert (error.failed_at, MonitorEnvironment.objects.get().failure_streak) == (None, 0)


def test_d4_d29_a_tick_that_is_held_is_applied_at_its_time_when_it_is_normal():
    monitor = a_monitor()
    say(monitor, ("ok", 1, 1))
    tick(2, held={2})
    assert not Incident.objects.exists()

    say(monitor, ("ok", 125, 2))
    tick(3)
    incident = Incident.objects.earliest("id")
    assert (incident.opened_at, incident.resolved_at) == (at(120), at(125))


# --- any history, any lag ---------------------------------------------------------------------------------------------

words = st.tuples(
    st.sampled_from(["in_progress", "ok", "error"]),
    st.integers(1, 900),  # half seconds
    st.sampled_from([1, 2, 3, 4, 5, 6]),
)
lags = st.lists(st.integers(0, 9), min_size=1, max_size=4)
held_minutes = st.sets(st.integers(1, 12), max_size=8)
"""Whose ticks are held, up to a decision window each (D4)."""


def rows():
    """Everything that people see, without ids (those of misses and incidents hold the number of their environment)."""
    checkins = CheckIn.objects.values_list(
        "status",
        "date_added",
        "date_updated",
        "expected_time",
        "timeout_at",
        "failed_at",
        "finished_status",
        "finished_at",
        "duration_ms",
    )
    return [
        # Of two that came at one instant neither is the first.
        sorted(checkins, key=lambda row: (row[1], row[0], row[2], str(row))),
        list(MonitorEnvironment.objects.values_list(
            "status", "pending_slot", "next_checkin", "next_checkin_latest", "last_checkin", "last_ok_at",
            "last_ok_received_at", "failure_streak", "failure_streak_started_at", "ok_streak", "has_deferred",
        )),
        list(Incident.objects.order_by("opened_at").values_list(
            "opened_at", "started_at", "resolved_at", "occurrence_count", "issue__status",
            "issue__occurrence_count", "issue__regression_count", "issue__last_seen_at",
        )),
        # How long the last ok took is told as it is known by then: its start may come after its end (D16).
        [
            (one.occurred_at, one.detected_at, one.subtitle, one.last_ok_at,
             {key: value for key, value in one.explanation.items() if key != "last_ok_duration_ms"})
            for one in Occurrence.objects.order_by("detected_at", "occurred_at", "number")
        ],
        list(Notification.objects.order_by("created_at", "transition").values_list("transition", "created_at")),
    ]  # fmt: skip


def told(monitor, story, *, ticks, batches, held=()):
    """Tell a story in batches of so many words, with the clock at rest but at the given words, then let it catch up."""
    number = 0
    while number < len(story):
        size = batches[number % len(batches)] + 1
        part = story[number : number + size]
        if ticks is None or ticks[number % len(ticks)] == 0:
            # As far as the watermark lets it: what comes next was received later (P2).
            tick(int(part[0][1] // 60), held=held)
        say(monitor, *part)
        number += size
    tick(20)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=st.lists(words, min_size=3, max_size=14),
    lag=lags,
    batches=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    held=held_minutes,
    thresholds=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_d29_p9_the_same_history_gives_the_same_rows_whatever_the_lag(story, lag, batches, held, thresholds):
    story = sorted(((status, half / 2, run) for status, half, run in story), key=lambda word: word[1])
    seen = []
    for ticks, sizes, waiting in ((None, [0], ()), (lag, batches, held)):
        with transaction.atomic():
            monitor = a_monitor(failure_threshold=thresholds[0], recovery_threshold=thresholds[1])
            told(monitor, story, ticks=ticks, batches=sizes, held=waiting)
            seen.append(rows())
            transaction.set_rollback(True)
    in_time, late = seen
    assert late == in_time


# --- a start that waits in the spool of another node ------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ok", "error"])
def test_p2_a_start_received_in_time_serves_its_slot_though_another_node_stored_the_end_first(status):
    monitor = a_monitor(crontab="*/5 * * * *")
    say(monitor, ("ok", 1, 1))
    say(monitor, (status, 363, 2))
    say(monitor, ("in_progress", 355, 2))
    tick(7)

    assert list(CheckIn.objects.order_by("date_added").values_list("status", flat=True)) == ["ok", status]
