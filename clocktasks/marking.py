"""What ticks do to a shard: misses, timeouts, and what becomes unknown (shell).

A pass over ticks is a call of one handler: find what is due, lock the environments in id order, decide tick after tick
in memory, write in bulk. Whose turn it is, and where the shard's clock stands, is `clocktasks.services`.
"""

import dataclasses
import heapq
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from checkins.messages import CheckInStatus, Source
from checkins.processing.counting import defer, ending, settle
from checkins.processing.past import PAST_RUNS
from checkins.processing.rows import (
    deadline_after,
    insert_checkins,
    load_overdue,
    overdue_environments,
    update_checkins,
)
from checkins.processing.transitions import CheckInState, Verdict
from clocktasks.clock import MINUTE, TaskKind
from clocktasks.ledger import deaf_spans
from clocktasks.models import Tick
from clocktasks.volume import VolumeDecision
from incidents.failures import FailedCheckIn
from incidents.services import mark_failed
from incidents.thresholds import FailureKind
from monitors.coverage import DeafMinutes
from monitors.expectation import DueSlot, first_tick_at_or_after
from monitors.hot_rows import LockedEnvironment, lock_environments, save_environments
from monitors.ids import derive_from
from monitors.models import MonitorEnvironment
from monitors.spans import decide_due, expect_no_more, held_until
from monitors.state import MonitorRules

_miss_id = derive_from(uuid.UUID("5a3a7f5e-0a53-4f0c-8f0e-0a2f6f0f8c11"))
CHUNK_ROWS_MAX = 10_000
"""Rows that are held in memory at once. A tick of one shard is one transaction, whatever it marks."""
PASS_ROWS_MAX = 2_000
"""How much more than one tick a pass does: so many environments, and as many slots or runs. No more than a chunk."""


class Marked(NamedTuple):
    """A check-in that `tick` marked, named as people know it. `at` is the slot, or the start of the run."""

    kind: TaskKind
    monitor: str
    environment: str
    at: datetime
    tick: datetime


class Pass(NamedTuple):
    """What was done in one go: all work of its kind up to the tick `until`, and what each tick with any marked.

    Of a time without a listener, the last tick stands for all.
    """

    until: datetime
    marked: Mapping[datetime, Sequence[Marked]]


KINDS = {CheckInStatus(kind.value): kind for kind in TaskKind}


def _marked(environment: LockedEnvironment, checkin: CheckInState) -> Marked:
    kind = KINDS[checkin.status]
    tick = checkin.date_updated if kind is TaskKind.UNKNOWN else checkin.failed_at
    assert tick is not None, "a failure knows its tick"
    return Marked(kind, environment.monitor_slug, environment.name, checkin.date_added, tick)


# --- misses ---------------------------------------------------------------------------------------------------------


