"""What is stored of the incidents of claimed messages (shell).

Five statements for all messages of a claim.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.urls import reverse

from accounts.roles import Action, Role, may
from incidents.models import Flapping, LongBroken, Message, Notification
from incidents.notifications.acknowledge_links import acknowledge_link
from incidents.notifications.alert import IncidentFacts, Severity
from incidents.notifications.held_behind import held_behind
from incidents.notifications.letters import NOTHING_HELD, Flaps, Held, Patience, Story, log_tail

LOG_NEAR = timedelta(days=1)
"""Output may be received before the first check-in of its run."""
LOGS_MAX = 5
LOG_BYTES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Known:
    """The stored data of an incident: the opening occurrence with the log of its run, and when its end was recorded.

    `flaps`: it also reports that the job flaps. `long`: people were notified that it has been failing for weeks.
    `held`: the monitors whose messages are held because of it.
    """

    explanation: Mapping[str, Any] = field(default_factory=dict)
    resolved_at: datetime | None = None
    flaps: Flaps | None = None
    long: LongBroken | None = None
    held: Held = NOTHING_HELD


def story_of(message: Message, known: Known) -> Story:
    """Return the facts of a message about an incident, whose monitor and environment are loaded."""
    incident = message.incident
    assert incident is not None, "a message from the clock comes with its text"
    environment = incident.monitor_environment
    return Story(
        language=message.channel.language if message.channel else "en",
        monitor=environment.monitor.name or environment.monitor.slug,
        environment=environment.environment.name,
        timezone=environment.monitor.timezone,
        started_at=incident.started_at,
        explanation=known.explanation,
        link=link_to(incident.id),
        recovered_at=known.resolved_at or incident.resolved_at,
        flaps=known.flaps,
        patience=_patience(message, known.long),
        told_at=max(message.created_at, message.due_at),  # At the end of quiet hours.
        number=message.number if message.kind == Message.Kind.REMINDER else 0,
        acknowledge_link=acknowledge_link(message),
        acknowledged_by=incident.acknowledged_by,
        acknowledged_at=incident.acknowledged_at,
        held=known.held,
    )


def facts_of(message: Message, story: Story, reason: str, *, is_open: bool) -> IncidentFacts:
    """Return an incident as receivers are notified of it: that of a message, whose monitor and project are loaded."""
    incident = message.incident
    assert incident is not None, "it is about an incident"
    environment = incident.monitor_environment
    explanation: dict[str, Any] = dict(story.explanation)
    tail = explanation.pop("log_tail", None)
    return IncidentFacts(
        guid=incident.guid,
        project=environment.monitor.project.slug,
        slug=environment.monitor.slug,
        monitor=story.monitor,
        environment=story.environment,
        tags=tuple(environment.monitor.tags),
        severity=Severity(environment.monitor.severity),
        kind=str(explanation.get("kind") or "error"),
        is_open=is_open,
        started_at=incident.started_at,
        opened_at=incident.opened_at,
        resolved_at=None if is_open else story.recovered_at,
        reason=reason,
        log_tail=log_tail(str(tail or "")) if _sees_log(message) else "",
        explanation=explanation,
        url=link_to(incident.id),
        acknowledge_url=story.acknowledge_link if is_open else "",
        acknowledged_by=story.acknowledged_by,
    )


def _sees_log(message: Message) -> bool:
    """Return whether the recipient may see what the run printed; what a project's own channels get it decides."""
    channel, incident = message.channel, message.incident
    if channel is None or not channel.is_personal or incident is None:
        return True
    is_private = incident.monitor_environment.monitor.has_private_logs
    return not is_private or (channel.member is not None and may(Role(channel.member.role), Action.SEE_PRIVATE_LOGS))


def _patience(message: Message, long: LongBroken | None) -> Patience | None:
    """Return what a reminder says about an incident that is open for weeks; nothing if it was not written for that."""
    if long is None or message.kind != Message.Kind.REMINDER:
        return None
    if message.created_at == long.muted_at:
        return Patience.MUTED
    return Patience.WARNED if message.created_at == long.told_at else None


def link_to(incident_id: int) -> str:
    """Return the address of an incident's page; empty if PUBLIC_URL is not set."""
    path = reverse("incident", args=[incident_id])
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else ""


def load_known(incident_ids: Sequence[int]) -> dict[int | None, Known]:
    """Return the stored data of incidents. The logs of a failed run are those received so far."""
    with connection.cursor() as cursor:
        cursor.execute(KNOWN_SQL, {"ids": list(incident_ids), "near": LOG_NEAR.total_seconds(), "bytes": LOG_BYTES_MAX})
        occurrences = {id_: _with_log(json.loads(explanation), log) for id_, explanation, log in cursor.fetchall()}
    ends = Notification.objects.filter(
        incident_id__any_of=list(incident_ids), transition=Notification.Transition.RESOLVED
    ).values_list("incident_id", "created_at")
    resolved_at = dict(ends)
    flaps = {
        one.incident_id: Flaps(one.change_count, one.run_count, one.opening_count)
        for one in Flapping.objects.filter(incident_id__any_of=list(incident_ids))
    }
    long = {one.incident_id: one for one in LongBroken.objects.filter(incident_id__any_of=list(incident_ids))}
    held = held_behind(incident_ids)
    return {
        id_: Known(
            occurrences.get(id_, {}), resolved_at.get(id_), flaps.get(id_), long.get(id_), held.get(id_, NOTHING_HELD)
        )
        for id_ in incident_ids
    }


def _with_log(explanation: dict[str, Any], log: bytes | memoryview | None) -> dict[str, Any]:
    """Return the explanation with the output of its run; a miss has no run. The encoding of the output is unknown."""
    if log is None or explanation.get("kind") not in ("error", "timeout"):
        return explanation
    return explanation | {"log_tail": log_tail(bytes(log).decode("utf-8", "replace"))}


KNOWN_SQL = f"""
    SELECT opening.incident_id, opening.explanation::text, printed.log
      FROM (SELECT DISTINCT ON (o.incident_id) o.*, i.monitor_environment_id
              FROM incidents_occurrence AS o
              JOIN incidents_incident AS i ON i.id = o.incident_id
             WHERE o.incident_id = ANY(%(ids)s)
             ORDER BY o.incident_id, o.detected_at = i.opened_at DESC,
                      CASE WHEN o.detected_at = i.opened_at THEN -o.id ELSE o.id END
           ) AS opening
      LEFT JOIN LATERAL (
           SELECT string_agg(part, '\\x0a'::bytea ORDER BY received_at, id) AS log
             FROM (SELECT l.id, l.received_at,
                          substring(l.body FROM greatest(octet_length(l.body) - %(bytes)s, 0) + 1) AS part
                     FROM checkins_checkin AS c
                     JOIN checkins_checkinlog AS l
                       ON l.monitor_environment_id = c.monitor_environment_id AND l.guid = c.guid
                      AND l.received_at >= c.date_added - make_interval(secs => %(near)s) AND l.status <> 'ok'
                    WHERE c.monitor_environment_id = opening.monitor_environment_id
                      AND c.date_added = opening.occurred_at AND c.id = opening.checkin_id
                    ORDER BY l.received_at DESC, l.id DESC
                    LIMIT {LOGS_MAX}
                  ) AS newest
           ) AS printed ON true
"""  # noqa: S608
"""The occurrence that opened each incident, or the first one stored, and the output of its run, without the output of
successful attempts. Indexes: occurrence_numbered_once, checkin_history, checkin_log_history."""
