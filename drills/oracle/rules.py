"""What a monitor expects, and when; how that changes with edits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


def tick_at_or_after(at: datetime) -> datetime:
    """The first whole minute from an instant on."""
    cut = at.replace(second=0, microsecond=0)
    return cut if cut == at else cut + MINUTE


class Slots(Protocol):
    """The times at which a job is expected. Those of an interval are counted from an `anchor`; of others it is None."""

    def after(self, at: datetime, anchor: Any) -> datetime | None:
        """The first slot after an instant; None if there is none any more."""

    def anchor(self, at: datetime, before: Any) -> Any:
        """What slots are counted from when they are counted anew at an instant, after another anchor or None."""

    def early(self, at: datetime, waiting: datetime | None, anchor: Any) -> datetime | None:
        """The slot just after an instant which a run serves that begins then; `waiting` is the slot that comes."""


@dataclass(frozen=True)
class Every:
    """Slots at the minutes of an hour that `minutes` divides; a run serves one that begins `tolerance` before it."""

    minutes: int
    tolerance: timedelta = timedelta(0)

    def after(self, at: datetime, anchor: Any = None) -> datetime:  # noqa: ARG002
        """The first slot after an instant."""
        hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        step = self.minutes * MINUTE
        return hour + ((at - hour) // step + 1) * step

    def anchor(self, at: datetime, before: Any) -> None:
        """None: they are counted from the hour."""

    def early(self, at: datetime, waiting: datetime | None = None, anchor: Any = None) -> datetime | None:  # noqa: ARG002
        """The next slot, if it is that near."""
        slot = self.after(at)
        return slot if slot - at <= self.tolerance else None


class Rules(NamedTuple):
    """What a monitor expects. Margin and runtime are in minutes."""

    slots: Slots
    margin: int
    runtime: int
    failures_to_open: int = 1
    oks_to_recover: int = 1

    @property
    def expected(self) -> tuple[Slots, int, int]:
        """What is expected when; an edit of it has slots counted anew."""
        return self[:3]


def end_of_margin(slot: datetime, margin: int, deaf: frozenset[datetime]) -> tuple[datetime, bool]:
    """The tick that judges a slot, and whether nobody listened through its margin (D2).

    `deaf` are the ticks whose minute nobody listened to. If only a part of the margin was deaf, as many minutes as it
    has must have been listened to.
    """
    tick, listened = slot + margin * MINUTE, margin
    if deaf:
        listened -= sum(slot < one <= tick for one in deaf)
    if listened == 0:
        return tick, True
    while listened < margin:
        tick += MINUTE
        listened += tick not in deaf
    return tick, False


Windows = Sequence[tuple[datetime, datetime]]
"""Times of maintenance, from their first instants to before their last."""


def is_maintained(windows: Windows, at: datetime) -> bool:
    """Whether an instant is in maintenance."""
    return any(begin <= at < end for begin, end in windows)


def end_of_maintenance(windows: Windows, deadline: datetime) -> datetime:
    """When a run with this deadline is judged: its last moment before that must not be in maintenance."""
    moment = deadline - INSTANT
    while is_maintained(windows, moment):
        moment = max(end for begin, end in windows if begin <= moment < end)
    return max(deadline, moment)


class Limits(NamedTuple):
    """What a run that ends ok may not do, and whether it counts if it does: (seconds or times, counts)."""

    slow_seconds: tuple[int, bool] | None = None
    slow_times: tuple[int, bool] | None = None
    overlap_counts: bool | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class RulesEnded:
    """An edit at `at` replaced these rules by others."""

    at: datetime
    before: Rules
    after: Rules


@dataclass
class Monitor:
    """The rules of a monitor, those that it had before, when it was disabled, maintenance windows, and limits."""

    rules: Rules
    former: list[RulesEnded] = field(default_factory=list)
    is_active: bool = True
    off: list[tuple[datetime, datetime | None]] = field(default_factory=list)
    windows: Windows = ()
    limits: Limits = NO_LIMITS
    runs_least: int = 20  # before a multiple of the median is a limit

    def edit(self, at: datetime, rules: Rules | None = None, is_active: bool | None = None) -> tuple[Rules, bool]:
        """Change it; returns the rules that it had, and whether it was active, as `Place.is_edited` wants to know."""
        before = self.rules, self.is_active
        if rules is not None:
            self.former.append(RulesEnded(at, self.rules, rules))
            self.rules = rules
        if is_active is not None:
            self.is_active = is_active
            if is_active:
                self.off[-1] = (self.off[-1][0], at)
            else:
                self.off.append((at, None))
        return before

    def rules_at(self, at: datetime) -> Rules:
        """The rules for what is received at that time: an edit holds from its instant on."""
        return next((ended.before for ended in self.former if ended.at > at), self.rules)

    def rules_until(self, tick: datetime) -> Rules:
        """The rules for what a tick finds: it does not see an edit that came with it (D20)."""
        return self.rules_at(tick - INSTANT)

    def was_off(self, at: datetime) -> bool:
        """Whether what falls due at that time falls due while the monitor is disabled (D23)."""
        return any(since < at and (until is None or at <= until) for since, until in self.off)
