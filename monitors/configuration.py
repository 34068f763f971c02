"""The configuration of a monitor as one value, with its limits: for clients, forms and stories alike (pure).

A `Configuration` holds only the values that were sent; `MonitorRules` are complete. The names and the order of the
columns that hold rules are defined here.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

from monitors.limits import read_limits
from monitors.schedule import (
    CRONTAB_CHARACTERS_MAX,
    Schedule,
    ScheduleError,
    parse_timezone,
    read_schedule,
    refuse_without_time,
    split_timezone,
    whole_number,
)
from monitors.state import MonitorRules

MARGIN_MINUTES_MAX = 40_320  # 28 days
RUNTIME_MINUTES_MAX = 10_080  # 7 days
THRESHOLD_MAX = 720
OWNER_CHARACTERS_MAX = 200


T = TypeVar("T")


class Number(NamedTuple):
    """A whole number of a configuration: from 1 to `maximum`, and the default of a new monitor."""

    default: int
    maximum: int


NUMBERS = {
    "checkin_margin": Number(default=1, maximum=MARGIN_MINUTES_MAX),
    "max_runtime": Number(default=30, maximum=RUNTIME_MINUTES_MAX),
    "failure_threshold": Number(default=1, maximum=THRESHOLD_MAX),
    "recovery_threshold": Number(default=1, maximum=THRESHOLD_MAX),
}
"""By the column of the monitor."""

SCHEDULE_COLUMNS = ("schedule_type", "crontab", "interval", "interval_unit", "timezone")
CONFIGURATION_COLUMNS = (*SCHEDULE_COLUMNS, *NUMBERS, "limits")
"""The columns that hold the rules of a monitor, in the order of `shared_rules`.

Check-ins set no `limits`: people do.
"""

Value = str | int | None
Difference = dict[str, tuple[Value, Value]]
"""Columns of a monitor with their present and their new values."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration as sent. None stands for a value that was not sent: the monitor's value stays.

    A schedule is sent as a whole, except for its zone: that is `timezone`, or the monitor's.
    """

    schedule: Schedule | None = None
    timezone: str | None = None
    checkin_margin_minutes: int | None = None
    max_runtime_minutes: int | None = None
    failure_threshold: int | None = None
    recovery_threshold: int | None = None
    owner: str | None = None

    def columns(self) -> dict[str, Value]:
        """Return the columns of a monitor that this sets, with their values."""
        named = {} if self.schedule is None else schedule_columns(self.schedule)
        optional: dict[str, Value] = {
            "timezone": self.timezone,
            "checkin_margin": self.checkin_margin_minutes,
            "max_runtime": self.max_runtime_minutes,
            "failure_threshold": self.failure_threshold,
            "recovery_threshold": self.recovery_threshold,
            "owner": self.owner,
        }
        named.pop("timezone", None)
        return named | {column: value for column, value in optional.items() if value is not None}

    def applied_to(self, rules: MonitorRules) -> MonitorRules:
        """Return the rules of a monitor that had `rules` before it received this configuration.

        Source: docs/reference/behaviour.md, section 4.3.
        """
        schedule = self.schedule or rules.schedule
        timezone = self.timezone or rules.schedule.timezone or schedule.timezone
        return MonitorRules(
            schedule=schedule if schedule.timezone == timezone else replace(schedule, timezone=timezone),
            margin_minutes=self.checkin_margin_minutes or rules.margin_minutes,
            max_runtime_minutes=self.max_runtime_minutes or rules.max_runtime_minutes,
            failure_threshold=self.failure_threshold or rules.failure_threshold,
            recovery_threshold=self.recovery_threshold or rules.recovery_threshold,
            limits=rules.limits,
        )

    def differs_from(self, rules: MonitorRules, owner: str) -> Difference:
        """Return the changes to a monitor with these rules and this owner."""
        if self.owner in (None, owner) and self.applied_to(rules) == rules:  # the usual case
            return {}
        before = {**rule_columns(rules), "owner": owner}
        after = {**rule_columns(self.applied_to(rules)), "owner": owner if self.owner is None else self.owner}
        return {column: (before[column], value) for column, value in after.items() if before[column] != value}


def schedule_columns(schedule: Schedule) -> dict[str, Value]:
    """Return the values of a monitor's columns for this schedule."""
    unit = schedule.interval_unit
    return {
        "schedule_type": schedule.schedule_type.value,
        "crontab": schedule.crontab,
        "interval": schedule.interval,
        "interval_unit": None if unit is None else unit.value,
        "timezone": schedule.timezone,
    }


