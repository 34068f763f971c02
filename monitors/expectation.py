"""What is expected next: how a check-in, the clock and an edit move the slot pointer of an environment (pure).

The pointer (`pending_slot`) is the oldest slot that nobody has accounted for. A check-in moves it past everything that
the check-in serves; the clock steps it slot by slot (D1); an edit of what is expected sets it anew from now (D10).
It never moves back except by an edit, so no slot is judged twice. What was expected before an edit and waits for the
clock still has pointers of its own (`monitors.spans`, D32); the functions here know one pointer and one set of rules.

A check-in serves no slot whose deadline is at or before its reception (D20), whether or not the clock has come to judge
that slot: a late clock loses no miss. Such a slot stays where it is, and what the check-in does serve is remembered as
`served_ahead`, over which the pointer jumps when it gets there.
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
"""How often the clock looks at an environment whose schedule cannot be read."""


class DueSlot(msgspec.Struct, frozen=True, gc=False):
    """A slot that nothing served in time: `slot` plus the margin is `deadline`, and the clock has reached that.

    If part of the time up to there was deaf, `deadline` is the tick that the slot was put off to. `is_unknown`: nobody
    can say that the job did not report, since we would not have heard it (D2, D4). `former` are the rules that it is
    judged by if they are no longer those of its monitor (D32). `because` says why it is unknown, if it is for none of
    these reasons.
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
    # Which slot waits only matters to an interval: a crontab says by itself which one comes next.
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
        # A message older than the newest one: going back would expect a slot once more.
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
    """Tell whether a slot has come by `at` that a run which began at `began_at` does not serve (D22).

    `began_for` is the slot that the run belongs to (its expected time). A slot has come `early_tolerance` before it,
    as for a run that begins then (D12). Slots of an interval are counted anew from each run that begins.
    `counted_since`: up to there other rules held, whose slots are not asked for (D32).
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

    None before the first check-in, if the schedule has no more of them (D34), and if it cannot be read (D37). The slot
    may lie in the future: the run is an extra one then.
    """
    if why_unreadable(rules.schedule):
        return None
    if state.next_checkin_latest is None or (state.next_checkin_latest > received_at and not is_set_aside(state)):
        return state.pending_slot
    return _first_in_time(_anchored(state, rules), rules, received_at=received_at)


def _first_in_time(state: EnvironmentState, rules: MonitorRules, *, received_at: datetime) -> datetime | None:
    """Return the first slot behind an overdue pointer that nothing has served and whose deadline is still to come.

    None if the schedule has no more of them.
    """
    assert state.pending_slot is not None, "only a pointer is overdue"
    frontier: datetime | None = state.pending_slot
    anchor = state.anchor
    if state.served_ahead:
        frontier, anchor = state.served_ahead[-1].next_slot, state.served_ahead[-1].anchor
    slot = next_slot(rules.schedule, received_at - timedelta(minutes=rules.margin_minutes), anchor)
    return None if frontier is None or slot is None else max(frontier, slot)


def expect_from_now(state: EnvironmentState, rules: MonitorRules, *, now: datetime) -> EnvironmentState:
    """Return the state with the next expected time counted from `now`: what an edit or re-enabling does (D10).

    An environment that never heard from its job expects nothing still, nor does one whose schedule cannot be read.
    """
    if state.last_checkin is None or why_unreadable(rules.schedule):
        return expect_nothing(state)
    anchor = anchor_for(rules.schedule, now)
    return _expect(state, rules, next_slot(rules.schedule, now, anchor), anchor=anchor)


