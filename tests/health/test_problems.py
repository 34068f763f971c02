"""What is found wrong, from facts alone: each limit just before, at and after it, and who is blamed."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from checkins.node_facts import NODE_SILENT_MAX, NodeFacts, NodeStanding, node_standing
from health.clock.reasons import LATE_MAX, PROCESS_SILENT_MAX
from health.facts import Facts, Intake, Outage, Part, Rows, Severity, TickFacts
from health.problems import OUTBOX_WAIT_MAX, SPOOL_FREE_BYTES_MIN, find_problems, is_on_time
from tests.factories import NOW

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
INTAKE = Intake(
    is_direct=True,
    spooled_count=0,
    spool_bytes=24_576,
    spool_bytes_max=1 << 30,
    is_refusing=False,
    is_silent=False,
    free_bytes=1 << 40,
)
NODE = NodeFacts(id=uuid.UUID(int=1), host="web-1", pid=7, seen_at=NOW, watermark=NOW, spooled_count=0)


def tick(age, *, finished=True, decided=True):
    at = NOW - age
    written = at + SECOND
    return TickFacts(at, written, written if decided else None, written + SECOND if finished else None)


NEWEST = tick(MINUTE)
ROWS = Rows(newest=NEWEST, newest_finished_at=NOW - MINUTE, nodes=(NODE,))
WELL = Facts(
    now=NOW,
    watched_since=NOW - timedelta(hours=1),
    rows=ROWS,
    last_seen={"beat": NOW, "worker": NOW, "delivery": NOW},
    queues={"clock": 0, "delivery": 0},
    intake=INTAKE,
)


def with_rows(**rows):
    return replace(WELL, rows=replace(ROWS, **rows))


def parts(facts):
    return [(finding.part, finding.is_bad) for finding in find_problems(facts)]


def test_nothing_is_found_while_all_is_well():
    assert find_problems(WELL) == []
    assert is_on_time(WELL)


# --- beat and workers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_ledger_that_stands_still_is_bad_after_a_while(over):
    silence = LATE_MAX + over * SECOND

    [found] = find_problems(with_rows(newest=tick(silence + SECOND)))

    assert (found.part, found.since) == (Part.CLOCK, NOW - silence)
    assert found.severity is (Severity.BAD if over > 0 else Severity.NOTE)


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize(("kind", "part"), [("beat", Part.BEAT), ("worker", Part.WORKER), ("delivery", Part.DELIVERY)])
def test_a_kind_of_process_that_falls_silent_is_named_before_the_ledger_shows_it(kind, part, over):
    heard_at = NOW - PROCESS_SILENT_MAX - over * SECOND

    found = find_problems(replace(WELL, last_seen={**WELL.last_seen, kind: heard_at}))

    assert [(finding.part, finding.is_bad, finding.since) for finding in found] == (
        [(part, True, heard_at)] if over > 0 else []
    )


def test_who_was_never_heard_of_is_missed_only_if_the_clock_stands_still():
    forgetful = replace(WELL, last_seen={})  # Valkey was emptied a moment ago
    still = replace(ROWS, newest=tick(timedelta(minutes=5)))

    assert parts(forgetful) == []
    assert parts(replace(forgetful, rows=still)) == [(Part.BEAT, True), (Part.WORKER, True), (Part.CLOCK, True)]


@pytest.mark.parametrize(("heard", "is_named"), [({"worker": NOW}, True), ({}, False)])
def test_a_worker_that_reads_no_delivery_since_an_upgrade_is_named(heard, is_named):
    watching = replace(WELL, last_seen={"beat": NOW, **heard}, watched_since=NOW - LATE_MAX - SECOND)

    assert parts(watching) == ([(Part.DELIVERY, True)] if is_named else [])


def test_a_new_installation_has_its_time_until_the_first_tick():
    fresh = replace(WELL, rows=Rows(), last_seen={}, watched_since=NOW - LATE_MAX)

    assert parts(fresh) == []
    late = find_problems(replace(fresh, watched_since=NOW - LATE_MAX - SECOND))
    [clock] = [finding for finding in late if finding.part is Part.CLOCK]
    assert "No tick was ever written" in clock.what
    assert clock.since is None


def test_a_worker_that_reads_another_queue_is_pointed_at():
    still = replace(with_rows(newest=tick(timedelta(minutes=5))), queues={"clock": 4, "delivery": 0})

    [found] = find_problems(still)

    assert "4 messages wait" in found.what
    assert "reads the queue clock" in found.todo


def test_nobody_is_blamed_for_silence_while_valkey_is_away():
    away = Outage(NOW, "Connection refused")

    assert parts(replace(WELL, valkey=away, last_seen={})) == [(Part.VALKEY, True)]
    assert parts(replace(WELL, broker=away)) == [(Part.BROKER, True)]


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_shards_that_are_behind_for_long_are_bad(over):
    written_at = NOW - LATE_MAX - over * SECOND
    slow = TickFacts(written_at - SECOND, written_at, written_at, None)
    behind = [(shard, "missed", slow.at - MINUTE) for shard in range(3)]

    [found] = find_problems(with_rows(oldest_unfinished=slow, clocks=[*behind, (3, "missed", NEWEST.at)]))

    assert (found.part, found.since) == (Part.CLOCK, slow.at - MINUTE)
    assert found.severity is (Severity.BAD if over > 0 else Severity.NOTE)
    assert found.what == "Shards 0, 1 and 2 are behind: workers are busy."


def test_shards_that_could_only_begin_a_moment_ago_are_not_bad():
    """A node kept the clock from going on for ten minutes: the ledger has just been written up to now."""
    written = [TickFacts(NOW - age * MINUTE, NOW - SECOND, NOW - SECOND, None) for age in (10, 1)]

    found = find_problems(
        with_rows(newest=written[1], oldest_unfinished=written[0], clocks=[(0, "missed", NOW - 11 * MINUTE)])
    )

    assert [finding.severity for finding in found] == [Severity.NOTE]


@pytest.mark.parametrize("over", [0, 1])
def test_a_tick_that_nobody_marks_as_finished_is_found(over):
    written_at = NOW - LATE_MAX - over * SECOND
    forgotten = TickFacts(written_at - SECOND, written_at, written_at, None)

    found = find_problems(with_rows(oldest_unfinished=forgotten, clocks=[(0, "missed", NEWEST.at)]))

    assert [finding.is_bad for finding in found] == [True] * over
    assert all("although no shard is behind" in finding.what for finding in found)


def test_a_tick_that_waits_for_a_decision_is_not_called_slow():
    undecided = tick(timedelta(minutes=4), finished=False, decided=False)

    found = find_problems(with_rows(oldest_unfinished=undecided, oldest_undecided=undecided))

    assert [(finding.part, finding.is_bad) for finding in found] == [(Part.CLOCK, False)]
    assert "volume" in found[0].what


@pytest.mark.parametrize(
    ("age", "severity"),
    [(20, None), (75, None), (76, Severity.NOTE), (151, Severity.NOTE), (152, Severity.BAD)],
)
@pytest.mark.parametrize("spooled_count", [0, 3])
def test_the_node_that_a_minute_waits_for_is_named(age, severity, spooled_count):
    newest = tick(age * SECOND)
    slow = replace(NODE, watermark=newest.at + 10 * SECOND, spooled_count=spooled_count)

    found = find_problems(with_rows(newest=newest, nodes=(slow,)))

    if spooled_count:
        severity = severity or Severity.NOTE
    assert [(finding.part, finding.severity) for finding in found] == (
        [(Part.SPOOL if spooled_count else Part.INGEST, severity)] if severity else []
    )
    assert all(finding.what.startswith("Ingest node web-1 pid 7 has stored") for finding in found)


@pytest.mark.parametrize(("ahead", "severity"), [(60, None), (61, Severity.NOTE), (151, Severity.BAD)])
def test_a_clock_that_is_ahead_of_now_is_found(ahead, severity):
    found = find_problems(with_rows(newest=tick(-ahead * SECOND)))

    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_a_clock_incident_is_found():
    [found] = find_problems(with_rows(clock_incident=("nobody listened", NOW - MINUTE)))

    assert (found.part, found.is_bad, found.since) == (Part.CLOCK, True, NOW - MINUTE)


@pytest.mark.parametrize(("over", "on_time"), [(-1, True), (0, True), (1, False)])
def test_the_clock_is_on_time_while_its_newest_finished_tick_is_young(over, on_time):
    assert is_on_time(with_rows(newest_finished_at=NOW - LATE_MAX - over * SECOND)) is on_time


def test_the_clock_is_not_on_time_without_a_finished_tick_or_while_people_cannot_be_told():
    assert not is_on_time(with_rows(newest_finished_at=None))
    assert not is_on_time(replace(WELL, rows=None))
    assert not is_on_time(with_rows(unsent_count=1, oldest_unsent_at=NOW - timedelta(hours=1)))


# --- ingest and outbox ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_silent_node_is_found_before_the_clock_waits_for_it(over):
    seen_at = NOW - NODE_SILENT_MAX - over * SECOND

    found = find_problems(with_rows(nodes=(replace(NODE, seen_at=seen_at),)))

    assert [(finding.part, finding.since) for finding in found] == ([(Part.INGEST, seen_at)] if over > 0 else [])


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({}, NodeStanding.LIVE),
        ({"seen_at": NOW - NODE_SILENT_MAX}, NodeStanding.LIVE),
        ({"seen_at": NOW - NODE_SILENT_MAX - SECOND}, NodeStanding.SILENT),
        ({"seen_at": NOW - MINUTE, "dropped_at": NOW}, NodeStanding.DROPPED),
        ({"seen_at": NOW - MINUTE, "left_at": NOW}, NodeStanding.LEFT),
    ],
)
def test_the_standing_of_a_node(changes, standing):
    assert node_standing(replace(NODE, **changes), NOW) is standing


def test_a_dropped_node_matters_as_long_as_its_spool_holds_something():
    gone = replace(NODE, seen_at=NOW - timedelta(hours=1), dropped_at=NOW)

    assert parts(with_rows(nodes=(gone,))) == []
    assert parts(with_rows(nodes=(replace(gone, spooled_count=2),))) == [(Part.INGEST, True)]


def test_a_spool_that_is_not_empty_is_worth_a_look():
    assert parts(with_rows(nodes=(replace(NODE, spooled_count=1),))) == [(Part.SPOOL, False)]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_an_outbox_that_is_stuck_is_found_with_the_error(over):
    oldest = NOW - OUTBOX_WAIT_MAX - over * SECOND

    found = find_problems(with_rows(unsent_count=12, oldest_unsent_at=oldest, unsent_error="Connection refused"))

    assert [(finding.part, finding.since) for finding in found] == ([(Part.OUTBOX, oldest)] if over > 0 else [])
    assert all("12 notifications" in finding.what and "Connection refused" in finding.what for finding in found)


def test_check_ins_that_failed_wait_for_a_person():
    assert parts(with_rows(waiting={"failed": 2, "monitor_unknown": 9})) == [(Part.INGEST, False)]


@pytest.mark.parametrize(
    ("change", "found", "can_take"),
    [
        ({"is_direct": False}, [(Part.SPOOL, False)], True),
        ({"is_direct": False, "is_refusing": True}, [(Part.SPOOL, True)], False),
        ({"is_silent": True}, [(Part.INGEST, True)], False),
        ({"free_bytes": SPOOL_FREE_BYTES_MIN - 1}, [(Part.SPOOL, False)], True),
        ({"free_bytes": SPOOL_FREE_BYTES_MIN}, [], True),
        ({"free_bytes": None}, [(Part.SPOOL, False)], True),
        ({"damage": (1, 3)}, [(Part.SPOOL, False)], True),
    ],
)
def test_what_this_web_does_with_check_ins(change, found, can_take):
    intake = replace(INTAKE, **change)

    assert parts(replace(WELL, intake=intake)) == found
    assert intake.can_take is can_take


# --- the database -----------------------------------------------------------------------------------------------------


def test_without_postgresql_only_that_is_said_of_the_rest():
    away = replace(WELL, rows=None, postgres=Outage(NOW - MINUTE, "connection refused"))

    [found] = find_problems(away)

    assert (found.part, found.since) == (Part.POSTGRES, NOW - MINUTE)
    assert "connection refused" in found.what


def test_missing_migrations_are_named():
    [found] = find_problems(replace(WELL, rows=None, missing_migrations=("checkins.0010_x", "clocktasks.0004_y")))

    assert found.part is Part.MIGRATIONS
    assert "2 migrations" in found.what
    assert "checkins.0010_x" in found.what


def test_bad_things_come_first():
    both = replace(with_rows(waiting={"failed": 1}), broker=Outage(NOW, "refused"), intake=None)

    assert [finding.is_bad for finding in find_problems(both)] == [True, False]
