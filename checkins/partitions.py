"""Partitions of check-ins by day: planning them, creating them ahead, and dropping those past their retention.

    checkins_checkin                       range-partitioned by date_added
      +-- checkins_checkin_before_20260105 rows from before an installation had partitions; most have none
      +-- checkins_checkin_p20260105       one UTC day each, created DAYS_AHEAD days before it begins
      +-- ...
      +-- checkins_checkin_default         rows without a day of their own: wrong dates, and days not created

Nothing depends on a day's partition: without it, rows go to the default one and are found there too. So creating one
may fail, and is tried again. A day is dropped as a whole, which takes a moment however many rows it has.

Waiting: to attach a partition PostgreSQL locks the default partition and, for the foreign key, the monitor
environments; to drop one, the whole table. Each lock is held for milliseconds, but while a transaction *waits* for it,
all check-ins queue behind it. Hence `LOCK_TIMEOUT`, below the patience of the batcher (after which check-ins go to the
spool): a transaction without its locks by then lets the queue through and tries again. Locks are taken in the common
order, environments before check-ins, and before anything is changed.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import OperationalError, connection, transaction

from checkins.exceptions import CheckInsError

TABLE = "checkins_checkin"
DEFAULT = f"{TABLE}_default"
ENVIRONMENTS = "monitors_monitorenvironment"

DAYS_AHEAD = 3
"""Beat may be down for a long weekend before days go to the default partition. Every further day costs each query."""
MOVED_ROWS_MAX = 20_000
"""Rows that are moved out of the default partition while check-ins wait: a few tenths of a second."""
LOCK_TIMEOUT = "200ms"
DROPS_MAX = 10
"""Days that beat drops in an hour: a drop is final, and the log shows the first ones in time."""
FUTURE_MAX = 14
"""Days that may exist beyond those due by housekeeping's own time, which trusts a changed clock after a week."""
TRIES_MAX = 20
PAUSE_SECONDS = 1.0
"""Pause between two tries, for the transactions that held the locks and for those that queued."""
ATTEMPTS_MAX = 5_000
"""Attempts of dropped check-ins that are removed in one transaction."""
ADVISORY_LOCK = 0x7761746368  # "watch": one process at a time creates or drops partitions.
LOCK_NOT_AVAILABLE = "55P03"  # https://www.postgresql.org/docs/current/errcodes-appendix.html

_NAME = re.compile(rf"{TABLE}_(p|before_)(\d{{8}})")


# --- which days (pure) ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition with bounds: check-ins that began from `since` (None: ever) to before `until`, days in UTC."""

    name: str
    since: date | None
    until: date

    def holds(self, day: date) -> bool:
        """Return whether check-ins of this day belong here."""
        return (self.since is None or self.since <= day) and day < self.until


@dataclass(frozen=True, slots=True)
class Plan:
    """The partitions to create and to drop, oldest first."""

    create: tuple[Partition, ...]
    drop: tuple[Partition, ...]


def of_day(day: date) -> Partition:
    """Return the partition of a day.

    >>> of_day(date(2026, 1, 5)).name
    'checkins_checkin_p20260105'
    """
    return Partition(f"{TABLE}_p{day:%Y%m%d}", day, day + timedelta(days=1))


def named(name: str) -> Partition | None:
    """Return the partition with this name; None for the default one and for foreign tables."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    day = datetime.strptime(match[2], "%Y%m%d").replace(tzinfo=UTC).date()
    return of_day(day) if match[1] == "p" else Partition(name, None, day)


def guid_index(partition: str) -> str:
    """Return the name of the index that makes check-in ids of a partition unique in each project."""
    return f"{partition}_guid_unique"


def is_guid_index(name: str | None) -> bool:
    """Return whether this is the name of such an index, as in PostgreSQL's error for a duplicate id."""
    return name is not None and name.startswith(TABLE) and name.endswith("_guid_unique")


