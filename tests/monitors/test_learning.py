"""Learning a schedule from arrivals: what is proposed, what is not, and what is said with it."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.learning import ARRIVALS_READ, Arrival, Doubt, Kind, NoPattern, NotEnough, Proposal, propose
from monitors.schedule import Schedule, anchor_for, next_slots

VIENNA = "Europe/Vienna"
WEDNESDAY = datetime(2026, 9, 2, 10, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def arrivals_of(crontab, count, *, timezone="UTC", since=WEDNESDAY, seconds=20, seed=1):
    """Arrivals of a job that cron starts, each up to so many seconds late."""
    late = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    slots = next_slots(Schedule.from_crontab(crontab, timezone), since, None, count)
    return [Arrival(slot + timedelta(seconds=late.uniform(0, seconds))) for slot in slots]


def arrivals_after(length, count, *, since=WEDNESDAY, seconds=(1, 4), seed=1):
    """Arrivals of a loop that waits so long after each run, which takes a few seconds."""
    took = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    arrivals = [Arrival(since + timedelta(seconds=33))]
    while len(arrivals) < count:
        arrivals.append(Arrival(arrivals[-1].at + length + timedelta(seconds=took.uniform(*seconds))))
    return arrivals


def proposal_of(arrivals, timezone="UTC"):
    found = propose(arrivals, timezone)
    assert isinstance(found, Proposal), found
    return found


@pytest.mark.parametrize(
    ("crontab", "timezone", "count", "seconds"),
    [
        ("* * * * *", "UTC", 8, 5),
        ("*/5 * * * *", "UTC", 5, 20),
        ("*/5 * * * *", "UTC", 60, 100),
        ("3-59/10 * * * *", "Asia/Kathmandu", 20, 50),
        ("*/7 * * * *", "UTC", 60, 20),
        ("17 * * * *", "UTC", 5, 50),
        ("17 * * * *", "UTC", 60, 240),
        ("15 */6 * * *", "UTC", 6, 50),
        ("30 2 * * *", VIENNA, 5, 50),
        ("30 2 * * *", VIENNA, 120, 5_000),
        ("*/30 8 * * *", "UTC", 12, 30),
        ("0 8,12,18 * * *", "UTC", 20, 60),
        ("30 2 * * 1-5", VIENNA, 6, 50),
        ("0 9-17 * * 1-5", "UTC", 60, 20),
        ("0 4 * * 1,3,5", "UTC", 14, 30),
        ("0 6 * * 1", VIENNA, 5, 50),
        ("0 6 1 * *", VIENNA, 5, 50),
        ("59 23 L * *", VIENNA, 7, 100),
    ],
)
def test_a_crontab_is_recognised(crontab, timezone, count, seconds):
    found = proposal_of(arrivals_of(crontab, count, timezone=timezone, seconds=seconds), timezone)
    assert (found.schedule.crontab, found.schedule.timezone) == (crontab, timezone)
    assert (found.missed, found.of_kind(Kind.ON_TIME)) == ((), count)
    assert max(placed.late for placed in found.arrivals) <= timedelta(minutes=found.margin_minutes)


@pytest.mark.parametrize(
    ("length", "interval"),
    [
        (7 * MINUTE, (7, "minute")),
        (90 * MINUTE, (90, "minute")),
        (36 * HOUR, (36, "hour")),
        (2 * DAY, (2, "day")),
        (14 * DAY, (2, "week")),
    ],
)
def test_what_no_crontab_says_is_an_interval(length, interval):
    found = proposal_of(arrivals_after(length, 8))
    assert (found.schedule.interval, found.schedule.interval_unit) == interval


def test_a_loop_that_waits_is_an_interval_as_it_drifts_through_the_hour():
    found = proposal_of(arrivals_after(5 * MINUTE, 5))
    assert (found.schedule.interval, found.schedule.interval_unit) == (5, "minute")


@pytest.mark.parametrize("count", range(5))
def test_fewer_than_five_are_not_enough(count):
    assert propose(arrivals_of("17 * * * *", count), "UTC") == NotEnough(count, 5)


def test_repetitions_do_not_count_towards_five():
    arrivals = arrivals_of("17 * * * *", 3)
    again = [Arrival(arrival.at + timedelta(seconds=30)) for arrival in arrivals]
    assert propose(arrivals + again, "UTC") == NotEnough(3, 5)


def test_arrivals_without_a_pattern_have_no_schedule():
    chance = random.Random(7)  # noqa: S311 - arrivals, not secrets
    arrivals = [Arrival(WEDNESDAY + timedelta(hours=chance.uniform(0, 100))) for _ in range(20)]
    assert isinstance(propose(arrivals, "UTC"), NoPattern)


def test_chance_is_hardly_ever_taken_for_a_schedule():
    chance = random.Random(11)  # noqa: S311 - arrivals, not secrets
    proposed = 0
    for _ in range(12):
        at, arrivals = WEDNESDAY, []
        for _ in range(chance.randint(6, 25)):
            at += timedelta(hours=chance.expovariate(1))
            arrivals.append(Arrival(at))
        proposed += isinstance(propose(arrivals, VIENNA), Proposal)
    assert proposed <= 1


def test_a_missed_run_retries_and_a_trial_by_hand_do_not_hide_the_schedule():
    arrivals = arrivals_of("30 2 * * *", 14)
    missed = arrivals.pop(6)
    arrivals += [Arrival(arrivals[3].at + 4 * MINUTE), Arrival(arrivals[9].at + 6 * MINUTE)]
    arrivals.append(Arrival(arrivals[0].at - 7 * HOUR))
    found = proposal_of(arrivals)
    assert found.schedule.crontab == "30 2 * * *"
    assert found.missed == (missed.at.replace(second=0, microsecond=0),)
    assert (found.of_kind(Kind.ON_TIME), found.of_kind(Kind.AGAIN), found.of_kind(Kind.BESIDE)) == (13, 2, 1)


def test_a_ping_at_the_beginning_and_one_at_the_end_are_one_run():
    begins = arrivals_of("*/30 * * * *", 12)
    ends = [Arrival(arrival.at + 3 * MINUTE) for arrival in begins]
    found = proposal_of(begins + ends)
    assert (found.schedule.crontab, found.of_kind(Kind.AGAIN)) == ("*/30 * * * *", 12)


@pytest.mark.parametrize(
    ("since", "change"), [(datetime(2026, 3, 15, tzinfo=UTC), 29), (datetime(2026, 10, 12, tzinfo=UTC), 25)]
)
def test_a_nightly_job_is_recognised_across_a_change_of_the_clocks(since, change):
    arrivals = arrivals_of("30 2 * * *", 30, timezone=VIENNA, since=since)
    assert change in {arrival.at.day for arrival in arrivals}
    found = proposal_of(arrivals, VIENNA)
    assert (found.schedule.crontab, found.schedule.timezone, found.missed) == ("30 2 * * *", VIENNA, ())
    assert found.doubts == ()


def test_a_machine_whose_clock_is_not_in_the_zone_gets_a_crontab_in_utc():
    arrivals = arrivals_of("30 1 * * *", 40, since=datetime(2026, 10, 5, tzinfo=UTC))
    found = proposal_of(arrivals, VIENNA)
    assert (found.schedule.crontab, found.schedule.timezone) == ("30 1 * * *", "UTC")


def test_working_days_are_claimed_when_a_weekend_has_passed_and_not_from_five_arrivals():
    monday = datetime(2026, 9, 7, tzinfo=UTC)
    before_the_weekend = proposal_of(arrivals_of("30 2 * * 1-5", 5, since=monday))
    assert (before_the_weekend.schedule.crontab, before_the_weekend.doubts) == ("30 2 * * *", (Doubt.WEEKEND,))
    assert proposal_of(arrivals_of("30 2 * * 1-5", 6, since=monday)).schedule.crontab == "30 2 * * 1-5"
    assert propose(arrivals_of("30 2 * * 1-5", 5), "UTC") == NotEnough(5, 6)


@pytest.mark.parametrize(
    ("crontab", "timezone", "count", "doubts"),
    [
        ("*/5 * * * *", VIENNA, 20, (Doubt.DAY,)),
        ("17 * * * *", VIENNA, 30, (Doubt.WEEKEND,)),
        ("17 * * * *", VIENNA, 120, ()),
        ("30 2 * * *", VIENNA, 8, (Doubt.CLOCKS,)),
        ("30 2 * * *", "Asia/Tokyo", 8, ()),
        ("30 2 * * *", VIENNA, 60, ()),
    ],
)
def test_what_cannot_be_known_yet_is_said(crontab, timezone, count, doubts):
    assert proposal_of(arrivals_of(crontab, count, timezone=timezone), timezone).doubts == doubts


@pytest.mark.parametrize(
    ("crontab", "seconds", "margin"),
    [("* * * * *", 5, 1), ("*/5 * * * *", 30, 1), ("17 * * * *", 600, 15), ("30 2 * * *", 5, 30)],
)
def test_the_margin_follows_from_the_lateness_within_bounds(crontab, seconds, margin):
    assert proposal_of(arrivals_of(crontab, 30, seconds=seconds)).margin_minutes == margin


def test_the_maximum_runtime_is_twice_the_longest_duration_if_three_are_known():
    arrivals = arrivals_of("17 * * * *", 6)
    known = [Arrival(arrival.at, 4 * MINUTE) for arrival in arrivals[:3]]
    assert proposal_of(arrivals).max_runtime_minutes is None
    assert proposal_of(known + arrivals[3:]).max_runtime_minutes == 8


def test_only_the_newest_arrivals_count():
    old = arrivals_of("17 * * * *", 100)
    new = arrivals_of("*/5 * * * *", ARRIVALS_READ, since=old[-1].at)
    found = proposal_of(old + new)
    assert (found.schedule.crontab, len(found.arrivals)) == ("*/5 * * * *", ARRIVALS_READ)


# --- for all schedules ----------------------------------------------------------------------------------------------

crontabs = st.one_of(
    st.sampled_from((2, 5, 10, 15, 20, 30)).flatmap(
        lambda step: st.integers(0, step - 1).map(
            lambda first: f"{first}-59/{step} * * * *" if first else f"*/{step} * * * *"
        )
    ),
    st.integers(0, 59).map(lambda minute: f"{minute} * * * *"),
    st.tuples(st.integers(0, 59), st.sampled_from((2, 3, 4, 6, 8, 12))).map(lambda of: f"{of[0]} */{of[1]} * * *"),
    st.tuples(
        st.integers(0, 59),
        st.integers(0, 23),
        st.sampled_from(("* * *", "* * 1-5", "* * 1", "* * 6", "1 * *", "15 * *")),
    ).map(lambda of: f"{of[0]} {of[1]} {of[2]}"),
)


@pytest.mark.long
@settings(deadline=None, max_examples=100)
@given(
    crontab=crontabs,
    timezone=st.sampled_from(("UTC", VIENNA, "America/New_York", "Asia/Kathmandu")),
    count=st.integers(5, 60),
    since=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    share=st.floats(0, 0.15),
    lost=st.integers(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_proposal_agrees_with_the_true_times_or_says_what_it_cannot_know(
    crontab, timezone, count, since, share, lost, seed
):
    true = Schedule.from_crontab(crontab, timezone)
    first, second = next_slots(true, since, None, 2)
    seconds = min(share * (second - first).total_seconds(), 180)
    arrivals = arrivals_of(crontab, count, timezone=timezone, since=since, seconds=seconds, seed=seed)
    if lost and count > 8:
        del arrivals[count // 2]
    found = propose(arrivals, timezone)
    if not isinstance(found, Proposal) or found.doubts:
        return
    last = arrivals[-1].at
    expected = next_slots(true, last, None, 8)
    proposed = next_slots(found.schedule, last, anchor_for(found.schedule, last), 8)
    late = timedelta(seconds=seconds) + MINUTE
    assert all(abs(one - other) <= late for one, other in zip(expected, proposed, strict=True)), found.schedule
