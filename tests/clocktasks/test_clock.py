"""The order of the clock's work: by tick, and at one tick misses before timeouts, whoever wakes up when."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocktasks.clock import (
    MINUTE,
    ShardState,
    TaskKind,
    next_due_tick,
    next_task,
    quiet_until,
    tick_window,
    waits_visibly,
    whole_minute,
)
from monitors.expectation import first_tick_at_or_after

MISSED, TIMEOUT = TaskKind.MISSED, TaskKind.TIMEOUT
KINDS = [MISSED, TIMEOUT]
T0 = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def shard(*, missed: float | None = None, timeout: float | None = None, positions: tuple[int, int] = (0, 0)):
    """A shard whose clocks stand at `positions`, with its earliest deadlines; all in minutes after 10:00."""
    return ShardState(
        positions=dict(zip(KINDS, map(at, positions), strict=True)),
        first_due={
            MISSED: None if missed is None else at(missed),
            TIMEOUT: None if timeout is None else at(timeout),
        },
    )


# --- Minutes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instant", "minute"),
    [
        ("10:05:59.999999", "10:05"),
        ("10:06:00", "10:06"),
        ("10:06:00.000001", "10:06"),
    ],
)
def test_a_whole_minute_is_cut_never_rounded(instant, minute):
    day = "2026-01-05T"
    assert whole_minute(datetime.fromisoformat(f"{day}{instant}+00:00")) == datetime.fromisoformat(f"{day}{minute}Z")


@pytest.mark.parametrize(
    ("due", "tick"),
    [
        ("10:05:59.999999", "10:06"),
        ("10:06:00", "10:06"),
        ("10:06:00.000001", "10:07"),
        ("10:06:01", "10:07"),
    ],
)
def test_d20_a_tick_sees_what_is_due_at_or_before_it(due, tick):
    day = "2026-01-05T"
    assert first_tick_at_or_after(datetime.fromisoformat(f"{day}{due}+00:00")) == datetime.fromisoformat(
        f"{day}{tick}Z"
    )


def on_the_day(clock):
    return datetime.fromisoformat(f"2026-01-05T{clock}+00:00")


@pytest.mark.parametrize(
    ("now", "settled", "newest", "held"),
    [
        pytest.param("10:06:01.999999", "10:06:01.999999", "10:05", None, id="the grace is not over"),
        pytest.param("10:06:02", "10:06:02", "10:06", None, id="the grace is just over"),
        pytest.param("10:06:02.000001", "10:06:02.000001", "10:06", None, id="the grace is over"),
        pytest.param("10:07:01", "10:07:01", "10:06", None, id="the next minute's grace is not over"),
        pytest.param("10:06:05", "10:05:59.999999", "10:05", "10:06", id="a node is just before the minute"),
        pytest.param("10:06:05", "10:06:00", "10:06", None, id="a node has just reached the minute"),
        pytest.param("10:06:05", "10:06:00.000001", "10:06", None, id="a node has passed the minute"),
        pytest.param("10:06:01", "09:30:15", "09:30", "10:05", id="a node is far behind"),
        pytest.param("10:06:01", "10:05:00", "10:05", None, id="a node is behind, and so is the grace"),
        pytest.param("10:06:05", "10:09:00", "10:06", None, id="a node whose clock is fast"),
    ],
)
def test_p2_a_minute_may_be_applied_when_its_grace_is_over_and_its_check_ins_are_stored(now, settled, newest, held):
    window = tick_window(on_the_day(now), grace=timedelta(seconds=2), stored_until=on_the_day(settled))
    assert window.newest == on_the_day(newest)
    assert window.held == (None if held is None else on_the_day(held))


@pytest.mark.parametrize(
    ("now", "settled", "visible"),
    [
        ("10:06:06.999999", "10:05:30", False),
        ("10:06:07", "10:05:30", True),
        ("10:06:07.000001", "10:05:30", True),
        ("10:06:07", "10:06:00", False),
    ],
    ids=["under five seconds", "five seconds", "more", "nothing waits"],
)
def test_a_wait_is_worth_a_record_five_seconds_after_the_minute_and_its_grace(now, settled, visible):
    window = tick_window(on_the_day(now), grace=timedelta(seconds=2), stored_until=on_the_day(settled))
    assert waits_visibly(window) is visible


# --- The next work of a shard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "until", "expected"),
    [
        pytest.param(shard(), 9, None, id="nothing is waiting"),
        pytest.param(shard(missed=3), 2, None, id="due after the window"),
        pytest.param(shard(missed=3), 3, (3, MISSED), id="due at the end of the window"),
        pytest.param(shard(missed=3), 9, (3, MISSED), id="due within the window"),
        pytest.param(shard(missed=2.5), 9, (3, MISSED), id="due within a minute, seen by the tick after it"),
        pytest.param(shard(timeout=3), 9, (3, TIMEOUT), id="only a timeout"),
        pytest.param(shard(missed=3, timeout=3), 9, (3, MISSED), id="misses first at one tick"),
        pytest.param(shard(missed=3, timeout=2.1), 9, (3, MISSED), id="the same tick, though the timeout fell earlier"),
        pytest.param(shard(missed=3, timeout=2), 9, (2, TIMEOUT), id="an earlier tick comes before the kind"),
        pytest.param(shard(missed=3, timeout=9), 2, None, id="both after the window"),
        pytest.param(
            shard(missed=3, timeout=6, positions=(7, 5)), 9, (6, TIMEOUT), id="a miss found late waits for its turn"
        ),
        pytest.param(
            shard(missed=3, positions=(7, 7)), 9, (8, MISSED), id="due before the position: at the first tick after it"
        ),
        pytest.param(shard(missed=3, positions=(9, 9)), 9, None, id="the window is applied, what came late waits"),
    ],
)
def test_next_task(state, until, expected):
    work = next_task(state, until=at(until))
    assert work == (None if expected is None else (at(expected[0]), expected[1]))


@pytest.mark.parametrize(
    ("state", "until", "expected"),
    [
        pytest.param(shard(), 9, 9, id="nothing waits: to the end of the window"),
        pytest.param(shard(missed=3), 9, 2, id="up to just before the work"),
        pytest.param(shard(missed=2.5), 9, 2, id="up to just before the tick that sees it"),
        pytest.param(shard(missed=1), 9, 0, id="the work is next: it stays"),
        pytest.param(shard(missed=12), 9, 9, id="work after the window does not matter"),
        pytest.param(shard(positions=(9, 0)), 5, 9, id="it never moves back"),
        pytest.param(shard(missed=3, positions=(7, 0)), 9, 7, id="found late, done at the next tick"),
    ],
)
def test_quiet_until(state, until, expected):
    assert quiet_until(state, MISSED, until=at(until)) == at(expected)


instants = st.integers(-300, 1200).map(lambda seconds: T0 + timedelta(seconds=seconds))
states = st.builds(
    lambda positions, first_due: ShardState(
        positions=dict(zip(KINDS, map(at, positions), strict=True)),
        first_due=dict(zip(KINDS, first_due, strict=True)),
    ),
    st.tuples(st.integers(0, 15), st.integers(0, 15)),
    st.tuples(st.none() | instants, st.none() | instants),
)
windows = st.integers(0, 20).map(at)


@given(states, windows)
def test_the_next_task_skips_nothing_that_is_due(state, until):
    work = next_task(state, until=until)
    for kind in KINDS:
        due = state.first_due[kind]
        if due is None:
            continue
        # Written without the code's own helpers: the first whole minute that is not before it and not yet applied.
        tick = next(minute for minute in map(at, range(-10, 60)) if minute >= due and minute > state.positions[kind])
        if tick <= until:
            assert work is not None
            assert (work[0], KINDS.index(work[1])) <= (tick, KINDS.index(kind))
    if work is not None:
        tick, kind = work
        due = state.first_due[kind]
        assert due is not None
        assert due <= tick <= until
        assert state.positions[kind] < tick


@given(states, windows, st.sampled_from(KINDS))
def test_quiet_minutes_never_pass_work(state, until, kind):
    quiet = quiet_until(state, kind, until=until)
    assert quiet >= state.positions[kind]
    assert quiet <= max(until, state.positions[kind])
    tick = next_due_tick(state, kind, until=until)
    assert (quiet == max(until, state.positions[kind])) if tick is None else (quiet == tick - MINUTE)


# --- A shard from its first tick to its last --------------------------------------------------------------------------

deadlines = st.lists(st.integers(1, 900), max_size=12).map(
    lambda seconds: sorted(T0 + timedelta(seconds=second) for second in seconds)
)


class NaiveShard:
    """The deadlines that wait in a shard, and what has been done about them. Workers come as `wake` says."""

    def __init__(self, missed, timeout):
        self.waiting = {MISSED: list(missed), TIMEOUT: list(timeout)}
        self.positions = dict.fromkeys(KINDS, T0)
        self.done = []

    def state(self):
        return ShardState(
            dict(self.positions), {kind: waiting[0] if waiting else None for kind, waiting in self.waiting.items()}
        )

    def wake(self, kind, until):
        """Work of one kind for as long as it is its turn, as a worker does."""
        while (work := next_task(self.state(), until=until)) is not None and work[1] is kind:
            tick = work[0]
            seen = bisect_right(self.waiting[kind], tick)
            self.done += [(tick, KINDS.index(kind), due) for due in self.waiting[kind][:seen]]
            del self.waiting[kind][:seen]
            self.positions[kind] = tick
        self.positions[kind] = quiet_until(self.state(), kind, until=until)


@given(deadlines, deadlines, st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 15)), max_size=30))
def test_work_is_done_in_one_order_whoever_wakes_up_when(missed, timeout, wakes):
    shard = NaiveShard(missed, timeout)
    newest = T0
    for kind, minutes in wakes:
        newest = max(newest, at(minutes))  # The ledger grows, however late a message is.
        shard.wake(kind, newest)
    for _ in range(40):  # The minutes after it: each wakes whose turn it is.
        work = next_task(shard.state(), until=at(15))
        if work is not None:
            shard.wake(work[1], at(15))
    for kind in KINDS:
        shard.wake(kind, at(15))
    assert [done[:2] for done in shard.done] == sorted(done[:2] for done in shard.done)
    assert sorted(due for _, kind, due in shard.done if kind == 0) == missed
    assert sorted(due for _, kind, due in shard.done if kind == 1) == timeout
    for tick, _, due in shard.done:
        assert due <= tick < due + MINUTE, "each at the first tick that sees it"
    assert shard.positions == dict.fromkeys(KINDS, at(15))
