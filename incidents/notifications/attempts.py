"""When to try again to send a message, and when to give up (pure)."""

import uuid
from datetime import timedelta

from incidents.notifications.channels.base import SendResultKind

LEASE = timedelta(seconds=90)
"""How long a claim on a message lasts: longer than any sending takes (`channels.email`)."""
_SECONDS = (5, 15, 45, 120, 300, 600, 1_200, 1_800, 1_800)
_HOURLY_SECONDS = 3_600
GIVE_UP_AFTER = timedelta(hours=24)
"""Counted from when a message was written: its last attempt is in the last hour of these. No message is lost if a mail
server is down for a night, or a password was changed."""
ATTEMPTS_MAX = 80
"""Only a bound for what takes its worker with it each time: 24 hours have room for 56 attempts."""
REFUSALS_MAX = 10
"""A permanent error (5xx) of a mail server is final only after an hour and a half: a setting may be wrong."""
ERROR_LENGTH_MAX = 500


def next_attempt_in(
    attempt_count: int,
    *,
    age: timedelta,
    key: uuid.UUID,
    is_refused: bool = False,
    at_least: timedelta = timedelta(0),
) -> timedelta | None:
    """Return how long to wait after this number of attempts, or None if that was the last one.

    `age` is how old the message is. Its key shortens the wait by up to a half, so that a thousand messages that failed
    together are not sent again together.

    >>> next_attempt_in(1, age=timedelta(0), key=uuid.UUID(int=0))
    datetime.timedelta(seconds=5)
    >>> next_attempt_in(REFUSALS_MAX, age=timedelta(hours=1), key=uuid.UUID(int=0), is_refused=True) is None
    True
    """
    if attempt_count >= (REFUSALS_MAX if is_refused else ATTEMPTS_MAX):
        return None
    seconds = _SECONDS[attempt_count - 1] if attempt_count <= len(_SECONDS) else _HOURLY_SECONDS
    wait = max(timedelta(seconds=seconds) * (1 - key.bytes[-1] / 512), at_least)
    return wait if age + wait <= GIVE_UP_AFTER else None


UNKNOWN_MAX = 3
"""So often a message is repeated whose sending ended in doubt, where a repetition is seen twice."""


def wait_after(
    kind: SendResultKind,
    *,
    attempt_count: int,
    age: timedelta,
    key: uuid.UUID,
    retry_after: timedelta | None = None,
    is_plain: bool = False,
    repeats_are_seen: bool = False,
    was_in_doubt: bool = True,
) -> timedelta | None:
    """Return how long to wait after an attempt over a channel that was not delivered, or None to give up.

    `age` is how old the message is. A message that is refused for its text is sent once more, plainly, at once.
    `repeats_are_seen`: people see a repetition twice. `was_in_doubt`: an earlier attempt may have arrived too; without
    one, giving up could mean that nobody is notified.
    """
    if kind is SendResultKind.MESSAGE_REFUSED:
        return None if is_plain else timedelta(0)
    if kind is SendResultKind.UNKNOWN and repeats_are_seen and was_in_doubt and attempt_count >= UNKNOWN_MAX:
        return None
    return next_attempt_in(attempt_count, age=age, key=key, at_least=retry_after or timedelta(0))
