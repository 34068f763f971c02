"""How the slot pointer of an environment moves (D1, D10, D12, D20; docs/reference/behaviour.md, sections 5.4 and 7)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from monitors.expectation import (
    DueSlot,
    decide_due_slots,
    expect_after_beginning,
    expect_from_now,
    expect_nothing,
)
from monitors.schedule import Anchor, Schedule, anchor_for, serves_early, slots_between
from monitors.state import EnvironmentState, MonitorRules
from tests.slots import next_slot

TOLERANCE = timedelta(seconds=5)


def at(text):
    """An instant on the day of these tests: "10:05" or "10:05:30"."""
    return datetime.fromisoformat(f"2026-01-05T{text}").replace(tzinfo=UTC)


def rules(schedule="*/15 * * * *", *, margin=1):
    """Rules of a crontab, or of an interval given as (count, unit)."""
    value = Schedule.from_crontab(schedule) if isinstance(schedule, str) else Schedule.from_interval(*schedule)
    return MonitorRules(value, margin_minutes=margin, max_runtime_minutes=30, failure_threshold=1, recovery_threshold=1)


def heard_before(received_at, what):
    """The state of an environment whose job was heard at that instant."""
    return replace(heard(received_at, what), last_checkin=received_at)


def heard(received_at, what, state=None, *, tolerance=TOLERANCE):
    return expect_after_beginning(state or EnvironmentState(), what, received_at=received_at, early_tolerance=tolerance)


def times(state):
    """Pending slot, next expected time and deadline, as "HH:MM" each."""
    return [f"{instant:%H:%M}" for instant in (state.pending_slot, state.next_checkin, state.next_checkin_latest)]


# --- A message of the job ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "received", "expected"),
    [
        pytest.param("0 * * * *", "10:00:00", ["11:00", "11:00", "11:10"], id="at a slot: the next one"),
        pytest.param("0 * * * *", "10:04:10", ["11:00", "11:00", "11:10"], id="after a slot: the next one"),
        pytest.param("0 * * * *", "10:54:59", ["11:00", "11:00", "11:10"], id="well before a slot: that one"),
        pytest.param((15, "minute"), "10:00:40", ["10:15", "10:15", "10:25"], id="interval: counted from the message"),
        pytest.param((2, "hour"), "05:42:50", ["07:42", "07:42", "07:52"], id="interval: cut to the minute"),
    ],
)
def test_the_next_expected_time_is_counted_from_the_message(schedule, received, expected):
    assert times(heard(at(received), rules(schedule, margin=10))) == expected


@pytest.mark.parametrize(
    ("received", "next_checkin"),
    [
        pytest.param("10:14:54.900000", "10:15", id="5.1 s before the slot: too early"),
        pytest.param("10:14:55", "10:30", id="5 s before: serves it"),
        pytest.param("10:14:55.100000", "10:30", id="4.9 s before: serves it"),
        pytest.param("10:14:59.999999", "10:30", id="a moment before: serves it"),
        pytest.param("10:15:00", "10:30", id="at the slot: serves it"),
    ],
)
def test_d12_a_run_that_opens_up_to_five_seconds_early_serves_the_slot(received, next_checkin):
    state = heard(at("10:01:00"), rules())
    assert times(heard(at(received), rules(), state))[0] == next_checkin


@pytest.mark.parametrize(
    ("received", "next_checkin"),
    [
        pytest.param("10:00:29", "10:01", id="31 s before: nearer to the slot before"),
        pytest.param("10:00:30", "10:02", id="half the gap before: serves it"),
        pytest.param("10:00:31", "10:02", id="29 s before: serves it"),
    ],
)
def test_d12_never_by_more_than_half_the_gap(received, next_checkin):
    minutely = rules("* * * * *")
    state = heard(at("10:00:05"), minutely)
    assert times(heard(at(received), minutely, state, tolerance=timedelta(seconds=60)))[0] == next_checkin


def test_d12_works_for_intervals_and_the_series_goes_on_from_the_slot_that_was_served():
    every = rules((15, "minute"))
    state = heard(at("10:14:57"), every, heard(at("10:00:20"), every))
    assert (times(state)[0], state.anchor) == ("10:30", Anchor(at("10:15"), 5))


def test_d12_an_interval_that_expects_nothing_yet_has_no_slot_to_serve_early():
    assert times(heard(at("10:14:57"), rules((15, "minute"))))[0] == "10:29"


@pytest.mark.parametrize("schedule", ["*/15 * * * *", (15, "minute")], ids=["crontab", "interval"])
def test_a_second_run_that_begins_early_does_not_move_the_pointer_back(schedule):
    opened = heard(at("10:14:57"), rules(schedule), heard(at("10:00:20"), rules(schedule)))
    assert heard(at("10:14:59"), rules(schedule), opened) == opened


def test_a_message_serves_every_slot_that_still_waits_for_its_deadline():
    """Margin 40 on a quarter-hourly job: at 10:50 the slots 10:15, 10:30 and 10:45 wait together."""
    state = heard(at("10:00:30"), rules(margin=40))
    assert times(heard(at("10:50:00"), rules(margin=40), state)) == ["11:00", "11:00", "11:40"]


# --- The clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tick", "due"),
    [
        pytest.param("10:24", [], id="a minute before slot + margin"),
        pytest.param("10:25", ["10:15"], id="at slot + margin"),
        pytest.param("10:26", ["10:15"], id="a minute after"),
    ],
)
def test_d20_a_slot_is_due_at_the_tick_that_ends_its_margin(tick, due):
    state = heard(at("10:00:30"), rules(margin=10))
    slots, _ = decide_due_slots(state, rules(margin=10), tick=at(tick))
    assert [f"{slot.slot:%H:%M}" for slot in slots] == due


def test_a_due_slot_says_its_deadline():
    slots, _ = decide_due_slots(heard(at("10:00"), rules(margin=10)), rules(margin=10), tick=at("10:25"))
    assert slots == [DueSlot(slot=at("10:15"), deadline=at("10:25"))]


def test_d1_a_margin_longer_than_the_gap_loses_no_slot():
    """The reference's own example: every 15 minutes, margin 20. There the 10:30 slot is never reported."""
    every = rules((15, "minute"), margin=20)
    state = heard(at("10:00:40"), every)
    found = []
    for minute in range(1, 120):
        tick = at("10:00") + timedelta(minutes=minute)
        slots, state = decide_due_slots(state, every, tick=tick)
        found += [(f"{slot.slot:%H:%M}", f"{tick:%H:%M}") for slot in slots]
    assert found == [
        ("10:15", "10:35"),
        ("10:30", "10:50"),
        ("10:45", "11:05"),
        ("11:00", "11:20"),
        ("11:15", "11:35"),
        ("11:30", "11:50"),
    ]


