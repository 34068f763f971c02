"""When a message over a channel is tried again, and when it is given up (pure)."""

import uuid
from datetime import timedelta

from incidents.notifications.attempts import UNKNOWN_MAX, wait_after
from incidents.notifications.channels.base import OutcomeKind


def waits(attempt_count, *, was_in_doubt, repeats_are_seen=True):
    return wait_after(
        OutcomeKind.UNKNOWN,
        attempt_count=attempt_count,
        age=timedelta(minutes=5),
        key=uuid.UUID(int=0),
        repeats_are_seen=repeats_are_seen,
        was_in_doubt=was_in_doubt,
    )


def test_a_message_that_may_be_seen_twice_is_given_up_after_three_attempts_in_doubt():
    assert waits(UNKNOWN_MAX - 1, was_in_doubt=True) is not None
    assert waits(UNKNOWN_MAX, was_in_doubt=True) is None
    assert waits(UNKNOWN_MAX, was_in_doubt=True, repeats_are_seen=False) is not None


def test_p5_the_first_doubt_does_not_end_a_message_whose_earlier_attempts_could_not_connect():
    assert waits(UNKNOWN_MAX + 5, was_in_doubt=False) is not None
