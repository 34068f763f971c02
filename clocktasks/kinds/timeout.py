"""What ticks make a timeout: runs past their deadline (shell)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from checkins.messages import CheckInStatus
from checkins.processing.counting import count_deferred
from checkins.processing.past import PAST_RUNS
from checkins.processing.rows import (
    deadline_after,
    load_overdue,
    look_later,
    overdue_environments,
    update_checkins,
)
from checkins.processing.transitions import CheckInState
from clocktasks.clock import MINUTE
from clocktasks.kinds import bounds
from clocktasks.kinds.marked import Marked, Pass, marked_row, tick_of
from clocktasks.kinds.runs import put_off, without_unjudged
from incidents.failures import FailedCheckIn
from incidents.services import mark_failed
from incidents.thresholds import FailureKind
from monitors.expectation import first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments


def mark_timeouts(
    shard: int, first: datetime, last: datetime | None = None, *, held_until: datetime | None = None
) -> Pass:
    """Give up the runs of the shard whose deadline is at or before `first`, if they are still in progress (D7).

    It is a failure at this tick, also if a newer run has ended meanwhile (D29). With `last`, the ticks up to there
    follow, in order, as far as they make one pass (`PASS_ROWS_MAX`, and `ROUNDS_MAX` of ticks after which ends of runs
    are counted).
    """
    ids, last = _overdue_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in bounds.chunks(ids):
        environments = lock_environments(chunk, since=first)
        overdue = load_overdue(chunk, last)
        done = _mark_round(environments, overdue, first, last, marked, held_until=held_until)
        if len(chunk) == len(ids):  # Otherwise the next chunk has to come to the same tick first.
            rounds = 1
            while done.until < last and not done.looks_later and rounds < bounds.ROUNDS_MAX:
                first = done.until + MINUTE
                overdue = [run for run in overdue if run.id not in done.ids]
                done = _mark_round(environments, overdue, first, last, marked, held_until=held_until)
                rounds += 1
        last = done.until
        save_environments(environments.values())
    return Pass(last, marked)


class _Done(NamedTuple):
    """Which runs ticks up to `until` judged, and whether they put some off: the tick after them is another pass's."""

    until: datetime
    ids: Collection[int | None]
    looks_later: bool


def _mark_round(
    environments: Mapping[int, LockedEnvironment],
    overdue: Sequence[CheckInState],
    first: datetime,
    last: datetime,
    marked: dict[datetime, list[Marked]],
    *,
    held_until: datetime | None,
) -> _Done:
    """Give up what ticks from `first` on find overdue, and count the ends of runs that waited for them.

    Adds to `marked` by tick. The caller saves the environments.
    """
    found = [
        (tick_of(run.timeout_at, first, last), run, later) for run, later in put_off(overdue, environments, until=first)
    ]
    # Ends of runs are counted after the tick for which they wait, and before the next one (D29).
    ends = [tick for tick, run, _ in found if environments[run.environment_id].state.has_deferred]
    # The tick that looks again at a run is for another pass.
    ends += [max(first, first_tick_at_or_after(later) - MINUTE) for _, _, later in found if later is not None]
    last = min([last, *ends])
    found = sorted((one for one in found if one[0] <= last), key=lambda one: one[0])
    look_later((run, later) for _, run, later in found if later is not None)
    due = [(tick, run) for tick, run, later in found if later is None]
    marked |= {tick: [] for tick, _ in due if tick not in marked}
    judged, unknown = without_unjudged([run for _, run in due], environments, first, last)
    failures: list[FailedCheckIn] = []
    timeouts: list[CheckInState] = []
    for checkin in judged:
        environment = environments[checkin.environment_id]
        tick = tick_of(checkin.timeout_at, first, last)
        timeouts.append(replace(checkin, status=CheckInStatus.TIMEOUT, timeout_at=None, failed_at=tick))
        assert checkin.id is not None, "a stored check-in has an id"
        failures.append(
            FailedCheckIn(
                environment=environment,
                id=checkin.id,
                guid=checkin.guid,
                kind=FailureKind.TIMEOUT,
                rules=environment.rules_until(tick),
                started_at=checkin.date_added,
                failed_at=tick,
                expected_time=checkin.expected_time,
                deadline=checkin.timeout_at,
                tick=tick,
                trace_id=checkin.trace_id,
            )
        )
    update_checkins(timeouts)
    mark_failed(failures, past=PAST_RUNS, held_until=held_until)
    count_deferred([environments[id_] for id_ in sorted({run.environment_id for _, run, _ in found})])
    for one in (*unknown, *(marked_row(environments[run.environment_id], run) for run in timeouts)):
        marked[one.tick].append(one)
    return _Done(last, {run.id for _, run, _ in found}, any(later is not None for _, _, later in found))


def _overdue_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with an overdue run, and at which tick: see `due_environments`."""
    if first < last:
        beyond = deadline_after(shard, last, bounds.PASS_ROWS_MAX)
        if beyond is not None:
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return overdue_environments(shard, last), last
