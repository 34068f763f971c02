"""Writing the alerts of storms, from the duties that their messages carry (shell).

A fixed number of statements for any number of messages. A message is about the incidents of its duties; it lists the
worst, and of these first what others depend on.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from django.conf import settings
from django.urls import reverse

from incidents.models import Incident, Message
from incidents.notifications import letters
from incidents.notifications.acknowledge_links import acknowledge_link
from incidents.notifications.alert import Alert, Event, IncidentFacts, Severity
from incidents.notifications.folding import LISTED_MAX, Cause
from incidents.notifications.storm_words import Count, event_of, headline, sentences
from incidents.notifications.texts import Known, facts_of, load_known, story_of
from incidents.notifications.unsubscribe_links import unsubscribe_link
from incidents.notifications.words import ENGLISH, say
from lib.sql import fetch_rows

DIGEST = Message.Kind.DIGEST.value
HELD_NAMED_MAX = 3
"""Monitors that a line names as held because of its incident: lines are short."""


class _Listed(NamedTuple):
    """An incident that a message lists, and how many the message is about."""

    incident: int
    is_over: bool
    reported: int
    over: int


class Storms(NamedTuple):
    """What is known of claimed messages about storms, by their ids, and the incidents that they list."""

    listed: Mapping[int, Sequence[_Listed]]
    left: Mapping[int, tuple[int, int]]
    incidents: Mapping[int, Incident]
    known: Mapping[int | None, Known]


def load_storms(messages: Sequence[Message]) -> Storms:
    """Load what messages about storms report."""
    if not messages:
        return Storms({}, {}, {}, {})
    listed: dict[int, list[_Listed]] = {}
    parameters = {
        "ids": [message.id for message in messages],
        "listed": LISTED_MAX,
        "worst": [severity.value for severity in reversed(Severity)],
    }
    for id_, *rest in fetch_rows(_LISTED_SQL, parameters):
        listed.setdefault(id_, []).append(_Listed(*rest))
    wanted = sorted({one.incident for own in listed.values() for one in own})
    related = "monitor_environment__"
    incidents = Incident.objects.select_related(f"{related}monitor__project", f"{related}environment").in_bulk(wanted)
    summaries = [message.id for message in messages if message.kind != DIGEST]
    left = {id_: (members, rest) for id_, members, rest in fetch_rows(_LEFT_SQL, [summaries])}
    return Storms(listed, left, incidents, load_known(wanted))


_LISTED_SQL = """
    SELECT message_id, incident_id, is_over, reported, over_count FROM (
           SELECT one.message_id, one.incident_id, one.is_over,
                  count(*) OVER (PARTITION BY one.message_id) AS reported,
                  count(*) FILTER (WHERE one.is_over) OVER (PARTITION BY one.message_id) AS over_count,
                  row_number() OVER (PARTITION BY one.message_id
                                     ORDER BY one.is_over, array_position(%(worst)s::text[], m.severity::text),
                                              NOT EXISTS (SELECT FROM monitors_dependency WHERE upstream_id = m.id),
                                              i.opened_at, i.id) AS place
             FROM (SELECT d.message_id, d.incident_id, bool_or(coalesce(n.transition, '') = 'resolved') AS is_over
                     FROM incidents_duty AS d LEFT JOIN incidents_notification AS n ON n.id = d.notification_id
                    WHERE d.message_id = ANY(%(ids)s)
                    GROUP BY d.message_id, d.incident_id) AS one
             JOIN incidents_incident AS i ON i.id = one.incident_id
             JOIN monitors_monitorenvironment AS me ON me.id = i.monitor_environment_id
             JOIN monitors_monitor AS m ON m.id = me.monitor_id) AS ranked
     WHERE place <= %(listed)s
     ORDER BY message_id, place
