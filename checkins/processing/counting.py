"""Counting the ends of runs for or against their environments, in the order of time (shell; D29).

An ok or error that is received at or after a tick which the clock has not applied yet must not be counted before that
tick: otherwise the verdict on a job would depend on how late the clock is. So while something of its environment is
due, the end of a run is stored and acknowledged as usual, but *deferred*: it waits in a table of its own. When the due
work is applied (by the clock, or by ingest if a late message ends the wait), the ends received before the environment's
next due tick are counted. As long as one end waits, all later ends queue behind it.

Nothing is due when most messages arrive, so most of this rarely runs: two columns of the environment's row decide.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from django.db import transaction
from msgspec.structs import replace

from checkins.processing.endings import Ending, measured
from checkins.processing.measuring import judged, note_broken, remember
from checkins.processing.past import PAST_RUNS
from checkins.processing.rows import load_first_timeouts, update_failed_at
from checkins.processing.transitions import Verdict
from incidents.failures import FailedCheckIn, OkCheckIn
from incidents.services import mark_failed, mark_ok
from incidents.thresholds import FailureKind
from lib.sql import array_literal, fetch_rows, insert_rows
from monitors.expectation import first_due, first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment, load_rules, lock_environments, save_environments

COUNTED_MAX = 20_000
"""Deferred ends held in memory at once."""
STRANDED_MAX = 500
"""Environments that `count_stranded` handles in one transaction."""
FAR = datetime.max.replace(tzinfo=UTC)


def know_deadlines(environments: Iterable[LockedEnvironment], *, until: datetime) -> None:
    """Load the exact earliest deadline of a run into each environment for which it may be at or before `until`.

    A deadline in a maintenance window is at the end of that.
    """
    unsure = [
        environment
        for environment in environments
        if environment.state.first_timeout_at is not None and environment.state.first_timeout_at <= until
    ]
    _learn_deadlines(unsure)


def _learn_deadlines(environments: Sequence[LockedEnvironment]) -> None:
    deadlines = load_first_timeouts([environment.id for environment in environments])
    for environment in environments:
        deadline = deadlines.get(environment.id)
        judged_at = None if deadline is None else environment.judged_at(deadline)
        environment.state = replace(environment.state, first_timeout_at=judged_at)


# --- deferring ------------------------------------------------------------------------------------------------------


def defer(endings: Sequence[Ending]) -> None:
    """Store endings until they may be counted. One statement."""
    insert_rows(
        "checkins_deferredending",
        {
            "monitor_environment_id": "bigint",
            "checkin_id": "bigint",
            "guid": "uuid",
            "verdict": "text",
            "started_at": "timestamptz",
            "received_at": "timestamptz",
            "expected_time": "timestamptz",
            "trace_id": "uuid",
            "exit_status": "bigint",
            "log_tail": "text",
            "duration_ms": "bigint",
            "is_begun": "boolean",
            "is_maintained": "boolean",
            "config_id": "bigint",
        },
        [
            (
                one.environment.id,
                one.id,
                one.guid,
                one.verdict.value,
                one.started_at,
                one.received_at,
                one.expected_time,
                one.trace_id,
                one.exit_status,
                one.log_tail,
                one.duration_ms,
                one.is_begun,
                one.is_maintained,
                one.config_id,
            )
            for one in endings
        ],
    )
    for one in endings:
        one.environment.state = replace(one.environment.state, has_deferred=True)


def count_deferred(environments: Iterable[LockedEnvironment]) -> None:
    """Count the deferred endings of locked environments that were received before their next due tick (D20).

    Call this after the due work was applied and before the environments are saved. No statement if nothing waits.
    """
    waiting = [environment for environment in environments if environment.state.has_deferred]
    if not waiting:
        return
    _learn_deadlines(waiting)
    by_id = {environment.id: environment for environment in waiting}
    next_ticks = [FAR if (due := first_due(each.state)) is None else first_tick_at_or_after(due) for each in waiting]
    while True:
        rows = fetch_rows(TAKE_SQL, [array_literal("bigint", list(by_id)), _instants(next_ticks), COUNTED_MAX])
        _count_rows(rows, by_id)
        if len(rows) < COUNTED_MAX:
            break
    still = {id_ for (id_,) in fetch_rows(STILL_WAITING_SQL, [array_literal("bigint", list(by_id))])}
    for environment in waiting:
        environment.state = replace(environment.state, has_deferred=environment.id in still)


def _instants(values: Sequence[datetime]) -> str:
    return array_literal("timestamptz", ["infinity" if value is FAR else value for value in values])


TAKE_SQL = """
    WITH ready AS MATERIALIZED (
         SELECT e.id FROM unnest(%s::bigint[], %s::timestamptz[]) AS due (monitor_environment_id, tick)
          CROSS JOIN LATERAL (
                SELECT id, monitor_environment_id, received_at FROM checkins_deferredending
                 WHERE monitor_environment_id = due.monitor_environment_id AND received_at < due.tick) AS e
          ORDER BY e.monitor_environment_id, e.received_at, e.id LIMIT %s)
    DELETE FROM checkins_deferredending AS e USING ready WHERE e.id = ready.id
    RETURNING e.monitor_environment_id, e.received_at, e.id, e.checkin_id, e.guid, e.verdict, e.started_at,
              e.expected_time, e.trace_id, e.exit_status, e.log_tail, e.duration_ms, e.is_begun,
              e.is_maintained, e.config_id
