"""Expectations: how a check-in, the clock and an edit move the slot pointer of an environment (pure).

The pointer (`pending_slot`) is the oldest slot that is neither served nor judged. A check-in moves it past all slots
that it serves; the clock steps it slot by slot (D1); an edit of the schedule sets it anew from now (D10). Only an edit
moves it back, so no slot is judged twice. Slots from before an edit that wait for the clock have pointers of their own
(`monitors.spans`, D32); the functions here work on one pointer and one set of rules.

A check-in serves no slot whose deadline is at or before its reception (D20), whether or not the clock has judged that
slot already: a late clock loses no miss. The pointer stays at such a slot, and the slots that the check-in serves are
stored as `served_ahead`; the pointer jumps over them when it gets there.
"""

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from monitors.coverage import MISSED, UNKNOWN, DeafMinutes, judge_slot
from monitors.schedule import (
    Anchor,
    anchor_for,
    first_slot_at_or_after,
    is_nearly,
    next_slot,
    serves_early,
    why_unreadable,
)
from monitors.state import EnvironmentState, FormerRules, MonitorRules, ServedAhead

NOTHING_DEAF = DeafMinutes()
RECHECK_AFTER = timedelta(minutes=10)
"""How often the clock checks an environment whose schedule cannot be read."""


class DueSlot(msgspec.Struct, frozen=True, gc=False):
    """A slot that nothing served in time: the clock has reached its `deadline`, which is `slot` plus the margin.

    If part of that time was deaf, `deadline` is the tick to which the slot was postponed. `is_unknown`: the job may
    have reported, but its check-in could not be received (D2, D4). `former` are the rules by which it is judged, if
    they are no longer those of its monitor (D32). `because` is the reason if it is unknown for another reason.
    """

    slot: datetime
    deadline: datetime
    is_unknown: bool = False
    former: FormerRules | None = None
    because: str | None = None


def expect_after_beginning(
    state: EnvironmentState, rules: MonitorRules, *, received_at: datetime, early_tolerance: timedelta
) -> EnvironmentState:
    """Return the state with the next expected time counted from a message that opens a run, received at `received_at`.

    Only a beginning serves slots (D21): every slot before the next expected one whose deadline was still to come, and
    the next one if it comes at most `early_tolerance` before that (D12).
    Source: docs/reference/behaviour.md, sections 5.4 and 7.
    """
    if why_unreadable(rules.schedule):
        return state
    state = _anchored(state, rules)
    overdue = is_set_aside(state) or (
        state.next_checkin_latest is not None and state.next_checkin_latest <= received_at
    )
    frontier, frontier_anchor = state.pending_slot, state.anchor
    if overdue and state.served_ahead:
        frontier, frontier_anchor = state.served_ahead[-1].next_slot, state.served_ahead[-1].anchor
        if frontier is None:
            return state
    # The waiting slot only matters for an interval: the next slot of a crontab does not depend on it.
    is_interval = rules.schedule.crontab is None
    slot = (
        expected_slot(state, rules, received_at=received_at)
        if is_interval
        else next_slot(rules.schedule, received_at, None)
    )
    is_early = slot is not None and is_nearly(rules.schedule, slot, received_at, frontier_anchor, early_tolerance)
    anchor = None
    if is_interval or is_early:
        reference = slot if slot is not None and is_early else received_at
        anchor = anchor_for(rules.schedule, reference, frontier_anchor)
        slot = next_slot(rules.schedule, reference, anchor)
    if frontier is None:
        return _expect(state, rules, slot, anchor=anchor)
    if slot is not None and slot <= frontier:
        # A message older than the newest one: moving back would expect a slot again.
        return state
    if not overdue:
        return _jump(_expect(state, rules, slot, anchor=anchor, served_ahead=state.served_ahead), rules)
    first = _first_in_time(state, rules, received_at=received_at)
    if first is None:
        return state
    ahead = ServedAhead(first_slot=first, next_slot=slot, anchor=anchor, received_at=received_at)
    return replace(state, next_checkin=slot or state.next_checkin, served_ahead=(*state.served_ahead, ahead))


