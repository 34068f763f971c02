"""The rows of issues, incidents and occurrences, a set of environments at a time (shell).

The callers have locked the environments, and decided.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection

from incidents.explanation import explain, failure_reason, subtitle, title
from incidents.failures import Failing, OkCheckIn, PastRuns, fingerprint
from incidents.models import Issue
from incidents.thinning import is_kept, thin_out
from incidents.thresholds import FailureKind
from lib.sql import array_literal, insert_rows
from monitors.expectation import first_tick_at_or_after
from monitors.ids import derive_from

_incident_id = derive_from(uuid.UUID("9d7d8f0e-3f0b-4a0e-9a53-0b5f4b0d6a51"))


class OpenIncident(NamedTuple):
    """An incident that a call writes to, and its number of occurrences before and after it."""

    id: int
    before: int
    after: int


class ShownIssue(NamedTuple):
    """An issue that a call writes to. Of an archived one nobody is told."""

    id: int
    is_archived: bool


def show_issues(shown: Sequence[Failing]) -> dict[int, ShownIssue]:
    """Open, regress or renew the issue of each environment, and return issues by environment id. One statement.

    An archived issue stays archived: a person has said that it is not to come back.
    """
    grouped: dict[int, list[Failing]] = {}
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
        environment_id: ShownIssue(id_, status == Issue.Status.ARCHIVED.value)
        for environment_id, id_, status in written
    }


def open_incidents(failing: Sequence[Failing], issues: Mapping[int, ShownIssue]) -> dict[int, OpenIncident]:
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
    incidents = {environment_id: OpenIncident(id_, 0, count) for environment_id, id_, count in opened}
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
            incidents |= {environment_id: OpenIncident(*row) for environment_id, *row in cursor.fetchall()}
    return incidents


def record_occurrences(
    shown: Sequence[Failing],
    issues: Mapping[int, ShownIssue],
    incidents: Mapping[int, OpenIncident],
    *,
    past: PastRuns,
) -> None:
    """Record what the failures are, and remove what they overtake (D42): the caller has the environments."""
    numbers = {environment_id: incident.before for environment_id, incident in incidents.items()}
    last_ok_at = {item.failure.environment.id: item.decision.state.last_ok_at for item in shown if item.opens}
    known = {id_: at for id_, at in last_ok_at.items() if at is not None}
    took = past.last_ok_durations(known) if known else {}
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


def _occurrence_rows(
    item: Failing, issue_id: int, incident: OpenIncident, *, numbered_from: int, took: int | None
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


def resolve_incidents(recovered: Sequence[OkCheckIn]) -> dict[int, int]:
    """Resolve the open incidents and the issues of environments; returns the incidents by environment id."""
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
    return incidents