def expect_after_repair(state: EnvironmentState, rules: MonitorRules, *, now: datetime) -> EnvironmentState:
    """Return the state of an environment whose schedule could not be read until `now` (D37).

    What fell due before, counted by the new schedule from the slot that was known last, becomes unknown when the clock
    comes to it; what follows is judged.
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
    # Earlier than `is_set_aside` knows deadlines: it is unknown anyway.
    deadline = slot + timedelta(minutes=rules.margin_minutes)
    return replace(
        unjudged,
        next_checkin=expected.pending_slot,
        next_checkin_latest=min(deadline, now + RECHECK_AFTER - timedelta(minutes=1)),
        unjudged_until=now,
    )


def is_set_aside(state: EnvironmentState) -> bool:
    """Tell whether the pointer stands at a slot that is unknown already, since its schedule could not be read (D37)."""
    return (
        state.unjudged_until is not None
        and state.pending_slot is not None
        and state.pending_slot <= state.unjudged_until
        and state.next_checkin_latest == state.unjudged_until + RECHECK_AFTER
    )


def expect_no_more(state: EnvironmentState, *, now: datetime) -> EnvironmentState:
    """Return the state of an environment whose monitor is disabled at `now`.

    A slot that has come already waits for its deadline, at which the clock finds it unknown (D23), or missed if that
    was before `now` and the clock is late. No other slot is expected.
    """
    if state.pending_slot is None or state.pending_slot > now:
        return expect_nothing(state)
    return state


def first_tick_at_or_after(at: datetime) -> datetime:
    """Return the tick that sees something due at `at`: the first whole minute from there on (D20)."""
    cut = at.replace(second=0, microsecond=0)
    return cut if cut == at else cut + timedelta(minutes=1)


def is_behind(state: EnvironmentState, at: datetime) -> bool:
    """Tell whether the clock has still to apply something that is due at a tick at or before `at` (D20, D29)."""
    due = first_due(state)
    return due is not None and due <= at and first_tick_at_or_after(due) <= at


def first_due(state: EnvironmentState) -> datetime | None:
    """Return the earliest deadline of slots and runs that the clock has not applied; of runs, at the earliest."""
    slot, run = state.next_checkin_latest, state.first_timeout_at
    return slot or run if slot is None or run is None else min(slot, run)


def expect_nothing(state: EnvironmentState) -> EnvironmentState:
    """Return the state of an environment that the clock leaves alone (its monitor is disabled or being deleted)."""
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
    """Return the slots that are due at `tick`, oldest first, and the state with the pointer behind them.

    A slot is due when slot + margin is at or before the tick (D20). The pointer walks slot by slot, so that a margin
    longer than the gap between slots or a late clock loses none (D1). `deaf` covers the time from the pointer to the
    tick: slots whose window was wholly deaf are unknown; one whose window was so in part stays where it is, with a
    later deadline, until a whole margin of minutes has been listened to (D2). Slots that fall due when nobody had
    listened for a week are stepped over at once and not returned: the clock incident stands for them. `all_unknown`:
    the clock's decision is that we hear too little to judge anybody at this tick (D4). `until`: no later slot is looked
    at, since other rules hold from there on (D32).
    """
    if why_unreadable(rules.schedule):
        return _set_aside(state, tick=tick)
    state = _anchored(state, rules)
    due: list[DueSlot] = []
    if is_set_aside(state) and state.next_checkin_latest is not None and state.next_checkin_latest <= tick:
        # It can be read again, by itself: by a new tz database, or the old one.
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
                # What falls due later in that time is as unknown, since its window begins later and ends before.
                state = _step(state, rules, tick=tick, past=summarised_until - timedelta(minutes=rules.margin_minutes))
        else:
            state = _put_off(state, rules, until=verdict.wait_until)
    if state.unjudged_until is not None and (state.pending_slot is None or state.pending_slot > state.unjudged_until):
        state = replace(state, unjudged_until=None)
    return due, state


def _anchored(state: EnvironmentState, rules: MonitorRules) -> EnvironmentState:
    """Fasten the series of a row that a hand made an interval at the slot where the pointer stands (D37)."""
    if rules.schedule.crontab is not None or state.anchor is not None or state.pending_slot is None:
        return state
    return replace(state, anchor=anchor_for(rules.schedule, state.pending_slot))


def _set_aside(state: EnvironmentState, *, tick: datetime) -> tuple[list[DueSlot], EnvironmentState]:
    """Make the slot at the pointer unknown, once, and look again later whether the schedule can be read (D37)."""
    slot, deadline = state.pending_slot, state.next_checkin_latest
    if slot is None or deadline is None or deadline > tick:
        return [], state
    due = [] if is_set_aside(state) else [DueSlot(slot, deadline, is_unknown=True)]
    return due, replace(state, unjudged_until=tick, next_checkin_latest=tick + RECHECK_AFTER)


def _put_off(state: EnvironmentState, rules: MonitorRules, *, until: datetime) -> EnvironmentState:
    """Give the slot at the pointer until `until`; a check-in that came before that serves it."""
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
    """Move the pointer to the next slot, or to the first one after `past`, whatever lies between."""
    assert state.pending_slot is not None, "stepping over a slot needs one"
    after = state.pending_slot if past is None else max(past, state.pending_slot)
    slot = next_slot(rules.schedule, after, state.anchor)
    state = _jump(_expect(state, rules, slot, anchor=state.anchor, served_ahead=state.served_ahead), rules)
    if not state.served_ahead and state.pending_slot is not None and state.pending_slot < tick:
        # What people expect next is not in the past, even while older slots still wait for their deadlines.
        coming = first_slot_at_or_after(rules.schedule, tick, state.anchor)
        return replace(state, next_checkin=coming or state.next_checkin)
    return state


def _jump(state: EnvironmentState, rules: MonitorRules) -> EnvironmentState:
    """Move the pointer over what later check-ins have served already."""
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
