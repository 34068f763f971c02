"""Crontabs: reading a text, and finding the time before or after an instant in a bounded number of steps.

cronsim reads the fields and computes which days of a month match; there are only 28 kinds of months (first weekday and
length), so each crontab computes its days once. The search goes month by month, skips all days and minutes that do not
match, and leaves the gap of a clock change in one step. It ends after `HORIZON` (D34).

Slots follow the wall clock of the zone as Debian's cron(8) does: a job at fixed times that falls into the gap of a
spring change runs when the gap ends, one in the repeated hour of autumn runs in the first pass only; a job whose minute
or hour field starts with ``*`` runs whenever the wall clock shows a matching minute.
"""

import calendar
import re
import reprlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from lib.texts import Text
from monitors.exceptions import ScheduleError

__all__ = [
    "CRONTAB_CHARACTERS_MAX",
    "HORIZON",
    "ScheduleError",
    "next_instant",
    "parse_crontab",
    "previous_instant",
    "split_timezone",
]

CRONTAB_CHARACTERS_MAX = 255
"""Longest crontab text after normalising: every minute of the hour listed by hand takes 169 characters."""

HORIZON = timedelta(days=3653)
"""Ten years: the search goes no further (D34)."""

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

FIVE_FIELDS = Text(
    "five fields (minute, hour, day of month, month, day of week) or one of %(names)s", names=", ".join(NICKNAMES)
)

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_NAMES = """
    sunday monday tuesday wednesday thursday friday saturday tues weds thur thurs
    january february march april june july august september october november december sept
"""
_FULL_NAMES = {name: name[:3] for name in _LONG_NAMES.split()}
# Name, lowest and highest number, names of the numbers from the lowest on, other allowed values.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...], str], ...] = (
    (Text("the minute"), 0, 59, (), ""),
    (Text("the hour"), 0, 23, (), ""),
    (Text("the day of month"), 1, 31, (), Text(", L for the last day and LW for the last working day")),
    (Text("the month"), 1, 12, _MONTHS, Text(" and names (jan to dec)")),
    (
        Text("the day of week"),
        0,
        6,
        _DAYS,
        Text(" (or 7), names (sun to sat), the second Monday as mon#2 and the last Friday as 5L"),
    ),
)
_LETTERS = re.compile(r"[A-Za-z]{4,}")
_RANGE = re.compile(r"([0-9]+|[A-Za-z]+)-([0-9]+|[A-Za-z]+)(?:/([0-9]+))?")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}(?:[-,/][0-9,/-]*)?|\*/[0-9]+-?20[0-9]{2}")
_NEVER_MATCHES = Text("it never matches, it takes a day that some month has")
_ZONE_BEFORE = re.compile(r"(?:CRON_)?TZ=[\"']?([^\"']+)[\"']?")
_ZONE_BEHIND = re.compile(r"[A-Za-z]{2}[A-Za-z0-9_+/-]*")
_ONE_MINUTE = timedelta(minutes=1)


# --- reading --------------------------------------------------------------------------------------------------------


def parse_crontab(text: object) -> str:
    """Normalise a crontab text without a zone: single blanks, nicknames, short names, no ranges that wrap (D28).

    Raises ScheduleError, with the reason, for a text that cannot be used.
    """
    if not isinstance(text, str):
        raise ScheduleError("crontab", text, Text("it takes a text of %(fields)s", fields=FIVE_FIELDS))
    if len(text) > CRONTAB_CHARACTERS_MAX:
        return _parse(text)  # It may be all blanks; too long for the cache.
    crontab, reason = _parsed(text)
    if reason:
        raise ScheduleError("crontab", text, reason)
    return crontab


@lru_cache(maxsize=8192)
def _parsed(text: str) -> tuple[str, str]:
    """Return the normalised text, or why there is none: a client with a bad crontab sends it each time (D34)."""
    try:
        return _parse(text), ""
    except ScheduleError as error:
        return "", error.allowed


