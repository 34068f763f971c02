"""What a weekly report is written from, as values (pure)."""

from datetime import datetime, timedelta

import msgspec


class Runs(msgspec.Struct, frozen=True):
    """How runs ended. An unknown end counts neither as kept nor as failed."""

    ok: int = 0
    error: int = 0
    missed: int = 0
    timeout: int = 0
    unknown: int = 0

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.error + self.missed + self.timeout


class Slow(msgspec.Struct, frozen=True):
    """An environment with its longest run, and the mean of its runs that ended ok."""

    name: str
    longest: timedelta
    mean: timedelta


class Noisy(msgspec.Struct, frozen=True):
    """An environment with the incidents that it opened, and its failed runs."""

    name: str
    incidents: int
    failed: int


class Open(msgspec.Struct, frozen=True):
    """An open incident, and since when its job fails."""

    name: str
    since: datetime


class Silent(msgspec.Struct, frozen=True):
    """An environment that is expected and sent nothing, and its last check-in."""

    name: str
    last_at: datetime


class Broken(msgspec.Struct, frozen=True):
    """A channel with the messages that were given up, and whether its breaker is open now."""

    name: str
    failed: int
    is_open: bool


class Listed(msgspec.Struct, frozen=True):
    """Names to list, and how many more there are."""

    names: tuple[str, ...] = ()
    more: int = 0


class ReportFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A week of a project. The lists are short: the worst first."""

    project: str
    slug: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    runs: Runs
    before: Runs
    opened: int = 0
    open_now: tuple[Open, ...] = ()
    open_now_count: int = 0
    slowest: tuple[Slow, ...] = ()
    noisiest: tuple[Noisy, ...] = ()
    silent: tuple[Silent, ...] = ()
    silent_count: int = 0
    never: Listed = Listed()
    channels: tuple[Broken, ...] = ()
    url: str = ""