def has_slot_come_since(
    state: EnvironmentState,
    rules: MonitorRules,
    *,
    began_at: datetime,
    began_for: datetime | None,
    at: datetime,
    early_tolerance: timedelta,
    counted_since: datetime | None = None,
) -> bool:
    """Return whether a slot has come by `at` that a run which began at `began_at` does not serve (D22).

    `began_for` is the slot that the run belongs to (its expected time). A slot comes `early_tolerance` before its time,
    as for a run that begins then (D12). Slots of an interval are counted anew from each run that begins.
    `counted_since`: until then other rules were in force, whose slots are ignored here (D32).
    """
    schedule = rules.schedule
    if why_unreadable(schedule):
        return False
    anchor = state.served_ahead[-1].anchor if state.served_ahead else state.anchor
    served = serves_early(schedule, began_at, began_for, anchor, early_tolerance) or began_at
    if schedule.crontab is None:
        anchor = anchor or anchor_for(schedule, served)
        assert anchor is not None, "intervals are counted from an anchor"
        served = max(served, anchor.at)
    if counted_since is not None:
        served = max(served, counted_since)
    slot = next_slot(schedule, served, anchor)
    if slot is None:
        return False
    return slot <= at or serves_early(schedule, at, slot, anchor, early_tolerance) == slot


def expected_slot(state: EnvironmentState, rules: MonitorRules, *, received_at: datetime) -> datetime | None:
    """Return the slot that a run which begins at `received_at` belongs to: the oldest one that it can still serve.

    None before the first check-in, if the schedule has no more slots (D34), and if it cannot be read (D37). If the slot
    is in the future, the run is an extra one.
    """
    if why_unreadable(rules.schedule):
        return None
    if state.next_checkin_latest is None or (state.next_checkin_latest > received_at and not is_set_aside(state)):
        return state.pending_slot
    return _first_in_time(_anchored(state, rules), rules, received_at=received_at)


def _first_in_time(state: EnvironmentState, rules: MonitorRules, *, received_at: datetime) -> datetime | None:
    """Return the first slot after an overdue pointer that nothing has served and whose deadline has not come.

    None if the schedule has no more slots.
    """
    assert state.pending_slot is not None, "only a pointer can be overdue"
    frontier: datetime | None = state.pending_slot
    anchor = state.anchor
    if state.served_ahead:
        frontier, anchor = state.served_ahead[-1].next_slot, state.served_ahead[-1].anchor
    slot = next_slot(rules.schedule, received_at - timedelta(minutes=rules.margin_minutes), anchor)
    return None if frontier is None or slot is None else max(frontier, slot)


def expect_from_now(state: EnvironmentState, rules: MonitorRules, *, now: datetime) -> EnvironmentState:
    """Return the state with the next expected time counted from `now`, after an edit or re-enabling (D10).

    An environment without any check-in still expects nothing, and so does one whose schedule cannot be read.
    """
    if state.last_checkin is None or why_unreadable(rules.schedule):
        return expect_nothing(state)
    anchor = anchor_for(rules.schedule, now)
    return _expect(state, rules, next_slot(rules.schedule, now, anchor), anchor=anchor)


def expect_after_repair(state: EnvironmentState, rules: MonitorRules, *, now: datetime) -> EnvironmentState:
    """Return the state of an environment whose schedule could not be read until `now` (D37).

    Slots that fell due before, counted by the new schedule from the last known slot, become unknown when the clock
    reaches them; later slots are judged.
    """
    expected = expect_from_now(state, rules, now=now)
    if state.pending_slot is None or expected.pending_slot is None:
        return expected
    anchor, slot = expected.anchor, state.pending_slot
    if is_set_aside(state):
        slot = next_slot(rules.schedule, slot, anchor) or expected.pending_slot
    if slot >= expected.pending_slot:
        return expected
    unjudged = _expect(state, rules, slot, anchor=anchor)
    # Earlier than the deadlines of `is_set_aside`: the slot becomes unknown anyway.
    deadline = slot + timedelta(minutes=rules.margin_minutes)
    return replace(
        unjudged,
        next_checkin=expected.pending_slot,
        next_checkin_latest=min(deadline, now + RECHECK_AFTER - timedelta(minutes=1)),
        unjudged_until=now,
    )


