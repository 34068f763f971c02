"""Expectations before and after edits: an edit loses no slot, and judges none early (pure; D32).

An edit counts expectations anew from its own instant on (D10). Slots from before it that are neither served nor judged
are still judged by the former rules: with their margin, when the clock gets there, however late. So a state may hold
several slot pointers, a *span* for each set of rules: from one edit to the next. Most states hold one, and then these
functions only call `monitors.expectation`.

`former` are the rules that a monitor had before its present ones, oldest first; a caller may omit them if nothing older
than the newest edit is concerned.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from monitors import expectation
from monitors.coverage import DeafMinutes
from monitors.expectation import (
    NOTHING_DEAF,
    DueSlot,
    decide_due_slots,
    expect_after_beginning,
    expect_after_repair,
    expect_from_now,
    expect_nothing,
    expected_slot,
    has_slot_come_since,
)
from monitors.former import counts_alike, held_at, held_until, rules_since
from monitors.schedule import anchor_for, next_slot, serves_early, why_unreadable
from monitors.state import EnvironmentState, FormerRules, MonitorRules, ServedAhead, Span, WasOff

SPANS_MAX = 20
"""The most spans of an environment, the newest included. Each has a waiting slot, so this is reached only if the clock
has stopped, or margins are long, during many edits. Then the two oldest are merged, and the earlier slots of the merged
span are unknown: clients must not be able to make a row grow."""


class _Part(NamedTuple):
    """A span as a state of its own, with its rules. `former` is None in the newest, which has no `until` either."""

    state: EnvironmentState
    rules: MonitorRules
    until: datetime | None = None
    off_since: datetime | None = None
    former: FormerRules | None = None

    def waits(self) -> bool:
        """Return whether a slot of this span has still to be judged."""
        slot = self.state.pending_slot
        return slot is not None and (self.until is None or slot <= self.until)


def _parts(state: EnvironmentState, rules: MonitorRules, former: Sequence[FormerRules]) -> list[_Part]:
    if not state.spans:
        return [_Part(state, rules)]
    return list(_split(state, rules, former))


def _split(state: EnvironmentState, rules: MonitorRules, former: Sequence[FormerRules]) -> Iterator[_Part]:
    for span in state.spans:
        held = None if span.until is None else held_until(former, span.until)
        own = replace(
            state,
            pending_slot=span.pending_slot,
            next_checkin=span.next_checkin or span.pending_slot,
            next_checkin_latest=span.next_checkin_latest,
            anchor=span.anchor,
            served_ahead=span.served_ahead,
            unjudged_until=span.unjudged_until,
            spans=(),
        )
        yield _Part(own, rules if held is None else held.rules, span.until, span.off_since, held)


def _joined(parts: Sequence[_Part]) -> EnvironmentState:
    """Return the state that holds these spans, the newest last, without those that have no waiting slot."""
    newest = parts[-1]
    older = [part for part in parts[:-1] if part.waits()]
    while len(older) >= SPANS_MAX:
        older[:2] = [_merged(*older[:2])]
    if not older:
        return newest.state
    waiting = [part for part in (*older, newest) if part.state.pending_slot is not None]
    deadlines = [at for part in waiting if (at := part.state.next_checkin_latest) is not None]
    return replace(
        newest.state,
        pending_slot=older[0].state.pending_slot,
        next_checkin=newest.state.next_checkin or older[-1].state.pending_slot,
        next_checkin_latest=min(deadlines),
        anchor=None,
        served_ahead=(),
        spans=tuple(_span(part) for part in (*older, newest)),
    )


def _span(part: _Part) -> Span:
    state = part.state
    return Span(
        until=part.until,
        pending_slot=state.pending_slot,
        next_checkin_latest=state.next_checkin_latest,
        next_checkin=state.next_checkin if part.until is None else None,
        anchor=state.anchor,
        served_ahead=state.served_ahead,
        unjudged_until=state.unjudged_until,
        off_since=part.off_since,
    )


def _merged(older: _Part, newer: _Part) -> _Part:
    """Merge the two oldest spans. Slots of the newer rules are unknown up to the end of the older span."""
    slot, deadline, until = older.state.pending_slot, older.state.next_checkin_latest, older.until
    assert slot is not None, "only spans with a waiting slot are stored"
    assert deadline is not None, "a slot has a deadline"
    assert until is not None, "an edit ended it"
    state, schedule = newer.state, newer.rules.schedule
    ahead: tuple[ServedAhead, ...] = ()
    first = None if why_unreadable(schedule) else next_slot(schedule, until, state.anchor or anchor_for(schedule, slot))
    if first is not None and state.pending_slot is not None and first < state.pending_slot:
        ahead = (ServedAhead(first_slot=first, next_slot=state.pending_slot, anchor=state.anchor),)
    merged = replace(
        state,
        pending_slot=slot,
        next_checkin_latest=deadline,
        served_ahead=(*ahead, *state.served_ahead),
        unjudged_until=until,
    )
    return newer._replace(state=merged)


# --- edits ----------------------------------------------------------------------------------------------------------


def expect_after_edit(
    state: EnvironmentState,
    before: MonitorRules,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    now: datetime,
    early_tolerance: timedelta,
    off_since: datetime | None = None,
    is_active: bool = True,
) -> EnvironmentState:
    """Return the state after an edit at `now` from the rules `before` to `rules`.

    `off_since`: since when the monitor had been disabled, if it was; `is_active`: whether it is enabled from now on.
    The newest run also serves slots of the new rules: it may have been received after the edit, or just before a slot
    (D12).
    """
    parts = [part._replace(off_since=part.off_since or off_since) for part in _parts(state, before, former)]
    newest = parts.pop()
    if why_unreadable(before.schedule):
        fresh = expect_after_repair(newest.state, rules, now=now) if is_active else expect_nothing(newest.state)
        return _joined([*parts, _Part(fresh, rules)])
    parts.append(newest._replace(until=now if off_since is None else off_since))
    if not is_active:
        return _joined([*parts, _Part(expect_nothing(newest.state), rules)])
    fresh = expect_from_now(newest.state, rules, now=now)
    if fresh.pending_slot is not None and fresh.last_checkin is not None:
        fresh = expect_after_beginning(fresh, rules, received_at=fresh.last_checkin, early_tolerance=early_tolerance)
    return _joined([*parts, _Part(fresh, rules)])


def expect_no_more(
    state: EnvironmentState, rules: MonitorRules, former: Sequence[FormerRules], *, now: datetime
) -> EnvironmentState:
    """Return the state of an environment whose monitor was disabled at `now`: see `expectation.expect_no_more`."""
    *parts, newest = _parts(state, rules, former)
    return _joined([*parts, newest._replace(state=expectation.expect_no_more(newest.state, now=now))])


# --- runs -----------------------------------------------------------------------------------------------------------


def serve_slots(
    state: EnvironmentState,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    received_at: datetime,
    early_tolerance: timedelta,
) -> EnvironmentState:
    """Return the state after a message that opens a run: it serves all slots that it is in time for, each by its rules.

    This includes slots from before an edit, however long ago the edit was.
    """
    if not state.spans:
        if state.pending_slot is None and held_at(former, received_at) is not None:
            return _first_message(state, rules, former, received_at=received_at, early_tolerance=early_tolerance)
        return expect_after_beginning(state, rules, received_at=received_at, early_tolerance=early_tolerance)
    parts = []
    for part in _split(state, rules, former):
        served = expect_after_beginning(
            part.state, part.rules, received_at=received_at, early_tolerance=early_tolerance
        )
        parts.append(part if _is_beyond_again(part, served.served_ahead) else part._replace(state=served))
    return _joined(parts)


def _is_beyond_again(part: _Part, ahead: Sequence[ServedAhead]) -> bool:
    """Return whether a message that serves no slot of a span is not the first such one.

    The first is remembered: it serves a slot whose deadline turns out to be later, since nobody listened (D2).
    """
    known = part.state.served_ahead
    return (
        part.until is not None
        and len(ahead) > len(known)
        and ahead[-1].first_slot > part.until
        and bool(known)
        and known[-1].first_slot > part.until
    )


def _first_message(
    state: EnvironmentState,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    received_at: datetime,
    early_tolerance: timedelta,
) -> EnvironmentState:
    """Count from a first message that was stored after later edits, as if it had been stored at once."""
    held = held_at(former, received_at)
    assert held is not None, "there were edits"
    before = held.rules
    state = expect_after_beginning(state, before, received_at=received_at, early_tolerance=early_tolerance)
    state = replace(state, last_checkin=state.last_checkin or received_at)
    for at, then in rules_since(rules, former, received_at):
        if not counts_alike(before, then):
            state = expect_after_edit(state, before, then, former, now=at, early_tolerance=early_tolerance)
        before = then
    return state


def slot_of_run(
    state: EnvironmentState,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    received_at: datetime,
    was_off: WasOff | None = None,
) -> datetime | None:
    """Return the slot that a run which begins at `received_at` belongs to: see `expectation.expected_slot`.

    `was_off` is when the monitor was disabled the last time.
    """
    if not state.spans and not former:
        return expected_slot(state, rules, received_at=received_at)
    held = held_at(former, received_at)
    counted_anew = _counted_anew_at(rules, former, received_at)
    slot = None
    for part in _parts(state, rules, former):
        if counted_anew is not None and (part.until is None or part.until > counted_anew):
            break  # Expected by later rules.
        slot = expected_slot(part.state, part.rules, received_at=received_at)
        if part.until is not None and slot is not None and slot <= part.until:
            return slot
    if held is None or counted_anew is None:
        return slot
    return _slot_of_extra_run(state, held, former, received_at=received_at, was_off=was_off)


def _counted_anew_at(rules: MonitorRules, former: Sequence[FormerRules], since: datetime) -> datetime | None:
    """Return the instant of the first edit after `since` that counts expectations anew (D10)."""
    held = held_at(former, since)
    if held is None:
        return None
    edits = rules_since(rules, former, since)
    before = [held.rules, *(then for _, then in edits)]
    return next((at for one, (at, then) in zip(before, edits, strict=False) if not counts_alike(one, then)), None)


def _slot_of_extra_run(
    state: EnvironmentState,
    held: FormerRules,
    former: Sequence[FormerRules],
    *,
    received_at: datetime,
    was_off: WasOff | None,
) -> datetime | None:
    """Return the next slot at the beginning of a run that was stored after an edit and serves no slot.

    An interval is counted from the newest known run, or from the edit before, or from when the monitor was enabled.
    """
    schedule = held.rules.schedule
    if state.last_checkin is None or why_unreadable(schedule):
        return None
    if schedule.crontab is not None:
        return next_slot(schedule, received_at, None)
    earlier = [one.until for one in former if one.until <= received_at][-1:]
    if was_off is not None and was_off.until <= received_at:
        earlier.append(was_off.until)
    since = max([min(state.last_checkin, received_at), *earlier])
    return next_slot(schedule, received_at, anchor_for(schedule, since))


def has_slot_come(
    state: EnvironmentState,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    began_at: datetime,
    began_for: datetime | None,
    at: datetime,
    early_tolerance: timedelta,
) -> bool:
    """Return whether a slot has come by `at` that a run which began at `began_at` does not serve (D22).

    Each slot is computed by the rules of its time.
    """
    newest = _parts(state, rules, former)[-1].state
    since, counted_since = began_at, None
    held = held_at(former, began_at)
    before = rules if held is None else held.rules
    for until, then in rules_since(rules, former, began_at):
        if counts_alike(before, then):
            continue
        known_for = began_for if since == began_at else None
        if _has_come_between(before, since, until, known_for, at=at, early_tolerance=early_tolerance):
            return True
        before, since, counted_since = then, until, until
    return (counted_since is None or counted_since <= at) and has_slot_come_since(
        newest,
        rules,
        began_at=began_at,
        began_for=began_for,
        at=at,
        early_tolerance=early_tolerance,
        counted_since=counted_since,
    )


def _has_come_between(
    rules: MonitorRules,
    since: datetime,
    until: datetime,
    began_for: datetime | None,
    *,
    at: datetime,
    early_tolerance: timedelta,
) -> bool:
    """Return whether a slot of these rules, in force from `since` until the edit at `until`, has come by `at`.

    The edit ends what they expect. A message from before it does not know that: a slot comes early for it as ever.
    """
    schedule = rules.schedule
    if why_unreadable(schedule):
        return False
    served = serves_early(schedule, since, began_for, None, early_tolerance) if schedule.crontab is not None else None
    anchor = anchor_for(schedule, since)
    slot = next_slot(schedule, served or since, anchor)
    if slot is None:
        return False
    if until <= at:
        return slot <= until
    return slot <= at or serves_early(schedule, at, slot, anchor, early_tolerance) == slot


def longest_deadline(
    rules: MonitorRules, former: Sequence[FormerRules], *, seen_at: datetime, latest: datetime
) -> datetime:
    """Return the deadline of a run that was last seen at `seen_at`, at most `latest`.

    A longer runtime that was set before the deadline extends it (D31).
    """

    def after(some: MonitorRules) -> datetime:
        return min(seen_at + timedelta(minutes=some.max_runtime_minutes), latest)

    held = held_at(former, seen_at)
    deadline = after(rules if held is None else held.rules)
    for at, then in rules_since(rules, former, seen_at):
        if deadline > at:
            deadline = max(deadline, after(then))
    return deadline


# --- the clock ------------------------------------------------------------------------------------------------------


def decide_due(
    state: EnvironmentState,
    rules: MonitorRules,
    former: Sequence[FormerRules],
    *,
    tick: datetime,
    deaf: DeafMinutes = NOTHING_DEAF,
    all_unknown: bool = False,
) -> tuple[list[DueSlot], EnvironmentState]:
    """Return the slots that are due at `tick` by the rules of their time, oldest first, and the state after them.

    See `expectation.decide_due_slots`. A slot from before its monitor was disabled that fell due later is unknown
    (D23), even if the monitor is enabled again.
    """
    if not state.spans:
        return decide_due_slots(state, rules, tick=tick, deaf=deaf, all_unknown=all_unknown)
    due: list[DueSlot] = []
    parts = []
    for part in _split(state, rules, former):
        slots, after = decide_due_slots(
            part.state, part.rules, tick=tick, deaf=deaf, all_unknown=all_unknown, until=part.until
        )
        if part.until is not None and slots and why_unreadable(part.rules.schedule):
            after = expect_nothing(after)  # The slots between that one and the edit are not known (D37).
        for one in slots:
            is_off = part.off_since is not None and one.deadline > part.off_since
            due.append(
                DueSlot(
                    one.slot,
                    one.deadline,
                    is_unknown=one.is_unknown or is_off,
                    former=part.former,
                    because="disabled" if is_off else None,
                )
            )
        parts.append(part._replace(state=after))
    return due, _joined(parts)
