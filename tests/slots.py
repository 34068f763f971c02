"""The schedule functions for tests of schedules that always have a next time: they never answer None."""

from datetime import datetime

from monitors import schedule as real
from monitors.schedule import Anchor, Schedule


def _some(slot: datetime | None) -> datetime:
    assert slot is not None, "this schedule has no such time"
    return slot


def next_slot(schedule: Schedule, after: datetime, anchor: Anchor | None) -> datetime:
    return _some(real.next_slot(schedule, after, anchor))


def previous_slot(schedule: Schedule, before: datetime, anchor: Anchor | None) -> datetime:
    return _some(real.previous_slot(schedule, before, anchor))


def first_slot_at_or_after(schedule: Schedule, at: datetime, anchor: Anchor | None) -> datetime:
    return _some(real.first_slot_at_or_after(schedule, at, anchor))
