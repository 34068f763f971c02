"""What an abuse drill sees: when each innocent check-in is stored, how late ticks are, and what it all takes."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from checkins.ingest.process import TITLE
from drills.world import World
from lib.wallclock import utcnow

LATE_SECONDS = 1.0
LATE_TICK = timedelta(seconds=2)
PSS_MIB_MAX = 300.0
GROWTH_MIB_MAX = 200.0
LOOK_SECONDS = 0.1
"""How often the database is asked what is there; this much later than it is, a check-in may be seen."""
GROWTH_SECONDS = 300.0
"""For how long a drill may let the database grow by so much; for longer ones it is more."""
SETTLED_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 60.0
AFTER_RESTART_SECONDS = 15.0
"""How long after a restart lateness is still counted apart: what waited in the socket and the spool is stored."""


@dataclass
class Sent:
    """A check-in of an innocent job; times are monotonic seconds."""

    guid: uuid.UUID
    sent_at: float
    answered_at: float | None = None
    seen_at: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether it was seen later than it should, or never."""
        return self.seen_at is None or self.seen_at - self.sent_at > LATE_SECONDS + LOOK_SECONDS


@dataclass
class Record:
    """What happened."""

    sent: list[Sent] = field(default_factory=list)
    apart: list[tuple[float, float]] = field(default_factory=list)
    """When the web was restarted on purpose (monotonic)."""
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

    def is_apart(self, since: float, until: float) -> bool:
        """Whether anything between two moments fell into a restart."""
        return any(since < end + AFTER_RESTART_SECONDS and until > begin for begin, end in self.apart)

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
    deadline = time.monotonic() + 2 * SETTLED_SECONDS_MAX
    while not ask(world, "SELECT count(*) FROM clocktasks_tick WHERE finished_at IS NOT NULL"):
        if time.monotonic() > deadline:
            raise RuntimeError("the clock never ticked")
        world.live(0.2)


def settle(world: World, record: Record) -> None:
    """Wait until all that was acknowledged is stored, or for a minute."""
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
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


def find_late_ticks(world: World, record: Record, since: datetime, until: datetime) -> tuple[list[str], int]:
    """Return a sentence for each tick that was late, and how many were late around a restart."""
    with psycopg.connect(world.postgres.engine.url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT at, finished_at FROM clocktasks_tick WHERE at BETWEEN %s AND %s ORDER BY at", [since, until]
        ).fetchall()
    to_monotonic = time.monotonic() - utcnow().timestamp()
    late, apart = [], 0
    for at, finished_at in rows:
        if finished_at is not None and finished_at - at <= LATE_TICK:
            continue
        moment = at.timestamp() + to_monotonic
        if record.is_apart(moment - 60, moment + 60):
            apart += 1
        else:
            after = "never" if finished_at is None else f"{(finished_at - at).total_seconds():.2f} s later"
            late.append(f"the tick of {at:%H:%M} was finished {after}")
    return late, apart


def conclude(
    record: Record,
    *,
    duration: float,
    is_patient: bool,
    grown: float,
    hidden: int,
    failures: int,
    unseen: Sequence[str],
    late_ticks: tuple[list[str], int],
) -> tuple[dict[str, Any], Sequence[str]]:
    """Return the figures, and a sentence about each thing that is not as it must be.

    `duration` in seconds, `grown` in MiB; `hidden` and `failures` are counts; `unseen` as `find_unseen` and
    `late_ticks` as `find_late_ticks` has it.
    """
    during = [sent for sent in record.sent if record.judged_from <= sent.sent_at < record.judged_until]
    judged = [sent for sent in during if not record.is_apart(sent.sent_at, sent.seen_at or sent.sent_at)]
    delays = [sent.seen_at - sent.sent_at for sent in judged if sent.seen_at is not None]
    late = [sent for sent in judged if sent.is_late]
    late_by_kind: dict[str, int] = {}
    for sent in late:
        kind = record.kind_at(sent.sent_at)
        late_by_kind[kind] = late_by_kind.get(kind, 0) + 1
    stored = sum(sent.seen_at is not None for sent in record.sent)
    late_apart = sum(sent.is_late for sent in during) - len(late)
    refused = sum(sent.answered_at is None for sent in judged)
    findings: list[str] = []
    if not is_patient:
        findings += [
            *late_ticks[0],
            *(
                f"{count} innocent check-ins were stored late or never while {kind} came"
                for kind, count in late_by_kind.items()
            ),
        ]
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
        "stored": stored,
        "lost": len(unseen),
        "refused": refused,
        "late": len(late),
        "late_apart": late_apart,
        "late_by_kind": late_by_kind,
        "slowest_s": round(max(delays, default=0.0), 2),
        "late_ticks": len(late_ticks[0]),
        "late_ticks_apart": late_ticks[1],
        "false_failures": failures,
        "dropped_nodes": record.dropped_nodes,
        "damaged_pages": record.damaged_pages,
        "hidden_failures": hidden,
        "grown_mib": round(grown, 1),
        "pss_mib": {name: round(mib) for name, mib in sorted(record.pss_mib.items())},
        "abuse_answers": dict(sorted(record.statuses.items())),
    }
    return figures, findings
