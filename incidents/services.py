"""Marking monitor environments as failed or ok: incidents, issues, occurrences and what to tell people (shell).

Both services take a whole set of check-ins, in order, whose environments the caller has locked, and use a number of
statements that does not depend on the size of the set. They replace the `state` of the environments that they decide
about; the caller writes those rows in the same transaction, so that status and incident change together (D6).
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from django.db import connection

from incidents.explanation import explain, failure_reason, subtitle, title
from incidents.models import Issue
from incidents.notifications import outbox
from incidents.thinning import is_kept, thin_out
from incidents.thresholds import Decision, FailureKind, Reason, decide_failure, decide_ok
from lib.sql import array_literal, insert_rows
from monitors.expectation import first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment
from monitors.ids import derive_from
from monitors.state import MonitorRules

_incident_id = derive_from(uuid.UUID("9d7d8f0e-3f0b-4a0e-9a53-0b5f4b0d6a51"))

RUN_LIFE = timedelta(days=8)
"""A run is judged seven days after its start at the latest; a day more for a clock that is late."""
NEVER = datetime(1, 1, 1, tzinfo=UTC)


class FailedCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that counts as a failure of its environment.

    `rules` are those that held then. `started_at` is its date_added. `failed_at` is when it was found to have failed:
    the reception of an error, or the tick. `deadline` is what the clock compared with `tick`; both are empty for an
    error, `received_at` for the others. `exit_status` and `log_tail` are what its last word brought (see
    `incidents.notifications.letters.log_tail`).
    """

    environment: LockedEnvironment
    id: int
    guid: uuid.UUID
    kind: FailureKind
    rules: MonitorRules
    started_at: datetime
    failed_at: datetime
    expected_time: datetime | None = None
    deadline: datetime | None = None
    tick: datetime | None = None
    received_at: datetime | None = None
    trace_id: uuid.UUID | None = None
    exit_status: int | None = None
    log_tail: str | None = None


class OkCheckIn(msgspec.Struct, frozen=True, gc=False):
    """A stored check-in that ended ok. `started_at` is its date_added, `received_at` when the ok was received.

    `rules` are those that held then.
    """

    environment: LockedEnvironment
    id: int
    rules: MonitorRules
    started_at: datetime
    received_at: datetime


class _Incident(NamedTuple):
    """An incident that a call writes to, and its number of occurrences before and after it."""

    id: int
    before: int
    after: int


class _Issue(NamedTuple):
    """An issue that a call writes to. Of an archived one nobody is told."""

    id: int
    is_archived: bool


class _Failing(NamedTuple):
    """A failure that belongs to an incident, with the failing run that it is shown with (oldest first)."""

    failure: FailedCheckIn
    decision: Decision
    run: list[FailedCheckIn]

    @property
    def opens(self) -> bool:
        return self.decision.reason is Reason.THRESHOLD_REACHED


def fingerprint(environment_id: int) -> str:
    """Return the constant fingerprint of an environment's issue. Source: docs/reference/behaviour.md, section 2.2."""
    return f"crons:{environment_id}"


def mark_failed(failures: Sequence[FailedCheckIn]) -> list[Decision]:
    """Count failures, in order; open incidents, and record an occurrence for each failed check-in of an open one (D5).

    Opening records the whole run, oldest first. A muted environment gets its incident, but no issue and no occurrence.

    1. Decide for each failure, in order, by the streak in its environment's row (`decide_failure`).
    2. For those that open an incident, find the earlier failures of the run, which other calls have counted.
    3. Create or reopen the issues of those that people see, open the incidents, record the occurrences.
    4. Put into the outbox that incidents opened, in the same transaction.

    Returns one decision for each failure. Source: docs/reference/behaviour.md, section 8.1.
    """
    decisions = []
    failing: list[_Failing] = []
    counted: dict[int, list[FailedCheckIn]] = {}
    for failure in failures:
        environment = failure.environment
        decision = decide_failure(
            environment.state,
            failed_at=failure.failed_at,
            threshold=failure.rules.failure_threshold,
            error_of=failure.started_at if failure.kind is FailureKind.ERROR else None,
        )
        environment.state = decision.state
        decisions.append(decision)
        if not decision.counts:
            continue
        same_call = counted.setdefault(environment.id, [])
        same_call.append(failure)
        if decision.run_length:
            failing.append(_Failing(failure, decision, same_call[-decision.run_length :]))
    _complete_runs(failing, counted)
    if failing:
        shown = [item for item in failing if not item.failure.environment.is_muted]
        issues = _show_issues(shown)
        incidents = _open_incidents(failing, issues)
        _record_occurrences(shown, issues, incidents)
        outbox.notify_opened(
            {
                incidents[item.failure.environment.id].id: item.failure.failed_at
                for item in shown
                if item.opens and not issues[item.failure.environment.id].is_archived
            }
        )
    return decisions