def mark_missed(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Record a missed check-in for every slot of the shard that is due at `first` and nothing served (D1).

    With `last`, the ticks up to there follow, in order, as far as they make one pass (`PASS_ROWS_MAX`): each sees what
    is due at it. A slot whose window was deaf is unknown even if it is found only now; one whose window was so in part
    may have to wait (D2). Statements: two to find, and the same number for each `CHUNK_ROWS_MAX` environments whatever
    they hold.
    """
    ids, last = _due_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in _chunks(ids):
        environments = lock_environments(chunk, due_at=last, since=first)
        judged = _judge_slots(environments, first, last)
        last = judged.until
        # An id that is there already means that the slot was judged before: it is not judged twice.
        slots = [(environment, checkin) for environment, checkin, _ in judged.slots]
        stored = insert_checkins(slots, tail="ON CONFLICT DO NOTHING")
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
                rules=_rules_of_miss(environment, due, checkin.failed_at),
                started_at=checkin.date_added,
                failed_at=checkin.failed_at,
                expected_time=checkin.expected_time,
                deadline=due.deadline,
                tick=checkin.failed_at,
            )
            for environment, checkin, due in new
            if checkin.failed_at is not None
        ]
        mark_failed(failures, past=PAST_RUNS)
        settle(judged.environments.values())
        save_environments(judged.environments.values())
        marked |= {tick: [] for tick in judged.ticks if tick not in marked}
        for environment, checkin, _ in new:
            one = _marked(environment, checkin)
            marked[one.tick].append(one)
    return Pass(last, marked)


class _Judged(NamedTuple):
    """What ticks up to `until` found: at which ticks, in which environments, and the check-ins that they leave."""

    until: datetime
    ticks: Collection[datetime]
    environments: Mapping[int, LockedEnvironment]
    slots: Sequence[tuple[LockedEnvironment, CheckInState, DueSlot]]


def _judge_slots(environments: Mapping[int, LockedEnvironment], first: datetime, last: datetime) -> _Judged:
    """Judge what is due in locked environments tick after tick, at each in order of id, and move their pointers.

    Ends before `last` if it comes to much, or to an environment with ends of runs that are to be counted after that
    tick and before the next one (D29).
    """
    deaf = _deaf_minutes(environments.values(), last)
    queue = [(_next_tick(environment, first), id_) for id_, environment in environments.items()]
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
        for due, why in _unjudged_slots(environment, slots):
            checkin = (
                _unknown(environment, due, tick=tick, because=why)
                if due.is_unknown or why is not None
                else _missed(environment, due, tick=tick)
            )
            found.append((environment, checkin, due))
        if environment.state.has_deferred or len(found) >= PASS_ROWS_MAX:
            last = tick
        if environment.state.next_checkin_latest is not None:
            heapq.heappush(queue, (_next_tick(environment, tick + MINUTE), id_))
    return _Judged(last, ticks, judged, found)


def _next_tick(environment: LockedEnvironment, first: datetime) -> datetime:
    """Return the tick, `first` or later, that finds the oldest slot of an environment which has one."""
    assert environment.state.next_checkin_latest is not None, "it was looked for by its deadline"
    return max(first, first_tick_at_or_after(environment.state.next_checkin_latest))


def _rules_of_miss(environment: LockedEnvironment, due: DueSlot, tick: datetime) -> MonitorRules:
    """Return the rules of a slot, with the thresholds that held at the tick that found it (D32)."""
    counting = environment.rules_until(tick)
    if due.former is None:
        return counting
    return dataclasses.replace(
        due.former.rules,
        failure_threshold=counting.failure_threshold,
        recovery_threshold=counting.recovery_threshold,
    )


def _config_of(environment: LockedEnvironment, due: DueSlot, tick: datetime) -> int | None:
    """Return the snapshot of the rules that a slot was judged by, if these are not the present ones (D32).

    What was expected when its monitor was disabled is not touched by edits that came later.
    """
    if not environment.former:
        return None
    ends = [tick]
    if due.former is not None:
        ends.append(due.former.until)
    off_since = environment.off_since
    if off_since is None and environment.was_off is not None:
        off_since = environment.was_off.since
    if off_since is not None and due.slot <= off_since:
        ends.append(off_since)
    held = held_until(environment.former, min(ends))
    return None if held is None else held.config_id


def _unjudged_slots(environment: LockedEnvironment, slots: Sequence[DueSlot]) -> Iterator[tuple[DueSlot, str | None]]:
    """Yield the slots that came while the monitor was active, and why they are not judged, if so (D23).

    Of a disabled one nothing more is expected.
    """
    for due in slots:
        if environment.expects(due.slot):
            yield due, due.because or environment.slot_unjudged_because(due.slot, due.deadline)
    off_since = environment.off_since
    if off_since is not None:
        environment.state = expect_no_more(environment.state, environment.rules, environment.former, now=off_since)


def _due_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with a slot that is due, in order, and at which tick: `last`, or an earlier one.

    So early that there are no more than `PASS_ROWS_MAX` of them; but all that are due at `first`, if that is the one.
    """
    if first < last:
        due = MonitorEnvironment.objects.in_shard(shard).due_at(last).order_by("next_checkin_latest")
        for beyond in due.values_list("next_checkin_latest", flat=True)[PASS_ROWS_MAX : PASS_ROWS_MAX + 1]:
            assert beyond is not None, "it is due"
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return _ids_due_at(shard, last), last


def _ids_due_at(shard: int, tick: datetime) -> list[int]:
    due = MonitorEnvironment.objects.in_shard(shard).due_at(tick).order_by("id")
    return list(due.values_list("id", flat=True))


def _deaf_minutes(environments: Collection[LockedEnvironment], tick: datetime) -> DeafMinutes:
    """Return which minutes between the oldest slot that waits in these environments and the tick were deaf."""
    slots = [slot for environment in environments if (slot := environment.state.pending_slot) is not None]
    if not slots:
        return DeafMinutes()
    return DeafMinutes(deaf_spans(min(slots), tick))


def _missed(environment: LockedEnvironment, due: DueSlot, *, tick: datetime) -> CheckInState:
    slot = due.slot
    return CheckInState(
        id=None,
        guid=_miss_id(f"{environment.id}:{slot.isoformat()}"),
        environment_id=environment.id,
        status=CheckInStatus.MISSED,
        date_added=slot,
        date_updated=slot,
        received_at=tick,
        source=Source.CLOCK,
        expected_time=slot,
        failed_at=tick,
        config_id=_config_of(environment, due, tick),
    )


def _unknown(environment: LockedEnvironment, due: DueSlot, *, tick: datetime, because: str | None) -> CheckInState:
    return replace(
        _missed(environment, due, tick=tick),
        status=CheckInStatus.UNKNOWN,
        date_updated=tick,
        failed_at=None,
        unknown_because=because,
    )


# --- timeouts -------------------------------------------------------------------------------------------------------


def mark_timeouts(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Give up the runs of the shard whose deadline is at or before `first`, if they are still in progress (D7).

    It is a failure at this tick, also if a newer run has ended meanwhile (D29). With `last`, the ticks up to there
    follow, in order, as far as they make one pass (`PASS_ROWS_MAX`).
    """
    ids, last = _overdue_environments(shard, first, last or first)
    marked: dict[datetime, list[Marked]] = {}
    for chunk in _chunks(ids):
        environments = lock_environments(chunk, since=first)
        due = [(_tick_of(run.timeout_at, first, last), run) for run in load_overdue(chunk, last)]
        # Ends of runs are counted after the tick for which they wait, and before the next one (D29).
        last = min((tick for tick, run in due if environments[run.environment_id].state.has_deferred), default=last)
        due = sorted((one for one in due if one[0] <= last), key=lambda one: one[0])
        marked |= {tick: [] for tick, _ in due if tick not in marked}
        overdue, unknown = _without_unjudged([run for _, run in due], environments, first, last)
        failures: list[FailedCheckIn] = []
        timeouts: list[CheckInState] = []
        for checkin in overdue:
            environment = environments[checkin.environment_id]
            tick = _tick_of(checkin.timeout_at, first, last)
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
        mark_failed(failures, past=PAST_RUNS)
        judged = [environments[id_] for id_ in sorted({run.environment_id for _, run in due})]
        settle(judged)
        save_environments(judged)
        for one in (*unknown, *(_marked(environments[run.environment_id], run) for run in timeouts)):
            marked[one.tick].append(one)
    return Pass(last, marked)


def _overdue_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with an overdue run, and at which tick: see `_due_environments`."""
    if first < last:
        beyond = deadline_after(shard, last, PASS_ROWS_MAX)
        if beyond is not None:
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return overdue_environments(shard, last), last


def _without_unjudged(
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
            ended.append(_unheard(run, first, last, because=why))
        else:
            ended.append(_ended(run))
    update_checkins(ended)
    unknown = [run for run in ended if run.status is CheckInStatus.UNKNOWN]
    return judged, [_marked(environments[run.environment_id], run) for run in unknown]


# --- unknown --------------------------------------------------------------------------------------------------------


def mark_unknown(shard: int, first: datetime, last: datetime | None = None) -> Pass:
    """Make unknown what is due in the shard at a tick at which we were deaf, or heard far too little (D2, D4).

    `last` is the last tick of a time without a listener that begins with `first`, if it is done at once: each row says
    the tick of its own.
    Slots get an unknown check-in, and runs in progress whose deadline has come become unknown: no failure, and no
    streak ends. At a deaf tick, a slot whose window was not wholly deaf waits instead.
    Source: docs/reference/behaviour.md, section 12.3.
    """
    last = last or first
    is_incident = Tick.objects.filter(at=last, decision=VolumeDecision.INCIDENT.value).exists()
    marked: list[Marked] = []
    for ids in _chunks(_ids_due_at(shard, last)):
        environments = lock_environments(ids, due_at=last, since=first)
        deaf = _deaf_minutes(environments.values(), last)
        unknown: list[tuple[LockedEnvironment, CheckInState]] = []
        for environment in environments.values():
            slots, environment.state = decide_due(
                environment.state,
                environment.rules,
                environment.former,
                tick=last,
                deaf=deaf,
                all_unknown=is_incident,
            )
            unknown += [
                (environment, _unknown(environment, due, tick=_tick_of(due.deadline, first, last), because=why))
                for due, why in _unjudged_slots(environment, slots)
            ]
        stored = insert_checkins(unknown, tail="ON CONFLICT DO NOTHING")
        settle(environments.values())
        save_environments(environments.values())
        marked += [
            _marked(environment, checkin)
            for environment, checkin in unknown
            if (environment.id, checkin.guid) in stored
        ]
    for ids in _chunks(overdue_environments(shard, last)):
        # An end may have been received in the minute before.
        environments = lock_environments(ids, since=first - MINUTE)
        overdue, unjudged = _without_unjudged(load_overdue(ids, last), environments, first, last)
        marked += unjudged
        unfinished = [_unheard(run, first, last) for run in overdue if run.finished_status is None]
        update_checkins(unfinished)
        _end_unknown(environments, [run for run in overdue if run.finished_status is not None])
        settle(environments.values())
        save_environments(environments.values())
        marked += [_marked(environments[run.environment_id], run) for run in unfinished]
    return Pass(last, {last: marked})


def _unheard(run: CheckInState, first: datetime, last: datetime, *, because: str | None = None) -> CheckInState:
    """Return an overdue run as unknown, at the tick that finds it."""
    tick = _tick_of(run.timeout_at, first, last)
    return replace(run, status=CheckInStatus.UNKNOWN, timeout_at=None, date_updated=tick, unknown_because=because)


def _ended(run: CheckInState) -> CheckInState:
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


def _tick_of(due_at: datetime | None, first: datetime, last: datetime) -> datetime:
    """Return which of the ticks from `first` to `last` finds what is due then."""
    assert due_at is not None, "what is due has a deadline"
    return min(last, max(first, first_tick_at_or_after(due_at)))


def _end_unknown(environments: Mapping[int, LockedEnvironment], runs: Sequence[CheckInState]) -> None:
    """End runs whose end was received after their deadline, and before the clock came to say that they are unknown.

    In the order of time they were unknown first, and an unknown run ends with all that an end means (D2, P6): it is
    counted among what else was received meanwhile.
    """
    endings = []
    ended = []
    for run in runs:
        assert run.id is not None, "a stored check-in has an id"
        assert run.finished_status is not None, "only runs that ended are given"
        assert run.finished_at is not None, "who ended did so at some time"
        verdict = Verdict.OK if run.finished_status is CheckInStatus.OK else Verdict.FAILED
        endings.append(ending(environments[run.environment_id], verdict, run, run.id, run.finished_at))
        ended.append(_ended(run))
    update_checkins(ended)
    defer(endings)


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK_ROWS_MAX):
        yield ids[start : start + CHUNK_ROWS_MAX]


HANDLERS: dict[TaskKind, Callable[..., Pass]] = {
    TaskKind.MISSED: mark_missed,
    TaskKind.TIMEOUT: mark_timeouts,
    TaskKind.UNKNOWN: mark_unknown,
}
