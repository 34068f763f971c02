"""From notifications to messages: routing decides whom each concerns (shell around `routing`).

    Notification -> Duty for each recipient, with the reason -> Message

An incident without recipients waits: when somebody edits routes, channels or ALERT_EMAIL_TO, it is routed again.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from django.db import connection, transaction

from incidents.models import Message
from incidents.notifications.follow_ups import Caught, begin, supersede
from incidents.notifications.holding import hold_back
from incidents.notifications.outbox import (
    OPENED,
    RESOLVED,
    TICK,
    NewMessage,
    insert_messages,
    message_key,
    write_duties,
)
from incidents.notifications.routes import Decision, Recipient, decide, load_routing
from incidents.notifications.routing import Facts
from lib.sql import fetch_rows

ADDRESSED_MAX = 1_000
"""How many notifications one transaction turns into messages."""
KIND_OPENED, KIND_RESOLVED, KIND_PASSED = (
    kind.value for kind in (Message.Kind.OPENED, Message.Kind.RESOLVED, Message.Kind.PASSED)
)
AS_BEFORE = "notified of its opening"
_PASSING = (Message.Kind.REMINDER.value, Message.Kind.ESCALATED.value, Message.Kind.ACKNOWLEDGED.value)
"""Messages that are of no use once the incident is over."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A notification to be addressed, with the facts of its incident."""

    id: int
    incident_id: int
    guid: uuid.UUID
    transition: str
    is_late: bool
    is_open: bool
    is_quiet: bool
    project_id: int
    monitor: str
    environment: str
    tags: list[str]
    severity: str
    owner: str
    kind: str

    @property
    def is_due(self) -> bool:
        """Whether to send: a late notification only if the incident is still open and not muted or archived."""
        return not self.is_late or (self.is_open and not self.is_quiet)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The messages for the changes of one incident, and which changes each recipient's message covers."""

    messages: list[NewMessage] = field(default_factory=list)
    duties: list[tuple[int, NewMessage]] = field(default_factory=list)


def address(default: Sequence[str], *, now: datetime) -> int:
    """Write messages for new notifications; returns how many notifications were looked at. `default`: ALERT_EMAIL_TO.

    The opening and the end of an incident become one message if the first was not sent yet. Of an incident without
    recipients only that fact is recorded. Call again while it returns `ADDRESSED_MAX`.
    """
    return len(_address(_NEW_SQL, 0, default, now=now))


def address_again(default: Sequence[str], *, now: datetime) -> None:
    """Route incidents again that had no recipients: somebody has edited routes, channels or ALERT_EMAIL_TO.

    If the incident is still open, its recipients are notified now, unless its environment was muted or its issue
    archived meanwhile.
    """
    after = 0
    while ids := _address(_WAITING_SQL, after, default, now=now):
        after = max(ids)


@transaction.atomic
def _address(sql: str, after: int, default: Sequence[str], *, now: datetime) -> list[int]:
    with connection.cursor() as cursor:
        # One at a time, or two workers could write the beginning and the end of an incident in the wrong order.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watchclock: address'))")
    parameters = {"now": now, "after": after, "limit": ADDRESSED_MAX, "tick": TICK}
    changes = [_Change(*row) for row in fetch_rows(sql, parameters)]
    looked_at = [change.id for change in changes]
    left_out = hold_back({change.incident_id for change in changes if not change.is_late}, now=now)
    changes = [change for change in changes if change.incident_id not in left_out]
    if not changes:
        return looked_at
    routing = load_routing({change.project_id for change in changes}, default)
    before = _opened_messages([change.incident_id for change in changes if change.transition == RESOLVED])
    addressed: list[_Change] = []
    nobody: list[_Change] = []
    plan = _Plan()
    caught: list[Caught] = []
    for _, group in groupby(changes, key=attrgetter("incident_id")):
        own = list(group)
        due = [change for change in own if change.is_due]
        told = before.get(own[0].incident_id, {})
        decision = decide(routing, own[0].project_id, _facts(own[0])) if due or not told else Decision([])
        if not decision.recipients and not told and not decision.is_nobody_meant:
            nobody += own
            continue
        addressed += own
        _plan(due, decision.recipients, told, plan)
        if {change.transition for change in due} == {OPENED}:
            caught += caught_by(decision, own[0].incident_id)
    _write(plan, now=now)
    begin(caught, now=now)
    supersede([change.incident_id for change in addressed if change.transition == RESOLVED], now=now, kinds=_PASSING)
    _record(addressed, nobody, now=now)
    return looked_at