def test_d1_a_late_clock_finds_every_slot_at_once_each_dated_at_its_slot():
    state = heard(at("10:00"), rules("*/5 * * * *"))
    slots, after = decide_due_slots(state, rules("*/5 * * * *"), tick=at("13:00"))
    assert [slot.slot for slot in slots] == [at("10:00") + timedelta(minutes=5 * n) for n in range(1, 36)]
    assert times(after) == ["13:00", "13:00", "13:01"]


def test_nothing_is_due_without_expected_times():
    assert decide_due_slots(EnvironmentState(), rules(), tick=at("23:00")) == ([], EnvironmentState())


def test_the_same_tick_again_finds_nothing():
    _, after = decide_due_slots(heard(at("10:00"), rules()), rules(), tick=at("12:00"))
    assert decide_due_slots(after, rules(), tick=at("12:00")) == ([], after)


@pytest.mark.parametrize(
    ("tick", "expected"),
    [
        pytest.param("10:55", ["10:30", "11:00", "11:10"], id="between slots: the coming one"),
        pytest.param("11:00", ["10:30", "11:00", "11:10"], id="at a slot: that one"),
        pytest.param("11:01", ["10:30", "11:15", "11:11"], id="after a slot: the next one"),
    ],
)
def test_what_people_expect_next_is_never_in_the_past_though_older_slots_wait(tick, expected):
    """Margin 40: at 10:55 the slot 10:15 is due, and 10:30 and 10:45 still wait for their deadlines."""
    every = rules(margin=40)
    state = EnvironmentState(pending_slot=at("10:15"), next_checkin=at("10:15"), next_checkin_latest=at("10:55"))
    slots, after = decide_due_slots(state, every, tick=at(tick))
    assert [slot.slot for slot in slots] == [at("10:15")]
    assert times(after)[:2] == expected[:2]
    assert after.next_checkin_latest == at("11:10")


# --- A late clock (D20) -----------------------------------------------------------------------------------------------


def test_d20_a_check_in_serves_no_slot_whose_margin_is_over_though_the_clock_is_late():
    """Hourly, margin 1: ok 10:00, ok 13:00:05, and only then the clock comes: 11:00 and 12:00 were missed."""
    hourly = rules("0 * * * *")
    state = heard(at("13:00:05"), hourly, heard(at("10:00"), hourly))
    assert times(state) == ["11:00", "14:00", "11:01"]
    slots, after = decide_due_slots(state, hourly, tick=at("13:30"))
    assert [f"{slot.slot:%H:%M}" for slot in slots] == ["11:00", "12:00"]
    assert times(after) == ["14:00", "14:00", "14:01"]