def _parse(text: str) -> str:
    crontab = " ".join(text.split())
    crontab = NICKNAMES.get(crontab.lower(), crontab)
    if crontab.startswith("@every "):
        raise ScheduleError(
            "crontab", text, Text("it is an interval: choose the type interval, with a count and a unit")
        )
    if crontab.startswith("@"):
        raise ScheduleError(
            "crontab", text, Text("this nickname is not known, it takes %(fields)s", fields=FIVE_FIELDS)
        )
    _check_length(text, crontab)
    fields = crontab.split()
    if len(fields) != 5:
        allowed = Text("%(problem)s, it takes %(fields)s", problem=_why_not_five(fields), fields=FIVE_FIELDS)
        raise ScheduleError("crontab", text, allowed)
    crontab = " ".join(_plain(field, place) for place, field in enumerate(fields))
    _check_length(text, crontab)
    for place, field in enumerate(crontab.split()):
        if reason := _why_unreadable(field, place):
            raise ScheduleError("crontab", text, reason)
    try:
        compiled = _compiled(crontab)
    except CronSimError as error:
        # Valid in each field, but in no month: 31 February.
        raise ScheduleError("crontab", text, _NEVER_MATCHES) from error
    if not compiled.ever_matches():
        raise ScheduleError("crontab", text, _NEVER_MATCHES)
    return crontab


def _check_length(text: object, crontab: str) -> None:
    if len(crontab) > CRONTAB_CHARACTERS_MAX:
        raise ScheduleError("crontab", text, Text("it takes at most %(most)s characters", most=CRONTAB_CHARACTERS_MAX))


def _why_not_five(fields: list[str]) -> str:
    """Return what is wrong with the number of fields: a field for the year is not one for seconds."""
    if len(fields) == 7:
        return Text("it has 7 fields: fields for seconds and for the year are not supported")
    if len(fields) != 6:
        return Text.plural("it has %(count)s field", "it has %(count)s fields", len(fields))
    if _YEAR.fullmatch(fields[5]) or "?" in (fields[2], fields[4]):
        return Text("it has 6 fields: a field for the year (%(text)s) is not supported", text=fields[5][:20])
    reasons = [_why_unreadable(_plain(field, place), place) for place, field in enumerate(fields[1:])]
    if "?" in (fields[3], fields[5]) or not any(reasons):
        return Text("it has 6 fields: a field for seconds is not supported")
    return Text("it has 6 fields, and what the last one (%(text)s) means is not known", text=fields[5][:20])


def _plain(field: str, place: int) -> str:
    """Shorten names, and expand a range that wraps (fri-mon, 23-6) to two ranges or a list of numbers."""
    _, low, high, names, _ = _FIELDS[place]
    if names:
        field = _LETTERS.sub(lambda found: _FULL_NAMES.get(found[0].lower(), found[0]), field)
    if "-" not in field:
        return field
    return ",".join(_unwrapped(term, low, high, names) for term in field.split(","))


def _unwrapped(term: str, low: int, high: int, names: tuple[str, ...]) -> str:
    found = _RANGE.fullmatch(term)
    if found is None:
        return term
    begin, end, step = found.groups()
    first, last = _number(begin, low, names), _number(end, low, names)
    if first == 7 and names is _DAYS:
        first, begin = 0, "0"
        if last == 7:
            return term
    if first is None or last is None or not (low <= first <= high and low <= last <= high):
        return term
    if first <= last:
        return f"{begin}-{end}" + (f"/{step}" if step else "")
    if step and int(step) == 0:
        return term
    if step and int(step) > 1:
        both = [*range(first, high + 1), *range(low, last + 1)]
        return ",".join(str(number) for number in both[:: int(step)])
    top = names[-1] if begin.isalpha() else str(high)
    bottom = names[0] if end.isalpha() else str(low)
    return (begin if first == high else f"{begin}-{top}") + "," + (end if last == low else f"{bottom}-{end}")


