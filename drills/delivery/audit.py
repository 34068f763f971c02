"""What must be true in the end, of what receivers saw and of the rows: the simulation and the drill ask the same."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from drills.delivery.ledger import PAGERS, Received, open_alerts, unequal_repeats
from incidents.models import Incident, Message, Notification
from incidents.notifications.holds import BEHIND, RECOVERY
from lib.sql import fetch_rows

LATE = timedelta(minutes=20)
"""So late a hold may end, of a clock that runs sixty times as fast: workers may be away for some seconds."""


@dataclass(frozen=True)
class Held:
    """Incidents that were held behind another one, and told in the end; those that nobody was told of, since they were
    over by then; and sentences about those of which somebody should have been told.
    """

    told: int
    over: int
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """What a recipient was told of an incident: by which message, and in which order receivers applied it."""

    incident: int
    transition: str
    recipient: str
    message: int
    status: str
    kind: str
    key: str
    applied: tuple[int, ...]


def judge(received: Sequence[Received], kinds: Mapping[str, str], *, claims_get_lost: bool = True) -> list[str]:
    """Return what is wrong in the end, in sentences. `kinds` are those of the recipients that are no mail addresses.

    `claims_get_lost`: workers died or stood still, and a message that one had claimed is in doubt, sent or not.
    """
    applied: dict[str, list[int]] = defaultdict(list)
    for one in received:
        if one.is_applied:
            applied[one.key].append(one.number)
    duties = read_duties(applied)
    return [
        *unfinished(),
        *ended_twice(),
        *untold(duties, received, kinds, claims_get_lost=claims_get_lost),
        *out_of_order(duties),
        *ends_untold(duties),
        *alerts_left_open(received),
        *unacknowledged(received),
        *unequal_repeats(received),
        *unknown_messages(received),
    ]


def judge_held(upstreams: Mapping[int, int]) -> Held:
    """Return what became of incidents that may be held: no held duty is ever lost.

    `upstreams`: on which job another one depends, each with one incident. Somebody must be told of every incident, but
    for those that were over before the hold behind an incident that people knew of ended.
    """
    rows = {row.job: row for row in (_Incident(*row) for row in fetch_rows(_INCIDENTS_SQL, {"behind": f"{BEHIND}%"}))}
    over, lost = 0, []
    for job, incident in rows.items():
        above = rows.get(upstreams.get(job, 0))
        if incident.is_told:
            continue
        if above is not None and above.is_told and _may_stay_untold(incident, above):
            over += 1
        else:
            lost.append(f"held and lost: nobody was told of the incident of job {job} (held: {incident.was_held})")
    return Held(sum(one.is_told and one.was_held for one in rows.values()), over, tuple(lost))


class _Incident(NamedTuple):
    """An incident that is over. `was_held`: behind another one; `is_told`: somebody has a duty to be told of it."""

    job: int
    opened_at: datetime
    over_at: datetime
    was_held: bool
    is_told: bool


def _may_stay_untold(incident: _Incident, above: _Incident) -> bool:
    """Return whether an incident was over while it could be held behind another one."""
    released_at = above.over_at + RECOVERY + LATE
    return above.opened_at <= incident.over_at + LATE and incident.over_at <= released_at


_INCIDENTS_SQL = """
    SELECT i.monitor_environment_id, i.opened_at, i.resolved_at,
           EXISTS (SELECT FROM drill_log AS l WHERE l.what = 'held' AND l.id = n.id AND l.new LIKE %(behind)s),
           EXISTS (SELECT FROM incidents_duty AS d WHERE d.notification_id = n.id)
      FROM incidents_incident AS i
      JOIN incidents_notification AS n ON n.incident_id = i.id AND n.transition = 'opened'
     WHERE i.resolved_at IS NOT NULL
