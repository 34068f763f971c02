"""What is known of an installation at a moment, and what can be found in it (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from checkins.node_facts import NodeFacts
from clocktasks.clock import MINUTE
from incidents.notifications.previewing import ALL_CAUGHT, Uncaught
from monitors.housetime import HouseTime


class Part(StrEnum):
    """What a finding is about."""

    POSTGRES = "postgres"
    VALKEY = "valkey"
    BROKER = "broker"
    MIGRATIONS = "migrations"
    BEAT = "beat"
    WORKER = "worker"
    DELIVERY = "delivery"
    CLOCK = "clock"
    INGEST = "ingest"
    SPOOL = "spool"
    OUTBOX = "outbox"


class Severity(StrEnum):
    """How bad a finding is.

    BAD: people may be notified too late, falsely or not at all, or check-ins are refused. NOTE: somebody should check.
    NORMAL: it explains where the clock is, and nothing is wrong; only the clock's page and command show it.
    """

    BAD = "bad"
    NOTE = "note"
    NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, as a sentence; what to do about it; since when (None: not known).

    `of_project`: the sentence names something of one project, which people outside it may not read.
    """

    part: Part
    severity: Severity
    what: str
    todo: str
    since: datetime | None = field(default=None, kw_only=True)
    of_project: bool = field(default=False, kw_only=True)

    @property
    def is_bad(self) -> bool:
        """Whether Watchclock cannot do its job because of it."""
        return self.severity is Severity.BAD


@dataclass(frozen=True, slots=True)
class Outage:
    """An engine that cannot be used: since when that is known, and the error."""

    since: datetime
    error: str


class TickFacts(NamedTuple):
    """A row of the ledger; see `clocktasks.models.Tick`."""

    at: datetime
    dispatched_at: datetime
    decided_at: datetime | None
    finished_at: datetime | None
    is_listened: bool = True
    volume: int | None = None
    deviation_percent: float | None = None
    decision: str = "normal"
    missed_count: int = 0
    timeout_count: int = 0
    unknown_count: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that decide how long the clock waits.

    `grace`: how long a minute is over before it is written. `decision_window`: how many ticks a decision about volume
    takes at most. `dropped_after`: how long the clock waits for a silent ingest node.
    """

    grace: timedelta = timedelta(seconds=1)
    decision_window: int = 5
    dropped_after: timedelta = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database holds. Counts of the outbox and of check-ins that wait are bounded.

    `held_at`: the newest minute that waited for ingest nodes. `clocks`: shard, kind and position of every shard clock.
    `nodes`: the ingest nodes that have not left, the one furthest behind first. `unjudged`: names of monitors whose
    schedule cannot be read, and why, bounded (D37). `failing_channels`: names of channels that are left alone, and the
    last error, bounded. `unreported_failures`: what nobody could be notified of over another channel, bounded. `house`:
    the time that housekeeping has come to.
    """

    newest: TickFacts | None = None
    newest_finished_at: datetime | None = None
    oldest_unfinished: TickFacts | None = None
    oldest_undecided: TickFacts | None = None
    undecided_count: int = 0
    clocks: Sequence[tuple[int, str, datetime]] = ()
    held_at: datetime | None = None
    clock_incident: tuple[str, datetime] | None = None
    nodes: Sequence[NodeFacts] = ()
    unsent_count: int = 0
    oldest_unsent_at: datetime | None = None
    unsent_error: str = ""
    unnotified_count: int = 0
    given_up_count: int = 0
    has_routes: bool = False
    failing_channels: Sequence[tuple[str, str]] = ()
    unreported_failures: Sequence[str] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    unjudged: Sequence[tuple[str, str]] = ()
    house: HouseTime | None = None
    rules: Rules = Rules()

    @property
    def decided_until(self) -> datetime | None:
        """The newest tick that may be applied; None if there is none."""
        if self.oldest_undecided is not None:
            return self.oldest_undecided.at - MINUTE
        return None if self.newest is None else self.newest.at

    @property
    def positions(self) -> Mapping[int, datetime]:
        """Up to which tick each shard has applied everything: the slowest of its kinds."""
        positions: dict[int, datetime] = {}
        for shard, _, position in self.clocks:
            positions[shard] = min(position, positions.get(shard, position))
        return positions

    @property
    def shards_behind(self) -> Mapping[str, int]:
        """How many shards have not come to the newest tick, by kind."""
        behind: dict[str, int] = {}
        for _, kind, position in self.clocks:
            behind[kind] = behind.get(kind, 0) + (self.newest is not None and position < self.newest.at)
        return behind

    @property
    def applied_until(self) -> datetime | None:
        """Where the clock is: the tick that the last shard has applied; None before the first tick."""
        return None if self.newest is None else min(self.positions.values(), default=self.newest.at)


@dataclass(frozen=True, slots=True)
class Intake:
    """How the answering web process receives check-ins.

    `is_direct`: into PostgreSQL, else into its spool. `is_refusing`: it had to refuse some a moment ago.
    `is_silent`: its batcher does not answer. `free_bytes`: room on the spool's disk. `damage`: damaged files of spools
    that are on that disk, and entries of them that could not be read (D43).
    """

    is_direct: bool
    spooled_count: int
    spool_bytes: int
    spool_bytes_max: int
    is_refusing: bool
    is_silent: bool
    free_bytes: int | None
    damage: tuple[int, int] = (0, 0)

    @property
    def can_take(self) -> bool:
        """Whether a check-in that arrives now is stored."""
        return not (self.is_refusing or self.is_silent)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at `now`. `rows` is None while PostgreSQL is away; `intake` is None outside a web process.

    `watched_since`: when the asking process started to poll. `last_seen`: when each kind of process ("beat", "worker",
    "delivery") was last seen on any host. `queues`: messages that wait in each. `why_nobody`: why nobody is notified
    where no route says otherwise. `uncaught`: monitors that no route catches then.
    """

    now: datetime
    watched_since: datetime
    rows: Rows | None = None
    postgres: Outage | None = None
    valkey: Outage | None = None
    broker: Outage | None = None
    missing_migrations: Sequence[str] = ()
    last_seen: Mapping[str, datetime] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    intake: Intake | None = None
    why_nobody: str = ""
    uncaught: Uncaught = ALL_CAUGHT
