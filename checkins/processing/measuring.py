"""Durations and delays of runs that ended ok: keeping the newest of each environment, and judging limits (shell; D44).

Both happen when the end of a run is counted, in the order of time (D29): a multiple of the median is judged by the runs
before this one, whatever the clock was busy with.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from checkins.processing.endings import Ending, Measured
from checkins.processing.transitions import LIFE_MAX, Verdict
from lib.sql import array_literal, fetch_rows, update_rows
from monitors.limits import RUNS_KEPT, broken

REMEMBER_SQL = f"""
    INSERT INTO checkins_recentruns AS kept (monitor_environment_id, durations_ms, delays_ms)
    SELECT environment_id, coalesce(array_agg(duration_ms ORDER BY n) FILTER (WHERE duration_ms IS NOT NULL), '{{}}'),
           coalesce(array_agg(delay_ms ORDER BY n) FILTER (WHERE delay_ms IS NOT NULL), '{{}}')
      FROM unnest(%s::bigint[], %s::integer[], %s::integer[])
           WITH ORDINALITY AS run (environment_id, duration_ms, delay_ms, n)
     GROUP BY environment_id
        ON CONFLICT (monitor_environment_id) DO UPDATE
       SET durations_ms = (kept.durations_ms || excluded.durations_ms)
               [greatest(cardinality(kept.durations_ms) + cardinality(excluded.durations_ms) - {RUNS_KEPT - 1}, 1):],
           delays_ms = (kept.delays_ms || excluded.delays_ms)
               [greatest(cardinality(kept.delays_ms) + cardinality(excluded.delays_ms) - {RUNS_KEPT - 1}, 1):]
    RETURNING monitor_environment_id
"""  # noqa: S608 - a constant


def remember(runs: Sequence[Measured]) -> None:
    """Append what was measured, in order, and forget what is older than the newest 100. One statement, if any."""
    if runs:
        ids, durations, delays = zip(*runs, strict=True)
        fetch_rows(
            REMEMBER_SQL,
            [array_literal("bigint", ids), array_literal("integer", durations), array_literal("integer", delays)],
            is_prepared=True,
        )


def judged(endings: Sequence[Ending]) -> Sequence[Ending]:
    """Return endings, which are in order, with the limits that they broke. No statement if no monitor has limits."""
    limited = [one for one in endings if one.verdict is Verdict.OK and one.rules.limits is not None]
    if not limited:
        return endings
    recent = _load_durations({one.environment.id for one in limited if _limits(one).needs_median})
    overlapping = _load_overlapping(
        [one for one in limited if one.is_begun and _limits(one).overlap_counts is not None]
    )
    found: list[Ending] = []
    failed: set[int] = set()
    for one in endings:
        before = recent.get(one.environment.id, [])
        if one.verdict is Verdict.FAILED:
            failed.add(one.id)
        elif one.rules.limits is not None:
            limit = broken(
                one.rules.limits, duration_ms=one.duration_ms, before_ms=before, overlaps=one.id in overlapping
            )
            if limit is not None:
                if one.is_maintained:  # As an error there, it is recorded and does not count.
                    limit = limit._replace(counts=False)
                one = replace(one, broken=limit, is_failed=one.id in failed)
        if one.verdict is Verdict.OK and one.duration_ms is not None:
            before.append(one.duration_ms)
            del before[:-RUNS_KEPT]
        found.append(one)
    return _with_earlier_failures(found)


def _limits(one: Ending) -> Any:
    assert one.rules.limits is not None, "it was selected by them"
    return one.rules.limits


def _load_durations(environment_ids: Collection[int]) -> dict[int, list[int]]:
    """Return the newest durations of environments, oldest first; an empty list where none are known."""
    if not environment_ids:
        return {}
    rows = fetch_rows(
        "SELECT monitor_environment_id, durations_ms FROM checkins_recentruns"
        " WHERE monitor_environment_id = ANY(%s::bigint[])",
        [array_literal("bigint", sorted(environment_ids))],
    )
    return {id_: [] for id_ in environment_ids} | {id_: durations[-RUNS_KEPT:] for id_, durations in rows}


NEIGHBOURS_MAX = 20
"""Runs before a run that are asked whether they went on when it began. Longer ones are in progress most often."""
FIRST_END = """CROSS JOIN LATERAL (
                  SELECT coalesce(min(received_at), {run}.finished_at, {run}.date_updated) FROM checkins_attempt
                   WHERE checkin_id = {run}.id) AS first (ended_at)"""
"""When a run ended first; a later end of the same id may have replaced that (D16)."""
OVERLAPPING_SQL = f"""
    SELECT run.id
      FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
           AS run (environment_id, id, began_at, ended_at)
     WHERE EXISTS (
           SELECT FROM checkins_runningcheckin AS other
             JOIN checkins_checkin AS c ON c.id = other.checkin_id AND c.date_added = other.date_added
             {FIRST_END.format(run="c")}
            WHERE other.monitor_environment_id = run.environment_id
              AND (other.date_added, other.checkin_id) < (run.began_at, run.id)
              AND CASE WHEN c.finished_at IS NOT NULL AND first.ended_at <= run.ended_at THEN first.ended_at
                       ELSE date_bin('1 minute', c.timeout_at + interval '59.999999 s', '2000-01-01Z')
                       END > run.began_at)
        OR EXISTS (
           SELECT FROM (SELECT id, status, source, date_updated, failed_at, finished_at FROM checkins_checkin
                         WHERE monitor_environment_id = run.environment_id
                           AND date_added <= run.began_at AND date_added > run.began_at - %s
                           AND (date_added, id) < (run.began_at, run.id)
                         ORDER BY date_added DESC LIMIT {NEIGHBOURS_MAX}) AS other
             {FIRST_END.format(run="other")}
            WHERE other.source <> 'clock' AND other.status <> 'in_progress'
              AND CASE WHEN other.finished_at IS NOT NULL AND first.ended_at <= run.ended_at THEN first.ended_at
                       WHEN other.status = 'timeout' THEN other.failed_at
                       ELSE first.ended_at END > run.began_at)