@pytest.mark.parametrize(
    ("received", "missed"),
    [
        pytest.param("11:00:59.999999", [], id="just before the margin ends"),
        pytest.param("11:01:00", ["11:00"], id="when the margin ends"),
        pytest.param("11:01:00.000001", ["11:00"], id="just after the margin ended"),
    ],
)
def test_d20_a_check_in_received_when_the_margin_ends_is_too_late(received, missed):
    hourly = rules("0 * * * *")
    state = heard(at(received), hourly, heard(at("10:00"), hourly))
    slots, after = decide_due_slots(state, hourly, tick=at("11:01"))
    assert [f"{slot.slot:%H:%M}" for slot in slots] == missed
    assert times(after)[0] == "12:00"


def test_d20_several_check_ins_during_the_clocks_absence_are_each_remembered():
    hourly = rules("0 * * * *")
    state = heard(at("10:00"), hourly)
    for received in ["12:00:30", "15:00:30", "15:00:50", "15:20:00"]:
        state = heard(at(received), hourly, state)
    slots, after = decide_due_slots(state, hourly, tick=at("15:59"))
    assert [f"{slot.slot:%H:%M}" for slot in slots] == ["11:00", "13:00", "14:00"]
    assert times(after) == ["16:00", "16:00", "16:01"]


@pytest.mark.parametrize("schedule", ["*/15 * * * *", (15, "minute")], ids=["crontab", "interval"])
def test_d12_d20_an_early_run_serves_its_slot_though_the_clock_has_not_judged_the_one_before(schedule):
    quarterly = rules(schedule)
    first = heard(at("10:00:00"), quarterly)
    late = heard(at("10:29:57"), quarterly, first)
    _, in_time = decide_due_slots(first, quarterly, tick=at("10:16"))
    in_time = heard(at("10:29:57"), quarterly, in_time)
    slots, late = decide_due_slots(late, quarterly, tick=at("10:30"))
    assert ([f"{slot.slot:%H:%M}" for slot in slots], late) == (["10:15"], in_time)
    assert times(late)[0] == "10:45"


# --- Edits ------------------------------------------------------------------------------------------------------------


def test_d10_an_edit_counts_from_now_and_forgets_the_slots_before():
    state = heard_before(at("10:00:30"), rules())
    assert times(expect_from_now(state, rules("0 * * * *", margin=3), now=at("10:40:10"))) == [
        "11:00",
        "11:00",
        "11:03",
    ]


def test_d10_an_edited_interval_starts_again_at_now():
    edited = expect_from_now(heard_before(at("10:00"), rules()), rules((1, "day")), now=at("10:40:10"))
    assert (edited.pending_slot, edited.anchor) == (at("10:40") + timedelta(days=1), Anchor(at("10:40"), 5))


def test_d10_an_edit_may_move_the_pointer_back():
    state = heard_before(at("10:00:30"), rules("0 12 * * *"))
    assert times(expect_from_now(state, rules(), now=at("10:01")))[0] == "10:15"


def test_an_environment_that_never_heard_from_its_job_expects_nothing_after_an_edit():
    assert expect_from_now(EnvironmentState(), rules(), now=at("10:00")) == EnvironmentState()


def test_expecting_nothing_keeps_what_is_known():
    state = heard_before(at("10:00:30"), rules((15, "minute")))
    state = replace(state, failure_streak=2, failure_streak_started_at=at("09:00"))
    assert expect_nothing(state) == EnvironmentState(
        last_checkin=at("10:00:30"), failure_streak=2, failure_streak_started_at=at("09:00")
    )


# --- What always holds ------------------------------------------------------------------------------------------------

schedules = st.one_of(
    st.sampled_from(["* * * * *", "*/5 * * * *", "7 */2 * * *", "30 9 * * 1-5", "0,50 * * * *"]),
    st.tuples(st.integers(1, 90), st.just("minute")),
)
instants = st.integers(0, 5 * 86_400).map(lambda seconds: at("00:00") + timedelta(seconds=seconds))


@settings(deadline=None)
@given(schedule=schedules, margin=st.integers(1, 120), start=instants, gap_minutes=st.integers(0, 600))
def test_d1_one_late_tick_finds_what_a_tick_every_minute_finds(schedule, margin, start, gap_minutes):
    every = rules(schedule, margin=margin)
    first = heard(start, every)
    tick = start.replace(second=0) + timedelta(minutes=gap_minutes)
    at_once, after_one = decide_due_slots(first, every, tick=tick)
    one_by_one, state = [], first
    for minute in range(gap_minutes + 1):
        due, state = decide_due_slots(state, every, tick=start.replace(second=0) + timedelta(minutes=minute))
        one_by_one += due
    assert at_once == one_by_one
    assert (after_one.pending_slot, after_one.next_checkin_latest) == (state.pending_slot, state.next_checkin_latest)


