"""What must hold after a drill: what clients were told against what is stored, by an account of its own."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg

from checkins.messages import Source
from drills.load import WITHOUT_ID, Kind, Sent

SOURCES = {Kind.PUSH: Source.UPTIME_KUMA.value, Kind.PING: Source.HEALTHCHECKS.value}
FINDINGS_SHOWN_MAX = 10


class Row(NamedTuple):
    """A stored check-in."""

    id: int
    guid: UUID
    monitor_id: int
    source: str
    status: str
    received_at: datetime
    date_added: datetime
    date_updated: datetime


@dataclass
class Account:
    """The figures, and a sentence for each of the first things that are not as they must be."""

    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    misdated: int = 0
    misplaced: int = 0
    false_misses: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def find(self, figure: str, sentence: str) -> None:
        """Count something wrong."""
        setattr(self, figure, getattr(self, figure) + 1)
        if len(self.findings[figure]) < FINDINGS_SHOWN_MAX:
            self.findings[figure].append(sentence)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled, given another time or order, or held against a job that had reported."""
        return not (self.lost or self.duplicated or self.misdated or self.misplaced or self.false_misses)


def audit(database_url: str, sent: Sequence[Sent], *, margin: timedelta, runtime: timedelta, nodes: int = 1) -> Account:
    """Compare. Monitors are due every minute, with this margin, and their runs may take this long.

    With several nodes the end of a run may be stored before its beginning, which waits in a spool: then the run is
    dated by its end.
    """
    account = Account()
    with psycopg.connect(database_url) as connection:
        rows = [
            Row(*row)
            for row in connection.execute(
                """
                SELECT c.id, guid, e.monitor_id, source, c.status, coalesce(received_at, date_added), date_added,
                       date_updated
                  FROM checkins_checkin AS c JOIN monitors_monitorenvironment AS e ON e.id = monitor_environment_id
                 ORDER BY c.id
                """
            )
        ]
        newest: dict[int, datetime] = dict(
            connection.execute("SELECT monitor_id, max(last_checkin) FROM monitors_monitorenvironment GROUP BY 1")
        )
    heard = [row for row in rows if row.source != "clock"]
    known_guids = {one.guid for one in sent if one.guid is not None}
    _compare_by_id(account, sent, {row.guid: row for row in heard if row.guid in known_guids}, runtime, nodes)
    without_guid = [row for row in heard if row.guid not in known_guids]
    for kind in WITHOUT_ID:
        by_monitor: dict[int, tuple[list[Sent], list[Row]]] = defaultdict(lambda: ([], []))
        for one in sent:
            if one.kind is kind:
                by_monitor[one.monitor.id][0].append(one)
        for row in without_guid:
            if row.source == SOURCES[kind]:
                by_monitor[row.monitor_id][1].append(row)
        for said, found in by_monitor.values():
            _compare_by_time(account, said, found)
    _check_doubles(account, heard)
    _check_order(account, heard, newest)
    _check_misses(account, sent, rows, margin)
    return account


def _compare_by_id(
    account: Account, sent: Iterable[Sent], rows: dict[UUID, Row], runtime: timedelta, nodes: int
) -> None:
    """Each acknowledged id is stored, with what was said under it, and dated between its first word and its answer."""
    runs: dict[UUID, list[Sent]] = defaultdict(list)
    for one in sent:
        if one.guid is not None:
            runs[one.guid].append(one)
    for guid, words in runs.items():
        acknowledged = [word for word in words if word.answered_at is not None]
        account.acknowledged += len(acknowledged)
        if not acknowledged:
            continue
        row = rows.get(guid)
        if row is None:
            account.find("lost", f"{acknowledged[0]} is not stored")
            continue
        last = acknowledged[-1]
        if row.status not in ("missed", "timeout") and row.status != last.status and len(acknowledged) == len(words):
            account.find("lost", f"{last} is stored as {row}")
            continue
        account.stored += len(acknowledged)
        first = words[0]
        times = [(first.sent_at, acknowledged[0].answered_at)]
        times += [(word.sent_at, word.answered_at) for word in acknowledged] if nodes > 1 else []
        if not any(since <= row.received_at <= (until or row.received_at) for since, until in times):
            account.find("misdated", f"{first} is stored as received at {row.received_at}")
        if row.status == "timeout" and _ended_in_time(words, row.received_at + runtime):
            account.find("false_misses", f"{words} is stored as {row}")


