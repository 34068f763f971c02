"""The words of a message that reports a failing channel, and what was not delivered over it (pure)."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from incidents.notifications.words import ENGLISH, number, say

LISTED_MAX = 20
SAVE_THE_CHANNEL = "Correct its settings, then send a test: saving it tries what waits at once."
CORRECT_THE_ADDRESS = (
    "Correct the address or the mail server (ALERT_EMAIL_TO, EMAIL_URL). What waits is tried again by itself."
)


class Letter(msgspec.Struct, frozen=True):
    """A subject in one line, and a text."""

    subject: str
    body: str


class Undelivered(msgspec.Struct, frozen=True):
    """One change that a channel has not delivered: whose, and whether that is over or has only begun."""

    subject: str
    what: str
    at: datetime


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that fails. `since` is empty if only single messages failed; `project` for one of the instance.

    `given_up` and `waiting` are the first `LISTED_MAX` of each; the counts are of all, bounded.
    """

    channel: str
    service: str
    project: str
    since: datetime | None
    error: str
    given_up: Sequence[Undelivered] = ()
    given_up_count: int = 0
    waiting: Sequence[Undelivered] = ()
    waiting_count: int = 0
    remedy: str = SAVE_THE_CHANNEL
    link: str = ""


def write_fallback(failure: Failure, language: str = ENGLISH) -> Letter:
    """Return the text: which channel, what it answers, what was not delivered over it, and what happens next."""
    name = f"{failure.channel} ({say(language, failure.service)})"
    channel = failure.channel
    if failure.project:
        name = say(language, "{channel} of {project}", channel=name, project=failure.project)
        channel = say(language, "{channel} of {project}", channel=channel, project=failure.project)
    text = "Alerts do not get through over the channel {name}."
    if failure.since:
        text = "Alerts do not get through over the channel {name} since {moment}."
    moment = f"{failure.since:%Y-%m-%d %H:%M} UTC" if failure.since else ""
    paragraphs = [say(language, text, name=name, moment=moment)]
    if failure.error:
        paragraphs.append(say(language, "The last error: {error}", error=failure.error))
    if failure.given_up_count:
        listed = _listing(failure.given_up, failure.given_up_count, language)
        paragraphs.append(f"{say(language, 'Given up, and not sent over it:')}\n{listed}")
    if failure.waiting_count:
        listed = _listing(failure.waiting, failure.waiting_count, language)
        paragraphs.append(f"{say(language, 'Not sent over it yet, and tried again until it is a day old:')}\n{listed}")
    if not failure.given_up_count and not failure.waiting_count:
        paragraphs.append(say(language, "Nothing waits for it now. What happens next will not be sent over it either."))
    paragraphs.append(say(language, failure.remedy))
    if failure.link:
        paragraphs.append(failure.link)
    subject = say(language, "Channel {channel} fails", channel=channel)
    return Letter(subject=f"[Watchclock] {subject}", body=_joined(paragraphs))


def _joined(paragraphs: Sequence[str]) -> str:
    return "\n\n".join(paragraphs) + "\n"


def _listing(listed: Sequence[Undelivered], count: int, language: str) -> str:
    lines = [f"- {one.subject}: {say(language, one.what)}, {one.at:%Y-%m-%d %H:%M} UTC" for one in listed[:LISTED_MAX]]
    if count > len(lines):
        lines.append(f"- {say(language, 'and {count} more', count=number(language, count - len(lines)))}")
    return "\n".join(lines)
