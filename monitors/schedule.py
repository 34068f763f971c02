"""When a job is expected: pure arithmetic on one small value, :class:`Schedule`.

A schedule is a crontab or an interval, in a time zone. All functions accept aware instants and return aware UTC
instants on whole minutes, called *slots*. They read no clock, setting or row; ingest, the clock, the admin preview and
the replay all use them, so that they agree.

`monitors.crontab` finds the slots of a crontab. There may be none: a crontab without a time within `HORIZON` (ten
years) expects nothing, and every function returns None or fewer slots then; none raises (D34).

Interval slots are one series through an :class:`Anchor`, without beginning or end. Minutes and hours are elapsed time;
days, weeks, months and years are calendar steps on the wall clock of the zone (D11).
"""

import calendar
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lib.texts import Text
from monitors.crontab import (
    CRONTAB_CHARACTERS_MAX,
    HORIZON,
    ScheduleError,
    next_instant,
    parse_crontab,
    previous_instant,
    split_timezone,
)

__all__ = [
    "CRONTAB_CHARACTERS_MAX",
    "HORIZON",
    "INTERVAL_MAX",
    "LEARNING_CRONTAB",
    "Anchor",
    "IntervalUnit",
    "Schedule",
    "ScheduleError",
    "ScheduleType",
    "anchor_for",
    "first_slot_at_or_after",
    "is_nearly",
    "next_slot",
    "next_slots",
    "parse_crontab",
    "parse_interval",
    "parse_timezone",
    "previous_slot",
    "read_schedule",
    "refuse_without_time",
    "serves_early",
    "slots_between",
    "split_timezone",
    "whole_number",
    "why_unreadable",
    "zone_to_show",
]


class ScheduleType(StrEnum):
    """The two kinds of schedules."""

    CRONTAB = "crontab"
    INTERVAL = "interval"


class IntervalUnit(StrEnum):
    """The units of intervals."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


INTERVAL_MAX = {
    IntervalUnit.MINUTE: 52_560_000,
    IntervalUnit.HOUR: 876_000,
    IntervalUnit.DAY: 36_500,
    IntervalUnit.WEEK: 5_200,
    IntervalUnit.MONTH: 1_200,
    IntervalUnit.YEAR: 100,
}
"""Longest interval per unit: about a hundred years, so that a step either way stays within the years 1 to 9999."""

LEARNING_CRONTAB = "0 0 */30 * 1#3"
"""The crontab of a monitor whose schedule is not known yet: the 1st or the 31st if that is the third Monday, so never.

