"""Scenarios: stories in virtual time, as read from a file, and how their outcome differs from what they expect (pure).

A scenario says which monitors there are, what happens when, and what must be true after which event. A file holds one
JSON object a line; docs/reference/scenarios.md describes it. `clocktasks.playback.play` lets the events happen.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from clocktasks.exceptions import ClockError
from clocktasks.volume import VolumeDecision
from monitors.configuration import MARGIN_MINUTES_MAX, NUMBERS, RUNTIME_MINUTES_MAX, THRESHOLD_MAX, Configuration
from monitors.limits import parse_limits
from monitors.maintenance import MINUTES_MAX, NAME_CHARACTERS_MAX
from monitors.schedule import Schedule, ScheduleError

Instant = Annotated[datetime, Meta(tz=True)]
Slug = Annotated[str, Meta(min_length=1, max_length=50)]
# Zero reads as "not given".
MarginMinutes = Annotated[int, Meta(ge=0, le=MARGIN_MINUTES_MAX)]
RuntimeMinutes = Annotated[int, Meta(ge=0, le=RUNTIME_MINUTES_MAX)]
Threshold = Annotated[int, Meta(ge=0, le=THRESHOLD_MAX)]
Tags = list[Annotated[str, Meta(min_length=1, max_length=50)]]
WallClock = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class ScenarioError(ClockError):
    """A file is not a scenario file: the message names the file, the line and the field."""


class MonitorFields(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a monitor can be configured with, all of it optional. `schedule` is a crontab text or [count, unit]."""

    schedule_type: Literal["crontab", "interval"] | UnsetType = UNSET
    schedule: str | list[Any] | UnsetType = UNSET
    timezone: str | UnsetType | None = UNSET
    checkin_margin: MarginMinutes | UnsetType | None = UNSET
    max_runtime: RuntimeMinutes | UnsetType | None = UNSET
    failure_issue_threshold: Threshold | UnsetType | None = UNSET
    recovery_threshold: Threshold | UnsetType | None = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET
    is_muted: bool | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    limits: str | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the monitor columns that are given here, checked. Raises ValueError."""
        status = {} if self.status is UNSET else {"status": self.status}
        # Read and written again: as it is stored, or refused.
        limits = {} if self.limits is UNSET else {"limits": parse_limits(self.limits).text()}
        return {**self._configuration().columns(), **status, **limits}

    def _configuration(self) -> Configuration:
        shape = "crontab" if isinstance(self.schedule, str) else "interval"
        if self.schedule is UNSET and self.schedule_type is not UNSET:
            raise ValueError("schedule_type needs a schedule beside it")
        if self.schedule is not UNSET and self.schedule_type not in (UNSET, shape):
            raise ValueError(f"schedule_type {self.schedule_type!r} does not fit schedule {self.schedule!r}")
        timezone = None if self.timezone is UNSET else self.timezone
        # The zone is checked together with any schedule.
        schedule = _schedule("* * * * *" if self.schedule is UNSET else self.schedule, timezone)
        return Configuration(
            schedule=None if self.schedule is UNSET else schedule,
            timezone=None if self.timezone is UNSET else schedule.timezone,
            checkin_margin_minutes=_given(self.checkin_margin, "checkin_margin"),
            max_runtime_minutes=_given(self.max_runtime, "max_runtime"),
            failure_threshold=_given(self.failure_issue_threshold, "failure_threshold"),
            recovery_threshold=_given(self.recovery_threshold, "recovery_threshold"),
        )


def _given(value: int | UnsetType | None, column: str) -> int | None:
    return None if value is UNSET else value or NUMBERS[column].default


def _schedule(given: str | list[Any], timezone: str | None) -> Schedule:
    try:
        if isinstance(given, str):
            return Schedule.from_crontab(given, timezone)
        if len(given) != 2:
            raise ValueError(f"schedule {given!r} is not a count and a unit")
        return Schedule.from_interval(given[0], given[1], timezone)
    except ScheduleError as error:
        raise ValueError(str(error)) from None


class MonitorSetup(MonitorFields, frozen=True, kw_only=True):
    """A monitor that exists when the story begins, with environments whose job has never reported."""

    slug: Slug
    environments: list[Annotated[str, Meta(min_length=1, max_length=64)]] = []

    def __post_init__(self) -> None:
        if self.schedule is UNSET:
            raise ValueError("schedule is missing")
        self.columns()


class CheckInEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag="checkin"):
    """One message of a job. Everything but `at` goes to the parser as it is: it may be wrong on purpose.

    `check_in_id` is a name for the run: the same name is the same id. None is a fresh id, "zero" the all-zero one.
    """

    at: Instant
    monitor: Any
    status: Any
    environment: Any = UNSET
    check_in_id: str | None = None
    duration: Any = UNSET
    monitor_config: Any = UNSET


class TickEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag="tick"):
    """The clock reaches a minute; the minutes since its last tick come first."""

    at: Instant


class TicksUntilEvent(TickEvent, frozen=True, kw_only=True, tag_field="action", tag="ticks_until"):
    """The same as a tick, for the reader of the story."""


class SetEvent(MonitorFields, frozen=True, kw_only=True, tag_field="action", tag="set"):
    """A person edits a monitor."""

    at: Instant
    monitor: str

    def __post_init__(self) -> None:
        if not self.columns() and self.is_muted is UNSET and self.tags is UNSET:
            raise ValueError("set changes nothing")


class DeafEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag="deaf"):
    """Nobody listens between two instants (D2)."""

    since: Instant = msgspec.field(name="from")
    until: Instant

    @property
    def at(self) -> datetime:
        """When it begins."""
        return self.since


class MaintenanceEvent(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag="maintenance"
):
    """A person plans a maintenance window: from one instant until another, or by a rule.

    With a rule both instants may be left out. `monitor`, `tag` and `environment` say what it is about; else everything.
    """

    at: Instant
    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)] = "maintenance"
    since: Instant | UnsetType = msgspec.field(default=UNSET, name="from")
    until: Instant | UnsetType = UNSET
    crontab: str | UnsetType = UNSET
    timezone: str | None = None
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)] | UnsetType = UNSET
    ends: WallClock | UnsetType = UNSET
    monitor: str | UnsetType = UNSET
    tag: str = ""
    environment: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.monitor is not UNSET and self.tag:
            raise ValueError("a window is about a monitor or about a tag, not both")
        is_rule = self.crontab is not UNSET
        if is_rule is (self.minutes is UNSET and self.ends is UNSET) or UNSET not in (self.minutes, self.ends):
            raise ValueError("a crontab needs minutes or ends beside it, and only one of them")
        if not is_rule and UNSET in (self.since, self.until):
            raise ValueError("without a crontab a window needs from and until")
        self.columns()

    def columns(self) -> dict[str, Any]:
        """Return the columns of the window that are given here, checked, but for what it is about."""
        schedule = None if self.crontab is UNSET else _schedule(self.crontab, self.timezone)
        return {
            "name": self.name,
            "starts_at": _minute(self.at if self.since is UNSET else self.since),
            "ends_at": None if self.until is UNSET else _minute(self.until),
            "crontab": "" if schedule is None else schedule.crontab,
            "timezone": "UTC" if schedule is None else schedule.timezone,
            "minutes": None if self.minutes is UNSET else self.minutes,
            "until": None if self.ends is UNSET else time.fromisoformat(self.ends),
            "tag": self.tag,
        }


def _minute(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(second=0, microsecond=0)


class EndMaintenanceEvent(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="action", tag="end_maintenance"
):
    """A person ends the maintenance windows with this name."""

    at: Instant
    name: str = "maintenance"


Event = CheckInEvent | TickEvent | TicksUntilEvent | SetEvent | DeafEvent | MaintenanceEvent | EndMaintenanceEvent


class VolumeSpan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the clock decides about the volume of check-ins between two instants (D4)."""

    since: Instant = msgspec.field(name="from")
    until: Instant
    decision: Literal["incident", "abnormal", "recovering"]


