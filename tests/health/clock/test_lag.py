"""Why the clock is not at now, in words: each cause by itself, then what blocks first among several."""

from dataclasses import replace
from datetime import timedelta

import pytest

from checkins.node_facts import NodeFacts
from clocktasks.volume import VolumeDecision
from health.clock.lag import explain
from health.clock.reasons import LATE_MAX, TICK_MAX
from health.facts import Facts, Outage, Part, Rows, Rules, Severity, TickFacts
from tests.factories import NOW

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MIDNIGHT = NOW.replace(hour=0)
SHARDS = 16


def at(clock):
    """An instant of this day: "10:38" or "10:38:20"."""
    hours, minutes, *seconds = map(int, clock.split(":"))
    return MIDNIGHT + timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def tick(clock, *, decided=True, **columns):
    written = at(clock) + SECOND
    return TickFacts(at(clock), written, written if decided else None, None, **columns)


def suspicion(clock, decision=VolumeDecision.ABNORMAL, deviation=None):
    return tick(clock, decided=False, decision=decision, deviation_percent=deviation)


def node(**columns):
    facts = {"host": "web-1", "pid": 12, "seen_at": at("10:42:30"), "watermark": at("10:42:30"), "spooled_count": 0}
    return NodeFacts(**{"id": "n"} | facts | columns)


def late(newest="10:42", *, now="10:42:30", shards=None, seen=("beat", "worker"), undecided=None, **rows):
    """Facts of a clock whose newest tick is `newest`; `shards` are those that are elsewhere."""
    applied = at(newest) if undecided is None else undecided.at - MINUTE
    positions = dict.fromkeys(range(SHARDS), applied) | {shard: at(clock) for shard, clock in (shards or {}).items()}
    behind = [position for position in positions.values() if position < applied]
    columns = {
        "newest": tick(newest),
        "nodes": (node(),),
        "clocks": [(shard, "missed", position) for shard, position in positions.items()],
        "oldest_undecided": undecided,
        "oldest_unfinished": tick(f"{min(behind) + MINUTE:%H:%M}") if behind else undecided,
    }
    return Facts(
        now=at(now), watched_since=at(now), rows=Rows(**columns | rows), last_seen=dict.fromkeys(seen, at(now))
    )


def whats(findings):
    return [finding.what for finding in findings]


# --- all is well ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("10:41:50", "The clock is at 10:42 UTC, 10 seconds ahead of now, which is normal."),
        ("10:42:01", "The clock is at 10:42 UTC, 1 second behind now, which is normal."),
        ("10:42:30", "The clock is at 10:42 UTC, 30 seconds behind now, which is normal."),
        ("10:43:00", "The clock is at 10:42 UTC, 1 minute behind now, which is normal."),
    ],
)
def test_at_rest_the_clock_is_up_to_a_minute_behind(now, words):
    answer = explain(late(now=now))

    assert answer.headline == words
    assert (answer.at, answer.behind, answer.is_normal) == (at("10:42"), at(now) - at("10:42"), True)
    assert (answer.reasons, answer.besides) == ([], [])


@pytest.mark.parametrize("grace", [1, 30])
@pytest.mark.parametrize(("over", "is_normal"), [(-1, True), (0, True), (1, False)])
def test_a_minute_the_grace_and_what_a_tick_takes_are_normal(grace, over, is_normal):
    now = at("10:42") + MINUTE + grace * SECOND + TICK_MAX + over * SECOND
    clock = late(now=f"{now:%H:%M:%S}", nodes=(node(watermark=at("10:42:59"), seen_at=now),))

    patient = replace(clock, rows=replace(clock.rows, rules=Rules(grace=grace * SECOND)))
    assert explain(patient).is_normal is is_normal


@pytest.mark.parametrize(
    ("age", "severity"),
    [
        (61, Severity.NORMAL),
        (75, Severity.NORMAL),
        (76, Severity.NOTE),
        (LATE_MAX.seconds + 1, Severity.NOTE),
        (LATE_MAX.seconds + 2, Severity.BAD),
    ],
)
def test_a_tick_that_does_not_come_is_normal_then_worth_a_check_then_bad(age, severity):
    now = at("10:42") + age * SECOND
    nodes = (node(seen_at=now, watermark=now),)

    reasons = explain(late(now=f"{now:%H:%M:%S}", nodes=nodes)).reasons

    assert [reason.severity for reason in reasons] == [severity]


