"""P3: messages are wake-ups. Repeated, lost, late or out of order, they change nothing but when the work is done."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clocktasks.clock import DEADLINES, ClockTask, TaskKind
from clocktasks.dispatch import advance_ledger
from clocktasks.ledger import finish_ticks
from clocktasks.shards import process_clock_task
from tests.clocktasks.shards import SHARD, after, drain, positions, rows, seed_mixed_shards, tick_by_tick, undone
from tests.factories import NOW

pytestmark = pytest.mark.django_db
LAST = 12
"""Minutes in which `seed_mixed_shards` makes both kinds fall due in two shards, together and in turn."""


@pytest.fixture
def expected(db, settings):
    """What a clock gives that is never late and loses nothing. The rows to begin with stay as they were."""
    settings.ALERT_EMAIL_TO = ["oncall@example.com"]
    advance_ledger(NOW, now=NOW)
    seed_mixed_shards()
    with undone():
        assert tick_by_tick(after(1), after(LAST)) > 20
        return rows(), positions()


def deliver(tasks):
    """Do what the messages ask for, but lose every wake-up that comes of it."""
    for task in tasks:
        process_clock_task(task)


def outcome_after_the_next_minute():
    """The messages of the last minute arrive, once and in order."""
    drain(advance_ledger(after(LAST), now=NOW))
    finish_ticks(now=NOW)
    return rows(), positions()


def test_the_same_message_five_times(expected):
    for minute in range(1, LAST + 1):
        tasks = advance_ledger(after(minute), now=NOW)
        while tasks:
            task = tasks.pop(0)
            for _ in range(5):
                result = process_clock_task(task)
                if result.wake is not None:
                    tasks.append(result.wake)
    assert outcome_after_the_next_minute() == expected


def test_no_message_at_all_until_the_next_minute(expected):
    for minute in range(1, LAST):
        advance_ledger(after(minute), now=NOW)  # Beat ticks, and the broker loses everything.
    assert outcome_after_the_next_minute() == expected


def test_every_second_minute_loses_its_messages(expected):
    for minute in range(1, LAST):
        tasks = advance_ledger(after(minute), now=NOW)
        if minute % 2:
            drain(tasks)
    assert outcome_after_the_next_minute() == expected


def test_all_messages_arrive_in_reverse_and_late(expected):
    tasks = [task for minute in range(1, LAST) for task in advance_ledger(after(minute), now=NOW)]
    deliver(reversed(tasks))
    assert outcome_after_the_next_minute() == expected


def test_both_kinds_of_two_shards_in_any_order(expected):
    works = [(kind, shard) for shard in (SHARD, SHARD + 1) for kind in DEADLINES]
    # Each is first, second, third and last, before and after each other.
    for order in [way[n:] + way[:n] for way in (works, works[::-1]) for n in range(len(works))]:
        with undone():
            for minute in (4, 9):
                advance_ledger(after(minute), now=NOW)
                deliver(ClockTask(kind, shard, after(minute)) for kind, shard in order)
            outcome = outcome_after_the_next_minute()
        assert outcome == expected, order


minutes_of_messages = st.lists(
    st.lists(
        st.builds(
            ClockTask,
            st.sampled_from(TaskKind),
            st.sampled_from([SHARD - 1, SHARD, SHARD + 1]),
            st.integers(-5, 2 * LAST).map(after),
        ),
        max_size=6,
    ),
    min_size=LAST - 1,
    max_size=LAST - 1,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes_of_messages)
def test_whatever_messages_arrive_between_the_minutes(expected, messages):
    with undone():
        for minute, tasks in enumerate(messages, start=1):
            advance_ledger(after(minute), now=NOW)
            deliver(tasks)
        outcome = outcome_after_the_next_minute()
    assert outcome == expected
