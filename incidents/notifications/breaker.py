"""The circuit breaker of a channel: when it is left alone, and when it is tried again (pure).

    closed --5 failures in a row over a minute, or a refusal of the channel--> open
    open   --a probe fails--> open, and the next probe is later
    open   --a probe succeeds--> closed

While it is open, only its oldest message is sent, as a probe; the attempts of the others are not used up.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

FAILURES = 5
OVER = timedelta(minutes=1)
"""A service that restarts refuses for some seconds: that alone opens nothing."""
PROBES = (30, 60, 120, 300, 600)
"""Seconds until the first, second, ... probe; the last one repeats."""
REFUSED_PROBE = timedelta(hours=1)
"""A token that was revoked is repaired by a person; many requests with it would have the sender banned."""
PAUSE = timedelta(seconds=2)
"""How long a channel is left alone after a failure: else all messages that wait for it would be tried in a moment."""
SLOW = timedelta(seconds=30)
"""How long to wait after "too many requests" if the service names no time."""
SLOW_MAX = timedelta(hours=1)


class Result(StrEnum):
    """What an attempt says about the channel, whatever it says about the message."""

    WORKS = "works"
    FAILS = "fails"
    REFUSES = "refuses"


class Breaker(msgspec.Struct, frozen=True):
    """The state of a channel's breaker. It is closed while `open_since` is empty."""

    failure_count: int = 0
    failing_since: datetime | None = None
    open_since: datetime | None = None
    probe_at: datetime | None = None
    probe_count: int = 0
    slow_until: datetime | None = None

    def lets(self, now: datetime) -> bool:
        """Return whether a message may be sent now: as usual, or as a probe."""
        if self.slow_until is not None and now < self.slow_until:
            return False
        return self.probe_at is None or now >= self.probe_at


def after(
    breaker: Breaker,
    result: Result,
    *,
    now: datetime,
    slows: bool = False,
    retry_after: timedelta | None = None,
) -> Breaker:
    """Return the breaker after an attempt that ended at `now`.

    `slows`: the service asks for fewer requests; `retry_after` is how long it wants to be left alone.
    """
    if result is Result.WORKS:
        return Breaker()
    slow_until = now + min(max(retry_after or (SLOW if slows else PAUSE), PAUSE), SLOW_MAX)
    failing_since = breaker.failing_since or now
    count = breaker.failure_count + 1
    opens = result is Result.REFUSES or (count >= FAILURES and now - failing_since >= OVER)
    if breaker.open_since is None and not opens:
        return Breaker(count, failing_since, slow_until=slow_until)
    wait = REFUSED_PROBE
    if result is Result.FAILS:
        wait = timedelta(seconds=PROBES[min(breaker.probe_count, len(PROBES) - 1)])
    return Breaker(
        count, failing_since, breaker.open_since or now, now + wait, breaker.probe_count + 1, slow_until=slow_until
    )
