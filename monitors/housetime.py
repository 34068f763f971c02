"""The time that housekeeping goes by: it believes no clock that has jumped (pure).

What is past keeping is removed for good, so the time of day that a machine shows is not enough to remove it. A machine
whose clock says 2040 would lose all it has, and PostgreSQL, often on the same machine, would agree. Housekeeping
therefore counts time by itself, from look to look, and remembers how far it has come:

    reached     its own time. It goes on by what passes between two looks, however the clock is set.
    the clock   is followed while it is within a day of that. If it is further away, ahead or behind, it has to stay
                there, without another jump, for a week of looks. Then it is believed.

So a wrong clock costs a day at most. A machine that was off for a month keeps for a week more what it would have
removed: that costs nothing, since it had received nothing meanwhile. A look adds `LIVED_MAX` at most, so that no jump
counts as time that passed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

APART_MAX = timedelta(days=1)
"""How far from its own time housekeeping follows the clock at once: nights in which no worker ran, a zone mistaken."""
LIVED_MAX = timedelta(minutes=20)
"""What may pass between two looks. There is one every ten minutes, or more often."""
BELIEVED_AFTER = timedelta(days=7)
"""For so long a clock that has jumped has to go on steadily before anything is removed by it: a week in which somebody
sees that it is wrong, whatever weekend it happens on."""
SET_BACK_AFTER = timedelta(hours=1)
"""For so long a clock that is far behind has to go on steadily before the ledger goes back to it. A machine without a
battery boots in 1970 and has the right time within minutes; a clock that is right again must not stand for days."""

NOUGHT = timedelta()


@dataclass(frozen=True, slots=True)
class HouseTime:
    """How far housekeeping has come.

    `looked_at` is what the clock said at the last look, `apart_for` for how long it has been apart from `reached`,
    without another jump.
    """

    reached: datetime
    looked_at: datetime
    apart_for: timedelta = NOUGHT

    def removes_until(self, now: datetime) -> datetime:
        """Return the instant that retention is counted back from: never later than its own time, nor than `now`."""
        return min(self.reached, now)

    def apart(self, now: datetime) -> timedelta:
        """Return how far the clock is ahead of (or, below 0, behind) housekeeping's own time; 0 if it is followed."""
        apart = now - self.reached
        return apart if abs(apart) > APART_MAX else NOUGHT


def advance(before: HouseTime | None, now: datetime) -> HouseTime:
    """Return how far housekeeping is, from how far it was and what the clock says. The first look believes it."""
    if before is None:
        return HouseTime(now, now)
    passed = now - before.looked_at
    lived = min(max(passed, NOUGHT), LIVED_MAX)
    reached = before.reached + lived
    if abs(now - reached) <= APART_MAX:
        return HouseTime(now, now)
    has_jumped = abs(passed) > APART_MAX
    apart_for = NOUGHT if has_jumped else before.apart_for + lived
    if apart_for >= BELIEVED_AFTER:
        return HouseTime(now, now)
    return HouseTime(reached, now, apart_for)