def mark_ok(oks: Sequence[OkCheckIn]) -> list[Decision]:
    """Count oks, in order; resolve the incident and issue of each environment that recovers (D6).

    Returns one decision for each ok. Source: docs/reference/behaviour.md, section 8.2.
    """
    decisions = []
    recovered: list[OkCheckIn] = []
    for ok in oks:
        environment = ok.environment
        decision = decide_ok(
            environment.state,
            started_at=ok.started_at,
            received_at=ok.received_at,
            threshold=ok.rules.recovery_threshold,
        )
        environment.state = decision.state
        decisions.append(decision)
        if decision.reason is Reason.RECOVERED:
            recovered.append(ok)
    if recovered:
        _resolve_incidents(recovered)
    return decisions


def _complete_runs(failing: Sequence[_Failing], counted: Mapping[int, Sequence[FailedCheckIn]]) -> None:
    """Put the failures that were counted in earlier calls before those of this call, and sort by start.

    `counted` holds this call's failures by environment id: their rows are stored already, but those after the opening
    one do not belong to its run. Those that are past keeping are not there any more: the run is shown without them.
    """
    for days_are_bounded in (True, False):
        openings = {item.failure.environment.id: item for item in failing if len(item.run) < item.decision.run_length}
        if not openings:
            break
        known = {failure.id for id_, item in openings.items() for failure in (*counted[id_], *item.run)}
        with connection.cursor() as cursor:
            cursor.execute(
                EARLIER_FAILURES_SQL,
                [
                    list(openings),
                    [item.decision.run_length + len(counted[id_]) for id_, item in openings.items()],
                    [_began_since(item) if days_are_bounded else NEVER for item in openings.values()],
                ],
            )
            for environment_id, *row in cursor.fetchall():
                item = openings[environment_id]
                if row[0] not in known and len(item.run) < item.decision.run_length:
                    item.run.append(_earlier_failure(item.failure.environment, item.failure.rules, row))
    for item in failing:
        item.run.sort(key=lambda failure: (failure.started_at, failure.id))


EARLIER_FAILURES_SQL = """
    SELECT c.monitor_environment_id, c.id, c.guid, c.status, c.date_added, c.failed_at, c.expected_time,
           c.trace_id, c.exit_status
      FROM unnest(%s::bigint[], %s::integer[], %s::timestamptz[]) AS opening (monitor_environment_id, length, since)
     CROSS JOIN LATERAL (
           SELECT * FROM checkins_checkin
            WHERE monitor_environment_id = opening.monitor_environment_id AND failed_at IS NOT NULL
              AND date_added >= opening.since
            ORDER BY failed_at DESC, id DESC
            LIMIT opening.length
           ) AS c
"""
"""The newest failures of environments. Index: checkin_failures, in each day from `since` on."""


def _began_since(item: _Failing) -> datetime:
    """Return the earliest start that a failure of this streak has as a rule; what is older is looked for if need be.

    A run fails at most a week after its start, a slot when its margin is over.
    """
    streak_started_at = item.decision.state.failure_streak_started_at
    assert streak_started_at is not None, "a streak of failures knows its start"
    return streak_started_at - RUN_LIFE - timedelta(minutes=item.failure.rules.margin_minutes)


def _earlier_failure(environment: LockedEnvironment, rules: MonitorRules, row: Sequence[Any]) -> FailedCheckIn:
    id_, guid, status, started_at, failed_at, expected_time, trace_id, exit_status = row
    # An error whose run was told ok later was one nevertheless (D16).
    kind = FailureKind.ERROR if status == "ok" else FailureKind(status)
    by_clock = kind is not FailureKind.ERROR
    return FailedCheckIn(
        environment=environment,
        id=id_,
        guid=guid,
        kind=kind,
        rules=rules,
        started_at=started_at,
        failed_at=failed_at,
        expected_time=expected_time,
        # The clock applies every minute, so the tick that found a failure is its deadline.
        deadline=failed_at if by_clock else None,
        tick=failed_at if by_clock else None,
        received_at=None if by_clock else failed_at,  # That of the run is when it began.
        trace_id=trace_id,
        exit_status=exit_status,
    )


