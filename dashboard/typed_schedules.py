"""Schedules as people type them in forms."""

from datetime import datetime
from typing import Any

from monitors.configuration import schedule_columns
from monitors.schedule import Schedule, ScheduleType

LEARN = "learn"
"""What a form has as `schedule_type` for a schedule that is to be learned from the check-ins."""
LEARNING = "learning"
"""What a form without such a type has in the place of its crontab."""


def parse_schedule(typed: dict[str, Any], *, now: datetime) -> Schedule:
    """Return the schedule in the form fields `SCHEDULE_COLUMNS`. Raises ScheduleError, which names the field.

    A crontab without a time in the ten years after `now` is refused (D34).
    """
    timezone = typed.get("timezone")
    is_crontab = typed.get("schedule_type") == ScheduleType.CRONTAB
    if typed.get("schedule_type") == LEARN or (is_crontab and typed.get("crontab") == LEARNING):
        return Schedule.learning(timezone)
    if typed.get("schedule_type") == ScheduleType.INTERVAL:
        return Schedule.from_interval(typed.get("interval"), typed.get("interval_unit"), timezone)
    return Schedule.from_crontab(typed.get("crontab") or "", timezone, now=now)


def typed_as(schedule: Schedule) -> dict[str, Any]:
    """Return what a form has for a schedule."""
    if schedule.is_learning:
        return {"schedule_type": LEARN, "timezone": schedule.timezone}
    return {name: value for name, value in schedule_columns(schedule).items() if value is not None}