def is_set_aside(state: EnvironmentState) -> bool:
    """Return whether the pointer is at a slot that is unknown already, since its schedule could not be read (D37)."""
    return (
        state.unjudged_until is not None
        and state.pending_slot is not None
        and state.pending_slot <= state.unjudged_until
        and state.next_checkin_latest == state.unjudged_until + RECHECK_AFTER
    )


def expect_no_more(state: EnvironmentState, *, now: datetime) -> EnvironmentState:
    """Return the state of an environment whose monitor is disabled at `now`.

    A slot that has come already waits for its deadline, at which it becomes unknown (D23), or missed if the deadline
    was before `now` and the clock is late. No other slot is expected.
    """
    if state.pending_slot is None or state.pending_slot > now:
        return expect_nothing(state)
    return state


def first_tick_at_or_after(at: datetime) -> datetime:
    """Return the tick at which something due at `at` is applied: the first whole minute from there on (D20)."""
    cut = at.replace(second=0, microsecond=0)
    return cut if cut == at else cut + timedelta(minutes=1)


def is_behind(state: EnvironmentState, at: datetime) -> bool:
    """Return whether the clock has still to apply something that is due at a tick at or before `at` (D20, D29)."""
    due = first_due(state)
    return due is not None and due <= at and first_tick_at_or_after(due) <= at


def first_due(state: EnvironmentState) -> datetime | None:
    """Return the earliest deadline of slots and runs that the clock has not applied; for runs, a lower bound."""
    slot, run = state.next_checkin_latest, state.first_timeout_at
    return slot or run if slot is None or run is None else min(slot, run)


def expect_nothing(state: EnvironmentState) -> EnvironmentState:
    """Return the state of an environment that the clock ignores (its monitor is disabled or being deleted)."""
    return replace(
        state,
        pending_slot=None,
        next_checkin=None,
        next_checkin_latest=None,
        anchor=None,
        served_ahead=(),
        unjudged_until=None,
        spans=(),
    )


def decide_due_slots(
    state: EnvironmentState,
    rules: MonitorRules,
    *,
    tick: datetime,
    deaf: DeafMinutes = NOTHING_DEAF,
    all_unknown: bool = False,
    until: datetime | None = None,
) -> tuple[list[DueSlot], EnvironmentState]:
    """Return the slots that are due at `tick`, oldest first, and the state with the pointer after them.

    A slot is due when slot + margin is at or before the tick (D20). The pointer goes slot by slot, so that a margin
    longer than the gap between slots or a late clock loses none (D1). `deaf` includes the time from the pointer to the
    tick. A slot whose window was wholly deaf is unknown; if it was deaf in part, the slot gets a later deadline, until
    a whole margin of minutes has been covered by listeners (D2). Slots that fall due after a week without listeners
    are skipped at once and not returned: the clock incident represents them. `all_unknown`: the clock decided that too
    little was received to judge any job at this tick (D4). `until`: later slots are ignored, since other rules are in
    force from there on (D32).
    """
    if why_unreadable(rules.schedule):
        return _set_aside(state, tick=tick)
    state = _anchored(state, rules)
    due: list[DueSlot] = []
    if is_set_aside(state) and state.next_checkin_latest is not None and state.next_checkin_latest <= tick:
        # It can be read again without an edit: the tz database has changed.
        state = _step(replace(state, unjudged_until=tick), rules, tick=tick)
    while state.pending_slot is not None and state.next_checkin_latest is not None:
        if state.next_checkin_latest > tick or (until is not None and state.pending_slot > until):
            break
        slot = state.pending_slot
        verdict = judge_slot(slot, margin_minutes=rules.margin_minutes, tick=tick, deaf=deaf) if deaf else MISSED
        summarised_until = deaf.summarised_until(state.next_checkin_latest) if verdict.is_unknown else None
        if all_unknown or (state.unjudged_until is not None and slot <= state.unjudged_until):
            verdict = UNKNOWN
        if verdict.wait_until is None:
            if summarised_until is None:
                due.append(DueSlot(slot, state.next_checkin_latest, verdict.is_unknown))
                state = _step(state, rules, tick=tick)
            else:
                # Later slots of that time are unknown too, since their windows lie within it.
                state = _step(state, rules, tick=tick, past=summarised_until - timedelta(minutes=rules.margin_minutes))
        else:
            state = _put_off(state, rules, until=verdict.wait_until)
    if state.unjudged_until is not None and (state.pending_slot is None or state.pending_slot > state.unjudged_until):
        state = replace(state, unjudged_until=None)
    return due, state


