"""Snoozing monitors until an instant: incidents are recorded, and whoever would be notified is notified then (shell).

What people know of goes on: whoever was notified that an incident opened is notified of its end.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from audit.entries import Actor
from audit.recording import record
from incidents.exceptions import IncidentsError
from incidents.notifications.holds import SNOOZED
from incidents.notifications.wake import wake_after_commit
from lib.sql import array_literal
from monitors.models import Monitor
from monitors.services import monitor_entry

SNOOZE_MAX = timedelta(days=30)


class SnoozeError(IncidentsError):
    """Monitors that cannot be snoozed so. The text says what is allowed."""


@transaction.atomic
def snooze(monitor_ids: Collection[int], until: datetime | None, *, now: datetime, by: Actor | None = None) -> int:
    """Snooze monitors until an instant, or end their snooze now with None; returns how many that changed.

    Openings that a former snooze holds are decided anew, so that a shorter one sends them earlier. Raises SnoozeError.
    """
    if until is not None and not now < until <= now + SNOOZE_MAX:
        text = _("A snooze ends within the next %(days)d days; %(until)s UTC does not.")
        raise SnoozeError(text % {"days": SNOOZE_MAX.days, "until": f"{until:%Y-%m-%d %H:%M}"})
    monitors = [
        monitor
        for monitor in Monitor.objects.filter(id__any_of=monitor_ids).locked_in_id_order()
        if _is_change(monitor.snoozed_until, until, now=now)
    ]
    ids = [monitor.id for monitor in monitors]
    Monitor.objects.filter(id__any_of=ids).update(snoozed_until=until)
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "ids": array_literal("bigint", ids),
            "ends": array_literal("timestamptz", [monitor.snoozed_until for monitor in monitors]),
            "now": now,
            "snoozed": f"{SNOOZED}%",
        }
        cursor.execute(_DECIDE_ANEW_SQL, parameters)
        cursor.execute(_PURSUE_ANEW_SQL, parameters)
    action = "unsnoozed" if until is None else "snoozed"
    record(
        [monitor_entry(one, action, {"snoozed_until": (one.snoozed_until, until)}) for one in monitors],
        by=by,
    )
    wake_after_commit()
    return len(monitors)


def _is_change(before: datetime | None, after: datetime | None, *, now: datetime) -> bool:
    """Return whether a snooze changes; one that is over need not be ended."""
    return before != after and not (after is None and before is not None and before <= now)


_OPEN_SQL = """
    SELECT i.id FROM unnest(%(ids)s::bigint[], %(ends)s::timestamptz[]) AS was (id, until)
      JOIN monitors_monitorenvironment AS me ON me.monitor_id = was.id
      JOIN incidents_incident AS i ON i.monitor_environment_id = me.id AND i.resolved_at IS NULL
"""
_DECIDE_ANEW_SQL = f"""
    UPDATE incidents_notification SET held_until = %(now)s
     WHERE id = ANY (ARRAY (
           SELECT id FROM incidents_notification
            WHERE incident_id IN ({_OPEN_SQL}) AND addressed_at IS NULL AND held_until > %(now)s
              AND held_by LIKE %(snoozed)s
            ORDER BY id
              FOR UPDATE))
"""  # noqa: S608 - constants
_PURSUE_ANEW_SQL = """
    UPDATE incidents_followup SET due_at = %(now)s
     WHERE id = ANY (ARRAY (
           SELECT f.id FROM unnest(%(ids)s::bigint[], %(ends)s::timestamptz[]) AS was (id, until)
             JOIN monitors_monitorenvironment AS me ON me.monitor_id = was.id
             JOIN incidents_incident AS i ON i.monitor_environment_id = me.id AND i.resolved_at IS NULL
             JOIN incidents_followup AS f ON f.incident_id = i.id AND f.due_at = was.until
            ORDER BY f.id
              FOR UPDATE OF f))
"""
"""Reminders and steps that were put off until the end of the former snooze."""