def _facts(change: _Change) -> Facts:
    return Facts(
        monitor=change.monitor,
        environment=change.environment,
        kind=change.kind,
        tags=tuple(change.tags),
        severity=change.severity,
        owner=change.owner,
    )


_CHANGES_SQL = """
    SELECT n.id, n.incident_id, i.guid, n.transition,
           EXISTS (SELECT 1 FROM incidents_notification o
                    WHERE o.incident_id = n.incident_id AND o.nobody_since IS NOT NULL) AS is_late,
           i.resolved_at IS NULL AS is_open,
           me.is_muted OR coalesce(s.status = 'archived', false) AS is_quiet,
           m.project_id, m.slug, e.name, m.tags, m.severity, m.owner,
           coalesce((SELECT o.explanation ->> 'kind' FROM incidents_occurrence o
                      WHERE o.incident_id = i.id AND o.detected_at <= i.opened_at
                      ORDER BY o.number DESC LIMIT 1), '')
      FROM (SELECT * FROM incidents_notification AS new
             WHERE addressed_at IS NULL AND nobody_since IS {since} AND id > %(after)s
               AND transition IN ('opened', 'resolved')
               AND coalesce(held_until, %(now)s) <= %(now)s
               AND NOT EXISTS (SELECT FROM incidents_notification AS earlier
                                WHERE earlier.incident_id = new.incident_id AND earlier.id < new.id
                                  AND earlier.addressed_at IS NULL AND earlier.held_until > %(now)s
                                  AND earlier.held_by = %(tick)s)
             ORDER BY id LIMIT %(limit)s) AS n
      JOIN incidents_incident i ON i.id = n.incident_id
      JOIN monitors_monitorenvironment me ON me.id = i.monitor_environment_id
      JOIN monitors_monitor m ON m.id = me.monitor_id
      JOIN monitors_environment e ON e.id = me.environment_id
      LEFT JOIN incidents_issue s ON s.id = i.issue_id
     ORDER BY n.incident_id, n.id
"""
_NEW_SQL = _CHANGES_SQL.format(since="NULL")
_WAITING_SQL = _CHANGES_SQL.format(since="NOT NULL")
"""Indexes: notification_new, notification_unaddressed."""


def _opened_messages(incident_ids: Sequence[int]) -> dict[int, dict[str, tuple[str, int | None]]]:
    """Return the state and the channel of the message about the opening, by incident and recipient.

    Who was told of it by an escalation only is told of the end too, unless that has not been sent either.
    """
    found: dict[int, dict[str, tuple[str, int | None]]] = {}
    if incident_ids:
        for incident_id, recipient, channel_id, state, kind in fetch_rows(_OPENED_SQL, [list(incident_ids)]):
            if kind == KIND_OPENED or state not in ("foldable", "superseded"):
                found.setdefault(incident_id, {}).setdefault(recipient, (state, channel_id))
    return found


_OPENED_SQL = """
    SELECT incident_id, recipient, channel_id,
           CASE WHEN status = 'waiting' AND claimed_until IS NULL THEN 'foldable' ELSE status END, kind
      FROM incidents_message WHERE incident_id = ANY(%s) AND kind IN ('opened', 'escalated')
     ORDER BY id
       FOR UPDATE
"""


