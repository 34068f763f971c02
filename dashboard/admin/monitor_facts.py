"""Derived facts on the pages of monitors: summaries of environments, next times, older rules, history."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, Max, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard.admin.cells import (
    instant,
    link_to_list,
)
from dashboard.admin.tables import (
    CHECKINS_SHOWN,
    ERRORS_SHOWN,
    INCIDENTS_SHOWN,
    changes_table,
    checkins_table,
    counted,
    errors_table,
    incidents_table,
)
from dashboard.losses import losses_beside, losses_text
from dashboard.runs import newest_checkins
from dashboard.windows import coming_windows
from incidents.models import Incident
from monitors.describing import describe
from monitors.former import held_until
from monitors.hot_rows import load_former_rules, state_of
from monitors.models import (
    CONFIG_CHANGES_KEPT,
    Monitor,
    MonitorEnvironment,
)
from monitors.schedule import Schedule, anchor_for, next_slots, why_unreadable

PREVIEW_COUNT = 10
NO_TIME = "No time in the next ten years: no check-in is expected."


def next_times(schedule: Schedule, *, now: datetime) -> list[str]:
    """Return the next ten times of a schedule counted from `now`, on the wall clock of its own zone.

    If there are fewer in the next ten years, the last line states that no check-in is expected then (D34).
    """
    if why_unreadable(schedule):
        return []
    zone = ZoneInfo(schedule.timezone)
    slots = next_slots(schedule, now, anchor_for(schedule, now), PREVIEW_COUNT)
    lines = [f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M %Z}" for slot in slots]
    if not lines:
        lines.append(NO_TIME)
    elif len(lines) < PREVIEW_COUNT:
        lines.append("No further time in the ten years after that: no check-in is expected then.")
    return lines


def with_environment_summary(monitors: QuerySet[Monitor]) -> QuerySet[Monitor]:
    """Annotate monitors with a summary of their environments; computed only for rows that are shown or sorted."""
    live = MonitorEnvironment.objects.filter(monitor=OuterRef("pk")).exclude(status="pending_deletion")
    rows = live.order_by().values("monitor")

    def number(condition: Q) -> Coalesce:
        return Coalesce(Subquery(rows.annotate(n=Count("pk", filter=condition)).values("n")), 0)

    return monitors.annotate(
        environment_count=number(Q()),
        failing_count=number(Q(status="error")),
        concluded_count=number(~Q(status="active")),
        muted_count=number(Q(is_muted=True)),
        next_expected=Subquery(rows.annotate(at=Min("next_checkin")).values("at")),
        last_reported=Subquery(rows.annotate(at=Max("last_checkin")).values("at")),
    )


def older_rules(monitor: Monitor, environments: Iterable[MonitorEnvironment], *, now: datetime) -> list[SafeString]:
    """Return the rules from before an edit that still judge slots, and until when (D32). One statement, or none."""
    waiting: dict[datetime, datetime] = {}
    for environment in environments:
        for span in state_of(environment).spans:
            if span.until is not None and span.next_checkin_latest is not None:
                latest = waiting.get(span.until, span.next_checkin_latest)
                waiting[span.until] = max(latest, span.next_checkin_latest)
    if not waiting:
        return []
    former, zone = load_former_rules([monitor.pk]).get(monitor.pk, ()), monitor.timezone
    lines = []
    for until, latest in sorted(waiting.items()):
        held = held_until(former, until)
        rules = monitor.rules() if held is None else held.rules
        lines.append(
            format_html(
                "Slots before {} are still judged by the earlier rules: {}, margin {}, until {} at least.",
                instant(until, zone),
                why_unreadable(rules.schedule) or describe(rules.schedule),
                counted(rules.margin_minutes, "minute"),
                instant(max(latest, until + timedelta(minutes=rules.margin_minutes)), zone, now=now),
            )
        )
    return lines


def maintenance(monitor: Monitor, *, now: datetime) -> list[SafeString]:
    """Return which maintenance windows a monitor is in, until when, and which come next. At most three statements."""
    lines = []
    for one in coming_windows(monitor, now=now):
        where = f" ({one.environment})" if one.environment else ""
        if one.is_now:
            until = instant(one.ends_at, monitor.timezone, now=now)
            lines.append(format_html("In maintenance until {}: {}{}.", until, one.name, where))
        else:
            since = instant(one.begins_at, monitor.timezone, now=now)
            until = instant(one.ends_at, monitor.timezone)
            lines.append(format_html("Next maintenance: {} to {}: {}{}.", since, until, one.name, where))
    return lines


def history(
    monitor: Monitor, environments: QuerySet[MonitorEnvironment], *, sees: Mapping[str, bool]
) -> dict[str, Any]:
    """Return the history of a monitor in these environments, as far as the reader may see it."""
    zone = monitor.timezone
    incidents = Incident.objects.filter(monitor_environment__monitor=monitor, resolved_at__isnull=True)
    related = ("monitor_environment__environment", "issue")
    checkins = newest_checkins(environments, CHECKINS_SHOWN)
    return {
        "changes_table": sees["monitors.configchange"]
        and changes_table(monitor.config_changes.order_by("-id")[:CONFIG_CHANGES_KEPT], timezone=zone),
        "open_incidents_table": sees["incidents.incident"]
        and incidents_table(
            incidents.select_related(*related).order_by("-opened_at")[:INCIDENTS_SHOWN],
            timezone=zone,
            title="Open incidents",
        ),
        "checkins_table": sees["checkins.checkin"]
        and checkins_table(checkins, timezone=zone, title=f"Last {CHECKINS_SHOWN} check-ins"),
        "losses": sees["checkins.clientlossreport"]
        and losses_text(losses_beside(checkins, monitor.project_id), timezone=zone),
        "all_checkins": sees["checkins.checkin"]
        and link_to_list("checkins.checkin", f"monitor_environment__monitor__id__exact={monitor.pk}", "All check-ins"),
        "errors_table": sees["checkins.processingerror"]
        and errors_table(
            monitor.processing_errors.order_by("-last_received_at")[:ERRORS_SHOWN], title="Processing errors"
        ),
    }