"""


def read_duties(applied: Mapping[str, Sequence[int]]) -> list[Told]:
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
        Told(incident, transition, recipient, message, status, kind, key, tuple(applied.get(key, ())))
        for incident, transition, recipient, message, status, kind, key in rows
    ]


def unfinished() -> list[str]:
    """Nothing waits any more: every change was routed, and every message has ended."""
    waiting = Message.objects.filter(status="waiting").count()
    # Who has not been told of an incident, for want of a recipient, is not told that it is acknowledged.
    nobody = Notification.objects.filter(addressed_at__isnull=True, nobody_since__isnull=False)
    unaddressed = (
        Notification.objects.filter(addressed_at__isnull=True, nobody_since__isnull=True)
        .exclude(transition="acknowledged", incident__in=nobody.values("incident"))
        .count()
    )
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


def untold(
    duties: Sequence[Told], received: Sequence[Received], kinds: Mapping[str, str], *, claims_get_lost: bool
) -> list[str]:
    """What counts as sent was received, and nothing was given up without a reason that its receiver knows of."""
    found = []
    own: dict[str, list[Received]] = defaultdict(list)
    for one in received:
        own[one.key].append(one)
    still_open: dict[int, set[int]] = defaultdict(set)
    for told in duties:
        if told.transition in ("opened", "escalated"):
            still_open[told.message] |= {told.incident}
    for told in duties:
        if told.transition == "resolved":
            still_open[told.message] ^= {told.incident}
    errors = dict(Message.objects.filter(status="failed").values_list("id", "last_error"))
    for told in duties:
        name = f"message {told.message} ({told.kind} to {told.recipient})"
        # A pager is told nothing of what is over already, and reminds by itself.
        # Of a storm it is told the very end, which an alert that is left open would show.
        is_partial = told.kind == "storm_over"
        is_silent = kinds.get(told.recipient, "email") in PAGERS and (is_partial or not still_open[told.message])
        # In doubt more than once, where people would see each repetition.
        was_tried = any(one.was_refused for one in own[told.key]) or len(own[told.key]) > 1 or claims_get_lost
        if told.status == "sent" and not told.applied and not is_silent:
            found.append(f"lost: {name} is sent, and nobody got it")
        if told.status == "failed" and not told.applied and not was_tried:
            found.append(f"lost: {name} was given up: {errors.get(told.message)}")
        if told.status == "folded":
            found.append(f"lost: a duty hangs on {name}, which was folded")
    return found


def out_of_order(duties: Sequence[Told]) -> list[str]:
    """The end is told after all else, and nothing after the end."""
    before: dict[tuple[int, str], list[Told]] = defaultdict(list)
    ends: dict[tuple[int, str], Told] = {}
    for told in duties:
        if told.transition == "resolved":
            ends[told.incident, told.recipient] = told
        else:
            before[told.incident, told.recipient].append(told)
    return [
        f"out of order: {recipient} heard of the end of incident {incident} before {told.transition}"
        for (incident, recipient), end in ends.items()
        for told in before[incident, recipient]
        if told.message != end.message and told.applied and end.applied and max(told.applied) > min(end.applied)
    ]


def ends_untold(duties: Sequence[Told]) -> list[str]:
    """Who was told of an incident is told that it is over, whatever happened since."""
    over = set(Incident.objects.filter(resolved_at__isnull=False).values_list("id", flat=True))
    ends = {(told.incident, told.recipient) for told in duties if told.transition == "resolved"}
    return [
        f"lost: {told.recipient} was told of incident {told.incident}, and not that it is over"
        for told in duties
        if told.transition != "resolved" and told.applied and told.incident in over
        and (told.incident, told.recipient) not in ends
    ]  # fmt: skip


def alerts_left_open(received: Sequence[Received]) -> list[str]:
    """No pager has an alert open of an incident that is over, unless it refused the very message that closes it."""
    refused = Counter((one.recipient, one.group) for one in received if one.action == "close" and one.was_refused)
    still_open = {guid for (guid,) in fetch_rows(_OPEN_SQL, [])}
    return [
        f"left open: alert {group} at {recipient}, though the incident is over"
        for recipient, group in open_alerts(received)
        if group not in still_open and refused[recipient, group] < 2
    ]


_OPEN_SQL = """
    SELECT guid::text FROM incidents_incident WHERE resolved_at IS NULL
     UNION
    SELECT s.guid::text FROM incidents_storm AS s JOIN incidents_message AS m ON m.storm_id = s.id
      JOIN incidents_duty AS d ON d.message_id = m.id JOIN incidents_incident AS i ON i.id = d.incident_id
     WHERE i.resolved_at IS NULL
"""
"""A storm is open as long as any of its members."""


def unacknowledged(received: Sequence[Received]) -> list[str]:
    """A pager is told that a storm is acknowledged once somebody looks after each open member, and after the alert."""
    rows = fetch_rows(_UNTOLD_SQL, [])
    found = [f"lost: storm {guid} is acknowledged, and its pager was not told" for (guid,) in rows]
    first: dict[tuple[str, str, str], int] = {}
    for one in received:
        if one.is_applied and one.action in ("open", "acknowledge"):
            first.setdefault((one.recipient, one.group, one.action), one.number)
    return found + [
        f"out of order: {recipient} heard that {group} is acknowledged before it was opened"
        for (recipient, group, action), number in first.items()
        if action == "acknowledge" and number < first.get((recipient, group, "open"), 0)
    ]


_UNTOLD_SQL = """
    SELECT s.guid::text
      FROM incidents_storm AS s
      JOIN incidents_channel AS c ON c.id = s.channel_id AND c.kind IN ('pagerduty', 'opsgenie')
      JOIN incidents_message AS m ON m.storm_id = s.id
      JOIN incidents_duty AS d ON d.message_id = m.id
      JOIN incidents_incident AS i ON i.id = d.incident_id AND i.resolved_at IS NULL
     WHERE EXISTS (SELECT FROM incidents_message WHERE storm_id = s.id AND kind = 'digest' AND status = 'sent')
       AND NOT EXISTS (SELECT FROM incidents_message
                        WHERE storm_id = s.id AND kind = 'acknowledged' AND status <> 'superseded')
     GROUP BY s.id, s.guid HAVING bool_and(i.acknowledged_at IS NOT NULL)
"""


def unknown_messages(received: Sequence[Received]) -> list[str]:
    """Everything that was received is one of our messages."""
    known = {str(key) for key in Message.objects.values_list("idempotency_key", flat=True)}
    return [f"unknown: {one.key} at {one.recipient}" for one in received if one.key not in known]