Nobody can send or type it, as it has no time (D34). Versions that do not know its meaning expect nothing either.
"""

_WHOLE_NUMBER = re.compile(r" *[0-9]{1,18}(?:\.0*)? *")
_ONE_MINUTE = timedelta(minutes=1)
_ONE_MICROSECOND = timedelta(microseconds=1)
_ELAPSED_STEP = {IntervalUnit.MINUTE: timedelta(minutes=1), IntervalUnit.HOUR: timedelta(hours=1)}
_DAYS_IN_STEP = {IntervalUnit.DAY: 1, IntervalUnit.WEEK: 7}
_MONTHS_IN_STEP = {IntervalUnit.MONTH: 1, IntervalUnit.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Schedule:
    """A crontab text, or an interval count and unit, in a zone of the tz database.

    The constructor does not check its arguments, since rows of the database were checked before; `why_unreadable` finds
    edits by hand. All values from outside go through :meth:`from_crontab` or :meth:`from_interval`, which normalise or
    refuse them.
    """

    schedule_type: ScheduleType
    crontab: str | None
    interval: int | None
    interval_unit: IntervalUnit | None
    timezone: str = "UTC"

    @classmethod
    def from_crontab(cls, text: object, timezone: object = "UTC", *, now: datetime | None = None) -> "Schedule":
        """Check a crontab text and a zone from outside; a zone within the text overrides `timezone` (D28).

        With `now`, a crontab without a time in the ten years after it is refused (D34). Raises ScheduleError.
        """
        text, inner = split_timezone(text)
        schedule = cls(ScheduleType.CRONTAB, parse_crontab(text), None, None, parse_timezone(inner or timezone))
        if now is not None:
            refuse_without_time(schedule, now=now)
        return schedule

    @classmethod
    def from_interval(cls, count: object, unit: object, timezone: object = "UTC") -> "Schedule":
        """Check an interval count, unit and zone from outside. Raises ScheduleError."""
        checked_count, checked_unit = parse_interval(count, unit)
        return cls(ScheduleType.INTERVAL, None, checked_count, checked_unit, parse_timezone(timezone))

    @classmethod
    def learning(cls, timezone: object = "UTC") -> "Schedule":
        """Return the schedule that is not known yet and expects nothing. Raises ScheduleError for a bad zone."""
        return cls(ScheduleType.CRONTAB, LEARNING_CRONTAB, None, None, parse_timezone(timezone))

    @property
    def is_learning(self) -> bool:
        """Whether it is not known yet: it is to be learned from the check-ins."""
        return self.crontab == LEARNING_CRONTAB


@dataclass(frozen=True, slots=True)
class Anchor:
    """The start of an interval series: a UTC instant on a whole minute, and the intended local day of the month.

    ``day`` differs from the local day of ``at`` only if a month was too short: a monthly series of the 31st that was
    served on 28 February still has the day 31, and continues on 31 March (D11).
    """

    at: datetime
    day: int


def next_slot(schedule: Schedule, after: datetime, anchor: Anchor | None) -> datetime | None:
    """Return the first slot strictly after ``after``; None if there is none within ten years (interval: by year 9999).

    A crontab ignores ``anchor``; an interval without one raises ValueError.
    """
    after = _in_utc(after)
    if schedule.crontab is not None:
        # Slots are on whole minutes: 10:00:30 has the same next slot as 10:00:00, and so shares its cache entry.
        return _next_crontab_slot(schedule.crontab, schedule.timezone, _floor_to_minute(after))
    series = _IntervalSeries(schedule, anchor)
    try:
        number = series.number_near(after)
        while series.slot(number) > after:
            number -= 1
        while (slot := series.slot(number)) <= after:
            number += 1
    except (OverflowError, ValueError):
        return None
    return slot


def previous_slot(schedule: Schedule, before: datetime, anchor: Anchor | None) -> datetime | None:
    """Return the last slot strictly before ``before``. Otherwise as :func:`next_slot`."""
    before = _in_utc(before)
    if schedule.crontab is not None:
        # 10:00:30 has the same previous slot as 10:01:00, not as 10:00:00: rounded up, not down.
        return _previous_crontab_slot(schedule.crontab, schedule.timezone, _ceil_to_minute(before))
    series = _IntervalSeries(schedule, anchor)
    try:
        number = series.number_near(before)
        while series.slot(number) < before:
            number += 1
        while (slot := series.slot(number)) >= before:
            number -= 1
    except (OverflowError, ValueError):
        return None
    return slot


def first_slot_at_or_after(schedule: Schedule, at: datetime, anchor: Anchor | None) -> datetime | None:
    """Return the first slot at ``at`` or later; None as for :func:`next_slot`."""
    # In UTC: a subtraction from a local time loses the pass of a repeated hour.
    return next_slot(schedule, _in_utc(at) - _ONE_MICROSECOND, anchor)


def slots_between(
    schedule: Schedule, after: datetime, until: datetime, anchor: Anchor | None, *, limit: int | None = None
) -> list[datetime]:
    """Return the slots after ``after`` up to ``until``, ascending; at most the first ``limit`` of them."""
    slots: list[datetime] = []
    slot = next_slot(schedule, after, anchor)
    while slot is not None and slot <= until and (limit is None or len(slots) < limit):
        slots.append(slot)
        slot = next_slot(schedule, slot, anchor)
    return slots


def next_slots(schedule: Schedule, after: datetime, anchor: Anchor | None, count: int) -> list[datetime]:
    """Return the next ``count`` slots after ``after``, or fewer if there are no more: a preview for people."""
    slots: list[datetime] = []
    while len(slots) < count and (slot := next_slot(schedule, slots[-1] if slots else after, anchor)) is not None:
        slots.append(slot)
    return slots


def read_schedule(
    schedule_type: str, crontab: str | None, interval: int | None, interval_unit: str | None, timezone: str
) -> Schedule:
    """Return the schedule in the columns of a row, even if somebody edited the row by hand.

    Never raises: `why_unreadable` finds a schedule that cannot be read (D37).
    """
    kind = ScheduleType.CRONTAB if schedule_type == ScheduleType.CRONTAB else ScheduleType.INTERVAL
    unit = IntervalUnit(interval_unit) if interval_unit in set(IntervalUnit) else None
    return Schedule(kind, (crontab or "") if kind is ScheduleType.CRONTAB else None, interval, unit, timezone)


@lru_cache(maxsize=8192)
def why_unreadable(schedule: Schedule) -> str:
    """Return why a stored schedule cannot be used by this version on this machine, as a sentence; "" if it can (D37).

    Causes are a zone that is not in this tz database, and a crontab or an interval that no check would have accepted.
    """
    try:
        _zone(schedule.timezone)
        if schedule.crontab is not None:
            next_slot(schedule, datetime(2026, 1, 1, tzinfo=UTC), None)
        else:
            parse_interval(schedule.interval, schedule.interval_unit)
    except ScheduleError as error:
        return error.text
    return ""


def zone_to_show(name: str) -> ZoneInfo:
    """Return the zone for displaying times: UTC if the name cannot be read (D37)."""
    try:
        return _zone(name)
    except ScheduleError:
        return _zone("UTC")


def refuse_without_time(schedule: Schedule, *, now: datetime) -> None:
    """Raise ScheduleError for a crontab that has no time in the ten years after `now`, in its zone (D34)."""
    if schedule.crontab is not None and next_slot(schedule, now, None) is None:
        raise ScheduleError(
            "crontab",
            schedule.crontab,
            Text(
                "it has no time in the next ten years in the zone %(zone)s (times skipped by a clock change do not "
                "count)",
                zone=schedule.timezone,
            ),
        )


def anchor_for(schedule: Schedule, at: datetime, previous: Anchor | None = None) -> Anchor | None:
    """Return the anchor of an interval series that starts again at ``at``; None for a crontab, which needs none.

    ``previous`` is the present anchor. Its day of the month stays in a monthly or yearly series if ``at`` is on the
    last local day of a month that is too short, so that February does not turn the 31st into the 28th forever (D11).
    """
    if schedule.crontab is not None:
        return None
    at = _floor_to_minute(_in_utc(at))
    local = at.astimezone(_zone(schedule.timezone))
    day = local.day
    if previous is not None and schedule.interval_unit in _MONTHS_IN_STEP and day == _last_day(local.year, local.month):
        day = max(day, previous.day)
    return Anchor(at, day)


def serves_early(
    schedule: Schedule,
    received_at: datetime,
    pending_slot: datetime | None,
    anchor: Anchor | None,
    tolerance: timedelta,
) -> datetime | None:
    """Return the slot that a message serves although it was received slightly too early, or None (D12).

    The clocks of two machines may differ by a second; a job that starts at 10:59:59 means 11:00. The slot is the next
    one of a crontab, or the pending one of an interval (None: nothing is expected yet). The message serves it if it is
    early by at most ``tolerance``, and by at most half the gap to the slot before, so that a message always serves the
    nearer slot.
    """
    slot = pending_slot if schedule.crontab is None else next_slot(schedule, received_at, anchor)
    return slot if slot is not None and is_nearly(schedule, slot, received_at, anchor, tolerance) else None


def is_nearly(
    schedule: Schedule, slot: datetime, received_at: datetime, anchor: Anchor | None, tolerance: timedelta
) -> bool:
    """Return whether a message is so little before its next slot that it serves it: see :func:`serves_early`."""
    early = slot - received_at
    if not timedelta(0) < early <= tolerance:
        return False
    before = previous_slot(schedule, slot, anchor)
    return before is None or early <= (slot - before) / 2


def parse_interval(count: object, unit: object) -> tuple[int, IntervalUnit]:
    """Check an interval: a whole number (also as digits in a text) and a unit. Raises ScheduleError."""
    try:
        checked_unit = IntervalUnit(unit)  # type: ignore[arg-type]  # any object may come from outside
    except ValueError as error:
        raise ScheduleError(
            "interval_unit", unit, Text("it takes one of %(names)s", names=", ".join(IntervalUnit))
        ) from error
    most = INTERVAL_MAX[checked_unit]
    allowed = Text(
        "it takes a whole number from 1 to %(most)s for the unit %(unit)s", most=str(most), unit=checked_unit
    )
    number = whole_number(count)
    if number is None or not 1 <= number <= most:
        raise ScheduleError("interval", count, allowed)
    return number, checked_unit


def whole_number(raw: object) -> int | None:
    """Return a whole number, also from `5.0` or `"60"` (D28); None for anything else."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw
    if isinstance(raw, float):
        return int(raw) if raw.is_integer() else None
    if isinstance(raw, str) and _WHOLE_NUMBER.fullmatch(raw):
        return int(raw.partition(".")[0])
    return None