def _plan(
    due: Sequence[_Change],
    recipients: Sequence[Recipient],
    told: Mapping[str, tuple[str, int | None]],
    plan: _Plan,
) -> None:
    """Add the messages for the due changes of one incident.

    The recipients of the opening are also notified about the end, even if the routes have changed since. An older
    version did not store its recipients.
    """
    transitions = {change.transition for change in due}
    for recipient, kind in _kinds(transitions, recipients, told):
        key = message_key(due[0].guid, kind, recipient.name)
        message = NewMessage(due[0].incident_id, kind, recipient, key)
        plan.messages.append(message)
        plan.duties.extend((change.id, message) for change in due)


def caught_by(decision: Decision, incident_id: int) -> Iterator[Caught]:
    """Yield each route that caught an incident, with whom it named; ALERT_EMAIL_TO if none did."""
    told: dict[int, list[tuple[str, int | None]]] = {}
    for recipient in decision.recipients:
        told.setdefault(recipient.route, []).append((recipient.name, recipient.channel))
    for route in decision.routes:
        names = tuple(told.get(route.id, ()))
        yield Caught(incident_id, route.name, names, route.reminder_hours, route.steps, route.loops)
    if not decision.routes:
        yield Caught(incident_id, "", tuple(told.get(0, ())))


def _kinds(
    transitions: set[str], recipients: Sequence[Recipient], told: Mapping[str, tuple[str, int | None]]
) -> Iterator[tuple[Recipient, str]]:
    if transitions == {RESOLVED} and told:
        for name, (state, channel_id) in told.items():
            yield Recipient(name, channel_id, AS_BEFORE), KIND_PASSED if state == "foldable" else KIND_RESOLVED
    elif transitions:
        kind = {frozenset({OPENED}): KIND_OPENED, frozenset({RESOLVED}): KIND_RESOLVED}
        for recipient in recipients:
            yield recipient, kind.get(frozenset(transitions), KIND_PASSED)


def _write(plan: _Plan, *, now: datetime) -> None:
    """Write messages and duties; a message that covers both changes replaces an unsent one about the opening."""
    insert_messages(plan.messages, now=now)
    newer = [message for message in plan.messages if message.kind == KIND_PASSED]
    with connection.cursor() as cursor:
        if newer:
            cursor.execute(
                _FOLD_SQL, [[one.incident_id for one in newer], [one.recipient.name for one in newer], now, now]
            )
    write_duties(plan.duties, now=now)


_FOLD_SQL = """
    WITH pairs AS (SELECT * FROM unnest(%s::bigint[], %s::text[]) AS newer (incident_id, recipient)),
         folded AS (
         UPDATE incidents_message AS m SET status = 'folded', finished_at = %s
           FROM pairs AS newer
          WHERE m.incident_id = newer.incident_id AND m.recipient = newer.recipient AND m.kind = 'opened'
            AND m.status = 'waiting' AND m.claimed_until IS NULL
        RETURNING m.id, m.incident_id, m.recipient)
    UPDATE incidents_duty AS d SET message_id = m.id, created_at = %s
      FROM folded JOIN incidents_message AS m
        ON m.incident_id = folded.incident_id AND m.recipient = folded.recipient AND m.kind = 'passed'
     WHERE d.incident_id = folded.incident_id AND d.message_id = folded.id
"""


def _record(addressed: Sequence[_Change], nobody: Sequence[_Change], *, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE incidents_notification SET addressed_at = %s, nobody_since = CASE WHEN id = ANY(%s) THEN NULL "
            "ELSE nobody_since END WHERE id = ANY(%s)",
            [now, [change.id for change in addressed if change.is_due], [change.id for change in addressed]],
        )
        cursor.execute(
            "UPDATE incidents_notification SET nobody_since = %s WHERE id = ANY(%s) AND nobody_since IS NULL",
            [now, [change.id for change in nobody]],
        )
