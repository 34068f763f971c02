"""What an abuse drill sees: when each innocent check-in is stored, how late ticks are, and what it all takes."""

import contextlib
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from checkins.ingest.process import TITLE
from drills.world import World
from lib.wallclock import utcnow

LATE_SECONDS = 1.0
LATE_TICK_SECONDS = 2.0
PATIENT_SECONDS_MAX = 30.0
PATIENT_LATE_MAX = 5
PATIENT_LATE_TICKS_MAX = 2
"""On a machine that does other work at the same time so many check-ins and ticks may be late, and none by more."""
TAKEN = {200, 201, 202}
"""Answers that say that a check-in is kept."""
PSS_MIB_MAX = 300.0
GROWTH_MIB_MAX = 200.0
LOOK_SECONDS = 0.1
"""How often the database is asked what is there; this much later than it is, a check-in may be seen."""
GROWTH_SECONDS = 300.0
"""For how long a drill may let the database grow by so much; for longer ones it is more."""
IDLE_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 60.0
Span = tuple[float, float]
"""From when to when (monotonic)."""
AFTER_SECONDS = {"restarts": 15.0, "full disk": 15.0, "wrong clock": 2.0}
"""How long afterwards lateness is still counted apart: what waited in the socket and the spool is stored."""


@dataclass
class Sent:
    """A check-in of an innocent job; times are monotonic seconds."""

    guid: uuid.UUID
    sent_at: float
    is_held: bool = False
    """Whether it went to the second web, whose watermark stands."""
    status: int | None = None
    """Of its answer."""
    answered_at: float | None = None
    """When it was acknowledged."""
    seen_at: float | None = None

    @property
    def delay(self) -> float:
        """After how long it was seen in the database; infinite if it never was."""
        return math.inf if self.seen_at is None else self.seen_at - self.sent_at

    @property
    def is_late(self) -> bool:
        """Whether it was seen later than it should, or never."""
        return self.delay > LATE_SECONDS + LOOK_SECONDS


@dataclass(frozen=True)
class LateTick:
    """A minute whose tick was finished late: by how many seconds (infinite: never), and what excuses it."""

    at: datetime
    seconds: float
    because: str | None

    def __str__(self) -> str:
        return f"the tick of {self.at:%H:%M} was finished {self.seconds:.2f} s after it could be"


@dataclass
class Record:
    """What happened."""

    sent: list[Sent] = field(default_factory=list)
    restarts: list[Span] = field(default_factory=list)
    """When the web was restarted on purpose."""
    full_disks: list[Span] = field(default_factory=list)
    """When the disk of its spool was full, with the restarts around that."""
    wrong_clocks: list[Span] = field(default_factory=list)
    """When the clock of worker and beat was wrong: it stamps the end of a tick too."""
    stands: list[Span] = field(default_factory=list)
    """When the watermark of the second web stood: the clock has to wait for it (P2)."""
    ports: dict[int, int] = field(default_factory=dict)
    """Where innocent jobs, by number, send their check-ins if not to the usual web."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Faults that are not possible here, and why."""
    findings: list[str] = field(default_factory=list)
    phases: list[tuple[float, str]] = field(default_factory=list)
    """When each kind of abuse began (monotonic), in order."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers to the abuse, by status."""
    pss_mib: dict[str, float] = field(default_factory=dict)
    judged_from: float = 0.0
    judged_until: float = 0.0
    """The abuse took from then to then (monotonic): what was sent before and after is not judged for delays."""
    damaged_pages: int = 0
    dropped_nodes: int = 0

    def excuse(self, since: float, until: float, *, of_tick: bool = False) -> str | None:
        """Return what excuses lateness between two moments: a restart, a full disk, or of a tick a wrong clock."""
        spans = {"restarts": self.restarts, "full disk": self.full_disks}
        if of_tick:
            spans["wrong clock"] = self.wrong_clocks
        for name, times in spans.items():
            if any(since < end + AFTER_SECONDS[name] and until > begin for begin, end in times):
                return name
        return None

    def kind_at(self, moment: float) -> str:
        """Return what was sent at a moment."""
        return next((name for began, name in reversed(self.phases) if began <= moment), "before")

    def figures(self) -> str:
        """Return a line for people who wait."""
        return f"{len(self.sent)} innocent check-ins, {sum(self.statuses.values())} abusive requests"


