"""What must be true after a world has settled: of what receivers saw, and of the rows."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from drills.delivery.changes import Change
from drills.delivery.config import DEFAULT, Config
from drills.delivery.ledger import Received, open_alerts, unequal_repeats
from drills.delivery.rows import recipient_of
from drills.delivery.world import Committed, World
from incidents.models import Incident, Message, Notification
from lib.sql import fetch_rows


@dataclass(frozen=True)
class Told:
    """What a recipient was told of an incident: by which message, and in which order receivers applied it."""

    incident: int
    transition: str
    recipient: str
    message: int
    status: str
    kind: str
    applied: tuple[int, ...]


def audit(world: World) -> list[str]:
    """Return what is wrong after a world, in sentences."""
    applied = defaultdict(list)
    for one in world.received:
        if one.is_applied:
            applied[one.key].append(one.number)
    duties = read_duties(applied)
    return [
        *unfinished(),
        *ended_twice(),
        *untold(world, duties),
        *out_of_order(duties),
        *ends_untold(duties),
        *alerts_left_open(world.received),
        *unequal_repeats(world.received),
        *wrong_recipients(world, duties),
        *unknown_messages(world.received),
    ]


def read_duties(applied: dict[str, list[int]]) -> list[Told]:
    """Return what each recipient was told of each change."""
    rows = fetch_rows(
        """
        SELECT d.incident_id, n.transition, d.recipient, m.id, m.status, m.kind, m.idempotency_key::text
          FROM incidents_duty AS d
          JOIN incidents_notification AS n ON n.id = d.notification_id
          JOIN incidents_message AS m ON m.id = d.message_id
         ORDER BY d.id
        """,
        [],
    )
    return [
        Told(incident, transition, recipient, message, status, kind, tuple(applied.get(key, ())))
        for incident, transition, recipient, message, status, kind, key in rows
    ]


def unfinished() -> list[str]:
    """Nothing waits any more: every change was routed, and every message has ended."""
    waiting = Message.objects.filter(status="waiting").count()
    unaddressed = Notification.objects.filter(addressed_at__isnull=True, nobody_since__isnull=True).count()
    without = fetch_rows(
        "SELECT id FROM incidents_duty AS d WHERE NOT EXISTS (SELECT FROM incidents_message WHERE id = d.message_id)",
        [],
    )
    found = {"messages wait": waiting, "changes are not routed": unaddressed, "duties have no message": len(without)}
    return [f"lost: {number} {what}" for what, number in found.items() if number]


def ended_twice() -> list[str]:
    """A message ends once."""
    rows = fetch_rows("SELECT id, old, new FROM drill_log WHERE what = 'message' ORDER BY seq", [])
    ended = Counter(id_ for id_, _, new in rows if new != "waiting")
    return [f"recorded twice: message {id_}" for id_, number in ended.items() if number > 1]


def untold(world: World, duties: list[Told]) -> list[str]:
    """What counts as sent was received, and nothing was given up that a healthy receiver would have taken."""
    kinds = {
        recipient_of(world.configs[0], number, DEFAULT): kind for number, kind in enumerate(world.configs[0].kinds)
    }
    found = []
    for told in duties:
        kind = kinds.get(told.recipient, "email")
        is_silent = kind in ("pagerduty", "opsgenie") and told.kind == "passed"
        if told.status == "sent" and not told.applied and not is_silent:
            found.append(f"lost: message {told.message} ({told.kind} to {told.recipient}) is sent, and nobody got it")
        if told.status == "failed":
            found += failed_wrongly(world, told)
        if told.status == "folded":
            found.append(f"lost: a duty hangs on message {told.message}, which was folded")
    return found


def failed_wrongly(world: World, told: Told) -> list[str]:
    """A message may be given up for a reason that its receiver knows of."""
    key = str(Message.objects.get(id=told.message).idempotency_key)
    own = [one for one in world.received if one.key == key]
    if any(one.was_refused for one in own) or len([one for one in own if one.is_applied]) >= 1:
        return []
    error = Message.objects.get(id=told.message).last_error
    if len(own) >= 3:  # In doubt as often as people may see it twice.
        return []
    return [f"lost: message {told.message} ({told.kind} to {told.recipient}) was given up: {error}"]


def out_of_order(duties: list[Told]) -> list[str]:
    """The end is told after the beginning, and the beginning never after the end."""
    found = []
    places: dict[tuple[int, str], dict[str, Told]] = defaultdict(dict)
    for told in duties:
        places[told.incident, told.recipient][told.transition] = told
    for (incident, recipient), own in places.items():
        opened, resolved = own.get("opened"), own.get("resolved")
        if opened is None or resolved is None or opened.message == resolved.message:
            continue
        if opened.applied and resolved.applied and max(opened.applied) > min(resolved.applied):
            found.append(f"out of order: {recipient} heard of the end of incident {incident} before its beginning")
    return found


def ends_untold(duties: list[Told]) -> list[str]:
    """Who was told that an incident opened is told that it is over, whatever happened since."""
    over = set(Incident.objects.filter(resolved_at__isnull=False).values_list("id", flat=True))
    ends = {(told.incident, told.recipient) for told in duties if told.transition == "resolved"}
    return [
        f"lost: {told.recipient} was told that incident {told.incident} opened, and not that it is over"
        for told in duties
        if told.transition == "opened" and told.applied and told.incident in over
        and (told.incident, told.recipient) not in ends
    ]  # fmt: skip


def alerts_left_open(received: list[Received]) -> list[str]:
    """No pager has an alert open of an incident that is over."""
    still_open = {
        str(guid) for guid in Incident.objects.filter(resolved_at__isnull=True).values_list("guid", flat=True)
    }
    return [
        f"left open: alert {group} at {recipient}, though the incident is over"
        for recipient, group in open_alerts(received)
        if group not in still_open
    ]


def unknown_messages(received: list[Received]) -> list[str]:
    """Everything that was received is one of our messages."""
    known = {str(key) for key in Message.objects.values_list("idempotency_key", flat=True)}
    return [f"unknown: {one.key} at {one.recipient}" for one in received if one.key not in known]


def wrong_recipients(world: World, duties: list[Told]) -> list[str]:
    """A change is told to whom the routes name, by a configuration in force between the change and its routing."""
    told: dict[int, set[str]] = defaultdict(set)
    for one in duties:
        if one.transition == "opened":
            told[one.incident].add(one.recipient)
    log = fetch_rows("SELECT seq, what, id FROM drill_log WHERE what <> 'message' ORDER BY seq", [])
    edits = [(seq, id_) for seq, what, id_ in log if what == "config"]
    nobody = {id_ for _, what, id_ in log if what == "nobody"}
    routed = {id_: seq for seq, what, id_ in log if what == "addressed"}
    found = []
    for notification, incident, kind, opened_at, resolved_at in fetch_rows(_OPENINGS_SQL, []):
        if notification not in routed:
            continue
        first = _edits_before(world.history, opened_at)
        last = max([number for seq, number in edits if seq < routed[notification]], default=0)
        allowed = [_names(config, kind) for config in world.configs[min(first, last) : max(first, last) + 1]]
        is_late = notification in nobody and not told[incident]
        if told[incident] not in allowed and not is_late:
            found.append(f"recipients of incident {incident}: {sorted(told[incident])}, and not one of {allowed}")
        del resolved_at
    return found


_OPENINGS_SQL = """
    SELECT n.id, n.incident_id, o.explanation ->> 'kind', i.opened_at, i.resolved_at
      FROM incidents_notification AS n
      JOIN incidents_incident AS i ON i.id = n.incident_id
      JOIN incidents_occurrence AS o ON o.incident_id = i.id AND o.number = 1
     WHERE n.transition = 'opened' ORDER BY n.id
"""


def _edits_before(history: list[Committed], opened_at: datetime) -> int:
    """Return how many edits were committed before the transaction that opened incidents at this instant."""
    return min(
        (one.edits for one in history if isinstance(one.what, Change) and one.what.fails and one.at >= opened_at),
        default=0,
    )


def _names(config: Config, kind: str) -> set[str]:
    return {recipient_of(config, channel, DEFAULT) for channel in config.told(kind)}


def clear() -> None:
    """Forget the log."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM drill_log")