def test_in_the_second_after_a_minute_its_tick_is_about_to_be_written():
    answer = explain(late(now="10:43:02", nodes=(node(seen_at=at("10:43:02"), watermark=at("10:43:02")),)))

    assert answer.is_normal
    assert whats(answer.reasons) == ["Tick 10:43 UTC is about to be written."]


def test_another_day_is_said():
    today = late("10:00", now="10:02", nodes=())
    days_later = replace(today, now=today.now + timedelta(days=2))

    assert explain(today).headline.startswith("The clock waits at 10:00 UTC, 2 minutes behind: ")
    assert explain(days_later).headline.startswith("The clock waits at 2026-01-05 10:00 UTC, 2 days behind: ")


# --- nothing there yet ------------------------------------------------------------------------------------------------


def test_a_clock_without_a_tick_says_what_it_waits_for():
    answer = explain(Facts(now=NOW, watched_since=NOW, rows=Rows()))

    assert answer.headline == (
        "The clock has no minute yet: the first tick is written a minute after beat and a worker have started."
    )
    assert (answer.at, answer.behind, answer.is_normal) == (None, None, False)
    assert "make run" in answer.reasons[-1].todo


def test_without_postgres_nothing_can_be_seen():
    away = Facts(now=NOW, watched_since=NOW, postgres=Outage(NOW, "connection refused"))

    assert explain(away).headline.startswith(
        "Where the clock is is not known: PostgreSQL cannot be used (connection refused)."
    )


# --- ingest nodes -----------------------------------------------------------------------------------------------------


def test_the_clock_waits_for_a_node_that_drains_its_spool():
    behind = node(watermark=at("10:38:20"), spooled_count=1204)

    answer = explain(late("10:38", nodes=(node(id="m", pid=13), behind)))

    assert answer.headline == (
        "The clock waits at 10:38 UTC, 4 minutes behind: ingest node web-1 pid 12 has stored its check-ins only up to "
        "10:38:20 UTC and has 1,204 in its spool (PostgreSQL was away or slow)."
    )
    assert not answer.is_normal
    assert [(reason.part, reason.is_bad) for reason in answer.reasons] == [(Part.SPOOL, True)], "for four minutes"
    assert answer.besides == []


def test_the_clock_waits_for_a_silent_node_and_says_until_when():
    silent = node(seen_at=at("10:41:10"), watermark=at("10:41:10"))

    answer = explain(late("10:41", now="10:42:40", nodes=(silent,)))

    assert answer.headline == (
        "The clock waits at 10:41 UTC, 1 minute behind: ingest node web-1 pid 12 has stored its check-ins only up to "
        "10:41:10 UTC and was last seen at 10:41:10 UTC."
    )
    assert "goes on without it from about 10:43 UTC on" in answer.reasons[0].todo
    assert answer.reasons[0].is_bad


def test_a_node_that_was_dropped_is_not_waited_for():
    gone = node(watermark=at("10:30"), seen_at=at("10:30"), dropped_at=at("10:33"), spooled_count=7)

    answer = explain(late(nodes=(gone, node(id="m"))))

    assert answer.reasons == []
    assert answer.is_normal
    assert ["gone with 7" in what for what in whats(answer.besides)] == [True]


@pytest.mark.parametrize(("watermark", "blocks"), [("10:38:59", True), ("10:39:00", False), ("10:39:01", False)])
def test_a_node_blocks_the_next_minute_until_it_has_stored_all_of_it(watermark, blocks):
    answer = explain(late("10:38", nodes=(node(watermark=at(watermark)),)))

    assert answer.reasons[0].what.startswith("Ingest node") is blocks


def test_every_node_that_the_clock_waits_for_is_named():
    nodes = [node(id=str(pid), pid=pid, watermark=at("10:38:20") + pid * SECOND) for pid in range(1, 10)]

    named = whats(explain(late("10:38", nodes=nodes)).reasons)

    assert [words.split(" has")[0] for words in named] == [f"Ingest node web-1 pid {pid}" for pid in range(1, 10)]


# --- volume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "deviation", "words"),
    [
        (VolumeDecision.ABNORMAL, -24.4, "the volume of check-ins fell by 24 % at 10:39 UTC"),
        (VolumeDecision.ABNORMAL, None, "the volume of check-ins is unusual at 10:39 UTC"),
        (VolumeDecision.RECOVERING, -2.0, "an incident of volume may be over since 10:39 UTC"),
    ],
)
def test_a_suspicion_says_by_when_it_is_decided(decision, deviation, words):
    answer = explain(late(undecided=suspicion("10:39", decision, deviation)))

    assert answer.headline == (
        f"The clock waits at 10:38 UTC, 4 minutes behind: {words}; it is decided by 10:44 UTC at the latest."
    )
    assert not answer.reasons[0].is_bad