def _show_issues(shown: Sequence[_Failing]) -> dict[int, _Issue]:
    """Open, regress or renew the issue of each environment, and return issues by environment id. One statement.

    An archived issue stays archived: a person has said that it is not to come back.
    """
    grouped: dict[int, list[_Failing]] = {}
    for item in shown:
        grouped.setdefault(item.failure.environment.id, []).append(item)
    rows = [
        (
            items[0].failure.environment.project_id,
            environment_id,
            fingerprint(environment_id),
            title(items[0].failure.environment.monitor_name),
            Issue.Status.UNRESOLVED.value,
            items[0].failure.failed_at,
            items[-1].failure.failed_at,
            sum(len(item.run) for item in items),
            0,
        )
        for environment_id, items in grouped.items()
    ]
    written = insert_rows(
        "incidents_issue",
        {
            "project_id": "bigint",
            "monitor_environment_id": "bigint",
            "fingerprint": "text",
            "title": "text",
            "status": "text",
            "first_seen_at": "timestamptz",
            "last_seen_at": "timestamptz",
            "occurrence_count": "integer",
            "regression_count": "integer",
        },
        rows,
        tail="""
        ON CONFLICT (project_id, fingerprint) DO UPDATE SET
            title = excluded.title,
            last_seen_at = greatest(incidents_issue.last_seen_at, excluded.last_seen_at),
            occurrence_count = incidents_issue.occurrence_count + excluded.occurrence_count,
            regression_count = incidents_issue.regression_count + (incidents_issue.status = 'resolved')::integer,
            status = CASE incidents_issue.status WHEN 'archived' THEN 'archived' ELSE 'unresolved' END,
            resolved_at = NULL,
            resolved_by = NULL
        """,
        returning="monitor_environment_id, id, status",
    )
    return {
        environment_id: _Issue(id_, status == Issue.Status.ARCHIVED.value) for environment_id, id_, status in written
    }


def _open_incidents(failing: Sequence[_Failing], issues: Mapping[int, _Issue]) -> dict[int, _Incident]:
    """Insert the incidents that open now, find the ones that go on, and return them by environment id.

    All of them get the number of occurrences that they have then.
    """
    issue_ids = {environment_id: issue.id for environment_id, issue in issues.items()}
    added = dict.fromkeys((item.failure.environment.id for item in failing), 0)
    for item in failing:
        if not item.failure.environment.is_muted:
            added[item.failure.environment.id] += len(item.run)
    opened = insert_rows(
        "incidents_incident",
        {
            "guid": "uuid",
            "monitor_environment_id": "bigint",
            "issue_id": "bigint",
            "starting_checkin_id": "bigint",
            "started_at": "timestamptz",
            "opened_at": "timestamptz",
            "occurrence_count": "integer",
        },
        [
            (
                # Derived from what opened it, so that the same opening cannot be written twice.
                _incident_id(f"{environment.id}:{item.failure.guid}"),
                environment.id,
                issue_ids.get(environment.id),
                item.run[0].id,
                item.run[0].started_at,
                item.failure.failed_at,
                added[environment.id],
            )
            for item in failing
            if item.opens
            for environment in (item.failure.environment,)
        ],
        returning="monitor_environment_id, id, occurrence_count",
    )
    incidents = {environment_id: _Incident(id_, 0, count) for environment_id, id_, count in opened}
    going_on = {item.failure.environment.id for item in failing} - incidents.keys()
    if going_on:
        with connection.cursor() as cursor:
            # Unmuted meanwhile: the incident gets its issue now.
            cursor.execute(
                """
                UPDATE incidents_incident AS i
                   SET issue_id = coalesce(i.issue_id, new.issue_id),
                       occurrence_count = i.occurrence_count + new.added
                  FROM unnest(%s::bigint[], %s::bigint[], %s::integer[])
                       AS new (monitor_environment_id, issue_id, added)
                 WHERE i.monitor_environment_id = new.monitor_environment_id AND i.resolved_at IS NULL
                RETURNING i.monitor_environment_id, i.id, i.occurrence_count - new.added, i.occurrence_count
                """,
                [
                    array_literal("bigint", sorted(going_on)),
                    array_literal("bigint", [issue_ids.get(environment_id) for environment_id in sorted(going_on)]),
                    array_literal("integer", [added[environment_id] for environment_id in sorted(going_on)]),
                ],
            )
            incidents |= {environment_id: _Incident(*row) for environment_id, *row in cursor.fetchall()}
    return incidents


def _record_occurrences(
    shown: Sequence[_Failing], issues: Mapping[int, _Issue], incidents: Mapping[int, _Incident]
) -> None:
    """Record what the failures are, and remove what they overtake (D42): the caller has the environments."""
    numbers = {environment_id: incident.before for environment_id, incident in incidents.items()}
    took = _last_ok_durations([item for item in shown if item.opens])
    rows: list[tuple[Any, ...]] = []
    for item in shown:
        id_ = item.failure.environment.id
        # What follows the opening in the same call has the rows that it would have had in a later one.
        last_took = took.get(id_) if item.opens else None
        rows += _occurrence_rows(item, issues[id_].id, incidents[id_], numbered_from=numbers[id_] + 1, took=last_took)
        numbers[id_] += len(item.run)
    all_missed = all(item.failure.kind is FailureKind.MISSED for item in shown)
    insert_rows(
        "incidents_occurrence",
        {
            "issue_id": "bigint",
            "incident_id": "bigint",
            "number": "integer",
            "checkin_id": "bigint",
            "title": "text",
            "subtitle": "text",
            "failure_reason": "text",
            "environment": "text",
            "detected_at": "timestamptz",
            "occurred_at": "timestamptz",
            "last_ok_at": "timestamptz",
            "run_checkin_guids": "uuid[]",
            "trace_id": "uuid",
            "explanation": "jsonb",
        },
        rows,
        # A run can fail twice, a miss cannot: its check-in is new. To be ready for a conflict takes PostgreSQL a fifth
        # of the time of the statement.
        tail="" if all_missed else "ON CONFLICT (incident_id, checkin_id) DO NOTHING",
    )
    thin_out(incidents.values())