def parse_timezone(name: object) -> str:
    """Check the name of a zone in the tz database; empty and None mean UTC. Raises ScheduleError."""
    if name is None or name == "":
        return "UTC"
    if not isinstance(name, str) or name not in _zone_names():
        raise ScheduleError("timezone", name, Text("it takes a name of the tz database, such as Europe/Vienna or UTC"))
    return name


@cache
def _zone_names() -> frozenset[str]:
    # Not ZoneInfo(name), which also opens posix/..., right/... (with leap seconds) and, depending on the file system,
    # names in the wrong case or of a directory. "localtime" depends on the settings of the machine.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


@cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ScheduleError("timezone", name, Text("it is not in the tz database of this machine")) from error


def _in_utc(at: datetime) -> datetime:
    if at.tzinfo is UTC:
        return at
    if at.utcoffset() is None:
        raise ValueError(f"an aware datetime is needed, {at!r} has no time zone")
    # Also for the cache: Python never treats two instants of different zones as equal if one is in a repeated hour.
    return at.astimezone(UTC)


def _floor_to_minute(at: datetime) -> datetime:
    # Most arguments are slots, which need no copy.
    return at.replace(second=0, microsecond=0) if at.second or at.microsecond else at


def _ceil_to_minute(at: datetime) -> datetime:
    return _floor_to_minute(at) + _ONE_MINUTE if at.second or at.microsecond else at


