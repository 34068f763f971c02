"""Lines to the mail server: a few connections, each with a thread that sends one mail after the other (shell).

The threads only talk to the mail server; they neither read nor write rows.
"""

import queue
import threading
import time
from typing import TypeAlias

from incidents.models import Message
from incidents.notifications.channels.base import SendResult
from incidents.notifications.channels.email import SECONDS_MAX, HandoverError, Postman, RefusedError, UnreachableError

POLL_SECONDS = 1.0
"""How often new messages are claimed while the current ones are being sent."""
Result: TypeAlias = "SendResult | Exception | None"
"""What became of a message: a mail was sent (None) or failed; a channel has an outcome."""
Done: TypeAlias = "queue.SimpleQueue[tuple[Message, Result]]"


class Lines:
    """Connections to the mail server, each with its thread, and the messages that they are sending.

    `len` is how many messages are not finished. Used by one thread. No mail begins after `until` on the monotonic
    clock: a mail must be sent while its claim lasts, even if the thread that writes the rows is delayed.
    """

    def __init__(self, maximum: int, done: Done, *, until: float) -> None:
        self._maximum, self._done, self._until = maximum, done, until
        self._lines: list[Line] = []
        self._in_hand = 0
        self._todo: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._worked = threading.Event()

    def __len__(self) -> int:
        return self._in_hand

    @property
    def is_stopped(self) -> bool:
        """Whether no more mails are sent: the time is up, or a line could not reach the server."""
        if time.monotonic() >= self._until:
            self._stopped.set()
        return self._stopped.is_set()

    @property
    def has_worked(self) -> bool:
        """Whether the server has taken a mail, or refused one for good: it is there."""
        return self._worked.is_set()

    def give(self, messages: list[Message]) -> None:
        """Queue messages for the lines, in order; open more lines if needed."""
        self._in_hand += len(messages)
        for message in messages:
            self._todo.put(message)
        while len(self._lines) < min(self._maximum, self._in_hand):
            self._lines.append(Line(self._todo, self._done, self._stopped, self._worked, self._until))

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

    def wait_max(self) -> float:
        """Return for how many seconds results may be awaited before a line may be late."""
        busy = [line.must_end_at for line in self._lines if line.message is not None]
        return max(min((end - time.monotonic() for end in busy), default=POLL_SECONDS), 0.001)

    def cut_late(self) -> None:
        """Cut off lines that take too long; their messages are among the results."""
        for line in [line for line in self._lines if line.is_late()]:
            if message := line.cut():
                self._lines.remove(line)
                self._done.put((message, HandoverError(f"the mail server did not finish within {SECONDS_MAX:g} s")))
                self._stopped.set()

    def finished(self, _message: Message) -> None:
        """Note that the result of a message has been received."""
        self._in_hand -= 1

    def close(self) -> None:
        """Let the threads close their connections and end."""
        self._stopped.set()
        self.withdraw()
        for _ in self._lines:
            self._todo.put(None)


class Line:
    """A connection to the mail server with its thread."""

    def __init__(
        self,
        todo: "queue.SimpleQueue[Message | None]",
        done: Done,
        stopped: threading.Event,
        worked: threading.Event,
        until: float,
    ) -> None:
        self._todo, self._done, self._stopped, self._worked, self._until = todo, done, stopped, worked, until
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
            if error is None or isinstance(error, RefusedError):
                self._worked.set()
            with self._lock:
                if self._is_cut:
                    break
                self.message = None
                self._done.put((message, error))
        if self._postman is not None:
            self._postman.close()
