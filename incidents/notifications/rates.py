"""How many messages a service takes: a token bucket for each channel (pure).

A bucket holds `burst` tokens, and gets one back `every` so often. Its whole state is one instant, `paced_until`: before
it there is no token. Empty or past for long, the bucket is full. What finds no token waits: nothing is dropped.

The numbers stay below what the services allow, also where a message is two requests.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """So many messages at once, and one more `every` so often."""

    burst: int
    every: timedelta


def _rate(burst: int, seconds: float) -> Rate:
    return Rate(burst, timedelta(seconds=seconds))


RATES: Mapping[str, Rate] = {
    "slack": _rate(5, 1),  # 1 a second, short bursts
    "slack_bot": _rate(5, 1.2),  # 1 a second in a channel; about 50 changes a minute
    "teams": _rate(30, 60),  # 60 in 30 s, 100 an hour, 150 in two hours, 1,800 a day
    "discord": _rate(4, 3),  # about 5 in 2 s, 30 a minute
    "telegram": _rate(4, 4),  # 1 a second; 20 a minute in a group
    "ntfy": _rate(30, 5),  # 60 at once, one more each 5 s
    "pagerduty": _rate(20, 0.6),  # about 120 a minute
    "grafana_oncall": _rate(50, 1.2),  # 300 in 5 minutes
    "apprise": _rate(5, 1),  # most chats behind it allow 1 a second
}
"""By kind of channel, with what the service allows."""
BURST_SECONDS = 5


def rate_of(kind: str, per_second: int) -> Rate:
    """Return the rate of a kind of channel. `per_second` is for those whose services publish none.

    >>> rate_of("webhook", 10)
    Rate(burst=50, every=datetime.timedelta(microseconds=100000))
    """
    return RATES.get(kind) or Rate(BURST_SECONDS * per_second, timedelta(seconds=1) / per_second)


def tokens(rate: Rate, paced_until: datetime | None, *, now: datetime) -> int:
    """Return how many messages may be sent now.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
    >>> [tokens(_rate(3, 10), noon + timedelta(seconds=late), now=noon) for late in (1, 0, -9, -10, -20, -99)]
    [0, 1, 1, 2, 3, 3]
    """
    if paced_until is None:
        return rate.burst
    if now < paced_until:
        return 0
    return min(1 + (now - paced_until) // rate.every, rate.burst)


def paced_after(rate: Rate, paced_until: datetime | None, count: int, *, now: datetime) -> datetime:
    """Return the new state of a bucket of which `count` tokens are taken now.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 11, 30, 12, tzinfo=UTC)
    >>> [f"{paced_after(_rate(3, 10), None, count, now=noon):%H:%M:%S}" for count in (1, 2, 3)]
    ['11:59:50', '12:00:00', '12:00:10']
    """
    full = now - (rate.burst - 1) * rate.every
    return (full if paced_until is None else max(paced_until, full)) + count * rate.every
