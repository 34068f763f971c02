"""Housekeeping's own time: it does not trust a clock that has jumped (pure).

Rows past their retention are removed permanently, so the clock of a machine alone is not enough to remove them. A
machine whose clock is at 2040 would lose all its data, and PostgreSQL, often on the same machine, would agree.
Housekeeping therefore counts time by itself, from reading to reading of the clock, and stores how far it has come:

    reached     its own time. It advances by the time between two readings, however the clock is set.
    the clock   is followed while it is within a day of that. If it is further away, ahead or behind, it has to stay
                there, without another jump, for a week of readings. Then it is trusted.

So a wrong clock costs a day at most. A machine that was off for a month removes its old rows a week late: that costs
nothing, since it received nothing meanwhile. A reading adds `LIVED_MAX` at most, so that no jump counts as elapsed
time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

APART_MAX = timedelta(days=1)
"""How far from its own time housekeeping follows the clock at once: a night without a worker, a wrong time zone."""
LIVED_MAX = timedelta(minutes=20)
"""The most time that counts between two readings. There is one every ten minutes, or more often."""
BELIEVED_AFTER = timedelta(days=7)
"""How long a clock that has jumped has to run steadily before anything is removed by it: in a week, holidays included,
somebody sees that it is wrong."""
SET_BACK_AFTER = timedelta(hours=1)
"""How long a clock that is far behind has to run steadily before the ledger is set back to it. A machine without a
battery boots in 1970 and has the right time within minutes; a corrected clock must not stop the ledger for days."""

ZERO = timedelta()


@dataclass(frozen=True, slots=True)
class HouseTime:
    """Housekeeping's own time.

    `looked_at` is the last reading of the clock, `apart_for` how long the clock has been apart from `reached`, without
    another jump.
    """

    reached: datetime
    looked_at: datetime
    apart_for: timedelta = ZERO

    def removes_until(self, now: datetime) -> datetime:
        """Return the instant from which retention is counted back: never later than `reached` or `now`."""
        return min(self.reached, now)

    def apart(self, now: datetime) -> timedelta:
        """Return how far the clock is ahead of (or, below 0, behind) housekeeping's own time; 0 if it is followed."""
        apart = now - self.reached
        return apart if abs(apart) > APART_MAX else ZERO


def advance(before: HouseTime | None, now: datetime) -> HouseTime:
    """Return housekeeping's time after a reading of the clock. The first reading is trusted."""
    if before is None:
        return HouseTime(now, now)
    passed = now - before.looked_at
    lived = min(max(passed, ZERO), LIVED_MAX)
    reached = before.reached + lived
    if abs(now - reached) <= APART_MAX:
        return HouseTime(now, now)
    has_jumped = abs(passed) > APART_MAX
    apart_for = ZERO if has_jumped else before.apart_for + lived
    if apart_for >= BELIEVED_AFTER:
        return HouseTime(now, now)
    return HouseTime(reached, now, apart_for)
