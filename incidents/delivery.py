"""Delivery: empties the outbox, a few mails at once, and gives none longer than it may take (shell).

    address -> claim as many as there are free connections -> texts -> send in threads -> record -> claim ...

The threads only speak to the mail server; all rows are read and written here, in short transactions that are over when
a mail is sent. A server that cannot be reached ends the run: the sweep comes back in twenty seconds with a few mails,
and the others do not use up their tries meanwhile.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.urls import reverse

from incidents import meters, outbox
from incidents.addressees import recipients
from incidents.letters import Letter, Story, tell_opened, tell_passed, tell_resolved
from incidents.models import Message, Notification, Occurrence
from incidents.notifiers.email import SECONDS_MAX, Postman, RefusedError, UnreachableError, said

logger = logging.getLogger(__name__)

RUN_SECONDS_MAX = 20.0
"""After so long a run ends, and the next one begins: so a stop of the worker waits for no longer."""
TELL = {"opened": tell_opened, "resolved": tell_resolved, "passed": tell_passed}


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did. `is_cut_short`: more may be due."""

    sent_count: int
    failed_count: int
    is_cut_short: bool


def deliver(*, utcnow: Callable[[], datetime]) -> Run:
    """Tell everybody what is due, until nothing is, the mail server cannot be reached, or the time is up."""
    now = utcnow()
    people = recipients()
    while outbox.address(people, now=now) >= outbox.ADDRESSED_MAX:
        pass
    outbox.give_up(now=now)
    lines: list[_Line] = []
    done: queue.SimpleQueue[_Line] = queue.SimpleQueue()
    sent = failed = 0
    is_over = False
    deadline = time.monotonic() + RUN_SECONDS_MAX
    try:
        while True:
            is_over = is_over or time.monotonic() >= deadline
            free = 0 if is_over else settings.EMAIL_CONNECTIONS - sum(line.is_busy for line in lines)
            claimed = outbox.claim(limit=free, now=utcnow()) if free else []
            ready = _with_texts(claimed, utcnow=utcnow)
            failed += len(claimed) - len(ready)
            for message in ready:
                line = next((line for line in lines if not line.is_busy), None)
                if line is None:
                    line = _Line(done)
                    lines.append(line)
                line.give(message)
            if not any(line.is_busy for line in lines):
                if not claimed or is_over:
                    break
                continue
            for line in _finished(lines, done):
                message, error = line.take()
                if error is None:
                    sent += outbox.record_sent(message, now=utcnow())
                    meters.mails.labels("sent").inc()
                    continue
                failed += 1
                is_over = is_over or isinstance(error, UnreachableError)
                _record_failure(message, error, now=utcnow())
                if line.is_lost:
                    lines.remove(line)
    finally:
        for line in lines:
            line.leave()
    return Run(sent, failed, is_cut_short=time.monotonic() >= deadline)


def write_texts(messages: Sequence[Message]) -> list[tuple[Message, Exception]]:
    """Give claimed messages their texts and keep them; returns those of which none can be made, each with the error."""
    new = [message for message in messages if not message.subject]
    failed = []
    for message in new:
        try:
            letter = write_letter(message)
        except Exception as error:
            logger.exception("the text of message %s cannot be made", message.id)
            failed.append((message, error))
        else:
            message.subject, message.body = letter.subject, letter.body
    written = [message for message in new if message.subject]
    if written:
        outbox.keep_texts(written)
    return failed


def write_letter(message: Message) -> Letter:
    """Return the text of a message about an incident, from what is stored about it."""
    incident = message.incident
    assert incident is not None, "a message from the clock comes with its text"
    environment = incident.monitor_environment
    occurrences = Occurrence.objects.filter(incident=incident).order_by("-id")
    # The one that opened it; what came later is not what people are told of.
    occurrence = occurrences.filter(detected_at=incident.opened_at).first() or occurrences.last()
    end = Notification.objects.filter(incident=incident, transition=Notification.Transition.RESOLVED).first()
    path = reverse("admin:incidents_incident_change", args=[incident.id])
    return TELL[message.kind](
        Story(
            monitor=environment.monitor.name or environment.monitor.slug,
            environment=environment.environment.name,
            timezone=environment.monitor.timezone,
            started_at=incident.started_at,
            explanation={} if occurrence is None else occurrence.explanation,
            link=f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else "",
            recovered_at=end.created_at if end else incident.resolved_at,
        )
    )


def _with_texts(messages: Sequence[Message], *, utcnow: Callable[[], datetime]) -> list[Message]:
    failed = write_texts(messages) if messages else []
    for message, error in failed:
        _record_failure(message, error, now=utcnow())
    return [message for message in messages if message.subject]


def _record_failure(message: Message, error: Exception, *, now: datetime) -> None:
    meters.mails.labels("failed").inc()
    reason = said(error)
    logger.warning("message %s to %s was not sent: %s", message.id, message.recipient, reason)
    outbox.record_failed(message, error=reason, is_refused=isinstance(error, RefusedError), now=now)


def _finished(lines: Sequence["_Line"], done: "queue.SimpleQueue[_Line]") -> list["_Line"]:
    """Wait until a line has finished, or has taken too long; returns those."""
    first_end = min(line.must_end_at for line in lines if line.is_busy)
    try:
        line = done.get(timeout=max(first_end - time.monotonic(), 0.001))
    except queue.Empty:
        now = time.monotonic()
        late = [line for line in lines if line.is_busy and line.must_end_at <= now]
        for line in late:
            line.cut()
        return late
    return [] if line.is_lost else [line]


class _Line:
    """A connection to the mail server with the thread that speaks on it."""

    def __init__(self, done: "queue.SimpleQueue[_Line]") -> None:
        self._done = done
        self._postman: Postman | None = None
        self._given: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._message: Message | None = None
        self._error: Exception | None = None
        self.must_end_at = 0.0
        self.is_lost = False
        self._thread = threading.Thread(target=self._work, name="mail", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a message is on its way."""
        return self._message is not None

    def give(self, message: Message) -> None:
        """Send a message; the line comes out of the queue when that is over."""
        self._message, self._error = message, None
        self.must_end_at = time.monotonic() + SECONDS_MAX
        self._given.put(message)

    def take(self) -> tuple[Message, Exception | None]:
        """Return the message that is over, and what went wrong."""
        message, error = self._message, self._error
        assert message is not None, "a line is asked once for each message"
        self._message = None
        return message, error

    def cut(self) -> None:
        """End a talk that takes too long. The thread ends by itself, sooner or later, and nobody asks it any more."""
        self.is_lost = True
        self._error = UnreachableError(f"the mail server takes longer than {SECONDS_MAX:g} s")
        if self._postman is not None:
            self._postman.abort()
        self._given.put(None)

    def leave(self) -> None:
        """Let the thread take leave of the server and end."""
        self._given.put(None)

    def _work(self) -> None:
        while (message := self._given.get()) is not None:
            error: Exception | None = None
            try:
                if self._postman is None:
                    self._postman = Postman()
                self._postman.send(message)
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is the fate of one message
                error = problem
            if self.is_lost:
                break
            self._error = error
            self._done.put(self)
        if self._postman is not None:
            self._postman.close()