class CheckInRow(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A stored check-in as a story sees it; what is left out is not compared."""

    monitor: str | UnsetType = UNSET
    environment: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    expected_time: Instant | UnsetType | None = UNSET
    date_added: Instant | UnsetType = UNSET
    duration_ms: int | UnsetType | None = UNSET
    unknown_because: str | UnsetType | None = UNSET
    limit_broken: str | UnsetType | None = UNSET

    def agrees_with(self, other: "CheckInRow") -> bool:
        """Whether everything that is given here is the same there."""
        return all(
            value is UNSET or value == getattr(other, name) for name, value in msgspec.structs.asdict(self).items()
        )


class Expectation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is true after an event. Maps go from "slug/environment" to a value; what is left out is not compared."""

    after_event: int
    checkins: list[CheckInRow] | UnsetType | None = UNSET
    environment_status: dict[str, str | None] | UnsetType | None = UNSET
    next_checkin: dict[str, Instant | None] | UnsetType | None = UNSET
    next_checkin_latest: dict[str, Instant | None] | UnsetType | None = UNSET
    open_incidents: dict[str, int | None] | UnsetType | None = UNSET
    resolved_incidents: dict[str, int | None] | UnsetType | None = UNSET
    occurrences: dict[str, int | None] | UnsetType | None = UNSET


COUNTS = ("open_incidents", "resolved_incidents", "occurrences")
MAPS = ("environment_status", "next_checkin", "next_checkin_latest", *COUNTS)


class Scenario(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One story. `source` and `requires` are for people and other tools."""

    name: str
    events: list[Event]
    expect: list[Expectation]
    monitors: list[MonitorSetup] = []
    source: str | None = None
    requires: list[str] = []
    volume: list[VolumeSpan] = []

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("events is empty")
        for number, expectation in enumerate(self.expect):
            if not 0 <= expectation.after_event < len(self.events):
                raise ValueError(
                    f"expect[{number}].after_event {expectation.after_event} is not the index of an event, "
                    f"which are 0 to {len(self.events) - 1}"
                )
        slugs = [monitor.slug for monitor in self.monitors]
        for number, slug in enumerate(slugs):
            if slug in slugs[:number]:
                raise ValueError(f"monitors[{number}].slug {slug!r} is there twice")

    def decision_at(self, tick: datetime) -> VolumeDecision:
        """Return what the clock decides about the volume of check-ins at a tick, as the story says (D4)."""
        decisions = [span.decision for span in self.volume if span.since <= tick < span.until]
        return VolumeDecision(decisions[-1]) if decisions else VolumeDecision.NORMAL


TOGETHER_MAX = 500
"""Events that happen together at most."""
TURNS_IN_TIME_MAX = 100
"""A story with more turns has a late clock. Shorter ones have a clock in time, as most people's is."""


def turns(scenario: Scenario) -> list[list[int]]:
    """Return the numbers of the events in order; those in one list happen together: their order is not visible.

    Check-ins between which nothing else happens and nothing is expected are received in one batch. Of ticks in a row,
    the last one applies what is due at all of them. In a long story, ticks also wait for the check-ins behind them: how
    late the clock is makes no difference (D29). It may make one behind minutes without a listener or with far too few
    check-ins, so a story with such minutes has a clock in time.
    """
    in_time = _turns(scenario, is_late=False)
    if (
        len(in_time) <= TURNS_IN_TIME_MAX
        or scenario.volume
        or any(isinstance(one, DeafEvent) for one in scenario.events)
    ):
        return in_time
    return _turns(scenario, is_late=True)


def _turns(scenario: Scenario, *, is_late: bool) -> list[list[int]]:
    looked_at = {expectation.after_event for expectation in scenario.expect}
    result: list[list[int]] = []
    runs: set[str | None] = set()
    for number, event in enumerate(scenario.events):
        if (
            not result
            or number - 1 in looked_at
            or len(result[-1]) >= TOGETHER_MAX
            or not _may_join(event, scenario.events[number - 1], runs, is_late=is_late)
        ):
            result.append([])
            runs = set()
        result[-1].append(number)
        if isinstance(event, CheckInEvent) and event.check_in_id is not None:
            runs.add(event.check_in_id)
    return result


def _may_join(event: Event, last: Event, runs: Collection[str | None], *, is_late: bool) -> bool:
    """Return whether an event may happen together with those before it: the last one, and words of these runs.

    A check-in with a configuration may not: what waits for its monitor is decided before or after it. Nor may a
    beginning that comes after other words of its run, which a batch would put first (D17).
    """
    if event.at < last.at or not (_is_usual(event) and _is_usual(last)):
        return False
    if isinstance(event, TickEvent) is not isinstance(last, TickEvent) and not is_late:
        return False
    return not (
        isinstance(event, CheckInEvent)
        and event.status == "in_progress"
        and event.check_in_id != "zero"
        and event.check_in_id in runs
    )


def _is_usual(event: Event) -> bool:
    return isinstance(event, TickEvent) or (isinstance(event, CheckInEvent) and event.monitor_config is UNSET)


_DECODER = msgspec.json.Decoder(Scenario)
_PATH = re.compile(r"(?P<message>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)


def parse_scenarios(lines: Iterable[bytes], *, file: str) -> list[Scenario]:
    """Read one scenario from each line that is not blank; there is at least one. Raises ScenarioError."""
    scenarios = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            scenarios.append(_DECODER.decode(line))
        except msgspec.DecodeError as error:
            raise ScenarioError(f"{file}, line {number}{_where(str(error))}") from None
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{file}, line {number}: not text in UTF-8 ({error.reason})") from None
    if not scenarios:
        raise ScenarioError(f"{file} holds no scenario: one JSON object a line is expected")
    return scenarios


def _where(message: str) -> str:
    found = _PATH.fullmatch(message)
    return f": {message}" if found is None else f", {found['field']}: {found['message']}"


# --- comparing ------------------------------------------------------------------------------------------------------
