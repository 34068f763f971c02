"""From notifications to messages: routing decides whom each concerns (shell around `routing`).

    Notification -> Duty for each recipient, with the reason -> Message, for one incident or a storm (`folding`)

An incident without recipients waits: when somebody edits routes, channels or ALERT_EMAIL_TO, it is routed again.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from django.db import connection, transaction

from incidents.models import Message
from incidents.notifications.acknowledged_storms import acknowledge_storms, withdraw_acknowledgements
from incidents.notifications.alert import Severity
from incidents.notifications.folding import News, fold
from incidents.notifications.follow_ups import Caught, begin, supersede
from incidents.notifications.holding import hold_back
from incidents.notifications.notified import Notified, notified_of
from incidents.notifications.outbox import (
    OPENED,
    RESOLVED,
    TICK,
    NewMessage,
    insert_messages,
    message_key,
    write_duties,
)
from incidents.notifications.routes import Decision, Routing, decide, load_routing
from incidents.notifications.routing import Facts, Recipient
from incidents.notifications.storms import End, begun, gather, hurry, summarise
from lib.sql import fetch_rows, plan_for_few_of_many

ADDRESSED_MAX = 10_000
"""How many notifications one transaction turns into messages."""
KIND_OPENED, KIND_RESOLVED, KIND_PASSED = (
    kind.value for kind in (Message.Kind.OPENED, Message.Kind.RESOLVED, Message.Kind.PASSED)
)
KIND_DIGEST, KIND_OVER = Message.Kind.DIGEST.value, Message.Kind.STORM_OVER.value
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
    assignee: int
    kind: str
    tick: datetime | None

    @property
    def is_due(self) -> bool:
        """Whether to send: a late notification only if the incident is still open and not muted or archived."""
        return not self.is_late or (self.is_open and not self.is_quiet)

    @property
    def is_critical(self) -> bool:
        """Whether it is sent in quiet hours too."""
        return self.severity == Severity.CRITICAL


@dataclass(slots=True)
class _Plan:
    """What is to be written: messages, openings that may fold, and ends of members of storms.

    `duties` are the changes, by id, each with a message that covers it: a new one, or one that is there, by its key.
    """

    messages: list[NewMessage] = field(default_factory=list)
    duties: list[tuple[int, NewMessage]] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    quiet: dict[int, datetime] = field(default_factory=dict)
    """Channels that are not to be notified now that something is over."""


def address(default: Sequence[str], *, now: datetime) -> int:
    """Write messages for new notifications; returns how many notifications were examined. `default`: ALERT_EMAIL_TO.

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
    """Address the notifications that `sql` finds with ids above `after`; returns the ids of those examined.

    1. Take the lock of addressing: one worker at a time.
    2. Read notifications with the facts of their incidents, grouped by incident, and hold back what has to wait.
    3. Load the routes of their projects, and who was notified of the openings whose end is among them.
    4. For each incident, decide whom its routes name, and plan the messages: openings may fold, an end goes to those
       who were notified of the opening. If nobody can be notified, only that is recorded.
    5. Fold the openings of storms into digests, and the ends of their members into summaries.
    6. Write messages and duties, make summaries due that are complete, and begin reminders and escalations.
    7. Withdraw what is of no use once an incident is over, and notify pagers of storms that are acknowledged now.
    8. Record the notifications as addressed, or as without recipients.
    """
    with connection.cursor() as cursor:
        # One at a time, or two workers could write the beginning and the end of an incident in the wrong order.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('watchclock: address'))")
    plan_for_few_of_many()
    parameters = {"now": now, "after": after, "limit": ADDRESSED_MAX, "tick": TICK}
    changes = [_Change(*row) for row in fetch_rows(sql, parameters)]
    looked_at = [change.id for change in changes]
    left_out = hold_back({change.incident_id for change in changes if not change.is_late}, now=now)
    changes = [change for change in changes if change.incident_id not in left_out]
    if not changes:
        return looked_at
    routing = load_routing({change.project_id for change in changes}, default)
    before = notified_of([change.incident_id for change in changes if change.transition == RESOLVED])
    addressed: list[_Change] = []
    nobody: list[_Change] = []
    plan = _Plan()
    caught: list[Caught] = []
    for _, group in groupby(changes, key=attrgetter("incident_id")):
        own = list(group)
        due = [change for change in own if change.is_due]
        notified = before.get(own[0].incident_id, [])
        decision = decide(routing, own[0].project_id, _facts(own[0])) if due or not notified else Decision([])
        if not decision.recipients and not notified and not decision.is_nobody_meant:
            nobody += own
            continue
        addressed += own
        _plan(due, decision.recipients, notified, plan, now=now)
        if {change.transition for change in due} == {OPENED}:
            caught += caught_by(decision, own[0].incident_id)
    _fold(plan, routing, now=now)
    _write(plan, now=now)
    hurry({end.storm for end in plan.ends if end.recipient.channel not in plan.quiet}, now=now)
    begin(caught, now=now)
    over = [change.incident_id for change in addressed if change.transition == RESOLVED]
    supersede(over, now=now, kinds=_PASSING)
    withdraw_acknowledgements(over, now=now)
    acknowledge_storms(over, now=now)
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
        assignee=change.assignee,
    )


