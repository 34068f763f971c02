"""Delivery: sends the mails of the outbox, a few at once, each with a time limit (shell).

    address -> claim some -> texts -> lines (threads) send, one after the other -> record what was sent -> claim ...

The threads only talk to the mail server. All rows are read and written here, in short transactions; none is open while
a mail is sent, and each records all messages that are finished by then. A server that cannot be reached ends the run:
the sweep tries a few mails again in twenty seconds, and the others do not use up their attempts meanwhile.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from incidents import metrics
from incidents.models import Message
from incidents.notifications import outbox, texts
from incidents.notifications.addressees import recipients
from incidents.notifications.channels.email import SECONDS_MAX, Postman, RefusedError, UnreachableError, describe_error

logger = logging.getLogger(__name__)

RUN_SECONDS_MAX = 20.0
"""The longest run: the worker can stop after that time, and the next run continues."""
CLAIMED_PER_LINE = 10
"""Mails claimed ahead. After a worker is killed, they are sent a lease later, or twice if they were sent already."""
POLL_SECONDS = 1.0
"""How often new mails are claimed while the current ones are being sent."""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run. `is_cut_short`: more mails may be due."""

    sent_count: int
    failed_count: int
    is_cut_short: bool


def deliver(*, utcnow: Callable[[], datetime]) -> Run:
    """Send the due mails, until none is left, the mail server cannot be reached, or the time is up."""
    now = utcnow()
    people = recipients()
    while outbox.address(people, now=now) >= outbox.ADDRESSED_MAX:
        pass
    outbox.give_up(now=now)
    batch = CLAIMED_PER_LINE * settings.EMAIL_CONNECTIONS
    sent = failed = 0
    deadline = time.monotonic() + RUN_SECONDS_MAX
    lines = _Lines(settings.EMAIL_CONNECTIONS, until=deadline)
    try:
        while True:
            # Claim while half of them are still to be sent, so that no line waits for the next mail.
            may_claim = not lines.is_stopped and len(lines) <= batch // 2
            claimed = outbox.claim(limit=batch // 2, now=utcnow()) if may_claim else []
            bad = {message.id: (message, error) for message, error in texts.write_texts(claimed)}
            _record_failures(bad.values(), now=utcnow())
            failed += len(bad)
            lines.give([message for message in claimed if message.id not in bad])
            outbox.release(lines.withdraw())
            if not len(lines):
                if lines.is_stopped or not claimed:
                    break
                continue
            good, bad_ones = lines.results()
            if good:
                sent += outbox.record_sent(good, now=utcnow())
                metrics.mails.labels("sent").inc(len(good))
            _record_failures(bad_ones, now=utcnow())
            failed += len(bad_ones)
    finally:
        lines.close()
    return Run(sent, failed, is_cut_short=time.monotonic() >= deadline)


def _record_failures(failures: Iterable[tuple[Message, Exception]], *, now: datetime) -> None:
    for message, error in failures:
        metrics.mails.labels("failed").inc()
        reason = describe_error(error)
        logger.warning("message %s to %s was not sent: %s", message.id, message.recipient, reason)
        outbox.record_failed(message, error=reason, is_refused=isinstance(error, RefusedError), now=now)


class _Lines:
    """Connections to the mail server, each with its thread, and the messages that they are sending.

    `len` is how many messages are not finished. Used by one thread. No mail begins after `until` on the monotonic
    clock: a mail must be sent while its claim lasts, even if the thread that writes the rows is delayed.
    """

    def __init__(self, maximum: int, *, until: float) -> None:
        self._maximum, self._until = maximum, until
        self._lines: list[_Line] = []
        self._in_hand = 0
        self._todo: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Message, Exception | None]] = queue.SimpleQueue()
        self._stopped = threading.Event()

    def __len__(self) -> int:
        return self._in_hand

    @property
    def is_stopped(self) -> bool:
        """Whether no more mails are sent: the time is up, or a line could not reach the server."""
        if time.monotonic() >= self._until:
            self._stopped.set()
        return self._stopped.is_set()

    def give(self, messages: list[Message]) -> None:
        """Queue messages for the lines, in order; open more lines if needed."""
        self._in_hand += len(messages)
        for message in messages:
            self._todo.put(message)
        while len(self._lines) < min(self._maximum, self._in_hand):
            self._lines.append(_Line(self._todo, self._done, self._stopped, self._until))

    def withdraw(self) -> list[Message]:
        """Return the messages that will not be sent, after a stop."""
        back: list[Message] = []
        while self.is_stopped:
            try:
                message = self._todo.get_nowait()
            except queue.Empty:
                break
            if message is not None:
                back.append(message)
        self._in_hand -= len(back)
        return back

    def results(self) -> tuple[list[Message], list[tuple[Message, Exception]]]:
        """Wait briefly for results; return the messages that were sent, and those that failed with their errors."""
        results: list[tuple[Message, Exception | None]] = []
        busy = [line.must_end_at for line in self._lines if line.message is not None]
        wait = min([POLL_SECONDS, *(end - time.monotonic() for end in busy)])
        try:
            results.append(self._done.get(timeout=max(wait, 0.001)))
            while True:
                results.append(self._done.get_nowait())
        except queue.Empty:
            pass
        for line in [line for line in self._lines if line.is_late()]:
            if message := line.cut():
                self._lines.remove(line)
                results.append((message, UnreachableError(f"the mail server did not finish within {SECONDS_MAX:g} s")))
                self._stopped.set()
        self._in_hand -= len(results)
        return (
            [message for message, error in results if error is None],
            [(message, error) for message, error in results if error is not None],
        )

    def close(self) -> None:
        """Let the threads close their connections and end."""
        self._stopped.set()
        self.withdraw()
        for _ in self._lines:
            self._todo.put(None)


class _Line:
    """A connection to the mail server with its thread."""

    def __init__(
        self,
        todo: "queue.SimpleQueue[Message | None]",
        done: "queue.SimpleQueue[tuple[Message, Exception | None]]",
        stopped: threading.Event,
        until: float,
    ) -> None:
        self._todo, self._done, self._stopped, self._until = todo, done, stopped, until
        self._postman: Postman | None = None
        self._lock = threading.Lock()
        self._is_cut = False
        self.message: Message | None = None
        self.must_end_at = 0.0
        threading.Thread(target=self._work, name="mail", daemon=True).start()

    def is_late(self) -> bool:
        """Return whether its mail has exceeded the time limit."""
        return self.message is not None and self.must_end_at <= time.monotonic()

    def cut(self) -> Message | None:
        """Abort a connection that takes too long, and return its message; None if it has finished after all.

        The thread ends by itself, sooner or later; its result is ignored.
        """
        with self._lock:
            message, self._is_cut = self.message, self.message is not None
        if message is not None and self._postman is not None:
            self._postman.abort()
        return message

    def _work(self) -> None:
        while (message := self._todo.get()) is not None:
            if self._stopped.is_set() or time.monotonic() >= self._until:
                self._todo.put(message)  # `withdraw` returns it from there.
                break
            self.must_end_at = time.monotonic() + SECONDS_MAX
            self.message = message
            error: Exception | None = None
            try:
                if self._postman is None:
                    self._postman = Postman()
                self._postman.send(message)
            except Exception as problem:  # noqa: BLE001 - any error concerns one message only
                error = problem
                if isinstance(error, UnreachableError):
                    self._stopped.set()
            with self._lock:
                if self._is_cut:
                    break
                self.message = None
                self._done.put((message, error))
        if self._postman is not None:
            self._postman.close()
