"""Reading and writing check-ins a set at a time (shell: no decisions here).

Check-ins are partitioned by the day of their start, and each partition is another index to search. So the queries of
ingest are bounded in time, and PostgreSQL skips the days before. `LIFE_MAX` bounds the runs that may still change: a
run is given up seven days after its start at the latest, and accepts no message after that. Its id is known for a day
more (D30). The clock's own query, for overdue runs, has no such bound: a spool may bring them from any day.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from checkins.messages import LossReport, RunLog, Source
from checkins.models import Attempt, CheckIn, CheckInLog, ClientLossReport
from checkins.processing.transitions import KNOWN_AFTER_END, LIFE_MAX, CheckInState, EarlierEnd
from lib.records import Record, Stored
from lib.sql import array_literal, fetch_rows, insert_rows, types_of, update_rows
from monitors.hot_rows import LockedEnvironment

FAR = datetime.max.replace(tzinfo=UTC)
NEWEST = timedelta(days=1)
"""Most runs that a message may refer to began within this time before it; whole days are searched."""


def _exit_columns(exit_status: int | None) -> tuple[int | None, int | None]:
    """Return the values of the usual column and of the wide one: a status is in one of them (D28)."""
    is_usual = exit_status is None or 0 <= exit_status < 1 << 15
    return (exit_status, None) if is_usual else (None, exit_status)


def _exit_status(usual: int | None, wide: int | None) -> int | None:
    return usual if wide is None else wide


RUNS = Record(
    CheckInState,
    CheckIn,
    stored={
        "environment_id": Stored(("monitor_environment_id",)),
        "exit_status": Stored(("exit_status", "wide_exit_status"), _exit_status, _exit_columns),
        "folded_count": Stored(("folded_count",), lambda stored: stored or 0, lambda count: count or None),
    },
    without=("config_id",),
)
COLUMNS = RUNS.select().replace("received_at", "COALESCE(received_at, date_added)")
_OVERDUE_COLUMNS = (
    RUNS.select("c")
    .replace("c.received_at", "COALESCE(c.received_at, c.date_added)")
    .replace("c.timeout_at", "running.timeout_at")
)
_NEW = RUNS.except_for("id")
_NEW_TYPES = {**_NEW.types, **types_of(CheckIn, "project_id", "shard", "config_id")}
_RECEIVED_AT = list(_NEW.types).index("received_at")
_CHANGED = _NEW.except_for("guid", "environment_id", "date_added", "received_at", "source", "expected_time")
_LOSS_REPORTS = Record(LossReport, ClientLossReport, without=("key_id",))


def _columns(kinds: Sequence[str], rows: Collection[Sequence[Any]]) -> list[str]:
    return [array_literal(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]


def load_by_guid(
    wanted: Collection[tuple[int, uuid.UUID]], *, since: datetime
) -> dict[tuple[int, uuid.UUID], CheckInState]:
    """Return the check-ins with these (project id, guid) pairs that messages received from `since` on may refer to.

    Two statements at most: first the newest days, then, for the pairs not found, the days before. Most ids are new and
    not found: that costs one search in the unique index of each day, which for older days is only read.
    """
    if not wanted:
        return {}
    newest, oldest = _midnight(since - NEWEST), _midnight(since - LIFE_MAX - KNOWN_AFTER_END)
    found = _by_guid(fetch_rows(BY_GUID_SQL, [*_columns(("bigint", "uuid"), wanted), newest, FAR], is_prepared=True))
    missing = [pair for pair in wanted if pair not in found]
    if missing:
        older = [*_columns(("bigint", "uuid"), missing), oldest, newest]
        found |= _by_guid(fetch_rows(BY_GUID_SQL, older, is_prepared=True))
    return found


# OFFSET 0: each pair is searched by itself, in whatever number of rows. A plan from a day's first minutes would read
# the whole day.
BY_GUID_SQL = f"""
    SELECT run.*
      FROM unnest(%s::bigint[], %s::uuid[]) AS wanted (project_id, guid)
     CROSS JOIN LATERAL (
           SELECT project_id, {COLUMNS} FROM checkins_checkin AS c
            WHERE c.project_id = wanted.project_id AND c.guid = wanted.guid AND date_added >= %s AND date_added < %s
           OFFSET 0) AS run
