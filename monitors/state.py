"""The values on which decisions about a monitor environment are based (pure).

Shell code loads a row as these values, calls a decision and writes the value that it returns.
All instants are aware UTC datetimes; `*_minutes` are whole minutes.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from monitors.limits import Limits
from monitors.schedule import Anchor, Schedule


class MonitorStatus(StrEnum):
    """`active`: check-ins are accepted. In the other states they are refused, and the clock ignores the monitor."""

    ACTIVE = "active"
    DISABLED = "disabled"
    PENDING_DELETION = "pending_deletion"


class EnvironmentStatus(StrEnum):
    """`active`: new, no result so far. `ok`: healthy. `error`: exactly while an incident is open."""

    ACTIVE = "active"
    OK = "ok"
    ERROR = "error"
    PENDING_DELETION = "pending_deletion"


class Severity(StrEnum):
    """How bad a failure of a monitor is, from mild to bad. People decide it; check-ins cannot."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class MonitorRules:
    """The rules by which a monitor judges its job."""

    schedule: Schedule
    margin_minutes: int
    max_runtime_minutes: int
    failure_threshold: int
    recovery_threshold: int
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class ServedAhead:
    """Slots that a check-in served while older ones still waited for the clock to judge them.

    When the pointer reaches `first_slot`, it continues at `next_slot`, in the series of `anchor`; without a
    `next_slot`, nothing is expected any more (D34).
    `received_at` is when the check-in was received: it also serves an older slot that is postponed beyond that.
    """

    first_slot: datetime
    next_slot: datetime | None
    anchor: Anchor | None
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FormerRules:
    """Rules that a monitor had until an edit at `until`, and the configuration snapshot that holds them (D32)."""

    until: datetime
    config_id: int
    rules: MonitorRules


class WasOff(NamedTuple):
    """A past time in which a monitor was disabled, for messages of that time that are stored later (D23)."""

    since: datetime
    until: datetime

    def covers(self, at: datetime) -> bool:
        """Return whether the monitor was disabled at an instant at which something was received or fell due."""
        return self.since < at <= self.until


def was_off_between(since: datetime | None, until: datetime | None) -> WasOff | None:
    """Return the time in two columns of a monitor, if they are set."""
    return None if since is None or until is None else WasOff(since, until)


@dataclass(frozen=True, slots=True)
class Span:
    """The slot pointer of the time between two edits, while the clock has still to judge a slot of it (D32).

    `until` is the edit that ended it: no later slot belongs to it; the newest span has none. `off_since` is when the
    monitor was first disabled at or after that, if it was enabled again: slots due later are not judged (D23). The
    other fields are as in `EnvironmentState`.
    """

    until: datetime | None
    pending_slot: datetime | None
    next_checkin_latest: datetime | None
    next_checkin: datetime | None = None
    anchor: Anchor | None = None
    served_ahead: tuple[ServedAhead, ...] = ()
    unjudged_until: datetime | None = None
    off_since: datetime | None = None


class EnvironmentState(msgspec.Struct, frozen=True, gc=False):
    """The live state of one monitor environment, as its row holds it.

    `pending_slot` is the slot pointer of decision D1: the oldest slot that is not yet served, missed or unknown. It is
    judged at `next_checkin_latest`, which is that slot plus the margin (and later if part of that time was deaf, D2).
    `next_checkin` is the next expected time for display: the first slot that a check-in from now on would serve. The
    two are the same slot unless the margin is longer than the gap between slots: then several slots wait for their
    deadlines at once.
    `unjudged_until` is set while the schedule cannot be read, and until all slots that fell due meanwhile are unknown:
    no slot up to it is ever a miss (D37). A pointer at or before it was recorded already, and its successor is not
    known.
    All three are empty together: before the first check-in, and while the monitor is disabled.
    `served_ahead` is empty unless a check-in was received after a deadline that the clock has not applied yet (D20): in
    the last two seconds of every minute, and while the clock is stopped.
    `spans` is empty unless slots from before an edit wait for the clock (D32): then it holds a pointer for each
    set of rules, oldest first, and the columns sum them up: the oldest slot, the earliest deadline, the newest
    expected time. `monitors.spans` reads and writes them.

    `last_ok_at` is the newest start of a run whose ok was counted, `last_ok_received_at` when the newest of these was
    received.
    `failure_streak` counts the failures since the last ok, `ok_streak` the oks since the last failure (D5, D6).
    `first_timeout_at`: no running check-in is judged earlier, at its deadline or at the end of the maintenance window
    of that; empty if none runs. It may be too early, since the end of a run does not update it. `has_deferred`: ends of
    runs wait until the clock has counted everything that was due before them (D29).
    `limit_minute` and `limit_count` count check-ins in one minute of reception (D13).

    A struct rather than a dataclass: each check-in creates four of these, and `dataclasses.replace` took a fifth of
    the time of a batch.
    """

    status: EnvironmentStatus = EnvironmentStatus.ACTIVE
    last_checkin: datetime | None = None
    last_ok_at: datetime | None = None
    last_ok_received_at: datetime | None = None
    pending_slot: datetime | None = None
    next_checkin: datetime | None = None
    next_checkin_latest: datetime | None = None
    anchor: Anchor | None = None
    served_ahead: tuple[ServedAhead, ...] = ()
    unjudged_until: datetime | None = None
    spans: tuple[Span, ...] = ()
    failure_streak: int = 0
    failure_streak_started_at: datetime | None = None
    ok_streak: int = 0
    limit_minute: datetime | None = None
    limit_count: int = 0
    first_timeout_at: datetime | None = None
    has_deferred: bool = False