_CHANGES_SQL = """
    SELECT n.id, n.incident_id, i.guid, n.transition,
           EXISTS (SELECT 1 FROM incidents_notification o
                    WHERE o.incident_id = n.incident_id AND o.nobody_since IS NOT NULL) AS is_late,
           i.resolved_at IS NULL AS is_open,
           me.is_muted OR coalesce(s.status = 'archived', false) AS is_quiet,
           m.project_id, m.slug, e.name, m.tags, m.severity, m.owner,
           coalesce(s.assignee_id, 0),
           coalesce((SELECT o.explanation ->> 'kind' FROM incidents_occurrence o
                      WHERE o.incident_id = i.id AND o.detected_at <= i.opened_at
                      ORDER BY o.number DESC LIMIT 1), ''), n.tick
      FROM (SELECT * FROM incidents_notification AS new
             WHERE addressed_at IS NULL AND nobody_since IS {since} AND id > %(after)s
               AND transition IN ('opened', 'resolved')
               AND coalesce(held_until, %(now)s) <= %(now)s
               AND NOT EXISTS (SELECT FROM incidents_notification AS earlier
                                WHERE earlier.incident_id = new.incident_id AND earlier.id < new.id
                                  AND earlier.held_until > %(now)s AND earlier.held_by = %(tick)s)
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
"""Indexes: notification_new, notification_unaddressed. What is held is not addressed: said so, the planner would read
one of these whole for each notification of a storm."""


def _plan(
    due: Sequence[_Change], recipients: Sequence[Recipient], notified: Sequence[Notified], plan: _Plan, *, now: datetime
) -> None:
    """Add what the due changes of one incident ask for.

    The recipients of the opening are also notified about the end, even if the routes have changed since, or it was
    muted. An older version did not store its recipients.
    """
    transitions = {change.transition for change in due}
    if OPENED in transitions:
        plan.news += [_news(due, recipient) for recipient in recipients]
    elif transitions and notified:
        for one in notified:
            _plan_end(due, one, plan, now=now)
    elif transitions and not due[0].is_quiet:
        for recipient in recipients:
            _notify(due, recipient, KIND_RESOLVED, plan)


def _plan_end(due: Sequence[_Change], notified: Notified, plan: _Plan, *, now: datetime) -> None:
    """Add the end of an incident for one who was notified, or will be, that it opened."""
    recipient = Recipient(notified.recipient, notified.channel, AS_BEFORE)
    quiet_until = None if due[0].is_critical else notified.quiet_until(now)
    if notified.channel is not None and quiet_until is not None:
        plan.quiet[notified.channel] = quiet_until
    if notified.storm is not None:
        if notified.is_unsent:
            message = NewMessage(due[0].incident_id, KIND_DIGEST, recipient, notified.key)
            plan.duties += [(change.id, message) for change in due]
        else:
            plan.ends += [End(notified.storm, change.id, change.incident_id, recipient) for change in due]
    elif notified.is_unsent:
        _notify(due, recipient, KIND_PASSED, plan, due_at=quiet_until)
    elif quiet_until is not None and notified.is_sent and not notified.shows_first:
        plan.news.append(_news(due, recipient))
    else:
        _notify(due, recipient, KIND_RESOLVED, plan, due_at=quiet_until)


def _news(due: Sequence[_Change], recipient: Recipient) -> News:
    first = due[0]
    return News(
        first.incident_id,
        first.guid,
        first.project_id,
        next((change.tick for change in due if change.transition == OPENED), None),
        recipient,
        tuple(change.id for change in due),
        is_over=any(change.transition == RESOLVED for change in due),
        is_critical=first.is_critical,
    )


def _notify(
    due: Sequence[_Change], recipient: Recipient, kind: str, plan: _Plan, *, due_at: datetime | None = None
) -> None:
    """Add a message about one incident."""
    key = message_key(due[0].guid, kind, recipient.name)
    message = NewMessage(due[0].incident_id, kind, recipient, key, due_at=due_at)
    plan.messages.append(message)
    plan.duties += [(change.id, message) for change in due]


def _fold(plan: _Plan, routing: Routing, *, now: datetime) -> None:
    """Turn news into messages: of their own, or of storms; and find the summaries for ends of members of storms."""
    hours = {place.id: place.quiet.end_after(now) for place in routing.places.values() if place.quiet is not None}
    quiet = {id_: until for id_, until in hours.items() if until is not None} | plan.quiet
    unfolded = {place.id for place in routing.places.values() if not place.folds}
    waiting = begun({one.recipient.name for one in plan.news})
    alone, groups = fold(plan.news, quiet=quiet, unfolded=unfolded, begun=waiting)
    for one in alone:
        kind = KIND_PASSED if one.is_over else KIND_OPENED
        key = message_key(one.guid, kind, one.recipient.name)
        message = NewMessage(one.incident, kind, one.recipient, key)
        plan.messages.append(message)
        plan.duties += [(change, message) for change in one.changes]
    digests = gather(groups, waiting, due=quiet, now=now)
    for group, members in groups.items():
        for one in members:
            message = NewMessage(one.incident, KIND_DIGEST, one.recipient, digests[group])
            plan.duties += [(change, message) for change in one.changes]
    summaries = summarise(plan.ends, due=plan.quiet, now=now)
    plan.duties += [
        (end.change, NewMessage(end.incident, KIND_OVER, end.recipient, summaries[end.storm])) for end in plan.ends
    ]


def caught_by(decision: Decision, incident_id: int) -> Iterator[Caught]:
    """Yield each route that caught an incident, with whom it named; ALERT_EMAIL_TO if none did."""
    notified: dict[int, list[tuple[str, int | None]]] = {}
    for recipient in decision.recipients:
        notified.setdefault(recipient.route, []).append((recipient.name, recipient.channel))
    for route in decision.routes:
        names = tuple(notified.get(route.id, ()))
        yield Caught(incident_id, route.name, names, route.reminder_hours, route.steps, route.loops)
    if not decision.routes:
        yield Caught(incident_id, "", tuple(notified.get(0, ())))


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
            AND m.status = 'waiting' AND m.claimed_until IS NULL AND NOT m.is_in_doubt
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
