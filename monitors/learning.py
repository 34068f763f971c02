"""Learning the schedule of a job from its arrivals: a proposal with its evidence, for people to decide (pure).

The simplest schedule wins that explains the arrivals: each slot without an arrival and each arrival without a slot
counts against it, and so does what a schedule claims (only on working days, only at these hours). What cannot be known
from the arrivals yet is said with the proposal.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median_high
from typing import NamedTuple
from zoneinfo import ZoneInfo

from monitors.configuration import MARGIN_MINUTES_MAX, RUNTIME_MINUTES_MAX
from monitors.patterns import ARRIVALS_NEEDED, EARLY, Candidate, candidates, outliers_allowed, spread_max
from monitors.schedule import (
    IntervalUnit,
    Schedule,
    anchor_for,
    next_slots,
    previous_slot,
    slots_between,
)

ARRIVALS_READ = 200
"""The newest arrivals, from which a schedule is learned."""
DURATIONS_NEEDED = 3
MARGIN_FLOOR_MAX = 30
RUNTIME_FLOOR = 5
INTERVAL_COMPLEXITY = 2.0
SPREAD_WEIGHT = 6.0
"""What it counts against a schedule if arrivals come so late that they nearly reach the next slot."""
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_MONTH = timedelta(days=30.44)


class Arrival(NamedTuple):
    """When a run first reported, and how long it took, if that is known."""

    at: datetime
    duration: timedelta | None = None


class Kind(StrEnum):
    """What an arrival is under the proposed schedule."""

    ON_TIME = "on time"
    AGAIN = "again"
    BESIDE = "beside"


class Doubt(StrEnum):
    """What the arrivals do not show yet."""

    DAY = "day"
    WEEKEND = "weekend"
    CLOCKS = "clocks"


class Placed(NamedTuple):
    """An arrival with the slot that it would have served; `late` is negative for one before its slot.

    AGAIN: another one served that slot. BESIDE: there was no slot.
    """

    arrival: Arrival
    slot: datetime | None
    kind: Kind

    @property
    def late(self) -> timedelta | None:
        """How long after its slot it came."""
        return None if self.slot is None else self.arrival.at - self.slot


@dataclass(frozen=True, slots=True)
class NotEnough:
    """Too few arrivals to propose anything: so many of so many."""

    count: int
    needed: int


@dataclass(frozen=True, slots=True)
class NoPattern:
    """So many arrivals follow no schedule that could be found."""

    count: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A schedule with its margin and maximum runtime (None: nothing is known of it), and the evidence.

    `arrivals` are ascending. Of the `slot_count` slots from the first to the last of them, `missed` had none.
    """

    schedule: Schedule
    margin_minutes: int
    max_runtime_minutes: int | None
    arrivals: tuple[Placed, ...]
    slot_count: int
    missed: tuple[datetime, ...]
    doubts: tuple[Doubt, ...]

    def of_kind(self, kind: Kind) -> int:
        """Return how many arrivals are of this kind."""
        return sum(placed.kind is kind for placed in self.arrivals)