def test_a_suspicion_of_a_minute_ago_is_a_reason_although_the_lag_is_normal():
    answer = explain(late("10:42", now="10:42:10", undecided=suspicion("10:42", VolumeDecision.ABNORMAL, -20.0)))

    assert answer.is_normal
    assert whats(answer.reasons) == [
        "The volume of check-ins fell by 20 % at 10:42 UTC; it is decided by 10:47 UTC at the latest."
    ]


def test_a_clock_incident_does_not_hold_the_clock_up_and_is_said_all_the_same():
    answer = explain(late(clock_incident=("far fewer check-ins than usual", at("10:30"))))

    assert answer.is_normal
    assert answer.reasons == []
    assert [finding.since for finding in answer.besides] == [at("10:30")]
    assert "may be deaf (far fewer check-ins than usual)" in answer.besides[0].what


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "who"),
    [
        ([3], "shard 3 is behind"),
        ([7, 3], "shards 3 and 7 are behind"),
        ([1, 2, 3], "shards 1, 2 and 3 are behind"),
        (range(6), "6 of 16 shards are behind"),
        (range(SHARDS), "all 16 shards are behind"),
    ],
)
def test_shards_that_are_behind_are_named(shards, who):
    answer = explain(late(shards=dict.fromkeys(shards, "10:38"), seen=()))

    assert answer.headline == f"The clock waits at 10:38 UTC, 4 minutes behind: {who}: workers are busy or none runs."


def test_workers_that_were_seen_are_busy():
    answer = explain(late(shards={3: "10:38"}))

    assert answer.reasons[0].what == "Shard 3 is behind: workers are busy."


@pytest.mark.parametrize("age", [59, 60, 61])
def test_a_worker_that_was_seen_long_ago_may_not_run(age):
    clock = late(shards={3: "10:38"})
    seen = {"beat": clock.now, "worker": clock.now - age * SECOND}

    reasons = explain(replace(clock, last_seen=seen)).reasons

    assert reasons[-1].what.endswith("workers are busy or none runs." if age > 60 else "workers are busy.")
    assert [reason.part for reason in reasons] == ([Part.WORKER, Part.CLOCK] if age > 60 else [Part.CLOCK])


def test_shards_are_behind_what_is_decided_and_not_what_is_written():
    waiting = suspicion("10:40", deviation=-12.0)

    assert "shard" not in " ".join(whats(explain(late(undecided=waiting)).reasons))
    assert [what.split(" ")[0] for what in whats(explain(late(undecided=waiting, shards={3: "10:38"})).reasons)] == [
        "Shard",
        "The",
    ]


# --- beat and workers -------------------------------------------------------------------------------------------------


def test_a_ledger_that_does_not_go_on_asks_for_beat_and_a_worker():
    answer = explain(late("10:12"))

    assert answer.headline == (
        "The clock waits at 10:12 UTC, 30 minutes behind: no tick was written since 10:12 UTC: is beat running? Is a "
        "worker?"
    )
    assert answer.reasons[0].todo.startswith("Beat and a worker run")


def test_if_no_beat_was_seen_that_comes_first():
    answer = explain(late("10:12", seen=("worker",)))

    assert answer.headline == (
        "The clock waits at 10:12 UTC, 30 minutes behind: no beat runs: nothing starts the next minute."
    )
    assert [reason.part for reason in answer.reasons] == [Part.BEAT, Part.CLOCK]
    assert answer.reasons[-1].todo == "See that beat runs, and a worker that reads the queue clock."


# --- several at once --------------------------------------------------------------------------------------------------


def test_what_the_oldest_minute_waits_for_comes_first():
    answer = explain(
        late(
            "10:40",
            shards={3: "10:36", 7: "10:35"},
            undecided=suspicion("10:38", VolumeDecision.ABNORMAL, -15.0),
            nodes=(node(watermark=at("10:40:20"), spooled_count=3),),
        )
    )

    assert answer.at == at("10:35")
    assert [what.split(" ")[0] for what in whats(answer.reasons)] == ["Shards", "The", "Ingest"]
    assert all(reason.todo for reason in answer.reasons)


def test_what_has_nothing_to_do_with_the_clock_is_said_besides():
    answer = explain(late(unsent_count=3, oldest_unsent_at=at("10:20"), unsent_error="refused"))

    assert answer.is_normal
    assert [finding.part for finding in answer.besides] == [Part.OUTBOX]
