"""The words of an alert, in the units and sizes that services count in (pure).

Names, reasons and logs are untrusted. Texts are cut before markup is added: a cut within markup makes it invalid.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from zoneinfo import ZoneInfo

from incidents.notifications.alert import Alert, Event, IncidentFacts, Severity
from incidents.notifications.letters import log_tail, plain
from incidents.notifications.words import ENGLISH, number, say

Item = TypeVar("Item")
Size = Callable[[str], int]
NAME_LENGTH_MAX = 100
REASON_LENGTH_MAX = 1_500
LINE_LENGTH_MAX = 300
_SEVERITIES = list(Severity)
_OVER = {Event.RESOLVED, Event.PASSED, Event.STORM_OVER}
_COUNTED = {Event.DIGEST, Event.STORM_OVER}
"""The headline says how many, and of none which."""
NEWS = frozenset({Event.CLOCK, Event.TEST})
"""Events that are about no incident."""


# --- units


def octets(text: str) -> int:
    """Return the length in bytes of UTF-8."""
    return len(text.encode("utf-8", "replace"))


def utf16(text: str) -> int:
    """Return the length in UTF-16 units, as JavaScript and Java count: no other count of characters is higher."""
    return len(text) + sum(character > "\uffff" for character in text)


def cut(text: str, limit: int, size: Size = utf16) -> str:
    """Return the text, cut with `…` if it is longer than the limit.

    >>> cut("Nächtlich", 6), cut("Nächtlich", 6, octets), cut("🌙🌙🌙", 3)
    ('Nächt…', 'Nä…', '🌙…')
    """
    if size(text) <= limit:
        return text
    room = limit - size("…")
    count = bisect_right(range(len(text) + 1), room, key=lambda count: size(text[:count])) - 1
    return text[:count].rstrip() + "…" if count >= 0 else ""


# --- what it is about


class State(StrEnum):
    """What a message looks like."""

    FAILING = "failing"
    ACKNOWLEDGED = "acknowledged"
    OVER = "over"
    NOTE = "note"


MARKS = {State.FAILING: "🔴", State.ACKNOWLEDGED: "🟡", State.OVER: "🟢", State.NOTE: "🔵"}


def state(alert: Alert) -> State:
    """Return whether an alert is bad news, good news or neither."""
    if alert.event in NEWS:
        return State.NOTE
    if alert.event in _OVER or (alert.incidents and not any(incident.is_open for incident in alert.incidents)):
        return State.OVER
    return State.ACKNOWLEDGED if alert.event is Event.ACKNOWLEDGED else State.FAILING


def severity(alert: Alert) -> Severity:
    """Return the worst severity of the incidents; that of news about the installation is a warning, of a test info."""
    if alert.event is Event.TEST:
        return Severity.INFO
    return max((incident.severity for incident in alert.incidents), key=_SEVERITIES.index, default=Severity.WARNING)


def only(alert: Alert) -> IncidentFacts | None:
    """Return the incident of an alert about exactly one; else None."""
    return alert.incidents[0] if len(alert.incidents) == 1 and not alert.omitted else None


# --- texts


def one_line(text: str, limit: int = NAME_LENGTH_MAX, size: Size = utf16) -> str:
    """Return a text in one line, without control characters, and cut."""
    return cut(_clean(text[: 4 * limit]), limit, size)


def title(alert: Alert, limit: int, size: Size = utf16) -> str:
    """Return the headline; never empty, since services refuse an empty one."""
    return one_line(alert.title, limit, size) or "Watchclock"


def reason(alert: Alert, limit: int = REASON_LENGTH_MAX, size: Size = utf16) -> str:
    """Return the sentences below the headline."""
    return paragraph(alert.reason, limit, size)


def summary(alert: Alert, limit: int, size: Size = utf16) -> str:
    """Return headline and reason in one line."""
    return one_line(f"{title(alert, 300)}: {alert.reason}" if alert.reason else title(alert, 300), limit, size)


def log(alert: Alert, limit: int, size: Size = utf16) -> str:
    """Return the end of the log of an alert about one failing incident: the last lines that fit."""
    incident = only(alert)
    if incident is None or state(alert) is State.OVER:
        return ""
    lines = log_tail(incident.log_tail).split("\n")
    kept = fitting(lines[::-1], limit, lambda part: "\n".join(part), size)
    return "\n".join(lines[len(lines) - kept :]) if kept else cut(lines[-1], limit, size)


def paragraph(text: str, limit: int, size: Size = utf16) -> str:
    """Return a text of several lines without other control characters, and cut."""
    lines = map(_clean, text[: 4 * limit].splitlines())
    return cut("\n".join(line for line in lines if line), limit, size)


def _clean(text: str) -> str:
    # Most texts are printable, and `plain` examines each character.
    return " ".join((text if text.isprintable() else plain(text)).split())


def about(alert: Alert, timezone: str) -> list[str]:
    """Return what else is known of the one incident of an alert: project, severity, since when, tags, who has it."""
    incident = only(alert)
    if incident is None:
        return []
    since = say(alert.language, "since {moment}", moment=moment(incident.started_at, timezone))
    parts = [one_line(incident.project), incident.severity.value, since]
    if incident.tags:
        parts.append(say(alert.language, "tags {tags}", tags=one_line(", ".join(incident.tags))))
    if incident.acknowledged_by:
        parts.append(say(alert.language, "acknowledged by {who}", who=one_line(incident.acknowledged_by)))
    return [part for part in parts if part]


def name(incident: IncidentFacts) -> str:
    """Return monitor and environment, as people call them."""
    return f"{one_line(incident.monitor or incident.slug)} ({one_line(incident.environment)})"


def entry(incident: IncidentFacts, language: str = ENGLISH) -> str:
    """Return what a list says of an incident, after its name."""
    said = incident.reason if incident.is_open else say(language, "recovered. {reason}", reason=incident.reason)
    return one_line(said, LINE_LENGTH_MAX)


def listed(alert: Alert) -> tuple[IncidentFacts, ...]:
    """Return the incidents to list, worst first; none for an alert about one, whose headline names it.

    That of a digest counts: what quiet hours held may be one.
    """
    if only(alert) is not None and alert.event not in _COUNTED:
        return ()
    return tuple(
        sorted(alert.incidents, key=lambda one: (not one.is_open, -_SEVERITIES.index(one.severity), one.opened_at))
    )


def and_more(count: int, language: str = ENGLISH) -> str:
    """Return how many are not listed."""
    return say(language, "and {count} more", count=number(language, count)) if count else ""


def links(alert: Alert) -> list[tuple[str, str]]:
    """Return the links of an alert, each with its label. Only http and https."""
    incident = only(alert)
    found = []
    if state(alert) is State.FAILING and not (incident and incident.acknowledged_by):
        own = incident.acknowledge_url if incident else ""
        found.append(("Acknowledge" if incident else "Acknowledge all", own or alert.acknowledge_url))
    found.append(("Open incident", incident.url or alert.url) if incident else ("Open", alert.url))
    usable = [(label, url) for label, url in found if url.startswith(("https://", "http://")) and url.isprintable()]
    return [(say(alert.language, label), url) for label, url in usable]


def plain_text(alert: Alert, limit: int, size: Size = utf16, *, with_title: bool = True) -> str:
    """Return all of an alert as plain text: headline, reason, list, links, log, as far as they fit."""
    parts = [title(alert, min(limit, 300), size)] if with_title else []
    room = limit - sum(size(part) for part in parts)
    footer = "\n".join(f"{label}: {url}" for label, url in links(alert))
    if size(footer) > room // 2:
        footer = ""
    room -= size(footer) + 8
    for part in (reason(alert, max(room, 1), size), listing(alert, room, size), log(alert, room, size)):
        if part and size(part) <= room:
            parts.append(part)
            room -= size(part) + 2
    parts.insert(2 if with_title else 1, footer)
    return cut("\n\n".join(part for part in parts if part), limit, size)


def listing(
    alert: Alert,
    limit: int,
    size: Size = utf16,
    *,
    line: Callable[[IncidentFacts, str], str] = lambda one, language: f"- {name(one)}: {entry(one, language)}",
) -> str:
    """Return the incidents of a digest, one a line, as many as fit, and how many more there are."""
    lines = [line(one, alert.language) for one in listed(alert)]

    def text(part: Sequence[str]) -> str:
        more = and_more(len(lines) - len(part) + alert.omitted, alert.language)
        return "\n".join([*part, *([more] if more else [])])

    return text(lines[: fitting(lines, limit, text, size)]) if lines else ""


def fitting(items: Sequence[Item], limit: int, render: Callable[[Sequence[Item]], str], size: Size = utf16) -> int:
    """Return how many items, from the first, can be rendered within the limit."""
    return max(bisect_right(range(len(items) + 1), limit, key=lambda count: size(render(items[:count]))) - 1, 0)


# --- time


def iso(at: datetime) -> str:
    """Return an instant in UTC, to the second.

    >>> from datetime import datetime, timezone
    >>> iso(datetime(2026, 11, 28, 3, 10, tzinfo=timezone.utc))
    '2026-11-28T03:10:00Z'
    """
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def moment(at: datetime, timezone: str) -> str:
    """Return an instant in a zone, for people; in UTC if the zone is not known here."""
    try:
        zone = ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        zone = ZoneInfo("UTC")
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"


# --- markup


def code_spans(text: str, incidents: Sequence[IncidentFacts]) -> list[tuple[str, bool]]:
    """Return the text in pieces, each with whether it is the crontab expression: asterisks are markup elsewhere."""
    crontabs = {str(one.explanation.get("crontab") or "") for one in incidents} - {""}
    if not crontabs:
        return [(text, False)]
    pieces = re.split("(" + "|".join(map(re.escape, sorted(crontabs, key=len, reverse=True))) + ")", text)
    return [(piece, piece in crontabs) for piece in pieces if piece]
