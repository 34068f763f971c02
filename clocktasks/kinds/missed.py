"""What ticks make missed: slots that nothing served in time (shell)."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from checkins.processing.counting import count_deferred
from checkins.processing.past import PAST_RUNS
from checkins.processing.rows import (
    insert_checkins,
)
from checkins.processing.transitions import CheckInState
from clocktasks.clock import MINUTE
from clocktasks.kinds import bounds
from clocktasks.kinds.marked import Marked, Pass, marked_row
from clocktasks.kinds.slots import (
    deaf_minutes,
    due_environments,
    missed_slot,
    rules_of_miss,
    unjudged_slots,
    unknown_slot,
)
from incidents.failures import FailedCheckIn
from incidents.services import mark_failed
from incidents.thresholds import FailureKind
from monitors.coverage import DeafMinutes
from monitors.expectation import DueSlot, first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments
from monitors.spans import decide_due


def mark_missed(
    shard: int, first: datetime, last: datetime | None = None, *, held_until: datetime | None = None
) -> Pass:
    """Record a missed check-in for every slot of the shard that is due at `first` and nothing served (D1).

    With `last`, the ticks up to there follow, in order, as far as they make one pass (`PASS_ROWS_MAX`): each sees what
    is due at it. A slot whose window was deaf is unknown even if it is found only now; one whose window was so in part
    may have to wait (D2). Statements: two to find, and the same number for each `CHUNK_ROWS_MAX` environments whatever
    they hold; again for each tick after which ends of runs are counted, at most `ROUNDS_MAX` times in a pass. Openings
    go out at the end of their tick, at `held_until` at the latest.
    """
    ids, last = due_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in bounds.chunks(ids):
        environments = lock_environments(chunk, due_at=last, since=first)
        deaf = deaf_minutes(environments.values(), last)
        end = _mark_round(environments, first, last, deaf, marked, held_until=held_until)
        if len(chunk) == len(ids):  # Otherwise the next chunk has to come to the same tick first.
            rounds = 1
            while end < last and rounds < bounds.ROUNDS_MAX and sum(map(len, marked.values())) < bounds.PASS_ROWS_MAX:
                end = _mark_round(environments, end + MINUTE, last, deaf, marked, held_until=held_until)
                rounds += 1
        last = end
        save_environments(environments.values())
    return Pass(last, marked)


def _mark_round(
    environments: Mapping[int, LockedEnvironment],
    first: datetime,
    last: datetime,
    deaf: DeafMinutes,
    marked: dict[datetime, list[Marked]],
    *,
    held_until: datetime | None,
) -> datetime:
    """Mark what ticks from `first` on find, and count the ends of runs that waited for them; return the last tick.

    Adds to `marked` by tick. The caller saves the environments.
    """
    judged = _judge_slots(environments, first, last, deaf)
    # An id that is there already means that the slot was judged before: it is not judged twice.
    slots = [(environment, checkin) for environment, checkin, _ in judged.slots]
    stored = insert_checkins(slots, on_conflict="ON CONFLICT DO NOTHING")
    new = [
        (environment, checkin, due)
        for environment, checkin, due in judged.slots
        if (environment.id, checkin.guid) in stored
    ]
    failures = [
        FailedCheckIn(
            environment=environment,
            id=stored[environment.id, checkin.guid],
            guid=checkin.guid,
            kind=FailureKind.MISSED,
            rules=rules_of_miss(environment, due, checkin.failed_at),
            started_at=checkin.date_added,
            failed_at=checkin.failed_at,
            expected_time=checkin.expected_time,
            deadline=due.deadline,
            tick=checkin.failed_at,
        )
        for environment, checkin, due in new
        if checkin.failed_at is not None
    ]
    mark_failed(failures, past=PAST_RUNS, held_until=held_until)
    count_deferred(judged.environments.values())
    marked |= {tick: [] for tick in judged.ticks if tick not in marked}
    for environment, checkin, _ in new:
        one = marked_row(environment, checkin)
        marked[one.tick].append(one)
    return judged.until


class _Judged(NamedTuple):
    """What ticks up to `until` found: at which ticks, in which environments, and the check-ins that they leave."""

    until: datetime
    ticks: Collection[datetime]
    environments: Mapping[int, LockedEnvironment]
    slots: Sequence[tuple[LockedEnvironment, CheckInState, DueSlot]]


def _judge_slots(
    environments: Mapping[int, LockedEnvironment], first: datetime, last: datetime, deaf: DeafMinutes
) -> _Judged:
    """Judge what is due in locked environments tick after tick, at each in order of id, and move their pointers.

    Ends before `last` if it comes to much, or to an environment with ends of runs that are to be counted after that
    tick and before the next one (D29).
    """
    queue = [
        (_next_tick(environment, first), id_)
        for id_, environment in environments.items()
        if environment.state.next_checkin_latest is not None
    ]
    heapq.heapify(queue)
    judged: dict[int, LockedEnvironment] = {}
    ticks: dict[datetime, None] = {}
    found: list[tuple[LockedEnvironment, CheckInState, DueSlot]] = []
    while queue and queue[0][0] <= last:
        tick, id_ = heapq.heappop(queue)
        ticks[tick] = None
        environment = judged[id_] = environments[id_]
        slots, environment.state = decide_due(
            environment.state, environment.rules, environment.former, tick=tick, deaf=deaf
        )
        for due, why in unjudged_slots(environment, slots):
            checkin = (
                unknown_slot(environment, due, tick=tick, because=why)
                if due.is_unknown or why is not None
                else missed_slot(environment, due, tick=tick)
            )
            found.append((environment, checkin, due))
        if environment.state.has_deferred or len(found) >= bounds.PASS_ROWS_MAX:
            last = tick
        if environment.state.next_checkin_latest is not None:
            heapq.heappush(queue, (_next_tick(environment, tick + MINUTE), id_))
    return _Judged(last, ticks, judged, found)


def _next_tick(environment: LockedEnvironment, first: datetime) -> datetime:
    """Return the tick, `first` or later, that finds the oldest slot of an environment which has one."""
    assert environment.state.next_checkin_latest is not None, "it was selected by its deadline"
    return max(first, first_tick_at_or_after(environment.state.next_checkin_latest))