def _anchored(state: EnvironmentState, rules: MonitorRules) -> EnvironmentState:
    """Anchor the series at the pointer, if somebody made the schedule an interval by hand (D37)."""
    if rules.schedule.crontab is not None or state.anchor is not None or state.pending_slot is None:
        return state
    return replace(state, anchor=anchor_for(rules.schedule, state.pending_slot))


def _set_aside(state: EnvironmentState, *, tick: datetime) -> tuple[list[DueSlot], EnvironmentState]:
    """Make the slot at the pointer unknown, once, and check again later whether the schedule can be read (D37)."""
    slot, deadline = state.pending_slot, state.next_checkin_latest
    if slot is None or deadline is None or deadline > tick:
        return [], state
    due = [] if is_set_aside(state) else [DueSlot(slot, deadline, is_unknown=True)]
    return due, replace(state, unjudged_until=tick, next_checkin_latest=tick + RECHECK_AFTER)


def _put_off(state: EnvironmentState, rules: MonitorRules, *, until: datetime) -> EnvironmentState:
    """Postpone the slot at the pointer to `until`; a check-in received before that serves it."""
    if state.served_ahead:
        ahead, *rest = state.served_ahead
        if ahead.received_at is not None and ahead.received_at < until:
            if ahead.next_slot is None:
                return expect_nothing(state)
            slot = max(state.pending_slot or ahead.next_slot, ahead.next_slot)
            return _jump(_expect(state, rules, slot, anchor=ahead.anchor, served_ahead=tuple(rest)), rules)
    return replace(state, next_checkin_latest=until)


def _step(
    state: EnvironmentState, rules: MonitorRules, *, tick: datetime, past: datetime | None = None
) -> EnvironmentState:
    """Move the pointer to the next slot, or to the first one after `past`."""
    assert state.pending_slot is not None, "stepping over a slot needs one"
    after = state.pending_slot if past is None else max(past, state.pending_slot)
    slot = next_slot(rules.schedule, after, state.anchor)
    state = _jump(_expect(state, rules, slot, anchor=state.anchor, served_ahead=state.served_ahead), rules)
    if not state.served_ahead and state.pending_slot is not None and state.pending_slot < tick:
        # The next expected time is not in the past, even while older slots still wait for their deadlines.
        coming = first_slot_at_or_after(rules.schedule, tick, state.anchor)
        return replace(state, next_checkin=coming or state.next_checkin)
    return state


def _jump(state: EnvironmentState, rules: MonitorRules) -> EnvironmentState:
    """Move the pointer over the slots that later check-ins have served already."""
    while state.served_ahead and state.pending_slot is not None:
        ahead, *rest = state.served_ahead
        if state.pending_slot < ahead.first_slot:
            break
        if ahead.next_slot is None:
            return expect_nothing(state)
        slot = max(state.pending_slot, ahead.next_slot)
        anchor = ahead.anchor if slot == ahead.next_slot else state.anchor
        state = _expect(state, rules, slot, anchor=anchor, served_ahead=tuple(rest))
    return state


def _expect(
    state: EnvironmentState,
    rules: MonitorRules,
    slot: datetime | None,
    *,
    anchor: Anchor | None,
    served_ahead: tuple[ServedAhead, ...] = (),
) -> EnvironmentState:
    if slot is None:
        # Ten years without a time: nothing is expected until a check-in or an edit finds one again (D34).
        return expect_nothing(state)
    promised = served_ahead[-1].next_slot if served_ahead else None
    return replace(
        state,
        pending_slot=slot,
        next_checkin=slot if promised is None else max(slot, promised),
        next_checkin_latest=slot + timedelta(minutes=rules.margin_minutes),
        anchor=anchor,
        served_ahead=served_ahead,
    )