def rule_columns(rules: MonitorRules) -> dict[str, Value]:
    """Return the values of a monitor's columns for these rules."""
    return {
        **schedule_columns(rules.schedule),
        "checkin_margin": rules.margin_minutes,
        "max_runtime": rules.max_runtime_minutes,
        "failure_threshold": rules.failure_threshold,
        "recovery_threshold": rules.recovery_threshold,
        "limits": None if rules.limits is None else rules.limits.text(),
    }


@lru_cache(maxsize=4096)
def shared_rules(
    schedule_type: str,
    crontab: str | None,
    interval: int | None,
    interval_unit: str | None,
    timezone: str,
    checkin_margin: int,
    max_runtime: int,
    failure_threshold: int,
    recovery_threshold: int,
    limits: str | None,
) -> MonitorRules:
    """Return the rules in these columns of a monitor, even if somebody edited the row by hand (D37).

    Cached: a million environments share a few hundred rules, and identical objects make the schedule cache small.
    """
    return MonitorRules(
        schedule=read_schedule(schedule_type, crontab, interval, interval_unit, timezone),
        margin_minutes=checkin_margin,
        max_runtime_minutes=max_runtime,
        failure_threshold=failure_threshold,
        recovery_threshold=recovery_threshold,
        limits=read_limits(limits),
    )


# --- reading --------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A part that cannot be used: its name ("" for all), its value, and the allowed values ("it takes ...")."""

    field: str
    value: object
    allowed: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading: the configuration or the fault; bad parts that were dropped; unknown keys."""

    configuration: Configuration | Fault
    dropped: tuple[Fault, ...] = ()
    ignored: tuple[Fault, ...] = ()


_KEYS = (
    "schedule",
    "schedule_type",
    "timezone",
    "checkin_margin",
    "max_runtime",
    "failure_issue_threshold",
    "recovery_threshold",
    "owner",
)
_SCHEDULE_KEYS = ("type", "value", "unit", "timezone")
_IGNORED_REPORTED_MAX = 5
_OWNER = re.compile(r"(?:user|team):[^\s\ufffd]+")


def parse(fields: Mapping[str, object], *, now: datetime) -> Reading:
    """Read a configuration as clients write it, in JSON.

    Without a usable schedule there is no configuration. Any other bad part is dropped, and the rest is used (D18). A
    crontab must have a time in the ten years after `now` (D34).
    """
    dropped: list[Fault] = []
    ignored = _unknown(fields, _KEYS, "")
    timezone = _good(_parse_timezone(fields, "timezone"), dropped)
    inside = fields.get("schedule")
    value = inside
    if isinstance(inside, dict):
        ignored += _unknown(inside, _SCHEDULE_KEYS, "schedule.")
        value = inside.get("value")
        inner = _good(_parse_timezone(inside, "schedule.timezone"), dropped)
        timezone = _innermost(inner, timezone, ignored)
    schedule = _parse_schedule(fields, timezone, now=now)
    if isinstance(schedule, Fault):
        return Reading(schedule, tuple(dropped))
    if schedule.crontab is not None and split_timezone(value)[1] is not None:
        timezone = _innermost(schedule.timezone, timezone, ignored)
    configuration = Configuration(
        schedule=schedule,
        timezone=timezone,
        checkin_margin_minutes=_good(_parse_minutes(fields, "checkin_margin", zero_means=1), dropped),
        max_runtime_minutes=_good(_parse_minutes(fields, "max_runtime"), dropped),
        failure_threshold=_good(_parse_threshold(fields, "failure_issue_threshold"), dropped),
        recovery_threshold=_good(_parse_threshold(fields, "recovery_threshold"), dropped),
        owner=_good(_parse_owner(fields.get("owner")), dropped),
    )
    return Reading(configuration, tuple(dropped), tuple(ignored))


def _good(part: T | Fault, dropped: list[Fault]) -> T | None:
    if isinstance(part, Fault):
        dropped.append(part)
        return None
    return part


def _unknown(fields: Mapping[str, object], known: Sequence[str], within: str) -> list[Fault]:
    """Return the unknown keys, which are ignored, each with the key that is probably meant (D28)."""
    reported = []
    for key in [key for key in fields if key not in known][:_IGNORED_REPORTED_MAX]:
        meant = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.75)
        allowed = f"it is not known, {meant[0]} is" if meant else "it is not known, these are: " + ", ".join(known)
        reported.append(Fault(f"{within}{key[:100]}", fields[key], allowed))
    return reported


def _innermost(inner: str | None, outer: str | None, ignored: list[Fault]) -> str | None:
    """Return the zone nearest to the times; another one further out is reported as ignored (D28)."""
    if inner is not None and outer is not None and inner != outer:
        ignored.append(Fault("timezone", outer, f"the schedule names {inner}"))
    return inner or outer


def _parse_timezone(fields: Mapping[str, object], field: str) -> str | Fault | None:
    """Return the zone, or None if none was sent: then a monitor's zone stays, and a new monitor gets UTC."""
    raw = fields.get("timezone")
    if raw is None or raw == "":
        return None
    try:
        return parse_timezone(raw)
    except ScheduleError as error:
        return Fault(field, error.value, error.allowed)