@contextlib.contextmanager
def watching(world: World, record: Record) -> Iterator[None]:
    """See when check-ins are in the database, and how much memory each process takes."""
    over = threading.Event()

    def look_at_rows() -> None:
        with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
            while not over.wait(LOOK_SECONDS):
                waiting = {sent.guid: sent for sent in record.sent if sent.seen_at is None}
                rows = connection.execute(
                    "SELECT guid FROM checkins_checkin WHERE guid = ANY(%s) AND date_added > now() - interval '1 hour'",
                    [list(waiting)],
                )
                for (guid,) in rows.fetchall():
                    waiting[guid].seen_at = time.monotonic()

    def look_at_memory() -> None:
        while not over.wait(1.0):
            for name, mib in _memory(world).items():
                record.pss_mib[name] = max(mib, record.pss_mib.get(name, 0.0))

    threads = [threading.Thread(target=target) for target in (look_at_rows, look_at_memory)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _memory(world: World) -> dict[str, float]:
    """Return the largest PSS of each kind of process, in MiB. Empty where the system does not tell."""
    largest: dict[str, float] = {}
    for child in (world.web, *world.programs):
        with contextlib.suppress(psutil.Error):
            if child.process is None:
                continue
            main = psutil.Process(child.process.pid)
            for process in (main, *main.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError, AttributeError):
                    name = "batcher" if " ".join(process.cmdline()).strip() == TITLE else child.name
                    mib = process.memory_full_info().pss / (1 << 20)
                    largest[name] = max(mib, largest.get(name, 0.0))
    return largest


def wait_for_a_tick(world: World) -> None:
    """Wait until the clock has finished its first tick."""
    deadline = time.monotonic() + 2 * IDLE_SECONDS_MAX
    while not ask(world, "SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NOT NULL"):
        if time.monotonic() > deadline:
            raise RuntimeError("the clock never ticked")
        world.live(0.2)


def wait_until_stored(world: World, record: Record) -> None:
    """Wait until all that was acknowledged is stored, or for a minute."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    while any(sent.seen_at is None for sent in record.sent if sent.answered_at is not None):
        if time.monotonic() > deadline:
            return
        world.live(0.2)


def find_unseen(world: World, record: Record) -> list[str]:
    """Return for each check-in that was acknowledged and is not stored where it is."""
    told = []
    for sent in record.sent:
        if sent.answered_at is None or sent.seen_at is not None:
            continue
        places = [f"in {place}" for place in _places_in_spools(world, sent.guid)]
        statement = "SELECT error FROM checkins_waitingcheckin WHERE message::text ~ %s OR message::text ~ %s"
        error = ask(world, statement, str(sent.guid), sent.guid.hex)
        if error is not None:
            places.append(f"among the waiting check-ins: {error[-300:] or 'parked'}")
        after = sent.answered_at - sent.sent_at
        told.append(
            f"{sent.guid}, sent while {record.kind_at(sent.sent_at)} came and answered after {after:.2f} s, is "
            f"{' and '.join(places) or 'nowhere'}"
        )
    return told


def _places_in_spools(world: World, guid: uuid.UUID) -> Iterator[str]:
    for path in sorted(Path(world.variables["SPOOL_DIRECTORY"]).iterdir()):
        found = any(name in path.read_bytes() for name in (str(guid).encode(), guid.hex.encode()))
        if found:
            yield f"the file {path.name}"


def ask(world: World, statement: str, *parameters: Any) -> Any:
    """Return the first column of the first row."""
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def database_mib(world: World) -> float:
    """Return the size of the database in MiB."""
    return float(ask(world, "SELECT pg_database_size(current_database())")) / (1 << 20)


def count_false_failures(world: World) -> int:
    """Return how many misses, timeouts and errors the innocent jobs have, which have none."""
    count: int = ask(
        world,
        "SELECT count(*) FROM checkins_checkin c"
        " JOIN monitors_monitorenvironment me ON me.id = c.monitor_environment_id"
        " JOIN monitors_monitor m ON m.id = me.monitor_id"
        " WHERE m.slug LIKE 'job-%%' AND c.status IN ('missed', 'timeout', 'error')",
    )
    return count


def find_late_ticks(world: World, record: Record, since: datetime, until: datetime) -> list[LateTick]:
    """Return the ticks that were finished late. One that had to wait for a node was due when that had stored."""
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT at, finished_at FROM clocktasks_tick WHERE at BETWEEN %s AND %s ORDER BY at", [since, until]
        ).fetchall()
    to_monotonic = time.monotonic() - utcnow().timestamp()
    late = []
    for at, finished_at in rows:
        due = at.timestamp() + to_monotonic
        could = max([due, *(end for begin, end in record.stands if begin <= due < end)])
        finished = math.inf if finished_at is None else finished_at.timestamp() + to_monotonic
        if finished - could > LATE_TICK_SECONDS:
            late.append(LateTick(at, finished - could, record.excuse(due, due + LATE_TICK_SECONDS, of_tick=True)))
    return late


def conclude(
    record: Record,
    *,
    duration: float,
    is_patient: bool,
    grown: float,
    hidden: int,
    failures: int,
    unseen: Sequence[str],
    late_ticks: Sequence[LateTick],
) -> tuple[dict[str, Any], Sequence[str]]:
    """Return the figures, and a sentence about each thing that is not as it must be.

    `duration` in seconds, `grown` in MiB; `hidden` and `failures` are counts; `unseen` as `find_unseen` and
    `late_ticks` as `find_late_ticks` has it.
    """
    during = [
        (sent, record.excuse(sent.sent_at, sent.seen_at or sent.sent_at))
        for sent in record.sent
        if record.judged_from <= sent.sent_at < record.judged_until
    ]
    judged = [sent for sent, because in during if because is None]
    in_time = [sent for sent in judged if not sent.is_held]
    late = [sent for sent in in_time if sent.is_late]
    late_by_kind = Counter(record.kind_at(sent.sent_at) for sent in late)
    judged_ticks = [tick for tick in late_ticks if tick.because is None]
    refused = sum(sent.answered_at is None for sent in judged)
    findings = [*record.findings, *_find_delays(late, judged_ticks, late_by_kind, is_patient=is_patient)]
    for count, what in (
        (len(unseen), "check-ins were acknowledged and are not stored"),
        (refused, "innocent check-ins were refused or not answered"),
        (failures, "misses or timeouts of innocent jobs"),
        (record.dropped_nodes, "nodes were dropped though they said that they are there"),
        (hidden, "failures of a flooded job opened no incident"),
    ):
        if count:
            findings.append(f"{count} {what}")
    findings += unseen
    if grown > GROWTH_MIB_MAX * max(1.0, duration / GROWTH_SECONDS):
        findings.append(f"the database grew by {grown:.0f} MiB")
    findings += [f"{name} took {mib:.0f} MiB" for name, mib in record.pss_mib.items() if mib > PSS_MIB_MAX]
    figures = {
        "sent": len(record.sent),
        "acknowledged": sum(sent.answered_at is not None for sent in record.sent),
        "stored": sum(sent.seen_at is not None for sent in record.sent),
        "lost": len(unseen),
        "refused": refused,
        "refused_apart": Counter(because for sent, because in during if because and sent.answered_at is None),
        "late": len(late),
        "late_apart": Counter(because for sent, because in during if because and sent.is_late),
        "late_by_kind": late_by_kind,
        "slowest_s": round(max((sent.delay for sent in in_time if sent.seen_at is not None), default=0.0), 2),
        "late_ticks": len(judged_ticks),
        "latest_tick_s": round(max((tick.seconds for tick in judged_ticks), default=0.0), 2),
        "late_ticks_apart": Counter(tick.because for tick in late_ticks if tick.because is not None),
        "held": sum(sent.is_held for sent in judged),
        "skipped": record.skipped,
        "false_failures": failures,
        "dropped_nodes": record.dropped_nodes,
        "damaged_pages": record.damaged_pages,
        "hidden_failures": hidden,
        "grown_mib": round(grown, 1),
        "pss_mib": {name: round(mib) for name, mib in sorted(record.pss_mib.items())},
        "abuse_answers": dict(sorted(record.statuses.items())),
    }
    return figures, findings


def _find_delays(
    late: Sequence[Sent], ticks: Sequence[LateTick], late_by_kind: Mapping[str, int], *, is_patient: bool
) -> list[str]:
    """Return a sentence for what was late; from a patient drill only if that is more than other work explains."""
    found = [
        *map(str, ticks),
        *(
            f"{count} innocent check-ins were stored late or never while {kind} came"
            for kind, count in late_by_kind.items()
        ),
    ]
    slowest = max([*(sent.delay for sent in late), *(tick.seconds for tick in ticks)], default=0.0)
    is_excused = (
        is_patient
        and len(late) <= PATIENT_LATE_MAX
        and len(ticks) <= PATIENT_LATE_TICKS_MAX
        and slowest <= PATIENT_SECONDS_MAX
    )
    return [] if is_excused else found