def plan_partitions(
    existing: Collection[Partition], *, today: date, keep_days: int, drop_as_of: date | None = None
) -> Plan:
    """Return the partitions missing from today on, and those that ended `keep_days` days before `drop_as_of`.

    0 days keep everything. `drop_as_of` is the current day by housekeeping's own time; without it nothing is dropped.
    If `today` is far from it the clock may be wrong: then no past day is created, and no more than `FUTURE_MAX` future
    days. Check-ins without a day's partition go to the default one.
    """
    days = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    missing = [of_day(day) for day in days if not any(partition.holds(day) for partition in existing)]
    if drop_as_of is None:
        return Plan(tuple(missing), ())
    if today < drop_as_of - timedelta(days=1):
        missing = []
    elif today > drop_as_of + timedelta(days=1):
        horizon = drop_as_of + timedelta(days=DAYS_AHEAD)
        ahead = sum(partition.until > horizon for partition in existing)
        missing = missing[: max(FUTURE_MAX - ahead, 0)]
    kept_since = drop_as_of - timedelta(days=keep_days)
    over = [partition for partition in existing if keep_days and partition.until <= kept_since]
    return Plan(tuple(missing), tuple(sorted(over, key=lambda partition: partition.until)))


# --- making and dropping them (shell) -------------------------------------------------------------------------------


@dataclass(slots=True)
class PartitionChange:
    """Created and dropped partitions by name, with the number of rows moved in, or dropped (an estimate).

    `postponed` are those that could not be created or dropped now, with the reason.
    """

    created: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    postponed: dict[str, str] = field(default_factory=dict)


class PostponedError(CheckInsError):
    """Not possible now; the text is the reason. The next run tries again."""


def retention_days() -> int:
    """Return for how many days check-ins are kept; 0: forever."""
    days: int = settings.CHECKIN_RETENTION_DAYS
    return days


def kept_since(now: datetime) -> datetime | None:
    """Return the midnight (UTC) before which check-ins are not kept; None if all are."""
    if not retention_days():
        return None
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=retention_days())


def existing_partitions() -> list[Partition] | None:
    """Return the partitions with bounds, oldest first; None while there is no table (before migrations)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", [TABLE])
        if cursor.fetchone() != ("p",):
            return None
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid"
            " WHERE inhparent = %s::regclass",
            [TABLE],
        )
        found = [partition for (name,) in cursor.fetchall() if (partition := named(name)) is not None]
    return sorted(found, key=lambda partition: partition.until)


def find_changes(*, now: datetime, drop_as_of: datetime | None = None) -> Plan:
    """Return the partitions to create and to drop, see `plan_partitions`. Changes nothing."""
    existing = existing_partitions()
    if existing is None:
        return Plan((), ())
    return plan_partitions(
        existing,
        today=now.astimezone(UTC).date(),
        keep_days=retention_days(),
        drop_as_of=None if drop_as_of is None else drop_as_of.astimezone(UTC).date(),
    )


def ensure_partitions(
    *,
    now: datetime,
    drop_as_of: datetime | None = None,
    drops_max: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
    tries: int = TRIES_MAX,
) -> PartitionChange:
    """Create missing days and drop those past their retention, each in a transaction of its own.

    The retention is counted back from `drop_as_of` (`monitors.pruning.time_to_prune`); nothing is dropped without it,
    and no more than `drops_max` days, the oldest first.

    Any number of processes may do this at once. Changes that cannot be made now are returned as `postponed`; the next
    run makes them.
    """
    plan, outcome = find_changes(now=now, drop_as_of=drop_as_of), PartitionChange()
    for partition in plan.create:
        with _recorded(partition, outcome):
            moved = _tried(partial(_create, partition), sleep, tries)
            if moved is not None:
                outcome.created[partition.name] = moved
    for partition in plan.drop[:drops_max]:
        with _recorded(partition, outcome):
            _remove_attempts(partition)
            rows = _tried(partial(_drop, partition), sleep, tries)
            if rows is not None:
                outcome.dropped[partition.name] = rows
    return outcome


@contextmanager
def _recorded(partition: Partition, outcome: PartitionChange) -> Iterator[None]:
    try:
        yield
    except PostponedError as error:
        outcome.postponed[partition.name] = str(error)


def _tried(step: Callable[[], int | None], sleep: Callable[[float], None], tries: int) -> int | None:
    """Run a step until it gets its locks. Raises PostponedError when it never does."""
    for tries_left in reversed(range(tries)):
        try:
            with transaction.atomic():
                return step()
        except OperationalError as error:
            if getattr(getattr(error.__cause__, "diag", None), "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            if tries_left:
                sleep(PAUSE_SECONDS)
    raise PostponedError("the table was in use all the time")


TABLE_SQL = (
    f"CREATE TABLE {{name}} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE"
    " INCLUDING COMPRESSION) WITH (fillfactor = 90)"
)
"""A day's table, with room for the end of a run in the page of its start."""
INDEX_SQL = "CREATE UNIQUE INDEX {index} ON {name} (project_id, guid)"
KNOW_RUNNING_SQL = (
    "INSERT INTO checkins_runningcheckin (checkin_id, date_added, monitor_environment_id, shard, timeout_at)"
    " SELECT id, date_added, monitor_environment_id, shard, timeout_at FROM {name} WHERE status = 'in_progress'"
)
ATTACH_SQL = f"ALTER TABLE {TABLE} ATTACH PARTITION {{name}} FOR VALUES FROM ({{since}}) TO ({{until}})"


