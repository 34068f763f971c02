"""What a channel is asked to send: an alert with the facts of its incidents, as values (pure).

An alert is complete: a sender needs no database, and the same alert gives the same message on each attempt.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from monitors.state import Severity as Severity


class Event(StrEnum):
    """What has happened."""

    OPENED = "opened"
    RESOLVED = "resolved"
    PASSED = "passed"
    """The incident opened and was resolved before anybody was notified."""
    REMINDER = "reminder"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    DIGEST = "digest"
    """Many incidents in one message: a folded storm, or the end of quiet hours."""
    STORM_OVER = "storm_over"
    """The last incident of a folded storm is resolved."""
    CLOCK = "clock"
    """From the clock itself, about this installation."""
    TEST = "test"


class IncidentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as its receivers are notified of it. Instants are aware; texts that are not known are empty.

    `monitor` is the name for people, `slug` the one for programs; `kind` is missed, timeout or error; `reason` is the
    sentence in plain words, `explanation` the data behind it (`incidents.explanation.explain`).
    """

    guid: UUID
    project: str
    slug: str
    monitor: str
    environment: str
    tags: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    kind: str
    is_open: bool
    started_at: datetime
    opened_at: datetime
    resolved_at: datetime | None = None
    reason: str
    log_tail: str = ""
    explanation: Mapping[str, Any] = {}
    url: str = ""
    acknowledge_url: str = ""
    acknowledged_by: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to send through one channel.

    `key` identifies the message and is the same on each attempt. `group` is what a pager's alert is known by: the
    incident's guid, or the id of the storm. `title` is the headline of this event in one line, `reason` the sentences
    below it. `incidents` has one for most events, up to 50 for a digest, and none for news about the installation;
    `omitted` is how many more there are. `reminder` counts the reminders, from 1. `acknowledge_url` is for
    all incidents of a storm; an incident has its own.
    """

    key: UUID
    event: Event
    at: datetime
    title: str
    reason: str
    incidents: tuple[IncidentFacts, ...] = ()
    omitted: int = 0
    group: UUID
    reminder: int = 0
    url: str = ""
    acknowledge_url: str = ""
    unsubscribe_url: str = ""
    language: str = "en"
    timezone: str = "UTC"
