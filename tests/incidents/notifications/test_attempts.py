"""When a message over a channel is tried again, and when it is given up (pure)."""

import uuid
from datetime import timedelta

import pytest

from incidents.notifications.attempts import ATTEMPTS_MAX, REFUSALS_MAX, UNKNOWN_MAX, next_attempt_in, wait_after
from incidents.notifications.channels.base import SendResultKind

HOUR = timedelta(hours=1)
KEYS = [uuid.UUID(int=last_byte) for last_byte in range(256)]


def of_mail(attempt_count, *, age, key):
    return next_attempt_in(attempt_count, age=age, key=key)


def of_channel(attempt_count, *, age, key):
    return wait_after(SendResultKind.TRANSIENT, attempt_count=attempt_count, age=age, key=key)


@pytest.mark.parametrize("wait_of", [of_mail, of_channel])
def test_whatever_its_key_a_message_is_tried_until_it_is_nearly_a_day_old(wait_of):
    for key in KEYS:
        age, attempt_count = timedelta(0), 1
        while (wait := wait_of(attempt_count, age=age, key=key)) is not None:
            assert wait <= HOUR
            age, attempt_count = age + wait, attempt_count + 1
        assert 23 * HOUR < age <= 24 * HOUR, key
        assert attempt_count < ATTEMPTS_MAX


def test_whatever_its_key_a_refused_mail_is_given_up_within_an_hour_and_40_minutes():
    for key in KEYS:
        waits = [
            next_attempt_in(count, age=timedelta(0), key=key, is_refused=True) for count in range(1, REFUSALS_MAX + 1)
        ]
        assert waits.pop() is None
        assert HOUR * 3 / 4 < sum(filter(None, waits), timedelta(0)) < HOUR * 5 / 3


def waits(attempt_count, *, was_in_doubt, repeats_are_seen=True):
    return wait_after(
        SendResultKind.UNKNOWN,
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