def _number(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text.isdecimal():
        return int(text) if len(text) <= 4 else None
    return names.index(text.lower()) + low if text.lower() in names else None


def _why_unreadable(field: str, place: int) -> str:
    """Return which part of a field cannot be read, and the allowed values; "" if all of it can."""
    name, low, high, _, more = _FIELDS[place]
    for term in field.upper().split(","):
        try:
            Field(place + 1).parse(term)
        except CronSimError:
            return Text(
                "the field for %(name)s holds %(term)s, it takes numbers from %(low)s to %(high)s%(more)s, ranges, "
                "lists and steps (*/5)%(hint)s",
                name=name,
                term=reprlib.repr(term.lower()),
                low=low,
                high=high,
                more=more,
                hint=Text("; write * for ?") if term == "?" else "",
            )
    return ""


def split_timezone(text: object) -> tuple[object, str | None]:
    """Split a zone from a crontab text: `CRON_TZ=` or `TZ=` before it, or a word after its last field (D28).

    The zone is not checked here.
    """
    if not isinstance(text, str) or len(text) > 2 * CRONTAB_CHARACTERS_MAX:
        return text, None
    first, *rest = words = text.split() or [""]
    if found := _ZONE_BEFORE.fullmatch(first):
        return " ".join(rest), found[1]
    fields = 1 if first.startswith("@") else 5
    if len(words) == fields + 1 and _is_zone_like(words[-1]):
        return " ".join(words[:-1]), words[-1]
    return text, None


def _is_zone_like(word: str) -> bool:
    if _ZONE_BEHIND.fullmatch(word) is None:
        return False
    days = _plain(word, 4).lower().replace(",", "-").split("-")
    return not all(name in _DAYS for name in days)


# --- searching ------------------------------------------------------------------------------------------------------


class _Crontab:
    """The wall times of a crontab. Raises CronSimError for a text that is none."""

    __slots__ = ("_days", "_hours_set", "_sim", "at_fixed_times", "hours", "minutes", "months")

    def __init__(self, text: str) -> None:
        self._sim = CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
        self._days: dict[tuple[int, int], tuple[int, ...]] = {}
        self.minutes = sorted(self._sim.minutes)
        self._hours_set = frozenset(self._sim.hours)
        self.hours = sorted(self._hours_set)
        self.months = frozenset(self._sim.months)
        minute_field, hour_field, *_ = text.split()
        self.at_fixed_times = not minute_field.startswith("*") and not hour_field.startswith("*")

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """Return the days of the month that match, ascending."""
        if month not in self.months:
            return ()
        kind = calendar.monthrange(year, month)
        days = self._days.get(kind)
        if days is None:
            every = range(1, kind[1] + 1)
            days = self._days[kind] = tuple(day for day in every if self._sim.match_day(date(year, month, day)))
        return days

    def ever_matches(self) -> bool:
        """Return whether any month has a matching day: 28 years without a skipped leap day have all kinds of months."""
        return any(self.days(year, month) for year in range(2000, 2028) for month in self.months)

    def first_after(self, wall: datetime, last: datetime) -> datetime | None:
        """Return the first matching wall time after `wall`, up to the month of `last`."""
        if wall.day in self.days(wall.year, wall.month):
            if wall.hour in self._hours_set:
                place = bisect_right(self.minutes, wall.minute)
                if place < len(self.minutes):
                    return wall.replace(minute=self.minutes[place], second=0, microsecond=0)
            place = bisect_right(self.hours, wall.hour)
            if place < len(self.hours):
                return wall.replace(hour=self.hours[place], minute=self.minutes[0], second=0, microsecond=0)
        after = wall.day
        for year, month in _months(wall.year, wall.month, last.year, last.month, 1):
            days = self.days(year, month)
            if days and days[-1] > after:
                return datetime(year, month, days[bisect_right(days, after)], self.hours[0], self.minutes[0])  # noqa: DTZ001 - a wall time
            after = 0
        return None

    def last_before(self, wall: datetime, first: datetime) -> datetime | None:
        """Return the last matching wall time before `wall`, down to the month of `first`."""
        if wall.day in self.days(wall.year, wall.month):
            if wall.hour in self._hours_set:
                place = bisect_left(self.minutes, wall.minute)
                if place:
                    return wall.replace(minute=self.minutes[place - 1], second=0, microsecond=0)
            place = bisect_left(self.hours, wall.hour)
            if place:
                return wall.replace(hour=self.hours[place - 1], minute=self.minutes[-1], second=0, microsecond=0)
        before = wall.day
        for year, month in _months(wall.year, wall.month, first.year, first.month, -1):
            days = self.days(year, month)
            if days and days[0] < before:
                return datetime(year, month, days[bisect_left(days, before) - 1], self.hours[-1], self.minutes[-1])  # noqa: DTZ001 - a wall time
            before = 32
        return None


def _months(year: int, month: int, last_year: int, last_month: int, step: int) -> Iterator[tuple[int, int]]:
    first, last = year * 12 + month - 1, last_year * 12 + last_month - 1
    for number in range(first, last + step, step):
        yield number // 12, number % 12 + 1


@lru_cache(maxsize=8192)
def _compiled(text: str) -> _Crontab:
    return _Crontab(text)


def next_instant(text: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first slot after a UTC instant on a whole minute; None if there is none within `HORIZON`.

    Raises ScheduleError for a text that is no crontab.
    """
    try:
        return _next(_readable(text), zone, after)
    except OverflowError:
        return None  # There are no years after 9999.


def previous_instant(text: str, zone: ZoneInfo, before: datetime) -> datetime | None:
    """Return the last slot before a UTC instant on a whole minute. Otherwise as :func:`next_instant`."""
    try:
        return _previous(_readable(text), zone, before)
    except OverflowError:
        return None


def _readable(text: str) -> _Crontab:
    try:
        return _compiled(text)
    except CronSimError as error:
        raise ScheduleError("crontab", text, Text("it takes %(fields)s", fields=FIVE_FIELDS)) from error


def _next(crontab: _Crontab, zone: ZoneInfo, after: datetime) -> datetime | None:
    local = after.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    last = wall + HORIZON
    second_pass = None
    if overlap := _overlap(local):
        begin = _repeated_from(local, overlap)
        if local.fold and crontab.at_fixed_times:
            wall = begin + overlap - _ONE_MINUTE  # Fixed times have run in the first pass.
        elif not local.fold and not crontab.at_fixed_times:
            again = crontab.first_after(begin - _ONE_MINUTE, last)
            if again is not None and again < begin + overlap:
                second_pass = again.replace(tzinfo=zone, fold=1).astimezone(UTC)
    found: datetime | None = wall
    while found is not None and (found := crontab.first_after(found, last)) is not None:
        slot = found.replace(tzinfo=zone).astimezone(UTC)
        shown = slot.astimezone(zone).replace(tzinfo=None, fold=0)
        if shown != found:
            gap_end = _gap_end(found, shown, zone)
            if not crontab.at_fixed_times:
                found = gap_end - _ONE_MINUTE
                continue
            slot = gap_end.replace(tzinfo=zone).astimezone(UTC)
        elif slot <= after:
            slot = found.replace(tzinfo=zone, fold=1).astimezone(UTC)
        return slot if second_pass is None else min(slot, second_pass)
    return second_pass


def _previous(crontab: _Crontab, zone: ZoneInfo, before: datetime) -> datetime | None:
    local = before.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    first = wall - HORIZON
    if (overlap := _overlap(local)) and local.fold:
        begin = _repeated_from(local, overlap)
        if not crontab.at_fixed_times:
            again = crontab.last_before(wall, first)
            if again is not None and again >= begin:
                return again.replace(tzinfo=zone, fold=1).astimezone(UTC)
        wall = begin + overlap  # All of the first pass lies before.
    found: datetime | None = wall
    while found is not None and (found := crontab.last_before(found, first)) is not None:
        slot = found.replace(tzinfo=zone).astimezone(UTC)
        shown = slot.astimezone(zone).replace(tzinfo=None, fold=0)
        if shown != found:
            gap_end = _gap_end(found, shown, zone)
            slot = gap_end.replace(tzinfo=zone).astimezone(UTC)
            if not crontab.at_fixed_times or slot >= before:
                found = gap_end - (shown - found)
                continue
        elif not crontab.at_fixed_times:
            later = found.replace(tzinfo=zone, fold=1).astimezone(UTC)
            if later < before:
                slot = later
        return slot
    return None


def _overlap(local: datetime) -> timedelta:
    """Return the length of the repetition around a wall time; zero outside of one."""
    # Plain differences of two wall times would ignore the fold; as UTC they do not.
    return max(
        local.replace(fold=1).astimezone(UTC) - local.replace(fold=0).astimezone(UTC),
        timedelta(0),
    )


def _repeated_from(local: datetime, overlap: timedelta) -> datetime:
    """Return the wall time with which the repetition around `local` begins."""
    zone, at = local.tzinfo, local.astimezone(UTC)
    low = at - overlap if local.fold else at  # in the first pass
    high = low + overlap  # in the second one, or after it
    offset = low.astimezone(zone).utcoffset()
    minutes = bisect_left(
        range(int(overlap / _ONE_MINUTE)),
        True,
        key=lambda minute: (low + minute * _ONE_MINUTE).astimezone(zone).utcoffset() != offset,
    )
    turn = min(low + minutes * _ONE_MINUTE, high)
    return turn.astimezone(zone).replace(tzinfo=None, fold=0)


def _gap_end(wall: datetime, shown: datetime, zone: ZoneInfo) -> datetime:
    """Return the first wall time after the gap around `wall`; `shown` is the time that the clock showed instead."""
    minutes = bisect_left(
        range(int((shown - wall) / _ONE_MINUTE)),
        True,
        key=lambda minute: _exists((wall + minute * _ONE_MINUTE).replace(tzinfo=zone)),
    )
    return wall + minutes * _ONE_MINUTE


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)
