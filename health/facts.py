"""What is known of an installation at a moment, and what can be found in it (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: what, since when (None: not known), and what to do about it."""

    part: Part
    is_bad: bool
    what: str
    since: datetime | None
    todo: str


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that does not answer: since when that is known, and what was said."""

    since: datetime
    error: str


@dataclass(frozen=True, slots=True)
class TickFacts:
    """A row of the ledger."""

    at: datetime
    dispatched_at: datetime
    decided_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """A minute that waits for ingest nodes."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """An ingest node that has not left."""

    id: str
    host: str
    pid: int
    seen_at: datetime
    watermark: datetime
    spooled_count: int
    dropped_at: datetime | None

    def __str__(self) -> str:
        return f"{self.host} pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database says. Counts of the outbox and of check-ins that wait are bounded.

    `unjudged`: names of monitors whose schedule cannot be read, and why, bounded (D37). `house`: the time that
    housekeeping has come to.
    """

    newest: TickFacts | None = None
    newest_finished_at: datetime | None = None
    oldest_unfinished: TickFacts | None = None
    oldest_undecided: TickFacts | None = None
    undecided_count: int = 0
    shards_behind: Mapping[str, int] = field(default_factory=dict)
    held: Held | None = None
    clock_incident: tuple[str, datetime] | None = None
    nodes: Sequence[NodeFacts] = ()
    unsent_count: int = 0
    oldest_unsent_at: datetime | None = None
    unsent_error: str = ""
    untold_count: int = 0
    given_up_count: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    unjudged: Sequence[tuple[str, str]] = ()
    house: HouseTime | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """How the answering web process takes check-ins.

    `is_direct`: into PostgreSQL, else into its spool. `is_refusing`: it had to refuse some a moment ago.
    `is_silent`: the process that stores them does not say anything any more. `free_bytes`: room on the spool's disk.
    `damage`: damaged files of spools that are kept there, and entries of them that could not be read (D43).
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
        """Whether a check-in that comes now is taken."""
        return not (self.is_refusing or self.is_silent)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at `now`. `rows` is None while PostgreSQL is away; `intake` is None outside a web process.

    `watched_since` is when the asking process began to look. `heard`: when each kind ("beat", "worker", "delivery") was
    last heard of on any host. `queues`: messages that wait in each. `why_nobody`: why nobody is told of incidents.
    """

    now: datetime
    watched_since: datetime
    rows: Rows | None = None
    postgres: Outage | None = None
    valkey: Outage | None = None
    broker: Outage | None = None
    missing_migrations: Sequence[str] = ()
    heard: Mapping[str, datetime] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    intake: Intake | None = None
    why_nobody: str = ""