"""  # noqa: S608 - names of columns


def _by_guid(rows: Iterable[Sequence[Any]]) -> dict[tuple[int, uuid.UUID], CheckInState]:
    """Return runs by project and id. If an id exists on two days, the later run is returned."""
    runs = ((row[0], RUNS.load(row[1:])) for row in rows)
    return {(project_id, run.guid): run for project_id, run in sorted(runs, key=lambda pair: pair[1].date_added)}


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def load_running(
    environment_ids: Collection[int], *, since: datetime, each_max: int, due_after: datetime | None = None
) -> list[CheckInState]:
    """Return up to `each_max` running check-ins of each environment whose deadline lies after `since`, newest first.

    With `due_after`, those whose deadline lies after that. Indexes: checkin_running, and the primary key in the day of
    each that is found.
    """
    if not environment_ids:
        return []
    rows = fetch_rows(
        f"""
        SELECT {COLUMNS} FROM checkins_checkin
         WHERE date_added >= %(since)s AND (id, date_added) IN (
               SELECT newest.checkin_id, newest.date_added
                 FROM (SELECT DISTINCT monitor_environment_id FROM checkins_runningcheckin
                        WHERE monitor_environment_id = ANY(%(ids)s::bigint[]) AND date_added >= %(since)s) AS busy
                CROSS JOIN LATERAL (
                      SELECT checkin_id, date_added FROM checkins_runningcheckin
                       WHERE monitor_environment_id = busy.monitor_environment_id
                         AND date_added >= %(since)s AND timeout_at > %(due_after)s
                       ORDER BY date_added DESC, checkin_id DESC LIMIT %(each_max)s) AS newest)
         ORDER BY monitor_environment_id, date_added DESC, id DESC
        """,  # noqa: S608
        {
            "ids": array_literal("bigint", sorted(environment_ids)),
            "since": _midnight(since - LIFE_MAX),
            "due_after": due_after or since,
            "each_max": each_max,
        },
    )
    return [RUNS.load(row) for row in rows]


def load_newest_errors(environment_ids: Collection[int], *, since: datetime) -> list[CheckInState]:
    """Return the newest error of each environment that counted at or after `since`. Index: checkin_failures."""
    if not environment_ids:
        return []
    rows = fetch_rows(
        f"""
        SELECT newest.*
          FROM unnest(%s::bigint[]) AS crowded (id)
         CROSS JOIN LATERAL (
               SELECT {COLUMNS} FROM checkins_checkin
                WHERE monitor_environment_id = crowded.id AND status = 'error' AND failed_at >= %s AND date_added >= %s
                ORDER BY failed_at DESC, id DESC LIMIT 1) AS newest
        """,  # noqa: S608
        [array_literal("bigint", sorted(environment_ids)), since, _midnight(since - LIFE_MAX)],
    )
    return [RUNS.load(row) for row in rows]


def load_repeatable(
    keys: Collection[tuple[int, uuid.UUID]], *, since: datetime
) -> dict[tuple[int, uuid.UUID], datetime]:
    """Return those of the pairs of environment and repeat key that a check-in carries, with when it was last changed.

    Only changes at or after `since` are searched, of runs that began in the days of `NEWEST`. Index: checkin_history,
    of which the newest few rows of each environment are read.
    """
    if not keys:
        return {}
    rows = fetch_rows(
        """
        SELECT wanted.monitor_environment_id, wanted.repeat_key, max(newest.date_updated)
          FROM unnest(%s::bigint[], %s::uuid[]) AS wanted (monitor_environment_id, repeat_key)
         CROSS JOIN LATERAL (
               SELECT repeat_key, date_updated FROM checkins_checkin
                WHERE monitor_environment_id = wanted.monitor_environment_id AND date_added >= %s
                ORDER BY date_added DESC LIMIT 5) AS newest
         WHERE newest.repeat_key = wanted.repeat_key AND newest.date_updated >= %s
         GROUP BY 1, 2
        """,
        [*_columns(("bigint", "uuid"), keys), _midnight(since - NEWEST), since],
    )
    return {(environment_id, key): updated for environment_id, key, updated in rows}


def load_first_timeouts(environment_ids: Collection[int]) -> dict[int, datetime]:
    """Return the earliest deadline of the running check-ins of these environments, by environment, where any runs.

    Index: checkin_running.
    """
    if not environment_ids:
        return {}
    return dict(
        fetch_rows(
            """
            SELECT monitor_environment_id, min(timeout_at) FROM checkins_runningcheckin
             WHERE monitor_environment_id = ANY(%s::bigint[])
             GROUP BY monitor_environment_id
            """,
            [array_literal("bigint", sorted(environment_ids))],
            is_prepared=True,
        )
    )


def overdue_environments(shard: int, tick: datetime) -> list[int]:
    """Return the ids of environments of the shard with a running check-in whose deadline is at or before `tick`.

    In order of id. Index: checkin_deadline. Sorted here: with ORDER BY, PostgreSQL would read all running check-ins in
    that order, again for each shard.
    """
    return sorted({id_ for (id_,) in fetch_rows(OVERDUE_ENVIRONMENTS_SQL, [shard, tick], is_prepared=True)})


OVERDUE_ENVIRONMENTS_SQL = """
    SELECT monitor_environment_id FROM checkins_runningcheckin WHERE shard = %s AND timeout_at <= %s
