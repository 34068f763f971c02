"""The rows of what happens until somebody acknowledges an incident: begun, ended, begun anew (shell).

opening is addressed -> a copy of what each route sets -> the sweep notifies (`pursuing`) ... -> acknowledged: ended
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from django.conf import settings
from django.db import connection

from incidents.models import FollowUp, Message
from incidents.notifications.pursuit import Escalation, Reminders, Step, reminder_wait
from lib.encoding import to_builtins
from lib.sql import fetch_rows, insert_rows, update_rows

REMINDER, ESCALATION = FollowUp.Kind.REMINDER.value, FollowUp.Kind.ESCALATION.value
SENT_UNTIL_THEN = (Message.Kind.REMINDER.value, Message.Kind.ESCALATED.value)
_COLUMNS = {
    "incident_id": "bigint",
    "kind": "text",
    "route": "text",
    "plan": "jsonb",
    "done": "smallint",
    "due_at": "timestamptz",
}


class Caught(NamedTuple):
    """A route that caught an incident, with what it says about the time until somebody acknowledges it.

    `route` is empty for ALERT_EMAIL_TO. `recipients` are those notified because of this route.
    """

    incident_id: int
    route: str
    recipients: tuple[tuple[str, int | None], ...]
    reminder_hours: int | None = None
    steps: tuple[Step, ...] = ()
    loops: int = 0


def begin(caught: Iterable[Caught], *, now: datetime) -> None:
    """Begin reminders and escalation of incidents whose openings are addressed now. One statement.

    Recipients that are reminded after the same time have one row, with the name of the first of their routes.
    """
    reminded: dict[tuple[int, int], tuple[str, list[tuple[str, int | None]]]] = {}
    rows: list[tuple[Any, ...]] = []
    usual = settings.REMINDER_HOURS
    for one in caught:
        hours = usual if one.reminder_hours is None else one.reminder_hours
        if hours and one.recipients:
            reminded.setdefault((one.incident_id, hours), (one.route, []))[1].extend(one.recipients)
        if one.steps:
            due_at = now + timedelta(minutes=one.steps[0].minutes)
            plan = _stored(Escalation(one.steps, one.loops))
            rows.append((one.incident_id, ESCALATION, one.route, plan, 0, due_at))
    for (incident_id, hours), (route, recipients) in reminded.items():
        plan = _stored(Reminders(hours, tuple(recipients)))
        rows.append((incident_id, REMINDER, route, plan, 0, now + timedelta(hours=hours)))
    insert_rows("incidents_followup", _COLUMNS, rows, on_conflict="ON CONFLICT (incident_id, kind, route) DO NOTHING")


def _stored(plan: Reminders | Escalation) -> Mapping[str, Any]:
    stored: Mapping[str, Any] = to_builtins(plan)
    return stored


def end(incident_ids: Collection[int]) -> None:
    """End reminders and escalation of incidents, which the caller has locked."""
    FollowUp.objects.filter(incident_id__any_of=list(incident_ids), due_at__isnull=False).update(due_at=None)


def begin_anew(incident_ids: Collection[int], *, now: datetime, reminds_at: datetime | None = None) -> None:
    """Begin reminders and escalation of incidents anew, which the caller has locked.

    Steps are done from the first one on. A reminder is due at `reminds_at`, or after the usual wait. Two statements.
    """
    found = fetch_rows(
        "SELECT id, kind, plan::text, done FROM incidents_followup WHERE incident_id = ANY(%s) ORDER BY id FOR UPDATE",
        [list(incident_ids)],
    )
    rows: list[tuple[int, int, datetime]] = []
    for id_, kind, plan, done in found:
        if kind == REMINDER:
            hours = msgspec.json.decode(plan, type=Reminders).hours
            rows.append((id_, done, reminds_at or now + reminder_wait(hours, done)))
        else:
            first = msgspec.json.decode(plan, type=Escalation).steps[0]
            rows.append((id_, 0, now + timedelta(minutes=first.minutes)))
    update_rows("incidents_followup", {"done": "smallint", "due_at": "timestamptz"}, rows)


def supersede(incident_ids: Sequence[int], *, now: datetime, kinds: Collection[str] = SENT_UNTIL_THEN) -> None:
    """Take back reminders and steps of incidents that nobody can have received: they are no longer needed.

    A digest loses these incidents; one without any is withdrawn as a whole.
    """
    if not incident_ids:
        return
    with connection.cursor() as cursor:
        cursor.execute(_SUPERSEDE_SQL, [now, list(incident_ids), list(kinds)])
        causes = [_CAUSES[kind] for kind in kinds if kind in _CAUSES]
        cursor.execute(_LEAVE_DIGESTS_SQL, [list(incident_ids), causes])
        if left := sorted({id_ for (id_,) in cursor.fetchall()}):
            cursor.execute(_EMPTY_DIGESTS_SQL, [now, left])


_SUPERSEDE_SQL = """
    UPDATE incidents_message SET status = 'superseded', finished_at = %s
     WHERE id = ANY (ARRAY (
           SELECT id FROM incidents_message
            WHERE incident_id = ANY(%s) AND kind = ANY(%s) AND status = 'waiting' AND claimed_until IS NULL
              AND NOT is_in_doubt
            ORDER BY id
              FOR UPDATE))
"""
_CAUSES = {Message.Kind.REMINDER.value: REMINDER, Message.Kind.ESCALATED.value: ESCALATION}
"""The causes of storms of reminders and steps."""
_LEAVE_DIGESTS_SQL = """
    DELETE FROM incidents_duty
     WHERE id = ANY (ARRAY (
           SELECT d.id FROM incidents_duty AS d
             JOIN incidents_message AS m ON m.id = d.message_id
             JOIN incidents_storm AS s ON s.id = m.storm_id
            WHERE d.incident_id = ANY(%s) AND s.cause = ANY(%s) AND m.kind = 'digest'
              AND m.status = 'waiting' AND m.attempt_count = 0 AND m.claimed_until IS NULL
            ORDER BY m.id
              FOR UPDATE OF m))
    RETURNING message_id
"""
_EMPTY_DIGESTS_SQL = """
    UPDATE incidents_message AS m SET status = 'superseded', finished_at = %s
     WHERE id = ANY(%s) AND NOT EXISTS (SELECT FROM incidents_duty AS d WHERE d.message_id = m.id)
"""