"""
STILL_WAITING_SQL = """
    SELECT wanted.id FROM unnest(%s::bigint[]) AS wanted (id)
     WHERE EXISTS (SELECT FROM checkins_deferredending WHERE monitor_environment_id = wanted.id)
"""
"""Index of both: deferred_ending_in_order."""


def _count_rows(rows: Sequence[tuple[Any, ...]], environments: Mapping[int, LockedEnvironment]) -> None:
    rules = {environment.config_id: environment.rules for environment in environments.values()}
    former = {row[-1] for row in rows} - rules.keys()
    if former:
        rules |= load_rules(former)
    count(
        [
            Ending(
                environment=environments[environment_id],
                verdict=Verdict(verdict),
                id=checkin_id,
                guid=guid,
                started_at=started_at,
                received_at=received_at,
                expected_time=expected_time,
                trace_id=trace_id,
                exit_status=exit_status,
                log_tail=log_tail,
                duration_ms=duration_ms,
                is_begun=is_begun,
                is_maintained=is_maintained,
                config_id=config_id,
                rules=rules[config_id],
                was_deferred=True,
            )
            for (
                environment_id,
                received_at,
                _,
                checkin_id,
                guid,
                verdict,
                started_at,
                expected_time,
                trace_id,
                exit_status,
                log_tail,
                duration_ms,
                is_begun,
                is_maintained,
                config_id,
            ) in sorted(rows, key=lambda row: row[:3])
        ]
    )


@transaction.atomic
def count_stranded() -> int:
    """Count deferred endings of environments with no due work left; returns the number of these environments.

    Call again until it returns 0.
    """
    ids = [id_ for (id_,) in fetch_rows(STRANDED_SQL, [STRANDED_MAX])]
    environments = lock_environments(ids)
    count_deferred(environments.values())
    save_environments(environments.values())
    return sum(not environment.state.has_deferred for environment in environments.values())


STRANDED_SQL = """
    SELECT first.monitor_environment_id
      FROM (SELECT monitor_environment_id, min(received_at) AS received_at
              FROM checkins_deferredending GROUP BY monitor_environment_id) AS first
      JOIN monitors_monitorenvironment me ON me.id = first.monitor_environment_id
     WHERE (me.next_checkin_latest IS NULL OR me.next_checkin_latest > date_trunc('minute', first.received_at))
       AND NOT EXISTS (SELECT FROM checkins_runningcheckin c
                        WHERE c.monitor_environment_id = me.id
                          AND c.timeout_at <= date_trunc('minute', first.received_at))
     ORDER BY 1 LIMIT %s
"""


# --- counting -------------------------------------------------------------------------------------------------------


def count(endings: Sequence[Ending]) -> None:
    """Count failures and oks. Each environment's come in order; different environments are counted together.

    A round counts the next endings of one kind of every environment: an environment that fails and recovers within a
    batch costs more statements, a thousand different environments do not. An ok that broke a limit may be a failure
    (D44); its duration is remembered all the same.
    """
    endings = judged(endings)
    note_broken(endings)
    remember(measured(endings))
    for current in _rounds(endings):
        failed = [one for one in current if one.counts_as is Verdict.FAILED]
        decisions = mark_failed(
            [
                FailedCheckIn(
                    environment=one.environment,
                    id=one.id,
                    guid=one.guid,
                    kind=FailureKind.ERROR if one.broken is None else FailureKind(one.broken.limit.value),
                    rules=one.rules,
                    started_at=one.started_at,
                    failed_at=one.received_at,
                    expected_time=one.expected_time,
                    received_at=one.received_at,
                    trace_id=one.trace_id,
                    exit_status=one.exit_status,
                    log_tail=one.log_tail,
                    duration_ms=None if one.broken is None else one.duration_ms,
                    broken=one.broken,
                )
                for one in failed
            ],
            past=PAST_RUNS,
        )
        # An error's check-in already records that it counted, unless it was deferred: then this records it.
        update_failed_at(
            (one.id, one.started_at, one.received_at, decision.counts)
            for one, decision in zip(failed, decisions, strict=True)
            if decision.counts == (one.was_deferred or one.broken is not None)
        )
        mark_ok(
            [
                OkCheckIn(
                    environment=one.environment,
                    id=one.id,
                    rules=one.rules,
                    started_at=one.started_at,
                    received_at=one.received_at,
                )
                for one in current
                if one.counts_as is Verdict.OK
            ]
        )


def _rounds(endings: Sequence[Ending]) -> Iterator[Sequence[Ending]]:
    if len({one.environment.id for one in endings}) == len(endings):
        if endings:
            yield endings
        return
    by_environment: dict[int, list[Ending]] = {}
    for one in endings:
        by_environment.setdefault(one.environment.id, []).append(one)
    queues = {
        environment_id: [list(group) for _, group in groupby(own, key=lambda one: one.counts_as)]
        for environment_id, own in by_environment.items()
    }
    while queues:
        yield [one for groups in queues.values() for one in groups[0]]
        queues = {environment_id: groups[1:] for environment_id, groups in queues.items() if len(groups) > 1}