"""


def deadline_after(shard: int, tick: datetime, count: int) -> datetime | None:
    """Return the earliest deadline behind the first `count` of the shard's runs that are overdue at `tick`, if any.

    Index: checkin_deadline.
    """
    rows = fetch_rows(
        """
        SELECT timeout_at FROM checkins_runningcheckin WHERE shard = %s AND timeout_at <= %s
         ORDER BY timeout_at OFFSET %s LIMIT 1
        """,
        [shard, tick, count],
    )
    return rows[0][0] if rows else None


def load_overdue(environment_ids: Collection[int], tick: datetime) -> list[CheckInState]:
    """Return the running check-ins of these environments whose deadline is at or before `tick`, oldest start first.

    Their `timeout_at` is when the clock has to check them, which may be after the deadline in their row: see
    `look_later`. Indexes: checkin_running, and the primary key in the day of each that is found.
    """
    rows = fetch_rows(
        f"""
        SELECT {_OVERDUE_COLUMNS}
          FROM checkins_runningcheckin AS running
          JOIN checkins_checkin AS c ON c.id = running.checkin_id AND c.date_added = running.date_added
         WHERE running.monitor_environment_id = ANY(%s::bigint[]) AND running.timeout_at <= %s
         ORDER BY c.date_added, c.id
        """,  # noqa: S608
        [array_literal("bigint", list(environment_ids)), tick],
        is_prepared=True,
    )
    return [RUNS.load(row) for row in rows]


def look_later(runs: Iterable[tuple[CheckInState, datetime]]) -> None:
    """Have the clock check running check-ins at later instants, each at the end of a maintenance window.

    Their rows keep the deadline, from which anybody finds that end again. One statement.
    """
    rows = [(run.id, at) for run, at in runs]
    if not rows:
        return
    fetch_rows(
        """
        UPDATE checkins_runningcheckin AS running SET timeout_at = later.at
          FROM unnest(%s::bigint[], %s::timestamptz[]) AS later (id, at) WHERE running.checkin_id = later.id
        RETURNING running.checkin_id
        """,
        _columns(("bigint", "timestamptz"), rows),
    )


def insert_checkins(
    checkins: Iterable[tuple[LockedEnvironment, CheckInState]], *, on_conflict: str = ""
) -> dict[tuple[int, uuid.UUID], int]:
    """Insert new check-ins and return ids by (environment id, guid) of those that were written. One statement."""
    rows = [
        (
            *_new_values(checkin),
            environment.project_id,
            environment.shard,
            environment.config_id if checkin.config_id is None else checkin.config_id,
        )
        for environment, checkin in checkins
    ]
    written = insert_rows(
        RUNS.table, _NEW_TYPES, rows, on_conflict=on_conflict, returning="monitor_environment_id, guid, id"
    )
    return {(environment_id, guid): id_ for environment_id, guid, id_ in written}


def _new_values(checkin: CheckInState) -> list[Any]:
    """Return what a new row holds; of the time of reception only what the start does not say."""
    values = list(_NEW.values(checkin))
    if checkin.received_at == checkin.date_added:
        values[_RECEIVED_AT] = None
    return values


def update_checkins(checkins: Iterable[CheckInState]) -> None:
    """Write the columns of stored check-ins that messages and the clock may change. One statement.

    Index: the primary key, which holds the start, so that each row is searched in its own day.
    """
    update_rows(
        RUNS.table,
        _CHANGED.types,
        [(checkin.id, checkin.date_added, *_CHANGED.values(checkin)) for checkin in checkins],
        partitioned_by=types_of(CheckIn, "date_added"),
    )


def update_failed_at(rows: Iterable[tuple[int, datetime, datetime, bool]]) -> None:
    """Write whether stored check-ins, given with id and start, counted as failures at an instant. One statement.

    One that stands for several errors (D39) keeps the first instant at which it counted.
    """
    rows = sorted(rows)
    if not rows:
        return
    fetch_rows(
        """
        UPDATE checkins_checkin AS old
           SET failed_at = CASE WHEN new.counts THEN least(old.failed_at, new.at)
                                WHEN old.failed_at = new.at THEN NULL ELSE old.failed_at END
          FROM (SELECT id, date_added, min(at) FILTER (WHERE counts) IS NOT NULL AS counts,
                       coalesce(min(at) FILTER (WHERE counts), min(at)) AS at
                  FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::boolean[])
                       AS counted (id, date_added, at, counts) GROUP BY id, date_added) AS new
         WHERE old.id = new.id AND old.date_added = new.date_added AND old.date_added BETWEEN %s AND %s
        RETURNING old.id
        """,
        [
            *_columns(("bigint", "timestamptz", "timestamptz", "boolean"), rows),
            min(row[1] for row in rows),
            max(row[1] for row in rows),
        ],
    )


def insert_attempts(words: Iterable[tuple[int, EarlierEnd]]) -> None:
    """Store earlier ends of runs, given with the check-in's id. One statement."""
    insert_rows(
        Attempt._meta.db_table,
        types_of(Attempt, "checkin_id", "status", "received_at", "duration_ms"),
        [(checkin_id, word.status, word.received_at, word.duration_ms) for checkin_id, word in words],
    )


def insert_logs(logs: Iterable[tuple[int, uuid.UUID | None, str, datetime, Source, RunLog]]) -> None:
    """Store the output of jobs: environment, run (None: a note), status, reception, source, log. One statement."""
    insert_rows(
        CheckInLog._meta.db_table,
        types_of(CheckInLog, "monitor_environment_id", "guid", "status", "received_at", "source", "body", "size_bytes"),
        [(*columns, log.body, log.size_bytes) for *columns, log in logs],
    )


def insert_loss_reports(reports: Iterable[LossReport]) -> None:
    """Store clients' own reports of lost check-ins (D19). One statement."""
    _LOSS_REPORTS.insert(reports)
