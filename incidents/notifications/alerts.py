"""Preparing claimed messages for their channels: the alert of each, what is told where, and what it follows (shell).

Three statements for all messages of a claim. The alert is stored before the first attempt, so that every repetition
tells the same.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from incidents.models import Channel, Message
from incidents.notifications import letters
from incidents.notifications.alert import Alert, Event, IncidentFacts, Severity
from incidents.notifications.channels.base import Target
from incidents.notifications.claims import earlier_refs, store_texts
from incidents.notifications.lanes import Sending
from incidents.notifications.texts import Known, link_to, load_known, story_of
from incidents.secrets import unseal

logger = logging.getLogger(__name__)

EVENTS = {
    Message.Kind.OPENED.value: Event.OPENED,
    Message.Kind.RESOLVED.value: Event.RESOLVED,
    Message.Kind.PASSED.value: Event.PASSED,
}


def prepare(messages: Sequence[Message]) -> tuple[list[Sending], list[tuple[Message, Exception]]]:
    """Return what to send for claimed messages, and the messages that cannot be written, each with the error."""
    if not messages:
        return [], []
    incidents = [message for message in messages if message.incident_id is not None]
    new = [message for message in incidents if not message.body]
    known = load_known([message.incident_id for message in new if message.incident_id is not None]) if new else {}
    refs = earlier_refs(incidents) if incidents else {}
    sendings: list[Sending] = []
    failed: list[tuple[Message, Exception]] = []
    for message in messages:
        try:
            assert message.channel is not None, "it is claimed for a channel"
            alert = _alert_of(message, known)
            ref = refs.get((message.incident_id, message.recipient), "") if message.incident_id is not None else ""
            sendings.append(Sending(message, target_of(message.channel), alert, ref))
        except Exception as error:
            logger.exception("message %s cannot be prepared for its channel", message.id)
            failed.append((message, error))
    ready = {sending.message.id for sending in sendings}
    written = [message for message in new if message.id in ready]
    if written:
        store_texts(written)
    return sendings, failed


def _alert_of(message: Message, known: Mapping[int | None, Known]) -> Alert:
    """Return the alert of a message: the stored one, or a new one, which is put into the message to be stored."""
    if message.incident_id is None:
        return _news(message)
    if message.body:
        return msgspec.json.decode(message.body, type=Alert)
    alert = write_alert(message, known.get(message.incident_id, Known()))
    message.subject, message.body = alert.title, msgspec.json.encode(alert).decode()
    return alert


def _news(message: Message) -> Alert:
    """Return the alert of a message from the clock, or of a test: its text was written with it."""
    assert message.channel is not None, "it is claimed for a channel"
    key = message.idempotency_key
    return Alert(
        key=key,
        event=Event.TEST if message.kind == Message.Kind.TEST else Event.CLOCK,
        at=message.created_at,
        title=message.subject,
        reason=message.body,
        group=key,
        language=message.channel.language,
        timezone=message.channel.timezone,
    )


def write_alert(message: Message, known: Known) -> Alert:
    """Return the alert about an incident, whose monitor, environment and project are loaded."""
    channel, incident = message.channel, message.incident
    assert channel is not None, "it is claimed for a channel"
    assert incident is not None, "it is about an incident"
    story = story_of(message, known)
    event = EVENTS[message.kind]
    is_over = event is not Event.OPENED
    reason = letters.reason(story)
    sentences = {
        Event.OPENED: reason,
        Event.RESOLVED: letters.recovery(story) if is_over else "",
        Event.PASSED: f"{letters.passing(story) if is_over else ''} {reason}",
    }
    return Alert(
        key=message.idempotency_key,
        event=event,
        at=story.recovered_at if is_over and story.recovered_at is not None else incident.opened_at,
        title=letters.headline(story, is_over=is_over),
        reason=sentences[event],
        incidents=(_facts(message, story, reason, is_open=not is_over),),
        group=incident.guid,
        url=story.link,
        language=channel.language,
        timezone=channel.timezone,
    )


def _facts(message: Message, story: letters.Story, reason: str, *, is_open: bool) -> IncidentFacts:
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
        log_tail=letters.log_tail(str(tail or "")),
        explanation=explanation,
        url=link_to(incident.id),
    )


def target_of(channel: Channel) -> Target:
    """Return a channel as its sender needs it, with its secrets. Raises SecretsError if they cannot be read."""
    secrets = unseal(channel.sealed, guid=channel.guid) if channel.sealed else {}
    return Target(
        guid=channel.guid,
        kind=channel.kind,
        values={name: str(value) for name, value in channel.values.items()} | secrets,
        timezone=channel.timezone,
        language=channel.language,
    )