def _ended_in_time(words: Sequence[Sent], deadline: datetime) -> bool:
    """Whether the end of a run was acknowledged before its deadline, which is meant to the second (D24).

    A heartbeat may have moved the deadline on; what was acknowledged before the first one was in time all the same.
    """
    return any(
        word.status != "in_progress" and word.answered_at is not None and word.answered_at < deadline for word in words
    )


def _compare_by_time(account: Account, sent: Sequence[Sent], rows: Sequence[Row]) -> None:
    """What has no id is found by its time: each row belongs to one request that was on its way then.

    Rows go to requests as tasks to deadlines: the one that ends first takes the earliest row.
    """
    account.acknowledged += sum(one.answered_at is not None for one in sent)
    waiting = sorted(rows, key=lambda row: row.received_at)
    far = max((row.received_at for row in rows), default=None)
    open_requests = sorted(sent, key=lambda one: (one.answered_at or far or one.sent_at, one.sent_at))
    taken: set[int] = set()
    for one in sorted(open_requests, key=lambda request: request.answered_at is None):
        row = next(
            (
                row
                for row in waiting
                if row.id not in taken
                and one.sent_at <= row.received_at
                and (one.answered_at is None or row.received_at <= one.answered_at)
            ),
            None,
        )
        if row is not None:
            taken.add(row.id)
            account.stored += one.answered_at is not None
        elif one.answered_at is not None:
            account.find("lost", f"{one} is not stored")
    for row in waiting:
        if row.id not in taken:
            account.find("duplicated", f"{row} was sent by nobody, or more often than once")


def _check_doubles(account: Account, rows: Iterable[Row]) -> None:
    for guid, count in Counter(row.guid for row in rows).items():
        if count > 1:
            account.find("duplicated", f"{guid} is stored {count} times")


def _check_order(account: Account, rows: Iterable[Row], newest: dict[int, datetime]) -> None:
    """The newest check-in of an environment is the one that was received last, whatever came over which detour."""
    received: dict[int, datetime] = {}
    for row in rows:
        received[row.monitor_id] = max(row.date_added, received.get(row.monitor_id, row.date_added))
    for monitor_id, at in received.items():
        if newest.get(monitor_id) != at:
            account.find("misplaced", f"monitor {monitor_id} was heard at {at}, and shows {newest.get(monitor_id)}")


def _check_misses(account: Account, sent: Iterable[Sent], rows: Iterable[Row], margin: timedelta) -> None:
    """No slot is missed in whose time a run was acknowledged that began in it (D21), whenever that was stored."""
    kept: dict[int, list[Sent]] = defaultdict(list)
    begun: set[UUID] = set()
    for one in sorted(sent, key=lambda word: word.sent_at):
        begins = one.guid is None or one.guid not in begun
        if one.guid is not None:
            begun.add(one.guid)
        if begins and one.answered_at is not None and one.tries == 1:
            kept[one.monitor.id].append(one)
    for row in rows:
        if row.status != "missed":
            continue
        for one in kept[row.monitor_id]:
            assert one.answered_at is not None, "only what was acknowledged is in the list"
            if row.date_added <= one.sent_at and one.answered_at < row.date_added + margin:
                account.find("false_misses", f"{row} though {one}")
                break


def uncaught(database_url: str, until: datetime) -> str | None:
    """Return what is not stored yet of all that was received before an instant, or None."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            """
            SELECT count(*), min(watermark), coalesce(sum(spooled_count), 0) FROM checkins_ingestnode
             WHERE left_at IS NULL AND (watermark < %s OR spooled_count > 0)
            """,
            [until],
        ).fetchone()
    assert row is not None, "an aggregate has a row"
    return None if row[0] == 0 else f"{row[0]} nodes stand at {row[1]} or later, with {row[2]} in their spools"
