"""Schedules as people type them in forms."""

from datetime import datetime
from typing import Any

from monitors.schedule import Schedule, ScheduleType


def parse_schedule(typed: dict[str, Any], *, now: datetime) -> Schedule:
    """Return the schedule in the form fields `SCHEDULE_COLUMNS`. Raises ScheduleError, which names the field.

    A crontab without a time in the ten years after `now` is refused (D34).
    """
    timezone = typed.get("timezone")
    if typed.get("schedule_type") == ScheduleType.INTERVAL:
        return Schedule.from_interval(typed.get("interval"), typed.get("interval_unit"), timezone)
    return Schedule.from_crontab(typed.get("crontab") or "", timezone, now=now)