def _parse_schedule(fields: Mapping[str, object], timezone: str | None, *, now: datetime) -> Schedule | Fault:
    """Read `schedule` as an object with its own type, or as text or [count, unit] beside a `schedule_type`."""
    raw = fields.get("schedule")
    schedule_type, value, unit = fields.get("schedule_type"), raw, None
    if isinstance(raw, dict):
        schedule_type, value, unit = raw.get("type") or schedule_type, raw.get("value"), raw.get("unit")
    elif schedule_type == "interval" and isinstance(raw, list) and len(raw) == 2:
        value, unit = raw
    try:
        if schedule_type == "crontab":
            if isinstance(value, str) and len(value) <= CRONTAB_CHARACTERS_MAX:
                schedule = _crontab_schedule(value, timezone)
                refuse_without_time(schedule, now=now)
                return schedule
            return Schedule.from_crontab(value, timezone)
        if schedule_type == "interval":
            return Schedule.from_interval(value, unit, timezone)
    except ScheduleError as error:
        return Fault("schedule", error.value, error.allowed)
    return Fault("schedule", raw, "it takes the type crontab or interval, with a value (and a unit)")


@lru_cache(maxsize=8192)
def _crontab_schedule(crontab: str, timezone: str | None) -> Schedule:
    # SDKs send the configuration with every message, and reading a crontab costs more than all the rest.
    return Schedule.from_crontab(crontab, timezone)


def _parse_minutes(fields: Mapping[str, object], key: str, *, zero_means: int | None = None) -> int | Fault | None:
    """Return an optional number of minutes; too high a number becomes the maximum."""
    maximum = NUMBERS[key].maximum
    number = whole_number(fields.get(key))
    if number == 0 and zero_means is not None:
        return zero_means
    return maximum if number is not None and number > maximum else _parse_whole_number(fields, key, maximum)


def _parse_threshold(fields: Mapping[str, object], key: str) -> int | Fault | None:
    return _parse_whole_number(fields, key, THRESHOLD_MAX)


def _parse_whole_number(fields: Mapping[str, object], key: str, maximum: int) -> int | Fault | None:
    raw = fields.get(key)
    number = whole_number(raw)
    if raw is None or (number is not None and 1 <= number <= maximum):
        return number
    return Fault(key, raw, f"it takes a whole number from 1 to {maximum}")


def _parse_owner(raw: object) -> str | Fault | None:
    """Return the owner as sent. Whether that user or team exists is not checked here."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and len(raw) <= OWNER_CHARACTERS_MAX and _OWNER.fullmatch(raw):
        return raw
    return Fault("owner", raw, "it takes user:<id or mail> or team:<id or slug>")