@dataclass(frozen=True, slots=True)
class _Fit:
    """How well a schedule explains the arrivals: the lower the cost, the better."""

    schedule: Schedule
    placed: Sequence[Placed]
    slots: Sequence[datetime]
    missed: Sequence[datetime]
    gap: timedelta
    complexity: float
    needed: int

    def count(self, kind: Kind) -> int:
        return sum(placed.kind is kind for placed in self.placed)

    def cost(self) -> float:
        return len(self.missed) + self.count(Kind.BESIDE) + self.count(Kind.AGAIN) / 2 + self.complexity

    def is_good(self, outliers: int) -> bool:
        """Return whether it leaves so little unexplained that people should see it."""
        return (
            self.count(Kind.ON_TIME) >= ARRIVALS_NEEDED
            and self.count(Kind.AGAIN) <= 1.5 * self.count(Kind.ON_TIME)
            and self.count(Kind.BESIDE) <= outliers
            and len(self.missed) <= max(1, len(self.slots) // 5)
        )


def propose(arrivals: Sequence[Arrival], timezone: str) -> Proposal | NotEnough | NoPattern:
    """Return the schedule that the newest of these arrivals follow, in the zone of their monitor if it is a crontab.

    If they follow none there, the proposal may be one in UTC: a machine whose clock is not in that zone.
    """
    known = sorted(arrivals, key=lambda arrival: arrival.at)[-ARRIVALS_READ:]
    times = [arrival.at for arrival in known]
    distinct = _without_repetitions(times)
    if len(distinct) < ARRIVALS_NEEDED:
        return NotEnough(len(distinct), ARRIVALS_NEEDED)
    fits: list[_Fit] = []
    for zone in dict.fromkeys((timezone, "UTC")):
        if not fits:
            fits += _fit_crontabs(known, distinct, zone)
    fits += _fit_interval(known, distinct, timezone)
    if not fits:
        return NoPattern(len(distinct))
    best = min(fits, key=_Fit.cost)
    if best.count(Kind.ON_TIME) < best.needed:
        return NotEnough(best.count(Kind.ON_TIME), best.needed)
    late = [placed.late for placed in best.placed if placed.kind is Kind.ON_TIME and placed.late is not None]
    return Proposal(
        best.schedule,
        _margin_minutes(late, best.gap),
        _runtime_minutes([arrival.duration for arrival in known if arrival.duration is not None]),
        tuple(best.placed),
        len(best.slots),
        tuple(best.missed),
        tuple(_doubts(best, distinct, timezone)),
    )


def _without_repetitions(times: Sequence[datetime]) -> list[datetime]:
    """Leave out arrivals that come soon after another one: retries, or a ping at the beginning and one at the end.

    Soon is a quarter of the usual distance, which is a long one of theirs: half of the distances may be of such pairs.
    """
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if not gaps:
        return list(times)
    soon = gaps[len(gaps) * 3 // 4] / 4
    kept = [times[0]]
    kept += [later for earlier, later in pairwise(times) if later - earlier > soon]
    return kept


# --- crontabs -------------------------------------------------------------------------------------------------------


def _fit_crontabs(known: Sequence[Arrival], distinct: Sequence[datetime], timezone: str) -> Iterator[_Fit]:
    zone = ZoneInfo(timezone)
    outliers = outliers_allowed(len(distinct))
    found = [*candidates([arrival.at for arrival in known], zone, are_distinct=False)]
    found += candidates(distinct, zone, are_distinct=True)
    for candidate in dict.fromkeys(found):
        fit = _fit_crontab(candidate, known, timezone, outliers, len(known) - len(distinct))
        if fit is not None and fit.is_good(outliers) and not (fit.gap < _DAY and _drifts(fit)):
            yield fit


def _fit_crontab(
    candidate: Candidate, known: Sequence[Arrival], timezone: str, outliers: int, repetitions: int
) -> _Fit | None:
    """Place the arrivals in the slots of a crontab; None if it has far more slots than there are arrivals."""
    most = len(known) * 5 // 4 + 2
    times = [arrival.at + EARLY for arrival in known]
    if (times[-outliers - 1] - times[outliers]) / _DAY * candidate.per_day > most + candidate.per_day:
        return None
    schedule = Schedule.from_crontab(candidate.crontab, timezone)
    reach = candidate.reach + _MINUTE
    tried = outliers + repetitions + 1
    first = _first_served(schedule, times[:tried], reach)
    last = _first_served(schedule, times[: -tried - 1 : -1], reach)
    if first is None or last is None:
        return None
    slots = [first, *slots_between(schedule, first, last, None, limit=most)]
    if len(slots) > most:
        return None
    gap = min((later - earlier for earlier, later in pairwise(slots)), default=_DAY)
    served: set[datetime] = set()
    placed = []
    for arrival, at in zip(known, times, strict=True):
        slot = slots[bisect_right(slots, at) - 1] if at >= first else None
        if slot is not None and slot in served and at - slot <= max(reach, gap / 2):
            placed.append(Placed(arrival, slot, Kind.AGAIN))
        elif slot is not None and slot not in served and at - slot <= reach:
            served.add(slot)
            placed.append(Placed(arrival, slot, Kind.ON_TIME))
        else:
            placed.append(Placed(arrival, None, Kind.BESIDE))
    missed = [slot for slot in slots if slot not in served]
    complexity = candidate.complexity + SPREAD_WEIGHT * (candidate.reach / gap)
    return _Fit(schedule, placed, slots, missed, gap, complexity, candidate.needed)


def _first_served(schedule: Schedule, times: Sequence[datetime], reach: timedelta) -> datetime | None:
    """Return the slot of the first of these instants that comes in time for one."""
    before = (previous_slot(schedule, at + timedelta(microseconds=1), None) for at in times)
    found = zip(times, before, strict=True)
    return next((slot for at, slot in found if slot is not None and at - slot <= reach), None)


def _drifts(fit: _Fit) -> bool:
    """Return whether each arrival is later after its slot than the one before: a loop that waits, and no crontab."""
    late = [placed.late for placed in fit.placed if placed.kind is Kind.ON_TIME and placed.late is not None]
    later = sum(before < after for before, after in pairwise(late))
    return max(late) - min(late) >= timedelta(seconds=2) and later >= 0.9 * (len(late) - 1)


# --- intervals ------------------------------------------------------------------------------------------------------


def _fit_interval(known: Sequence[Arrival], distinct: Sequence[datetime], timezone: str) -> Iterator[_Fit]:
    """Yield the interval at which arrivals come, each counted from the one before."""
    allowed = outliers_allowed(len(distinct))
    gaps = [later - earlier for earlier, later in pairwise(distinct)]
    usual = median_high(gaps)
    if allowed and gaps[0] > 4 * usual:
        distinct = distinct[1:]  # Somebody tried the job out, long before its first run.
    schedule = _interval_near(usual, timezone)
    tolerance = usual * spread_max(len(distinct)) / 2
    near = max(tolerance, _MINUTE)  # Slots are counted from the minute of the arrival before.
    slots: list[datetime] = []
    missed: list[datetime] = []
    slot_of: dict[datetime, datetime | None] = {distinct[0]: None}
    for before, at in pairwise(distinct):
        anchor = anchor_for(schedule, before)
        coming = slots_between(schedule, before, at + tolerance, anchor, limit=len(known))
        coming = coming or next_slots(schedule, before, anchor, 1)
        if not coming:
            return
        missed += coming[:-1]
        slots += coming
        if abs(at - coming[-1]) <= near:
            slot_of[at] = coming[-1]
    placed: list[Placed] = []
    for arrival in known:
        if arrival.at in slot_of:
            placed.append(Placed(arrival, slot_of.pop(arrival.at), Kind.ON_TIME))
        elif arrival.at < distinct[0] or arrival.at in distinct:
            placed.append(Placed(arrival, None, Kind.BESIDE))
        else:
            placed.append(Placed(arrival, placed[-1].slot, Kind.AGAIN))
    late = max((abs(one.late) for one in placed if one.kind is Kind.ON_TIME and one.late is not None), default=usual)
    complexity = INTERVAL_COMPLEXITY + SPREAD_WEIGHT * (late / usual)
    fit = _Fit(schedule, placed, slots, missed, usual, complexity, ARRIVALS_NEEDED)
    if fit.is_good(allowed):
        yield fit


def _interval_near(usual: timedelta, timezone: str) -> Schedule:
    """Return the interval nearest to a length, in its largest unit."""
    days = round(usual / _DAY)
    months = round(usual / _MONTH)
    minutes = max(1, round(usual / _MINUTE))
    if months and abs(usual - months * _MONTH) <= timedelta(days=2) and days % 7:
        count, unit = months, IntervalUnit.MONTH
    elif days and abs(usual - days * _DAY) <= _HOUR:
        count, unit = (days // 7, IntervalUnit.WEEK) if days % 7 == 0 else (days, IntervalUnit.DAY)
    elif minutes % 60 == 0:
        count, unit = minutes // 60, IntervalUnit.HOUR
    else:
        count, unit = minutes, IntervalUnit.MINUTE
    return Schedule.from_interval(count, unit, timezone)


# --- what belongs to a proposal -------------------------------------------------------------------------------------


def _margin_minutes(late: Sequence[timedelta], gap: timedelta) -> int:
    """Return half as long again as the latest arrival, at least a twentieth of the distance of slots, at most half."""
    latest = max(late, default=timedelta())
    least = min(max(1, int(gap / _MINUTE / 20)), MARGIN_FLOOR_MAX)
    most = max(1, int(gap / _MINUTE / 2), math.ceil(latest / _MINUTE))
    return min(max(math.ceil(1.5 * latest / _MINUTE), least), most, MARGIN_MINUTES_MAX)


def _runtime_minutes(durations: Sequence[timedelta]) -> int | None:
    """Return twice the longest duration, in minutes; None if too few are known."""
    if len(durations) < DURATIONS_NEEDED:
        return None
    return min(max(RUNTIME_FLOOR, math.ceil(2 * max(durations) / _MINUTE)), RUNTIME_MINUTES_MAX)


def _doubts(fit: _Fit, distinct: Sequence[datetime], timezone: str) -> Iterator[Doubt]:
    """Yield what did not happen between the first and the last arrival: a whole day, a weekend, a clock change."""
    zone = ZoneInfo(timezone)
    crontab = fit.schedule.crontab
    _, hour, of_month, _, of_week = (crontab or "* * * * *").split()
    first, last = distinct[0].astimezone(zone), distinct[-1].astimezone(zone)
    dates = [first.date() + timedelta(days=number) for number in range(min((last.date() - first.date()).days + 1, 7))]
    if distinct[-1] - distinct[0] < _DAY - _HOUR:
        yield Doubt.DAY
    elif of_month == of_week == "*" and fit.gap <= _DAY + _HOUR and all(day.isoweekday() < 6 for day in dates):
        yield Doubt.WEEKEND
    if crontab is not None and hour != "*" and fit.schedule.timezone == timezone:
        year = [datetime(last.year, month, 1, tzinfo=UTC).astimezone(zone).utcoffset() for month in range(1, 13)]
        if len(set(year)) > 1 and first.utcoffset() == last.utcoffset():
            yield Doubt.CLOCKS