def _last_day(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


# Crontabs. A million environments share a few hundred of them, and a tick needs the same minutes for all: one
# computation per crontab, zone and minute, then a look-up. The keys are plain texts, which cache their hash.


@lru_cache(maxsize=32_768)
def _next_crontab_slot(crontab: str, timezone: str, after: datetime) -> datetime | None:
    return next_instant(crontab, _zone(timezone), after)


@lru_cache(maxsize=32_768)
def _previous_crontab_slot(crontab: str, timezone: str, before: datetime) -> datetime | None:
    return previous_instant(crontab, _zone(timezone), before)


class _IntervalSeries:
    """The slots of an interval through its anchor, numbered: 0 is the anchor, 1 the slot after it, -1 before it."""

    def __init__(self, schedule: Schedule, anchor: Anchor | None) -> None:
        if anchor is None:
            raise ValueError("an interval has no slots without an anchor")
        assert schedule.interval is not None, schedule
        assert schedule.interval_unit is not None, schedule
        self.count = schedule.interval
        self.unit = schedule.interval_unit
        self.anchor = anchor
        self.zone = _zone(schedule.timezone)
        self.start = anchor.at.astimezone(self.zone)

    def number_near(self, at: datetime) -> int:
        """Return the number of a slot within a step or two of ``at``, by division, at any distance."""
        if step := _ELAPSED_STEP.get(self.unit):
            return (at - self.anchor.at) // (step * self.count)
        local = at.astimezone(self.zone)
        if days := _DAYS_IN_STEP.get(self.unit):
            return (local.date() - self.start.date()).days // (days * self.count)
        months = (local.year - self.start.year) * 12 + local.month - self.start.month
        return months // (_MONTHS_IN_STEP[self.unit] * self.count)

    def slot(self, number: int) -> datetime:
        if step := _ELAPSED_STEP.get(self.unit):
            # Elapsed time is added in UTC: no double hour in autumn, no lost hour in spring (D11).
            return self.anchor.at + number * self.count * step
        # Calendar steps are made on the wall clock, then converted to an instant: noon stays noon (D11).
        wall = self.start.replace(fold=0)
        if days := _DAYS_IN_STEP.get(self.unit):
            wall += timedelta(days=number * self.count * days)
        else:
            months = wall.year * 12 + wall.month - 1 + number * self.count * _MONTHS_IN_STEP[self.unit]
            year, month = months // 12, months % 12 + 1
            wall = wall.replace(year=year, month=month, day=min(self.anchor.day, _last_day(year, month)))
        return wall.astimezone(UTC)
