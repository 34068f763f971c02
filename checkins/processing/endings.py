"""The end of a run, with all that counting needs to know of it."""

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from checkins.processing.transitions import CheckInState, Verdict
from monitors.hot_rows import LockedEnvironment
from monitors.limits import Broken
from monitors.state import MonitorRules

MILLISECOND = timedelta(milliseconds=1)
MS_MAX = 2**31 - 1


class Ending(msgspec.Struct, frozen=True, gc=False):
    """A run's ok or error to be counted: received at `received_at`, under the rules in force then.

    `config_id` is the snapshot of these rules. `id` and `started_at` find its check-in. `was_deferred`: the check-in
    does not record yet whether it counted. `is_begun`: a message reported the start, at `started_at`; else the run was
    reported as a whole. `is_maintained`: it was received in a maintenance window. `broken` is the limit that an ok
    broke, `is_failed` whether its run counted as a failure before.
    """

    environment: LockedEnvironment
    verdict: Verdict
    id: int
    guid: uuid.UUID
    started_at: datetime
    received_at: datetime
    expected_time: datetime | None
    trace_id: uuid.UUID | None
    exit_status: int | None
    log_tail: str | None
    duration_ms: int | None
    is_begun: bool
    is_maintained: bool
    config_id: int
    rules: MonitorRules
    was_deferred: bool = False
    broken: Broken | None = None
    is_failed: bool = False

    @property
    def counts_as(self) -> Verdict:
        """What counts: an ok that broke a limit which the monitor counts is a failure, once for each run (D44)."""
        if self.verdict is not Verdict.OK or self.broken is None or not self.broken.counts:
            return self.verdict
        return Verdict.NOTHING if self.is_failed else Verdict.FAILED


def ending(
    environment: LockedEnvironment,
    verdict: Verdict,
    run: CheckInState,
    id_: int,
    at: datetime,
    *,
    log_tail: str | None = None,
) -> Ending:
    """Return the ending of a run that was received at `at`; `id_` is its check-in's."""
    config_id, rules = environment.rules_at(at)
    return Ending(
        environment=environment,
        verdict=verdict,
        id=id_,
        guid=run.guid,
        started_at=run.date_added,
        received_at=at,
        expected_time=run.expected_time,
        trace_id=run.trace_id,
        exit_status=run.exit_status,
        log_tail=log_tail,
        duration_ms=run.duration_ms,
        is_begun=run.date_in_progress is not None,
        is_maintained=environment.is_maintained(at),
        config_id=config_id,
        rules=rules,
    )


class Measured(NamedTuple):
    """How long a run took, and how long after its slot it began, in milliseconds; None if that is not known."""

    environment_id: int
    duration_ms: int | None
    delay_ms: int | None


def measured(endings: Iterable[Ending]) -> list[Measured]:
    """Return what is known of the runs that ended ok, where anything is. A batch has a thousand, so it is one loop."""
    known = []
    for one in endings:
        duration_ms = one.duration_ms
        if one.verdict is Verdict.OK and duration_ms is not None:
            began_at = one.started_at if one.is_begun else one.started_at - duration_ms * MILLISECOND
            known.append(Measured(one.environment.id, duration_ms, _delay_ms(began_at, one.expected_time)))
    return known


def measured_late(run: CheckInState) -> Measured:
    """Return what is known of a run whose start was reported after its end."""
    began_at = min(run.date_added, run.date_in_progress or run.date_added)
    return Measured(run.environment_id, run.duration_ms, _delay_ms(began_at, run.expected_time))


def _delay_ms(began_at: datetime, slot: datetime | None) -> int | None:
    return None if slot is None else max(-MS_MAX, min((began_at - slot) // MILLISECOND, MS_MAX))
