"""The hours of runs as the table has them, and as a count of the check-ins says."""

from collections import defaultdict
from typing import Any

from checkins.models import CheckIn, RunHour

STATUSES = ("ok", "error", "missed", "timeout", "unknown")
FIELDS = (*STATUSES, "off_limits", "durations", "duration_sum_ms", "duration_max_ms")


def stored() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The rows by hour and environment, those in which nothing is left apart."""
    rows = {row[:2]: row[2:] for row in RunHour.objects.values_list("hour", "monitor_environment_id", *FIELDS)}
    return {key: counts for key, counts in rows.items() if any(counts)}


def counted() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The same from the check-ins, counted one by one."""
    hours = defaultdict(list)
    for run in CheckIn.objects.exclude(status="in_progress"):
        hours[run.date_added.replace(minute=0, second=0, microsecond=0), run.monitor_environment_id].append(run)
    found = {}
    for key, runs in hours.items():
        durations = [run.duration_ms for run in runs if run.status == "ok" and run.duration_ms is not None]
        found[key] = (
            *(sum(run.status == status for run in runs) for status in STATUSES),
            sum(run.limit_broken is not None for run in runs),
            len(durations),
            sum(durations),
            max(durations, default=None),
        )
    return found
