"""Tables of a monitor's rows: environments, check-ins, incidents, processing errors, changes."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.safestring import SafeString

from dashboard.admin.base import duration
from dashboard.admin.cells import (
    instant,
    label,
    labels,
    link,
    table,
    times_in,
)
from dashboard.runs import slot_of
from dashboard.vocabulary import setting
from monitors.models import MonitorEnvironment

CHECKINS_SHOWN = 20


INCIDENTS_SHOWN = 20


ERRORS_SHOWN = 10


NOTES_SHOWN = 10


def environment_status(row: MonitorEnvironment) -> SafeString:
    """Return the labels of one environment: its status, and whether it is muted."""
    text = {"active": "waiting", "error": "failing"}.get(row.status, row.get_status_display())
    hint = "No verdict yet: no check-in has ended." if row.status == "active" else ""
    if row.monitor.status == "disabled":
        text, hint = "disabled", "Its monitor is disabled: no run is judged."
    return labels([label(text, title=hint), *([label("muted")] if row.is_muted else [])])


def run_label(checkin: Any) -> SafeString:
    """Return the status of a run, and the limit that it broke although it ended ok (D44)."""
    status = label(checkin.get_status_display())
    if not checkin.limit_broken:
        return status
    limit, _, counted_ = checkin.limit_broken.partition("_")
    hint = "It counted as a failure." if counted_ else "A note: it counted as ok."
    return labels([status, label(limit, "bad" if counted_ else "doubtful", title=hint)])


def checkins_table(checkins: Iterable[Any], *, timezone: str, title: str) -> SafeString:
    """Return check-ins as a table, each linked to its own page, times in the zone of their monitor."""
    return table(
        ("Status", "Environment", "Expected", "Started", "Duration", "Source", "Id"),
        [
            (
                run_label(checkin),
                checkin.monitor_environment.environment.name,
                instant(slot_of(checkin), timezone, hides_zone=True),
                instant(checkin.date_added, timezone, hides_zone=True),
                duration(None if checkin.duration_ms is None else timedelta(milliseconds=checkin.duration_ms)),
                checkin.get_source_display(),
                link(checkin, str(checkin.guid)[:8]),
            )
            for checkin in checkins
        ],
        title=f"{title}, {times_in(timezone)}",
    )


def incidents_table(incidents: Iterable[Any], *, timezone: str, title: str) -> SafeString:
    """Return incidents as a table, each linked to its page and its issue."""
    return table(
        ("Incident", "Environment", "Started", "Opened", "Resolved", "Issue"),
        [
            (
                link(incident, label("resolved" if incident.resolved_at else "open")),
                incident.monitor_environment.environment.name,
                instant(incident.started_at, timezone, hides_zone=True),
                instant(incident.opened_at, timezone, hides_zone=True),
                instant(incident.resolved_at, timezone, hides_zone=True),
                link(incident.issue) if incident.issue else "none (muted)",
            )
            for incident in incidents
        ],
        title=f"{title}, {times_in(timezone)}",
    )


def keys_of(queryset: QuerySet[Any]) -> list[int]:
    """Return the primary keys of chosen rows."""
    return list(queryset.order_by().values_list("pk", flat=True))


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, as `1 monitor` or `2 monitors`."""
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def environments_table(rows: Iterable[MonitorEnvironment], *, timezone: str, now: datetime) -> SafeString:
    """Return the live state of environments as a table, times in the zone of their monitor."""
    return table(
        ("Environment", "Status", "Last run started", "Next expected", "Missed if silent until", "In a row"),
        [
            (
                link(row, row.environment.name),
                environment_status(row),
                instant(row.last_checkin, timezone, now=now, hides_zone=True),
                instant(row.next_checkin, timezone, now=now, hides_zone=True),
                instant(row.next_checkin_latest, timezone, hides_zone=True),
                f"{row.failure_streak} failed" if row.failure_streak else f"{row.ok_streak} ok",
            )
            for row in rows
        ],
        title=f"Environments, {times_in(timezone)}",
    )


def changes_table(changes: Iterable[Any], *, timezone: str) -> SafeString:
    """Return the changes of a monitor by check-ins, with the labels of their keys (D40)."""
    return table(
        ("Changed", "By", "What"),
        [
            (
                instant(change.changed_at, timezone, hides_zone=True),
                change.made_by,
                ", ".join(
                    f"{column.replace('_', ' ')}: {_shown(before)} → {_shown(after)}"
                    for column, (before, after) in change.difference.items()
                ),
            )
            for change in changes
        ],
        title=f"Changes by check-ins, {times_in(timezone)}",
    )


def _shown(value: object) -> object:
    return "nothing" if value in (None, "") else setting(value)


def errors_table(errors: Iterable[Any], *, title: str) -> SafeString:
    """Return processing errors as a table, each linked to its page."""
    return table(
        ("Last received", "Kind", "What", "Times"),
        [(instant(error.last_received_at), link(error, error.kind), error.message, error.count) for error in errors],
        title=title,
    )
