"""Preparing claimed messages: the alert of each, what is sent where, and what it follows (shell).

A fixed number of statements for all messages of a claim. The alert is stored before the first attempt, so that every
repetition is the same.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

from incidents.models import Channel, Message
from incidents.notifications import letters
from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels.base import Target
from incidents.notifications.claims import earlier_refs, store_texts, storm_refs
from incidents.notifications.lanes import Sending
from incidents.notifications.stored import stored_alert
from incidents.notifications.storm_alerts import load_storms, write_storm
from incidents.notifications.texts import Known, facts_of, load_known, story_of
from incidents.notifications.unsubscribe_links import unsubscribe_link
from incidents.secrets import unseal
from lib.encoding import to_json

logger = logging.getLogger(__name__)

EVENTS = {
    Message.Kind.OPENED.value: Event.OPENED,
    Message.Kind.RESOLVED.value: Event.RESOLVED,
    Message.Kind.PASSED.value: Event.PASSED,
    Message.Kind.REMINDER.value: Event.REMINDER,
    Message.Kind.ESCALATED.value: Event.ESCALATED,
    Message.Kind.ACKNOWLEDGED.value: Event.ACKNOWLEDGED,
}
ENDS = frozenset({Event.RESOLVED, Event.PASSED})


def prepare(messages: Sequence[Message]) -> tuple[list[Sending], list[tuple[Message, Exception]]]:
    """Return what to send for claimed messages, and the messages that cannot be written, each with the error."""
    if not messages:
        return [], []
    alerts, failed = write_alerts(messages)
    refs = earlier_refs([message for message in messages if message.incident_id is not None])
    storms = storm_refs([message.storm_id for message in messages if message.storm_id is not None])
    sendings: list[Sending] = []
    for message in messages:
        if message.id not in alerts:
            continue
        try:
            assert message.channel is not None, "it is claimed for a channel"
            ref = refs.get((message.incident_id, message.recipient), "") if message.incident_id is not None else ""
            if message.storm_id is not None and alerts[message.id].event is Event.STORM_OVER:
                ref = storms.get(message.storm_id, "")
            sendings.append(Sending(message, target_of(message.channel), alerts[message.id], ref))
        except Exception as error:
            logger.exception("message %s cannot be prepared for its channel", message.id)
            failed.append((message, error))
    return sendings, failed


def write_alerts(messages: Sequence[Message]) -> tuple[dict[int, Alert], list[tuple[Message, Exception]]]:
    """Return the alerts of claimed messages by their ids, and the messages without one, each with the error.

    New ones are put into the messages and stored. A mail that an older version has written keeps its text.
    """
    alerts: dict[int, Alert] = {}
    failed: list[tuple[Message, Exception]] = []
    new = [message for message in messages if message.is_about_incidents and not message.body]
    known = load_known([message.incident_id for message in new if message.incident_id is not None]) if new else {}
    storms = load_storms([message for message in new if message.storm_id is not None])
    for message in messages:
        try:
            alert = stored_alert(message) if message.body or not message.is_about_incidents else None
            if alert is None and not message.body:
                alert = (
                    write_alert(message, known.get(message.incident_id, Known()))
                    if message.storm_id is None
                    else write_storm(message, storms)
                )
                message.subject, message.body = alert.title, to_json(alert).decode()
            if alert is not None:
                alerts[message.id] = alert
        except Exception as error:
            logger.exception("the text of message %s cannot be written", message.id)
            failed.append((message, error))
    written = [message for message in new if message.body]
    if written:
        store_texts(written)
    return alerts, failed


def write_alert(message: Message, known: Known) -> Alert:
    """Return the alert about an incident, whose monitor, environment and project are loaded."""
    channel, incident = message.channel, message.incident
    assert incident is not None, "it is about an incident"
    story = story_of(message, known)
    event = EVENTS[message.kind]
    is_over = event in ENDS
    reason = letters.reason(story)
    title, sentences = _words(event, story, reason)
    return Alert(
        key=message.idempotency_key,
        event=event,
        at=_instant_of(event, message, story),
        title=title,
        reason=sentences,
        incidents=(facts_of(message, story, reason, is_open=not is_over),),
        group=incident.guid,
        reminder=story.number,
        url=story.link,
        unsubscribe_url=unsubscribe_link(channel, message.recipient),
        language=channel.language if channel else "en",
        timezone=channel.timezone if channel else story.timezone,
    )


def _words(event: Event, story: letters.Story, reason: str) -> tuple[str, str]:
    """Return headline and sentences of an event."""
    match event:
        case Event.RESOLVED:
            sentences = letters.recovery(story) + letters.flapping(story, is_over=True) + letters.held(story)
            return letters.headline(story, is_over=True), sentences
        case Event.PASSED:
            return letters.headline(story, is_over=True), f"{letters.passing(story)} {reason}"
        case Event.REMINDER:
            return letters.reminder_headline(
                story
            ), f"{letters.waiting(story)}{letters.patience(story)} {reason}{letters.held(story)}"
        case Event.ESCALATED:
            return letters.escalation_headline(story), f"{letters.waiting(story)} {reason}{letters.held(story)}"
        case Event.ACKNOWLEDGED:
            return letters.acknowledgement_headline(story), f"{letters.acknowledgement(story)} {reason}"
    sentences = reason + letters.flapping(story, is_over=False) + letters.held(story)
    return letters.headline(story, is_over=False), sentences


def _instant_of(event: Event, message: Message, story: letters.Story) -> datetime:
    """Return when it happened: the opening, the end, or when people had to be notified again."""
    assert message.incident is not None, "it is about an incident"
    if event in ENDS and story.recovered_at is not None:
        return story.recovered_at
    return message.incident.opened_at if event is Event.OPENED or event in ENDS else message.created_at


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
