"""Marking monitor environments as failed or ok: incidents, issues, occurrences and notifications (shell).

Both services receive a set of check-ins, in order, whose environments the caller has locked. The number of statements
does not depend on the size of the set. They replace the `state` of the environments that they decide about; the caller
writes those rows in the same transaction, so that status and incident change together (D6).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from incidents.failures import EarlierFailure, FailedCheckIn, Failing, OkCheckIn, PastRuns
from incidents.notifications import outbox
from incidents.rows import open_incidents, record_occurrences, resolve_incidents, show_issues
from incidents.thresholds import Decision, FailureKind, Reason, decide_failure, decide_ok
from monitors.hot_rows import LockedEnvironment
from monitors.services import unmute_recovered
from monitors.state import MonitorRules

RUN_LIFE = timedelta(days=8)
"""A run is judged seven days after its start at the latest; one more day for a late clock."""


NEVER = datetime(1, 1, 1, tzinfo=UTC)


def mark_failed(
    failures: Sequence[FailedCheckIn], *, past: PastRuns, held_until: datetime | None = None
) -> list[Decision]:
    """Count failures, in order; open incidents, and record an occurrence for each failed check-in of an open one (D5).

    Opening records the whole run, oldest first. A muted environment gets its incident, but no issue and no occurrence.

    1. Decide for each failure, in order, by the streak in its environment's row (`decide_failure`).
    2. For each failure that opens an incident, find the earlier failures of its run, which other calls have counted.
    3. Create or reopen the issues of environments that are not muted, open the incidents, record the occurrences.
    4. Write notifications about the new incidents to the outbox, in the same transaction. Those that a tick found wait
       for its end, at most until `held_until`.

    Returns one decision for each failure. Source: docs/reference/behaviour.md, section 8.1.
    """
    decisions = []
    failing: list[Failing] = []
    counted: dict[int, list[FailedCheckIn]] = {}
    for failure in failures:
        environment = failure.environment
        decision = decide_failure(
            environment.state,
            failed_at=failure.failed_at,
            threshold=failure.rules.failure_threshold,
            error_of=None if failure.kind.is_by_clock else failure.started_at,
        )
        environment.state = decision.state
        decisions.append(decision)
        if not decision.counts:
            continue
        same_call = counted.setdefault(environment.id, [])
        same_call.append(failure)
        if decision.run_length:
            failing.append(Failing(failure, decision, same_call[-decision.run_length :]))
    _complete_runs(failing, counted, past=past)
    if failing:
        shown = [item for item in failing if not item.failure.environment.is_muted]
        issues = show_issues(shown)
        incidents = open_incidents(failing, issues)
        record_occurrences(shown, issues, incidents, past=past)
        outbox.notify_opened(
            {
                incidents[item.failure.environment.id].id: outbox.Opening(item.failure.failed_at, item.failure.tick)
                for item in shown
                if item.opens and not issues[item.failure.environment.id].is_archived
            },
            held_until=held_until,
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
        incidents = resolve_incidents(recovered)
        # Muted or not: whoever was notified that it opened is notified that it is over.
        outbox.notify_resolved({incidents[ok.environment.id]: ok.received_at for ok in recovered})
        muted = [ok.environment for ok in recovered if ok.environment.is_muted]
        if muted:
            unmute_recovered(muted, now=max(ok.received_at for ok in recovered))
    return decisions


def _complete_runs(
    failing: Sequence[Failing], counted: Mapping[int, Sequence[FailedCheckIn]], *, past: PastRuns
) -> None:
    """Add the failures that earlier calls have counted to each run, and sort by start.

    `counted` holds the failures of this call by environment id: their rows are stored already, but failures after the
    opening one do not belong to its run. Failures past their retention are gone: the run is shown without them.
    """
    for days_are_bounded in (True, False):
        openings = {item.failure.environment.id: item for item in failing if len(item.run) < item.decision.run_length}
        if not openings:
            break
        known = {failure.id for id_, item in openings.items() for failure in (*counted[id_], *item.run)}
        wanted = [
            (
                id_,
                item.decision.run_length + len(counted[id_]),
                _began_since(item) if days_are_bounded else NEVER,
            )
            for id_, item in openings.items()
        ]
        for earlier in past.failures(wanted):
            item = openings[earlier.environment_id]
            if earlier.id not in known and len(item.run) < item.decision.run_length:
                item.run.append(_earlier_failure(item.failure.environment, item.failure.rules, earlier))
    for item in failing:
        item.run.sort(key=lambda failure: (failure.started_at, failure.id))


def _began_since(item: Failing) -> datetime:
    """Return the earliest usual start of a failure of this streak; older starts are queried only if some are missing.

    A run fails at most a week after its start, a slot at the end of its margin.
    """
    streak_started_at = item.decision.state.failure_streak_started_at
    assert streak_started_at is not None, "a streak of failures has a start"
    return streak_started_at - RUN_LIFE - timedelta(minutes=item.failure.rules.margin_minutes)


def _earlier_failure(environment: LockedEnvironment, rules: MonitorRules, earlier: EarlierFailure) -> FailedCheckIn:
    _, id_, guid, kind_, started_at, failed_at, expected_time, trace_id, exit_status, duration_ms = earlier
    kind = FailureKind(kind_)
    by_clock = kind.is_by_clock
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
        received_at=None if by_clock else failed_at,  # The received_at of a run is its beginning.
        trace_id=trace_id,
        exit_status=exit_status,
        duration_ms=duration_ms,
    )
