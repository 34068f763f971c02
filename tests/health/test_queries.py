"""What the database says of the clock, the ingest and the outbox."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from health.queries import COUNTED_MAX, DUE_SQL, read_figures, read_rows
from tests.factories import (
    NOW,
    ChannelFactory,
    ClockIncidentFactory,
    FollowUpFactory,
    HeldTickFactory,
    IngestNodeFactory,
    MessageFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    ProcessingErrorFactory,
    ShardClockFactory,
    TickFactory,
    WaitingCheckInFactory,
)

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def test_an_empty_database_has_nothing_to_say():
    rows, figures = read_rows(NOW), read_figures(NOW)

    assert (rows.newest, rows.newest_finished_at, rows.held_at, rows.clock_incident) == (None, None, None, None)
    assert (rows.nodes, rows.unsent_count, rows.waiting) == ((), 0, {"monitor_unknown": 0, "failed": 0})
    assert (figures.due_count, figures.tick_seconds, figures.newest_marked, figures.processing_errors) == (
        0,
        {},
        {},
        {},
    )


def test_the_ledger_is_read_from_both_ends():
    TickFactory(at=NOW - 2 * MINUTE)
    TickFactory(at=NOW - MINUTE, finished_at=None)
    TickFactory(at=NOW, finished_at=None, decided_at=None, decision="abnormal")
    ShardClockFactory(shard=1, kind="missed", position=NOW - 2 * MINUTE)
    ShardClockFactory(shard=2, kind="missed", position=NOW)
    ShardClockFactory(shard=1, kind="timeout", position=NOW)
    HeldTickFactory(at=NOW + MINUTE, reason="ingest node web-1 is slow")
    ClockIncidentFactory(cause="volume", started_at=NOW, ended_at=None, summarised_at=None)

    rows = read_rows(NOW)

    assert rows.newest is not None
    assert rows.oldest_unfinished is not None
    assert rows.oldest_undecided is not None
    assert rows.newest.at == NOW
    assert rows.newest_finished_at == NOW - 2 * MINUTE
    assert rows.oldest_unfinished.at == NOW - MINUTE
    assert (rows.oldest_undecided.at, rows.undecided_count) == (NOW, 1)
    assert rows.shards_behind == {"missed": 1, "timeout": 0}
    assert (rows.positions, rows.applied_until) == ({1: NOW - 2 * MINUTE, 2: NOW}, NOW - 2 * MINUTE)
    assert rows.held_at == NOW + MINUTE
    assert rows.clock_incident == ("far fewer check-ins than usual", NOW)


def test_nodes_that_left_are_of_no_interest():
    live, _ = IngestNodeFactory(), IngestNodeFactory(state="left")
    dropped = IngestNodeFactory(state="dropped")

    assert {node.id: node.dropped_at is not None for node in read_rows(NOW).nodes} == {
        live.id: False,
        dropped.id: True,
    }


def test_the_node_furthest_behind_comes_first():
    seen = [IngestNodeFactory(watermark=NOW - minutes * MINUTE) for minutes in (1, 3, 2)]

    assert [node.id for node in read_rows(NOW).nodes] == [seen[1].id, seen[2].id, seen[0].id]


def test_the_outbox_is_judged_by_the_oldest_that_is_not_sent():
    MessageFactory(created_at=NOW - 3 * MINUTE, status="sent")
    MessageFactory(created_at=NOW - 2 * MINUTE, last_error="no route to host")
    NotificationFactory(created_at=NOW - MINUTE)

    rows = read_rows(NOW)

    assert (rows.unsent_count, rows.oldest_unsent_at, rows.unsent_error) == (2, NOW - 2 * MINUTE, "no route to host")


def test_a_delivery_that_does_not_begin_is_seen_by_what_nobody_has_addressed():
    NotificationFactory(created_at=NOW - MINUTE)

    rows = read_rows(NOW)

    assert (rows.unsent_count, rows.oldest_unsent_at, rows.unsent_error) == (1, NOW - MINUTE, "")


def test_what_reached_nobody_and_what_was_given_up_is_counted_apart():
    NotificationFactory(nobody_since=NOW)
    MessageFactory(status="failed", finished_at=NOW - 23 * timedelta(hours=1))
    MessageFactory(status="failed", finished_at=NOW - 24 * timedelta(hours=1))

    rows = read_rows(NOW)

    assert (rows.unsent_count, rows.unnotified_count, rows.given_up_count) == (0, 1, 1)


def test_what_is_held_on_purpose_is_not_late():
    MessageFactory(created_at=NOW - MINUTE, due_at=NOW + MINUTE)
    NotificationFactory(created_at=NOW - MINUTE, held_until=NOW + MINUTE)
    assert (read_rows(NOW).unsent_count, read_rows(NOW).oldest_unsent_at) == (0, None)
    assert read_rows(NOW + 2 * MINUTE).unsent_count == 2


def test_a_reminder_that_no_sweep_has_told_is_late():
    FollowUpFactory(due_at=NOW - MINUTE)
    FollowUpFactory(due_at=NOW + MINUTE)
    FollowUpFactory(due_at=None)
    rows = read_rows(NOW)
    assert (rows.unsent_count, rows.oldest_unsent_at) == (1, NOW - MINUTE)


def test_a_released_notification_is_late_from_its_release_on():
    NotificationFactory(created_at=NOW - 60 * MINUTE, held_until=NOW - MINUTE)
    assert read_rows(NOW).oldest_unsent_at == NOW - MINUTE


class TestFailuresThatNobodyWasTold:
    def test_a_channel_that_fails_for_ten_minutes(self):
        ChannelFactory(name="room", project__slug="shop", open_since=NOW - 10 * MINUTE, probe_at=NOW)
        ChannelFactory(open_since=NOW - 10 * MINUTE, probe_at=NOW, fallback_told_at=NOW)
        assert read_rows(NOW).unreported_failures == ["room of shop"]

    def test_the_message_that_should_have_told_it_was_given_up_itself(self):
        MessageFactory(kind="fallback", incident=None, status="failed", subject="[Watchclock] Channel room fails")
        assert read_rows(NOW).unreported_failures == ["Channel room fails"]

    def test_a_message_that_was_given_up_more_than_an_hour_ago(self):
        MessageFactory(status="failed", finished_at=NOW - 66 * MINUTE, recipient="ops@example.com")
        MessageFactory(status="failed", finished_at=NOW - 66 * MINUTE, fallback_at=NOW)
        MessageFactory(status="failed", finished_at=NOW - 10 * MINUTE)
        assert read_rows(NOW).unreported_failures == ["opened to ops@example.com was given up"]


def test_waiting_check_ins_are_counted_by_reason():
    WaitingCheckInFactory()
    WaitingCheckInFactory(reason="failed", error="ValueError")

    assert read_rows(NOW).waiting == {"monitor_unknown": 1, "failed": 1}


def test_the_figures_tell_how_long_ticks_took_and_what_is_due():
    environment = MonitorEnvironmentFactory()
    ShardClockFactory(shard=environment.shard, kind="missed", position=NOW)
    ShardClockFactory(shard=environment.shard, kind="timeout", position=NOW)
    due_at = environment.next_checkin_latest
    now = due_at + MINUTE
    early = due_at - MINUTE
    TickFactory(at=early, dispatched_at=early + SECOND, finished_at=early + 3 * SECOND)
    assert read_figures(now).due_count == 0
    TickFactory(
        at=due_at,
        dispatched_at=due_at + 2 * SECOND,
        finished_at=due_at + 9 * SECOND,
        missed_count=3,
        unknown_count=1,
    )
    ProcessingErrorFactory(minute=due_at, first_received_at=due_at, last_received_at=now - SECOND, count=5)

    figures = read_figures(now)

    assert figures.tick_seconds["wait", 1.0] == 2
    assert figures.tick_seconds["apply", 0.5] == 2
    assert figures.tick_seconds["whole", 1.0] == 9
    assert figures.newest_marked == {"missed": 3, "timeout": 0, "unknown": 1}
    assert figures.due_count == 1
    assert sum(figures.processing_errors.values()) == 5


def test_p7_what_is_due_is_counted_by_its_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # An empty table has no other way that is worth its while.
        cursor.execute("EXPLAIN " + DUE_SQL, {"tick": NOW, "most": COUNTED_MAX})
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "monenv_due" in plan, "read in order or as a bitmap, as the statistics have it"
    assert "Index Cond: ((shard = clocktasks_shardclock.shard) AND (next_checkin_latest <= " in plan


def test_p7_looking_costs_the_same_whatever_there_is():
    def count_queries():
        with CaptureQueriesContext(connection) as queries:
            read_rows(NOW)
            read_figures(NOW)
        return len(queries)

    TickFactory(at=NOW, finished_at=None, decided_at=None, decision="abnormal")
    NotificationFactory(sent_at=None)
    MessageFactory()
    few = count_queries()
    IngestNodeFactory.create_batch(5)
    NotificationFactory.create_batch(5, sent_at=None)

    assert count_queries() == few
    assert few <= 32
    assert COUNTED_MAX == 10_000, "docs/reference/metrics.md says so"