def naive_misses(schedule, margin, start, messages, until):
    """What is missed, from nothing but the list of messages: the clock's own pace does not matter (P3, D20).

    Between a message and the next one lies a series of slots. Of those up to the next message (or up to the slot that
    it serves early), the message serves the ones whose margin was still running; the others were missed.
    """
    reference = serves_early(schedule, start, None, None, TOLERANCE) or start
    anchor, missed = anchor_for(schedule, reference), []
    for received_at in messages:
        lost = [s for s in slots_between(schedule, reference, received_at, anchor) if s + margin <= received_at]
        waiting = next_slot(schedule, lost[-1] if lost else reference, anchor)
        served = serves_early(schedule, received_at, waiting, anchor, TOLERANCE) or received_at
        new_anchor = anchor_for(schedule, served, anchor)
        if next_slot(schedule, served, new_anchor) <= next_slot(schedule, reference, anchor):
            continue
        missed += lost
        reference, anchor = served, new_anchor
    return missed + [s for s in slots_between(schedule, reference, until, anchor) if s + margin <= until]


@settings(deadline=None, max_examples=300)
@example(schedule="*/5 * * * *", margin=1, start=at("00:14:55"), events=[("tick", 65)])
@given(
    schedule=schedules,
    margin=st.integers(1, 120),
    start=instants,
    events=st.lists(st.tuples(st.sampled_from(["tick", "open"]), st.integers(0, 7200)), max_size=20),
)
def test_d1_d20_every_slot_is_missed_or_served_once_however_late_the_clock_is(schedule, margin, start, events):
    every = rules(schedule, margin=margin)
    state, now = heard(start, every), start
    messages, found = [], []
    for event, seconds in [*events, ("tick", 0)]:
        before, now = state, now + timedelta(seconds=seconds)
        if event == "tick":
            due, state = decide_due_slots(state, every, tick=now.replace(second=0))
            found += [slot.slot for slot in due]
        else:
            messages.append(now)
            state = heard(now, every, state)
        assert state.pending_slot >= before.pending_slot
        assert state.next_checkin >= state.pending_slot
        assert state.next_checkin_latest == state.pending_slot + timedelta(minutes=margin)
        assert state.served_ahead == () or state.next_checkin_latest <= now
    assert found == naive_misses(every.schedule, timedelta(minutes=margin), start, messages, now.replace(second=0))


# --- No more times (D34) ----------------------------------------------------------------------------------------------

LEAP_SUNDAYS = rules("0 0 29 2 */7")
LAST = datetime(2032, 2, 29, tzinfo=UTC)  # The next one is in 2060.


def test_d34_after_the_last_time_nothing_is_expected():
    state = heard(LAST - timedelta(days=1), LEAP_SUNDAYS)
    assert state.pending_slot == LAST
    assert heard(LAST + timedelta(seconds=3), LEAP_SUNDAYS, state).pending_slot is None
    slots, after = decide_due_slots(state, LEAP_SUNDAYS, tick=LAST + timedelta(minutes=5))
    assert [due.slot for due in slots] == [LAST]
    assert (after.pending_slot, after.next_checkin, after.next_checkin_latest) == (None, None, None)
    assert expect_from_now(replace(state, last_checkin=LAST), LEAP_SUNDAYS, now=LAST).pending_slot is None


def test_d34_a_check_in_in_time_after_the_last_slot_is_due_keeps_the_miss():
    """The clock is late: the slot is judged by it still, and what the check-in found is that nothing follows."""
    state = heard(LAST - timedelta(days=1), LEAP_SUNDAYS)
    late = heard(LAST + timedelta(minutes=2), LEAP_SUNDAYS, state)
    assert late.pending_slot == LAST
    slots, after = decide_due_slots(late, LEAP_SUNDAYS, tick=LAST + timedelta(minutes=5))
    assert [due.slot for due in slots] == [LAST]
    assert after.pending_slot is None


def test_d34_two_slots_of_which_the_second_and_last_was_served_while_the_clock_was_away():
    """`served_ahead` without a next slot: the pointer stops there."""
    margin = rules("0,1 0 29 2 */7", margin=1)
    state = heard(LAST - timedelta(days=1), margin)
    served = heard(LAST + timedelta(minutes=1, seconds=30), margin, state)
    assert [ahead.next_slot for ahead in served.served_ahead] == [None]
    again = heard(LAST + timedelta(minutes=1, seconds=40), margin, served)
    assert again == served
    slots, after = decide_due_slots(again, margin, tick=LAST + timedelta(minutes=5))
    assert [due.slot for due in slots] == [LAST]
    assert after.pending_slot is None
