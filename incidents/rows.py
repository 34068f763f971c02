"""The rows of issues, incidents and occurrences, a set of environments at a time (shell).

The callers have locked the environments and made the decisions.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from django.db import connection

from incidents.explanation import explain, failure_reason, subtitle, title
from incidents.failures import FailedCheckIn, Failing, OkCheckIn, PastRuns, fingerprint
from incidents.models import Incident, Issue, Occurrence
from incidents.thinning import is_kept, thin_out
from incidents.thresholds import FailureKind
from lib.records import Record
from lib.sql import array_literal
from monitors.expectation import first_tick_at_or_after
from monitors.ids import derive_from
from monitors.maintenance import window_of_deadline

_incident_id = derive_from(uuid.UUID("9d7d8f0e-3f0b-4a0e-9a53-0b5f4b0d6a51"))


class OpenIncident(NamedTuple):
    """An incident that a call writes to, and its number of occurrences before and after it."""

    id: int
    before: int
    after: int


class ShownIssue(NamedTuple):
    """An issue that a call writes to. Nobody is notified about an archived one."""

    id: int
    is_archived: bool


class _Issue(msgspec.Struct, gc=False):
    project_id: int
    monitor_environment_id: int
    fingerprint: str
    title: str
    status: Issue.Status
    first_seen_at: datetime
    last_seen_at: datetime
    occurrence_count: int
    regression_count: int = 0


class _Incident(msgspec.Struct, gc=False):
    guid: uuid.UUID
    monitor_environment_id: int
    issue_id: int | None
    starting_checkin_id: int
    started_at: datetime
    opened_at: datetime
    occurrence_count: int


class _Occurrence(msgspec.Struct, gc=False):
    issue_id: int
    incident_id: int
    number: int
    checkin_id: int
    title: str
    subtitle: str
    failure_reason: str
    environment: str
    detected_at: datetime
    occurred_at: datetime
    last_ok_at: datetime | None
    run_checkin_guids: list[uuid.UUID]
    trace_id: uuid.UUID | None
    explanation: Mapping[str, object]


_ISSUES = Record(_Issue, Issue)
_INCIDENTS = Record(_Incident, Incident)
_OCCURRENCES = Record(_Occurrence, Occurrence)


def show_issues(shown: Sequence[Failing]) -> dict[int, ShownIssue]:
    """Open, regress or renew the issue of each environment, and return issues by environment id. One statement.

    An archived issue stays archived: a person decided so.
    """
    grouped: dict[int, list[Failing]] = {}
    for item in shown:
        grouped.setdefault(item.failure.environment.id, []).append(item)
    written = _ISSUES.insert(
        (
            _Issue(
                project_id=items[0].failure.environment.project_id,
                monitor_environment_id=environment_id,
                fingerprint=fingerprint(environment_id),
                title=title(items[0].failure.environment.monitor_name),
                status=Issue.Status.UNRESOLVED,
                first_seen_at=items[0].failure.failed_at,
                last_seen_at=items[-1].failure.failed_at,
                occurrence_count=sum(len(item.run) for item in items),
            )
            for environment_id, items in grouped.items()
        ),
        on_conflict="""
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
    """Insert the new incidents, find those that continue, and return all by environment id.

    The number of occurrences is updated in all of them.
    """
    issue_ids = {environment_id: issue.id for environment_id, issue in issues.items()}
    added = dict.fromkeys((item.failure.environment.id for item in failing), 0)
    for item in failing:
        if not item.failure.environment.is_muted:
            added[item.failure.environment.id] += len(item.run)
    opened = _INCIDENTS.insert(
        (
            _Incident(
                # Derived from the opening check-in, so that the same incident cannot be written twice.
                guid=_incident_id(f"{environment.id}:{item.failure.guid}"),
                monitor_environment_id=environment.id,
                issue_id=issue_ids.get(environment.id),
                starting_checkin_id=item.run[0].id,
                started_at=item.run[0].started_at,
                opened_at=item.failure.failed_at,
                occurrence_count=added[environment.id],
            )
            for item in failing
            if item.opens
            for environment in (item.failure.environment,)
        ),
        returning="monitor_environment_id, id, occurrence_count",
    )
    incidents = {environment_id: OpenIncident(id_, 0, count) for environment_id, id_, count in opened}
    going_on = {item.failure.environment.id for item in failing} - incidents.keys()
    if going_on:
        with connection.cursor() as cursor:
            # If it was unmuted meanwhile, the incident gets its issue now.
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
    """Record occurrences, and remove those that they overtake (D42). The caller has locked the environments."""
    numbers = {environment_id: incident.before for environment_id, incident in incidents.items()}
    last_ok_at = {item.failure.environment.id: item.decision.state.last_ok_at for item in shown if item.opens}
    known = {id_: at for id_, at in last_ok_at.items() if at is not None}
    took = past.last_ok_durations(known) if known else {}
    rows: list[_Occurrence] = []
    for item in shown:
        id_ = item.failure.environment.id
        # Failures after the opening one get the same rows in this call as in a later call.
        last_took = took.get(id_) if item.opens else None
        rows += _occurrence_rows(item, issues[id_].id, incidents[id_], numbered_from=numbers[id_] + 1, took=last_took)
        numbers[id_] += len(item.run)
    all_missed = all(item.failure.kind is FailureKind.MISSED for item in shown)
    _OCCURRENCES.insert(
        rows,
        # A run can fail twice, a miss cannot: its check-in is new. The conflict clause costs a fifth of the
        # statement's time.
        on_conflict="" if all_missed else "ON CONFLICT (incident_id, checkin_id) DO NOTHING",
    )
    thin_out(incidents.values())


def _window_of(failure: FailedCheckIn) -> str | None:
    """Return the name of the maintenance window with whose end the time of a run ended, if one did."""
    if failure.kind is not FailureKind.TIMEOUT or failure.deadline is None:
        return None
    window = window_of_deadline(failure.environment.windows, failure.deadline)
    return None if window is None else window.name


def _occurrence_rows(
    item: Failing, issue_id: int, incident: OpenIncident, *, numbered_from: int, took: int | None
) -> Iterable[_Occurrence]:
    """Yield the rows of a failing run, except those that its own end overtakes: a threshold may be 720."""
    environment = item.failure.environment
    reason_text = failure_reason([failure.kind for failure in item.run])
    guids = [failure.guid for failure in item.run]
    for number, failure in enumerate(item.run, numbered_from):
        if not is_kept(number, count=incident.after):
            continue
        # Earlier failures get only what a later call could also know (D29): the deadline to the minute, no log.
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
            duration_ms=failure.duration_ms,
            broken=failure.broken if is_newest else None,
            window=_window_of(failure) if is_newest else None,
        )
        yield _Occurrence(
            issue_id=issue_id,
            incident_id=incident.id,
            number=number,
            checkin_id=failure.id,
            title=title(environment.monitor_name),
            subtitle=subtitle(reason_text),
            failure_reason=reason_text,
            environment=environment.name,
            detected_at=item.failure.failed_at,
            occurred_at=failure.started_at,
            last_ok_at=item.decision.state.last_ok_at,
            run_checkin_guids=guids,
            trace_id=failure.trace_id,
            explanation=explanation,
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