def _create(partition: Partition) -> int | None:
    """Create a partition and move its rows into it; return how many, None if it exists already."""
    name = partition.name
    bounds = [partition.since, partition.until]
    since, until = (f"'{day} 00:00:00+00'" for day in bounds)
    belongs = f"date_added >= {since} AND date_added < {until}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone() != (None,):
            return None
        # As much as possible before others have to wait. The parent's other indexes are created when it is attached.
        cursor.execute(TABLE_SQL.format(name=name))
        cursor.execute(INDEX_SQL.format(name=name, index=guid_index(name)))
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        # A new foreign key waits for writers of the environments, and a new range for those of the default partition,
        # where its rows may be. A clock task that has locked the one and needs the other would deadlock with a
        # transaction that locks them in the opposite order.
        cursor.execute(f"LOCK TABLE {ENVIRONMENTS} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(f"LOCK TABLE ONLY {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        cursor.execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"SELECT count(*) FROM (SELECT FROM {DEFAULT} WHERE {belongs} LIMIT {MOVED_ROWS_MAX + 1}) AS strays"  # noqa: S608
        )
        (strays,) = cursor.fetchone()
        if strays > MOVED_ROWS_MAX:
            # Moving them would delay check-ins for too long, and they may stay where they are.
            raise PostponedError(f"more than {MOVED_ROWS_MAX:,} check-ins of the day are in the default partition")
        if strays:
            cursor.execute(
                f"WITH moved AS (DELETE FROM {DEFAULT} WHERE {belongs} RETURNING *)"  # noqa: S608
                f" INSERT INTO {name} SELECT * FROM moved"
            )
        cursor.execute(ATTACH_SQL.format(name=name, since=since, until=until))
        if strays:
            # The table had no triggers yet when its rows came, and the default partition's saw them go.
            cursor.execute(KNOW_RUNNING_SQL.format(name=name))
    return int(strays)


def _drop(partition: Partition) -> int | None:
    """Drop a partition; return its approximate number of rows, None if it does not exist.

    Raises PostponedError while a run in it is in progress: the clock has not judged that run yet.
    """
    name = partition.name
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [name])
        row = cursor.fetchone()
        if row is None:
            return None
        _refuse_while_running(partition)  # Once without a lock, for which nobody has to wait.
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute(f"LOCK TABLE ONLY {TABLE} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"LOCK TABLE {DEFAULT}, {name} IN ACCESS EXCLUSIVE MODE")
        _refuse_while_running(partition)
        cursor.execute(f"DROP TABLE {name}")
    return max(int(row[0]), 0)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def _refuse_while_running(partition: Partition) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM checkins_runningcheckin WHERE date_added < %s AND date_added >= %s",
            [_midnight(partition.until), _midnight(partition.since or date.min)],
        )
        (running,) = cursor.fetchone()
    if running:
        raise PostponedError(f"{running:,} of its runs are still in progress; the clock judges them first")


def _remove_attempts(partition: Partition) -> None:
    """Remove the earlier ends of a partition's runs, a batch at a time: they would dangle."""
    removed = ATTEMPTS_MAX
    while removed == ATTEMPTS_MAX:
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                DELETE FROM checkins_attempt WHERE id IN (
                       SELECT attempt.id FROM checkins_attempt AS attempt
                         JOIN {partition.name} AS run ON run.id = attempt.checkin_id LIMIT %s)
                """,  # noqa: S608
                [ATTEMPTS_MAX],
            )
            removed = cursor.rowcount
