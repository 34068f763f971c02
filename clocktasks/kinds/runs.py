"""Runs whose deadline has come and that are not timeouts: put off, unknown, ended meanwhile, not judged (shell)."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from checkins.messages import CheckInStatus
from checkins.processing.counting import defer
from checkins.processing.endings import ending
from checkins.processing.rows import update_checkins
from checkins.processing.transitions import CheckInState, Verdict
from clocktasks.kinds.marked import Marked, marked_row, tick_of
from monitors.expectation import first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment
from monitors.maintenance import MAINTAINED


def put_off(
    overdue: Sequence[CheckInState], environments: Mapping[int, LockedEnvironment], *, until: datetime
) -> list[tuple[CheckInState, datetime | None]]:
    """Return overdue runs with when to check each again: at the end of the maintenance window of its deadline.

    None for a run that is due at the tick that finds it, or up to the tick `until`; its deadline is then that end.
    """
    found: list[tuple[CheckInState, datetime | None]] = []
    for run in overdue:
        assert run.timeout_at is not None, "only runs with a deadline are overdue"
        at = environments[run.environment_id].judged_at(run.timeout_at)
        if at == run.timeout_at:
            found.append((run, None))
        elif first_tick_at_or_after(at) <= max(until, first_tick_at_or_after(run.timeout_at)):
            found.append((replace(run, timeout_at=at), None))
        else:
            found.append((run, at))
    return found


def without_unjudged(
    overdue: Sequence[CheckInState],
    environments: Mapping[int, LockedEnvironment],
    first: datetime,
    last: datetime,
) -> tuple[list[CheckInState], list[Marked]]:
    """End the runs that fell due while their monitor was disabled (D23); return the others, and what became unknown.

    One whose end was received after its deadline was unknown until then, and has ended uncounted.
    """
    judged: list[CheckInState] = []
    ended: list[CheckInState] = []
    for run in overdue:
        assert run.timeout_at is not None, "only runs with a deadline are overdue"
        why = environments[run.environment_id].unjudged_because(run.timeout_at)
        if why is None:
            judged.append(run)
        elif run.finished_status is None:
            ended.append(unheard_run(run, first, last, because=why))
        else:
            ended.append(ended_run(run))
    update_checkins(ended)
    unknown = [run for run in ended if run.status is CheckInStatus.UNKNOWN]
    return judged, [marked_row(environments[run.environment_id], run) for run in unknown]


def unheard_run(run: CheckInState, first: datetime, last: datetime, *, because: str | None = None) -> CheckInState:
    """Return an overdue run as unknown, at the tick that finds it."""
    tick = tick_of(run.timeout_at, first, last)
    return replace(run, status=CheckInStatus.UNKNOWN, timeout_at=None, date_updated=tick, unknown_because=because)


def ended_run(run: CheckInState) -> CheckInState:
    """Return a run with the end that was received before the clock came to its deadline."""
    assert run.finished_status is not None, "only runs that ended are given"
    assert run.finished_at is not None, "who ended did so at some time"
    return replace(
        run,
        status=run.finished_status,
        timeout_at=None,
        finished_status=None,
        finished_at=None,
        date_updated=run.finished_at,
    )


def end_unknown(environments: Mapping[int, LockedEnvironment], runs: Sequence[CheckInState]) -> None:
    """End runs whose end was received after their deadline, and before the clock marked them as unknown.

    In the order of time they were unknown first, and an unknown run ends with all that an end means (D2, P6): it is
    counted among what else was received meanwhile.
    """
    endings = []
    ended = []
    for run in runs:
        assert run.id is not None, "a stored check-in has an id"
        assert run.finished_status is not None, "only runs that ended are given"
        assert run.finished_at is not None, "who ended did so at some time"
        is_maintained = environments[run.environment_id].is_maintained(run.finished_at)
        if is_maintained and run.finished_status is CheckInStatus.ERROR:
            ended.append(replace(ended_run(run), unknown_because=MAINTAINED))
            continue
        verdict = Verdict.OK if run.finished_status is CheckInStatus.OK else Verdict.FAILED
        endings.append(ending(environments[run.environment_id], verdict, run, run.id, run.finished_at))
        ended.append(ended_run(run))
    update_checkins(ended)
    defer(endings)
