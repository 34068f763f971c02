"""Crontabs that arrivals may follow, found by laying them onto the hour, the day, the week and the month (pure).

These are candidates only: `monitors.learning` compares each of them with the arrivals.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise, product
from typing import NamedTuple
from zoneinfo import ZoneInfo

ARRIVALS_NEEDED = 5
"""No schedule is proposed from fewer arrivals."""
NEEDED_FOR_PARTS = 6
"""Nor one that leaves out hours or days, from fewer than these."""
EARLY = timedelta(seconds=5)
"""So long before a slot an arrival still belongs to it: the clocks of two machines differ."""
CHANCE_MAX = 0.01
"""Arrivals lie close together if fewer than one in a hundred sets of arrivals without any pattern lie so close."""
MINUTE_STEPS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
HOUR_STEPS = (2, 3, 4, 6, 8, 12)
MARKS_SEEN = 0.6
"""Which share of the minutes of a step has to have been seen, or of what so few arrivals can show of them."""
LISTED_MINUTES_MAX = 12
APART_SECONDS = 90
_HOUR, _DAY = 3600, 86_400


class Candidate(NamedTuple):
    """A crontab, with how long after its times arrivals come, and how many times a day it has on average.

    `complexity` is how much it claims: it has to explain so many more arrivals or gaps than a simpler one. `needed`:
    from how many arrivals it may be proposed.
    """

    crontab: str
    reach: timedelta
    per_day: float
    complexity: float
    needed: int


class _Field(NamedTuple):
    """A field of a crontab, with its numbers."""

    text: str
    numbers: Sequence[int]
    complexity: float
    reach: float = 0.0


class _Days(NamedTuple):
    """The two fields of days of a crontab, with the share of days that match."""

    of_month: str
    of_week: str
    share: float
    complexity: float


def outliers_allowed(count: int) -> int:
    """Return how many of so many arrivals may follow no pattern: somebody tries a job out by hand."""
    return 0 if count <= ARRIVALS_NEEDED else max(1, count // 10)


def candidates(times: Sequence[datetime], zone: ZoneInfo, *, are_distinct: bool) -> Iterator[Candidate]:
    """Yield the crontabs that these instants, in ascending order, may follow in a zone. There may be many, or none.

    `are_distinct`: each is one of another run. Otherwise two pings of each run would look like minutes of a list.
    """
    walls = [(at + EARLY).astimezone(zone).replace(tzinfo=None) for at in times]
    drop = outliers_allowed(len(walls))
    for minute, hour in _times_of_day(walls, drop, are_distinct):
        times_of_day = [60 * number + minutes for number, minutes in product(hour.numbers, minute.numbers)]
        reach = timedelta(seconds=minute.reach)
        slots = [_slot_before(wall, times_of_day) for wall in walls]
        kept = [slot.date() for wall, slot in zip(walls, slots, strict=True) if wall - slot <= reach]
        if len(kept) < ARRIVALS_NEEDED:
            continue
        for days in _days(kept, drop):
            is_part = any("," in text or ("-" in text and "/" not in text) for text in (hour.text, days.of_week))
            yield Candidate(
                f"{minute.text} {hour.text} {days.of_month} * {days.of_week}",
                reach,
                len(times_of_day) * days.share,
                minute.complexity + hour.complexity + days.complexity,
                NEEDED_FOR_PARTS if is_part else ARRIVALS_NEEDED,
            )


def spread_max(count: int) -> float:
    """Return on which share of a circle so many arrivals lie if that is no chance: half of it at most."""
    return min(0.5, (CHANCE_MAX / count) ** (1 / (count - 1))) if count > 1 else 0.0


def shortest_arc(positions: Sequence[float], circle: float, drop: int) -> tuple[float, float]:
    """Return the beginning and the length of the shortest arc of a circle that holds all but `drop` positions.

    >>> shortest_arc([59, 1, 0, 30], 60, 1)
    (59, 2)
    """
    ordered = sorted(position % circle for position in positions)
    twice = [*ordered, *(position + circle for position in ordered)]
    kept = len(ordered) - drop
    length, begin = min((twice[at + kept - 1] - twice[at], twice[at]) for at in range(len(ordered)))
    return begin, length


def _times_of_day(walls: Sequence[datetime], drop: int, are_distinct: bool) -> Iterator[tuple[_Field, _Field]]:
    """Yield the minute and the hour fields. A time of day is one of both where the minutes alone spread too far."""
    seconds = [wall.hour * _HOUR + wall.minute * 60 + wall.second + wall.microsecond / 1e6 for wall in walls]
    is_narrow = False
    for minute in (*_stepped_minutes(seconds, drop), *(_listed_minutes(seconds, drop) if are_distinct else ())):
        is_narrow = is_narrow or len(minute.numbers) == 1
        for hour in _hours(walls, minute, drop):
            yield minute, hour
    if not is_narrow:
        yield from _once_a_day(seconds, drop)


def _stepped_minutes(seconds: Sequence[float], drop: int) -> Iterator[_Field]:
    for step, left_out in product(MINUTE_STEPS, sorted({0, drop})):
        kept = len(seconds) - left_out
        begin, length = shortest_arc(seconds, step * 60, left_out)
        if length > spread_max(kept) * step * 60:
            continue
        first = _round_minute(begin, length, kept)
        marks = {int((second - first * 60) % _HOUR // (step * 60)) for second in seconds}
        if len(marks) < MARKS_SEEN * min(60 // step, kept):
            continue
        reach, first = begin + length - first * 60, first % step
        text = str(first) if step == 60 else f"*/{step}" if first == 0 else f"{first}-59/{step}"
        yield _Field("*" if step == 1 else text, range(first, 60, step), 0.0, reach)


def _listed_minutes(seconds: Sequence[float], drop: int) -> Iterator[_Field]:
    """Yield minutes at no regular distance (*/7, or 0,20,50), each of which was seen three times."""
    begin, _ = shortest_arc(seconds, _HOUR, 1)
    ordered = sorted((second - begin) % _HOUR + begin for second in seconds)
    groups = [[ordered[0]]]
    for before, second in pairwise(ordered):
        if second - before > APART_SECONDS:
            groups.append([])
        groups[-1].append(second)
    regular = [group for group in groups if len(group) >= 3]
    rare = len(seconds) - sum(map(len, regular))
    minutes = sorted({int(group[0] // 60) % 60 for group in regular})
    if 1 < len(minutes) <= LISTED_MINUTES_MAX and rare <= drop:
        reach = max(group[-1] - group[0] // 60 * 60 for group in regular)
        yield _Field(_listed(minutes, 60), minutes, 2.0 + 0.25 * len(minutes), reach)


def _hours(walls: Sequence[datetime], minute: _Field, drop: int) -> Iterator[_Field]:
    """Yield the hour fields for arrivals at these minutes: all, each so many, and those that were seen."""
    yield _Field("*", range(24), 0.0)
    every_hour = [60 * hour + number for hour in range(24) for number in minute.numbers]
    slots = [_slot_before(wall, every_hour) for wall in walls]
    reach = timedelta(seconds=minute.reach)
    seen = Counter(slot.hour for wall, slot in zip(walls, slots, strict=True) if wall - slot <= reach)
    if not seen:
        return
    for step in HOUR_STEPS:
        first, _ = Counter(hour % step for hour in seen.elements()).most_common(1)[0]
        if sum(count for hour, count in seen.items() if hour % step != first) <= drop:
            yield _Field(f"*/{step}" if first == 0 else f"{first}-23/{step}", range(first, 24, step), 0.5)
    often = max(seen.values()) / 5
    sets = {tuple(sorted(hour for hour, count in seen.items() if count >= least)) for least in (2, max(2, often))}
    for hours in sets:
        if 0 < len(hours) < 24:
            is_range = hours[-1] - hours[0] == len(hours) - 1
            yield _Field(
                _listed(hours, 24), hours, 0.5 if len(hours) == 1 else 1.5 if is_range else 1 + 0.25 * len(hours)
            )


def _once_a_day(seconds: Sequence[float], drop: int) -> Iterator[tuple[_Field, _Field]]:
    for left_out in sorted({0, drop}):
        kept = len(seconds) - left_out
        begin, length = shortest_arc(seconds, _DAY, left_out)
        if length <= spread_max(kept) * _DAY:
            at = _round_minute(begin, length, kept)
            reach, (hour, minute) = begin + length - at * 60, divmod(at % 1440, 60)
            yield _Field(str(minute), [minute], 0.0, reach), _Field(str(hour), [hour], 0.5)


def _days(dates: Sequence[date], drop: int) -> Iterator[_Days]:
    """Yield the fields of days: all, working days, those days of the week or that day of the month that were seen."""
    yield _Days("*", "*", 1.0, 0.0)
    seen = Counter(day.isoweekday() % 7 for day in dates)
    if seen[0] + seen[6] <= (drop if len(dates) >= 10 else 0):
        yield _Days("*", "1-5", 5 / 7, 1.0)
    regular = sorted(day for day, count in seen.items() if count >= 2)
    if 0 < len(regular) < 7 and regular != [1, 2, 3, 4, 5]:
        yield _Days("*", _listed(regular, 7), len(regular) / 7, 1.2 + 0.2 * len(regular))
    day, count = Counter(one.day for one in dates).most_common(1)[0]
    if len(dates) - count <= drop:
        yield _Days(str(day), "*", 12 / 365, 1.0)
    ends = sum((one + timedelta(days=1)).day == 1 for one in dates)
    if len(dates) - ends <= drop:
        yield _Days("L", "*", 12 / 365, 1.5)


def _slot_before(wall: datetime, times_of_day: Sequence[int]) -> datetime:
    """Return the newest of these times (minutes of a day, ascending) at or before a wall time."""
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    place = bisect_right(times_of_day, wall.hour * 60 + wall.minute) - 1
    return midnight + timedelta(days=-1 if place < 0 else 0, minutes=times_of_day[place])


def _round_minute(begin: float, length: float, count: int) -> int:
    """Return the minute that a job is started at whose first arrival, of so many over `length` seconds, was at `begin`.

    The true beginning is a little before, by about the length over the count; round minutes are likelier there.

    >>> _round_minute(151 * 60, 600, 5), _round_minute(17 * 60 + 20, 30, 5)
    (150, 17)
    """
    latest = int(begin // 60)
    back = int(2 * length / count / 60)
    return max(range(latest - back, latest + 1), key=lambda minute: (_roundness(minute), minute))


def _roundness(minute: int) -> int:
    return next((rank for step, rank in ((60, 5), (30, 4), (15, 3), (10, 2), (5, 1)) if minute % step == 0), 0)


def _listed(numbers: Sequence[int], size: int) -> str:
    """Return ascending numbers as a field of a crontab, which has so many.

    >>> _listed([9, 10, 11, 12], 24), _listed([0, 7, 8], 24), _listed([0, 25, 50], 60)
    ('9-12', '0,7,8', '*/25')
    """
    if len(numbers) > 2 and list(numbers) == list(range(0, size, numbers[1])) and numbers[0] == 0:
        return f"*/{numbers[1]}"
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}-{numbers[-1]}"
    return ",".join(map(str, numbers))