def _last_ok_durations(openings: Sequence[_Failing]) -> dict[int, int]:
    """Return how long the last ok run took, in milliseconds, by environment, of those that open an incident now."""
    known = {item.failure.environment.id: item.decision.state.last_ok_at for item in openings}
    known = {environment_id: at for environment_id, at in known.items() if at is not None}
    if not known:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            LAST_OK_SQL, [array_literal("bigint", list(known)), array_literal("timestamptz", list(known.values()))]
        )
        return dict(cursor.fetchall())


LAST_OK_SQL = """
    SELECT known.monitor_environment_id, c.duration_ms
      FROM unnest(%s::bigint[], %s::timestamptz[]) AS known (monitor_environment_id, at)
     CROSS JOIN LATERAL (
           SELECT duration_ms FROM checkins_checkin
            WHERE monitor_environment_id = known.monitor_environment_id AND date_added = known.at
              AND status = 'ok' AND duration_ms IS NOT NULL
            LIMIT 1
           ) AS c
"""
"""Index: checkin_history, in the one day that holds the run."""


def _occurrence_rows(
    item: _Failing, issue_id: int, incident: _Incident, *, numbered_from: int, took: int | None
) -> Iterable[tuple[Any, ...]]:
    """Yield the rows of a failing run, but those that its own end overtakes: a threshold may be 720."""
    environment = item.failure.environment
    reason_text = failure_reason([failure.kind for failure in item.run])
    guids = [failure.guid for failure in item.run]
    for number, failure in enumerate(item.run, numbered_from):
        if not is_kept(number, count=incident.after):
            continue
        # Of those before it nothing is said that a later call could not know (D29): the deadline to the minute, no log.
        is_newest = failure is item.failure
        explanation = explain(
            kind=failure.kind,
            reason=item.decision.reason,
            rules=item.failure.rules,
            state=item.decision.state,
            started_at=failure.started_at,
            expected_time=failure.expected_time,
            deadline=failure.deadline
            if is_newest or failure.deadline is None
            else first_tick_at_or_after(failure.deadline),
            tick=failure.tick,
            received_at=failure.received_at,
            exit_status=failure.exit_status,
            log_tail=failure.log_tail if is_newest else None,
            last_ok_duration_ms=took,
        )
        yield (
            issue_id,
            incident.id,
            number,
            failure.id,
            title(environment.monitor_name),
            subtitle(reason_text),
            reason_text,
            environment.name,
            item.failure.failed_at,
            failure.started_at,
            item.decision.state.last_ok_at,
            guids,
            failure.trace_id,
            explanation,
        )


def _resolve_incidents(recovered: Sequence[OkCheckIn]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE incidents_incident AS i SET resolving_checkin_id = ok.checkin_id, resolved_at = ok.started_at
              FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[])
                   AS ok (monitor_environment_id, checkin_id, started_at)
             WHERE i.monitor_environment_id = ok.monitor_environment_id AND i.resolved_at IS NULL
            RETURNING i.monitor_environment_id, i.id
            """,
            [
                [ok.environment.id for ok in recovered],
                [ok.id for ok in recovered],
                [ok.started_at for ok in recovered],
            ],
        )
        incidents = dict(cursor.fetchall())
    assert len(incidents) == len(recovered), "an environment in error has exactly one open incident (D6)"
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE incidents_issue AS i SET status = 'resolved', resolved_by = 'recovery', resolved_at = ok.received_at
              FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS ok (project_id, fingerprint, received_at)
             WHERE i.project_id = ok.project_id AND i.fingerprint = ok.fingerprint AND i.status = 'unresolved'
            """,
            [
                [ok.environment.project_id for ok in recovered],
                [fingerprint(ok.environment.id) for ok in recovered],
                [ok.received_at for ok in recovered],
            ],
        )
    told = [ok for ok in recovered if not ok.environment.is_muted]
    outbox.notify_resolved({incidents[ok.environment.id]: ok.received_at for ok in told})