"""  # noqa: S608 - a constant
"""A run goes on until it first ended, or until the tick that gave it up, as far as that was known when this one ended.

Whatever is stored later, or in the same batch, makes no difference. Indexes: checkin_running, checkin_history.
"""


def _load_overlapping(endings: Sequence[Ending]) -> set[int]:
    """Return the ids of runs that began while an earlier run of their environment had not ended."""
    if not endings:
        return set()
    rows = fetch_rows(
        OVERLAPPING_SQL,
        [
            array_literal("bigint", [one.environment.id for one in endings]),
            array_literal("bigint", [one.id for one in endings]),
            array_literal("timestamptz", [one.started_at for one in endings]),
            array_literal("timestamptz", [one.received_at for one in endings]),
            LIFE_MAX,
        ],
    )
    return {id_ for (id_,) in rows}


def _with_earlier_failures(endings: list[Ending]) -> list[Ending]:
    """Say of endings that break a counted limit whether their run has counted as a failure already: one is enough."""
    counting = [one for one in endings if one.broken is not None and one.broken.counts]
    if not counting:
        return endings
    rows = fetch_rows(
        """
        SELECT c.id FROM unnest(%s::bigint[], %s::timestamptz[]) AS run (id, date_added)
          JOIN checkins_checkin AS c ON c.id = run.id AND c.date_added = run.date_added
         WHERE c.failed_at IS NOT NULL AND c.date_added BETWEEN %s AND %s
        """,
        [
            array_literal("bigint", [one.id for one in counting]),
            array_literal("timestamptz", [one.started_at for one in counting]),
            min(one.started_at for one in counting),
            max(one.started_at for one in counting),
        ],
    )
    failed = {id_ for (id_,) in rows}
    return [replace(one, is_failed=True) if one.broken is not None and one.id in failed else one for one in endings]


def note_broken(endings: Iterable[Ending]) -> None:
    """Write into check-ins which limit they broke, and whether it counts. One statement, if any."""
    update_rows(
        "checkins_checkin",
        {"limit_broken": "text"},
        [(one.id, one.started_at, one.broken.stored) for one in endings if one.broken is not None],
        partitioned_by={"date_added": "timestamptz"},
    )
