"""What a mail says: its subject, and its parts for text and page (pure).

All mails about an incident have the subject of the first one: a mail client starts a new conversation when it changes.
What has happened is the headline, the first line of the text.
"""

from collections.abc import Sequence

import msgspec

from incidents.notifications.alert import Alert, Event, IncidentFacts
from incidents.notifications.channels import wording
from incidents.notifications.channels.wording import State
from incidents.notifications.words import ENGLISH, say

PREFIX = "[Watchclock] "
REPLY = "Re: "
LOG, STOP = "The end of its log", "Stop these mails"
SUBJECT_LENGTH_MAX = 250
REASON_LENGTH_MAX = 4_000
LOG_LENGTH_MAX = 8_000
"""Some mail services cut what is longer than 102 KB."""
_FIRST = {Event.OPENED, Event.PASSED, Event.DIGEST, Event.CLOCK, Event.TEST}
"""Events whose mail begins a conversation."""
_STATES = {State.FAILING: "Failing", State.ACKNOWLEDGED: "Acknowledged", State.OVER: "Recovered", State.NOTE: "Note"}


class Row(msgspec.Struct, frozen=True):
    """An incident of a list: its name, what is said of it, its address, and whether it is open."""

    name: str
    text: str
    url: str
    is_open: bool


class Table(msgspec.Struct, frozen=True):
    """A titled list: names, each with what is said of it, and how many more there are, in words."""

    title: str
    rows: tuple[tuple[str, str], ...]
    more: str = ""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a mail, plain text all of them. `preheader` is what a list of mails shows beside the subject.

    `list_name` is the project, by which people filter mails; empty if it is about none.
    """

    state: State
    headline: str
    preheader: str
    paragraphs: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    rows: tuple[Row, ...] = ()
    more: str = ""
    tables: tuple[Table, ...] = ()
    log: str = ""
    links: tuple[tuple[str, str], ...] = ()
    hint: str = ""
    unsubscribe_url: str = ""
    list_name: str = ""
    language: str = ENGLISH
    log_label: str = LOG
    unsubscribe_label: str = STOP


def subject(alert: Alert) -> str:
    """Return the subject in one line: the same for all mails about an incident or storm, later ones as replies."""
    text = wording.one_line(PREFIX + _topic(alert), SUBJECT_LENGTH_MAX)
    return text if alert.event in _FIRST else f"{REPLY}{text}"


def _topic(alert: Alert) -> str:
    if alert.event in {Event.DIGEST, Event.STORM_OVER} and alert.incidents:
        is_passed = alert.event is Event.DIGEST and not any(one.is_open for one in alert.incidents)
        text = "Jobs of {project} failed and recovered" if is_passed else "Jobs of {project} are failing"
        return say(alert.language, text, project=wording.one_line(alert.incidents[0].project))
    incident = wording.only(alert)
    if incident is None:
        return wording.title(alert, SUBJECT_LENGTH_MAX)
    text = "{job} failed and recovered" if alert.event is Event.PASSED else "{job} is failing"
    return say(alert.language, text, job=wording.name(incident))


def content(alert: Alert) -> Content:
    """Return the parts of the mail."""
    state = wording.state(alert)
    headline = wording.title(alert, SUBJECT_LENGTH_MAX)
    paragraphs = tuple(
        text for part in alert.reason.split("\n\n") if (text := wording.paragraph(part, REASON_LENGTH_MAX))
    )
    incident = wording.only(alert)
    links = wording.links(alert)
    return Content(
        state=state,
        headline=headline,
        preheader=wording.one_line(f"{say(alert.language, _STATES[state])}. {' '.join(paragraphs)}", 150),
        paragraphs=paragraphs,
        facts=tuple(_facts(alert, incident)) if incident else (),
        rows=tuple(_row(one, alert.language) for one in wording.listed(alert)),
        more=wording.and_more(alert.omitted, alert.language),
        log=wording.log(alert, LOG_LENGTH_MAX),
        links=tuple(links),
        hint="" if links or alert.event in wording.NEWS else say(alert.language, "See Incidents in the admin."),
        unsubscribe_url=alert.unsubscribe_url,
        list_name=wording.one_line(alert.incidents[0].project) if alert.incidents else "",
        language=alert.language,
        log_label=say(alert.language, LOG),
        unsubscribe_label=say(alert.language, STOP),
    )


def _facts(alert: Alert, incident: IncidentFacts) -> Sequence[tuple[str, str]]:
    status = incident.explanation.get("exit_status") if alert.event is not Event.RESOLVED else None
    found = [
        ("Exit status", str(status) if isinstance(status, int) else ""),
        ("Project", wording.one_line(incident.project)),
        ("Severity", incident.severity.value),
        ("Failing since", wording.moment(incident.started_at, alert.timezone)),
        ("Recovered", wording.moment(incident.resolved_at, alert.timezone) if incident.resolved_at else ""),
        ("Tags", wording.one_line(", ".join(incident.tags))),
        ("Acknowledged by", wording.one_line(incident.acknowledged_by)),
    ]
    return [(say(alert.language, label), value) for label, value in found if value]


def _row(incident: IncidentFacts, language: str) -> Row:
    url = incident.url if incident.url.startswith(("https://", "http://")) and incident.url.isprintable() else ""
    return Row(wording.name(incident), wording.entry(incident, language), url, incident.is_open)


def text(parts: Content) -> str:
    """Return the mail as plain text."""
    blocks = [parts.headline, *parts.paragraphs]
    blocks.append("\n".join(f"{label}: {value}" for label, value in parts.facts))
    blocks.append("\n".join([*(f"- {row.name}: {row.text}" for row in parts.rows), *filter(None, [parts.more])]))
    blocks += map(_table, parts.tables)
    if parts.log:
        blocks.append(f"{parts.log_label}:\n\n" + "\n".join(f"  {line}" for line in parts.log.split("\n")))
    blocks.append("\n".join(f"{label}: {url}" for label, url in parts.links) or parts.hint)
    if parts.unsubscribe_url:
        blocks.append(f"-- \n{parts.unsubscribe_label}: {parts.unsubscribe_url}")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(table: Table) -> str:
    rows = (f"- {name}: {said}" if said else f"- {name}" for name, said in table.rows)
    return "\n".join([table.title, "", *rows, *filter(None, [table.more])])
