"""Ingest nodes on PostgreSQL: what a watermark promises, who may move it, and when the clock gives a node up."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from checkins.models import IngestNode
from checkins.nodes import (
    DROPPED_KEPT,
    LEFT_KEPT,
    FencedError,
    Registration,
    UnknownNodeError,
    advance,
    beat,
    deregister,
    forget_gone_nodes,
    lock_node,
    register_node,
)
from checkins.watermarks import Settled, drop_silent_nodes, stored_until
from tests.connections import in_another_connection
from tests.factories import NOW, IngestNodeFactory
from tests.waiting import PATIENCE_SECONDS

SILENT_MAX = timedelta(seconds=120)
NODE = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)

pytestmark = pytest.mark.django_db


def at(seconds: float):
    return NOW + timedelta(seconds=seconds)


def register(node_id=NODE, *, watermark=0, now=0, pid=1):
    return register_node(node_id, watermark=at(watermark), now=at(now), host="web-1", pid=pid)


def commit(batch, *, watermark=0, now=None, node_id=NODE, **columns):
    now = watermark if now is None else now
    with transaction.atomic():
        advance(node_id, batch=batch, watermark=at(watermark), now=at(now), **({"spooled_count": 0} | columns))


def row(node_id=NODE):
    return IngestNode.objects.get(id=node_id)


def look(seconds):
    return [node.id for node in drop_silent_nodes(at(seconds), silent_max=SILENT_MAX)]


def look_every_second(since, until):
    """Return when nodes were dropped in these seconds, both ends included, by their ids."""
    return {node_id: second for second in range(since, until + 1) for node_id in look(second)}


# --- Registering ------------------------------------------------------------------------------------------------------


def test_a_new_node_vouches_for_nothing_before_it_was_there():
    assert register(now=5, watermark=5) == Registration(batch=0, spool_position=0, watermark=at(5))
    assert (row().started_at, row().seen_at, row().host, row().pid) == (at(5), at(5), "web-1", 1)
    assert stored_until(at(9)).until == at(5)


def test_a_new_row_for_an_old_spool_vouches_only_up_to_its_oldest_entry():
    assert register(now=5, watermark=-300).watermark == at(-300)


def test_a_spool_from_a_time_that_is_still_to_come_does_not_stop_the_start():
    assert register(now=5, watermark=60).watermark == at(5), "the clock of the host was set back"


def test_who_takes_a_node_over_goes_on_where_it_stands():
    register()
    commit(7, watermark=10, spool_position=3)
    assert register(now=60, watermark=30, pid=2) == Registration(batch=7, spool_position=3, watermark=at(30))
    assert (row().pid, row().started_at, row().seen_at) == (2, at(60), at(60))


def test_a_takeover_never_moves_the_watermark_back():
    register()
    commit(7, watermark=10)
    assert register(now=60, watermark=-500).watermark == at(10)


@pytest.mark.parametrize("state", ["silent", "dropped", "left"])
def test_a_node_that_registers_again_is_live(state):
    gone = IngestNodeFactory(state=state)
    register(gone.id, now=200, watermark=200)
    again = row(gone.id)
    assert (again.silent_since, again.silence_seen_at, again.dropped_at, again.left_at) == (None,) * 4


# --- Batches and drains -----------------------------------------------------------------------------------------------


def test_a_batch_moves_number_and_watermark():
    register()
    commit(1, watermark=3, now=4, spooled_count=2)
    assert (row().batch, row().watermark, row().seen_at, row().spooled_count) == (1, at(3), at(4), 2)


def test_a_watermark_never_moves_back():
    register(now=10, watermark=10)
    commit(1, watermark=4, now=11)
    beat(NODE, watermark=at(5), now=at(12), spooled_count=0)
    assert (row().watermark, row().seen_at) == (at(10), at(12))


@pytest.mark.parametrize(("batch", "allowed"), [(6, False), (7, False), (8, True)])
def test_a_batch_that_is_not_newer_may_not_be_committed(batch, allowed):
    register()
    commit(7)
    if allowed:
        commit(batch)
    else:
        with pytest.raises(FencedError):
            commit(batch)
    assert row().batch == max(batch, 7)


@pytest.mark.parametrize(("position", "allowed"), [(3, False), (4, False), (5, True)])
def test_spool_entries_that_are_not_newer_may_not_be_applied_again(position, allowed):
    register()
    commit(None, spool_position=4)
    if allowed:
        commit(None, spool_position=position)
    else:
        with pytest.raises(FencedError):
            commit(None, spool_position=position)
    assert row().spool_position == max(position, 4)


def test_a_drain_leaves_the_number_of_the_newest_batch_alone():
    register()
    commit(7)
    commit(None, spool_position=1)
    assert row().batch == 7


def test_a_batch_that_is_rolled_back_moves_nothing():
    register()
    with transaction.atomic():
        advance(NODE, batch=1, watermark=at(9), now=at(9), spooled_count=0)
        transaction.set_rollback(True)
    assert (row().batch, row().watermark) == (0, NOW)


def test_the_lock_of_a_drain_says_what_is_committed():
    register()
    commit(7, watermark=10, spool_position=3)
    with transaction.atomic():
        assert lock_node(NODE) == Registration(7, 3, at(10))


def test_who_never_registered_may_neither_commit_nor_drain_nor_beat():
    with pytest.raises(FencedError):
        commit(1)
    with pytest.raises(UnknownNodeError), transaction.atomic():
        lock_node(NODE)
    with pytest.raises(UnknownNodeError):
        beat(NODE, watermark=NOW, now=NOW, spooled_count=0)


def test_who_left_has_to_register_before_it_goes_on():
    register()
    deregister(NODE, now=at(1))
    with pytest.raises(FencedError):
        commit(1)
    with pytest.raises(UnknownNodeError), transaction.atomic():
        lock_node(NODE)
    with pytest.raises(UnknownNodeError):
        beat(NODE, watermark=NOW, now=at(2), spooled_count=0)
    register(now=3, watermark=3)
    commit(1, watermark=3)


def test_p2_nobody_vouches_for_the_future():
    register()
    with pytest.raises(IntegrityError, match="ingest_node_watermark_not_in_the_future"):
        commit(1, watermark=10, now=9)


def test_p1_nobody_leaves_with_a_spool_that_is_not_empty():
    register()
    beat(NODE, watermark=NOW, now=at(1), spooled_count=1)
    with pytest.raises(IntegrityError, match="ingest_node_left_with_an_empty_spool"), transaction.atomic():
        deregister(NODE, now=at(2))
    beat(NODE, watermark=NOW, now=at(3), spooled_count=0)
    deregister(NODE, now=at(4))
    assert row().left_at == at(4)


# --- What the clock may rely on ---------------------------------------------------------------------------------------


def test_without_nodes_time_alone_decides():
    assert stored_until(NOW) == Settled(until=NOW, live=())


def test_the_slowest_live_node_decides():
    register(NODE, watermark=-10)
    register(OTHER, watermark=-30)
    settled = stored_until(at(1))
    assert settled.until == at(-30)
    assert [node.id for node in settled.live] == [OTHER, NODE]


def test_nobody_waits_for_a_node_that_left_or_was_dropped():
    for state in ("left", "dropped"):
        IngestNodeFactory(state=state, seen_at=at(-90))
    assert stored_until(NOW) == Settled(until=NOW, live=())


# --- Silence ----------------------------------------------------------------------------------------------------------


def test_a_node_is_dropped_when_it_was_silent_for_the_setting_and_not_a_second_sooner():
    register()
    register(OTHER)
    for second in range(300):
        beat(OTHER, watermark=at(second), now=at(second), spooled_count=0)
        dropped = look(second)
        assert dropped == ([NODE] if second == 120 else [])
    assert row().dropped_at == at(120)
    assert row(OTHER).dropped_at is None


def test_dropping_is_a_warning_that_says_who_since_when_and_what_it_means(caplog):
    register(now=-60, watermark=-70, pid=4711)
    beat(NODE, watermark=at(-30), now=at(-20), spooled_count=12)
    look_every_second(0, 200)
    (record,) = [record for record in caplog.records if record.name == "checkins.watermarks"]
    assert record.levelname == "WARNING"
    assert "web-1 pid 4711" in record.getMessage()
    assert str(NODE) in record.getMessage()
    assert "last seen at 2026-01-05T09:59:40+00:00" in record.getMessage()
    assert "stored up to 2026-01-05T09:59:30+00:00" in record.getMessage()
    assert "12 in its spool" in record.getMessage()


@pytest.mark.parametrize("sign", ["beat", "batch", "drain", "takeover"])
def test_every_sign_of_life_ends_a_silence(sign):
    register()
    look_every_second(0, 119)
    if sign == "beat":
        beat(NODE, watermark=NOW, now=NOW, spooled_count=0)
    elif sign == "takeover":
        register()
    else:
        commit(1 if sign == "batch" else None, spool_position=1 if sign == "drain" else None)
    assert (row().silent_since, row().silence_seen_at) == (None, None)
    assert look_every_second(120, 239) == {}
    assert look_every_second(240, 240) == {NODE: 240}


def test_a_node_whose_clock_is_wrong_is_judged_like_the_others():
    """A host that is ten minutes behind reports old times for ever; one that is ahead reports times to come."""
    slow, fast = NODE, OTHER
    for second in range(200):
        for node_id, error in ((slow, -600), (fast, 600)):
            if second == 0:
                register(node_id, now=error, watermark=error)
            beat(node_id, watermark=at(second + error), now=at(second + error), spooled_count=0)
        assert look(second) == []
    assert look_every_second(200, 318) == {}
    assert look_every_second(319, 319) == {slow: 319, fast: 319}


def test_an_outage_of_the_database_drops_nobody():
    register()
    look(0)
    assert look(600) == [], "the clock is the first to be back"
    beat(NODE, watermark=at(601), now=at(601), spooled_count=0)
    assert look(602) == []


def test_of_an_outage_during_a_silence_ten_seconds_count():
    register()
    assert look_every_second(0, 100) == {}
    assert look_every_second(700, 709) == {}
    assert look_every_second(710, 710) == {NODE: 710}


def test_a_clock_that_looks_once_a_minute_gives_up_too_only_later():
    register()
    assert [minute for minute in range(20) if look(60 * minute)] == [12]


def test_several_clocks_that_look_at_once_count_no_silence_twice():
    register()
    for second in range(120):
        for _ in range(3):
            assert look(second) == []
    assert look(120) == [NODE]
    assert look(120) == []


def test_clocks_of_hosts_that_differ_drop_nobody_too_soon():
    register()
    for second in range(105):
        assert look(second) == []
        assert look(second + 3) == []
    assert look(122) == []


def test_a_dropped_node_that_is_back_is_waited_for_from_where_it_really_stands():
    register()
    commit(1, watermark=5)
    look_every_second(0, 120)
    assert stored_until(at(121)).until == at(121)
    beat(NODE, watermark=at(6), now=at(122), spooled_count=40)
    assert stored_until(at(122)).until == at(6)
    commit(None, watermark=123, spool_position=40)
    assert stored_until(at(123)).until == at(123)


# --- Rows that nobody needs any more ----------------------------------------------------------------------------------


def test_rows_go_a_day_after_a_node_left_and_a_month_after_it_was_dropped():
    live, silent = IngestNodeFactory(), IngestNodeFactory(state="silent")
    left, dropped = IngestNodeFactory(state="left"), IngestNodeFactory(state="dropped")
    assert forget_gone_nodes(now=left.left_at + LEFT_KEPT) == 0
    assert forget_gone_nodes(now=left.left_at + LEFT_KEPT + timedelta(seconds=1)) == 1
    assert forget_gone_nodes(now=dropped.dropped_at + DROPPED_KEPT) == 0
    assert forget_gone_nodes(now=dropped.dropped_at + DROPPED_KEPT + timedelta(seconds=1)) == 1
    assert set(IngestNode.objects.all()) == {live, silent}


# --- Two connections --------------------------------------------------------------------------------------------------


def in_a_thread(work):
    """Return what `work` returns in another connection. It may not wait for a lock of ours."""
    found = []

    def run():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '60s'")
            found.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    (result,) = found
    return result


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("commits", "newest"), [(True, 7), (False, 6)], ids=["commits", "rolls back"])
def test_a_takeover_waits_for_the_end_of_a_batch_that_may_be_committing(commits, newest):
    register()
    commit(6, watermark=1)

    def last_batch():
        advance(NODE, batch=7, watermark=at(2), now=at(2), spooled_count=0)

    with in_another_connection(last_batch, commits=commits) as dying:
        registration = register(now=3, watermark=0)
    assert dying.was_waited_for
    assert (registration.batch, registration.watermark) == (newest, at(2 if commits else 1))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("commits", "newest"), [(True, 7), (False, 6)], ids=["commits", "rolls back"])
def test_a_drain_waits_for_the_end_of_an_uncertain_batch_and_then_knows(commits, newest):
    register()
    commit(6)

    def uncertain():
        advance(NODE, batch=7, watermark=NOW, now=NOW, spooled_count=0)

    with in_another_connection(uncertain, commits=commits) as batch, transaction.atomic():
        assert lock_node(NODE).batch == newest
    assert batch.was_waited_for


@pytest.mark.django_db(transaction=True)
def test_of_two_that_commit_one_number_at_once_one_is_fenced():
    register()

    def the_first():
        advance(NODE, batch=1, watermark=NOW, now=NOW, spooled_count=0)

    with in_another_connection(the_first) as first, pytest.raises(FencedError):
        commit(1)
    assert first.was_waited_for


@pytest.mark.django_db(transaction=True)
def test_the_clock_waits_for_no_lock_of_a_node_and_takes_it_for_a_sign_of_life():
    register()
    look(0)
    with transaction.atomic():
        lock_node(NODE)
        assert in_a_thread(lambda: look_every_second(1, 200)) == {}
    assert (row().silent_since, row().silence_seen_at) == (NOW, NOW)


@pytest.mark.django_db(transaction=True)
def test_one_of_two_clocks_drops_a_node_and_the_other_holds_until_that_is_committed():
    register()
    look_every_second(0, 119)
    with transaction.atomic():
        assert look(120) == [NODE]
        assert in_a_thread(lambda: look(120)) == []
        assert in_a_thread(lambda: stored_until(at(120)).until) == NOW
    assert look(121) == []
    assert stored_until(at(121)).until == at(121)


@pytest.mark.django_db(transaction=True)
def test_a_node_that_speaks_just_as_it_is_dropped_is_live_after_it():
    register()
    look_every_second(0, 119)
    with in_another_connection(lambda: look(120)) as clock:
        beat(NODE, watermark=at(120), now=at(120), spooled_count=0)
    assert clock.was_waited_for
    assert row().dropped_at is None


@pytest.mark.django_db(transaction=True)
def test_a_registration_is_committed_by_itself_or_refused():
    with pytest.raises(RuntimeError), transaction.atomic():
        register()
    assert not IngestNode.objects.exists()
