"""Slots without a check-in: which are due, by which rules, and the check-ins that stand for them (shell)."""

import dataclasses
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from msgspec.structs import replace

from checkins.messages import CheckInStatus, Source
from checkins.processing.transitions import CheckInState
from clocktasks.clock import MINUTE
from clocktasks.kinds import bounds
from clocktasks.ledger import deaf_spans
from monitors.coverage import DeafMinutes
from monitors.expectation import DueSlot, first_tick_at_or_after
from monitors.former import held_until
from monitors.hot_rows import LockedEnvironment
from monitors.ids import derive_from
from monitors.models import MonitorEnvironment
from monitors.spans import expect_no_more
from monitors.state import MonitorRules

_miss_id = derive_from(uuid.UUID("5a3a7f5e-0a53-4f0c-8f0e-0a2f6f0f8c11"))


def due_environments(shard: int, first: datetime, last: datetime) -> tuple[list[int], datetime]:
    """Return the ids of environments with a slot that is due, in order, and at which tick: `last`, or an earlier one.

    So early that there are no more than `PASS_ROWS_MAX` of them; but all that are due at `first`, if that is the one.
    """
    if first < last:
        due = MonitorEnvironment.objects.in_shard(shard).due_at(last).order_by("next_checkin_latest")
        for beyond in due.values_list("next_checkin_latest", flat=True)[
            bounds.PASS_ROWS_MAX : bounds.PASS_ROWS_MAX + 1
        ]:
            assert beyond is not None, "it is due"
            last = max(first, first_tick_at_or_after(beyond) - MINUTE)
    return ids_due_at(shard, last), last


def ids_due_at(shard: int, tick: datetime) -> list[int]:
    """Return the ids of environments with a slot that is due at a tick, in order."""
    due = MonitorEnvironment.objects.in_shard(shard).due_at(tick).order_by("id")
    return list(due.values_list("id", flat=True))


def deaf_minutes(environments: Collection[LockedEnvironment], tick: datetime) -> DeafMinutes:
    """Return which minutes between the oldest slot that waits in these environments and the tick were deaf."""
    slots = [slot for environment in environments if (slot := environment.state.pending_slot) is not None]
    if not slots:
        return DeafMinutes()
    return DeafMinutes(deaf_spans(min(slots), tick))


def unjudged_slots(environment: LockedEnvironment, slots: Sequence[DueSlot]) -> Iterator[tuple[DueSlot, str | None]]:
    """Yield the slots that came while the monitor was active, and why they are not judged, if so (D23).

    Of a disabled one nothing more is expected.
    """
    for due in slots:
        if environment.expects(due.slot):
            yield due, due.because or environment.slot_unjudged_because(due.slot, due.deadline)
    off_since = environment.off_since
    if off_since is not None:
        environment.state = expect_no_more(environment.state, environment.rules, environment.former, now=off_since)


def rules_of_miss(environment: LockedEnvironment, due: DueSlot, tick: datetime) -> MonitorRules:
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


def missed_slot(environment: LockedEnvironment, due: DueSlot, *, tick: datetime) -> CheckInState:
    """Return the check-in of a slot that a tick finds missed."""
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


def unknown_slot(environment: LockedEnvironment, due: DueSlot, *, tick: datetime, because: str | None) -> CheckInState:
    """Return the check-in of a due slot of which it cannot be known whether it was missed."""
    return replace(
        missed_slot(environment, due, tick=tick),
        status=CheckInStatus.UNKNOWN,
        date_updated=tick,
        failed_at=None,
        unknown_because=because,
    )