"""
_LEFT_SQL = """
    SELECT summary.id, count(*), count(*) FILTER (WHERE member.is_left)
      FROM incidents_message AS summary
     CROSS JOIN LATERAL (
           SELECT d.incident_id, bool_and(n.transition <> 'resolved') AS is_left
             FROM incidents_message AS own
             JOIN incidents_duty AS d ON d.message_id = own.id
             LEFT JOIN incidents_notification AS n ON n.id = d.notification_id
            WHERE own.storm_id = summary.storm_id AND own.id <= summary.id
            GROUP BY d.incident_id) AS member
     WHERE summary.id = ANY(%s)
     GROUP BY summary.id
"""
"""Members whose end is reported by a later message are still failing for this one."""


def write_storm(message: Message, storms: Storms) -> Alert:
    """Return the alert of a message about a storm, whose storm, project and channel are loaded."""
    storm, channel = message.storm, message.channel
    assert storm is not None, "it is about a storm"
    if message.kind == Message.Kind.ACKNOWLEDGED:
        return acknowledgement_of(
            storm.guid,
            project=storm.project.name or storm.project.slug,
            by="",
            key=message.idempotency_key,
            at=message.created_at,
            language=channel.language if channel else ENGLISH,
            timezone=channel.timezone if channel else "UTC",
        )
    is_digest = message.kind == DIGEST
    listed = storms.listed.get(message.id, ())
    members, left = storms.left.get(message.id, (0, 0))
    count = Count(listed[0].reported if listed else 0, listed[0].over if listed else 0, members, left)
    zone, language = (channel.timezone, channel.language) if channel else ("UTC", ENGLISH)
    at = storm.tick or storm.created_at
    project = letters.plain(storm.project.name or storm.project.slug)
    facts = tuple(_member(message, one, storms) for one in listed if one.incident in storms.incidents)
    return Alert(
        key=message.idempotency_key,
        event=event_of(count, is_digest=is_digest),
        at=at if is_digest else _last_end(facts, message.created_at),
        title=headline(count, project, is_digest=is_digest, language=language),
        reason=sentences(Cause(storm.cause), count, at, zone, is_digest=is_digest, language=language),
        incidents=facts,
        omitted=count.reported - len(facts),
        group=storm.guid,
        url=link_to_all(),
        acknowledge_url=acknowledge_link(message) if count.over < count.reported else "",
        unsubscribe_url=unsubscribe_link(channel, message.recipient),
        language=language,
        timezone=zone,
    )


def acknowledgement_of(
    storm: UUID, *, project: str, by: str, key: UUID, at: datetime, language: str, timezone: str
) -> Alert:
    """Return the alert that says that somebody looks after all of a storm. `by`: who; empty if that is not known."""
    who = letters.plain(by) or say(language, "Somebody")
    return Alert(
        key=key,
        event=Event.ACKNOWLEDGED,
        at=at,
        title=say(language, "The failing jobs of {project} are acknowledged", project=letters.plain(project)),
        reason=say(language, "{who} acknowledged the last of them.", who=who),
        group=storm,
        url=link_to_all(),
        language=language,
        timezone=timezone,
    )


def _member(message: Message, listed: _Listed, storms: Storms) -> IncidentFacts:
    """Return an incident of a list: its log and its explanation are on its page."""
    incident = storms.incidents[listed.incident]
    about = Message(
        incident=incident,
        channel=message.channel,
        recipient=message.recipient,
        created_at=message.created_at,
        due_at=message.due_at,
    )
    story = story_of(about, storms.known.get(incident.id, Known()))
    # What is held comes first: a line may be cut.
    reason = f"{letters.held(story, HELD_NAMED_MAX)} {letters.reason(story)}".strip()
    facts = facts_of(about, story, reason, is_open=not listed.is_over)
    return msgspec.structs.replace(facts, log_tail="", explanation={}) if listed.reported > 1 else facts


def _last_end(facts: Sequence[IncidentFacts], otherwise: datetime) -> datetime:
    return max((one.resolved_at for one in facts if one.resolved_at is not None), default=otherwise)


def link_to_all() -> str:
    """Return the address of the list of incidents; empty if PUBLIC_URL is not set."""
    return f"{settings.PUBLIC_URL}{reverse('now')}" if settings.PUBLIC_URL else ""
