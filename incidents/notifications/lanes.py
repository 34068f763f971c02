"""Lanes to channels: one event loop in a thread sends to many channels at once (shell).

A lane is the messages of one channel, sent one after the other. The loop neither reads nor writes rows. It lasts as
long as the process: closing one waits for name servers that do not answer.
"""

import asyncio
import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings

from incidents.exceptions import DeliveryError
from incidents.models import Message
from incidents.notifications.alert import Alert
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Request, Sender, SendResult, SendResultKind, Target
from incidents.notifications.mail_lines import POLL_SECONDS, Done

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
CLOSING_SECONDS = 1.0
GOES_ON = {SendResultKind.DELIVERED, SendResultKind.MESSAGE_REFUSED}
"""After any other outcome the rest of a lane waits: the channel is the matter."""


class WithdrawnError(DeliveryError):
    """A message was not sent: its lane has ended. No attempt is counted."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A claimed message with all that its channel needs to send it."""

    message: Message
    target: Target
    alert: Alert
    ref: str


class Lanes:
    """The lanes of one run. No message begins after `until` on the monotonic clock. Used by one thread."""

    def __init__(self, done: Done, utcnow: Callable[[], datetime], *, until: float) -> None:
        self._done, self._utcnow, self._until = done, utcnow, until
        self._in_hand: dict[int | None, int] = {}
        self._asked_at: float | None = None

    def __len__(self) -> int:
        return sum(self._in_hand.values())

    @property
    def channel_count(self) -> int:
        """How many channels are being sent to."""
        return len(self._in_hand)

    @property
    def is_stopped(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._until

    def takes_more(self) -> bool:
        """Return whether to look for more messages: a lane has become free, or it is some time since the last look."""
        is_new = self._asked_at is not None and time.monotonic() < self._asked_at + POLL_SECONDS
        if self.is_stopped or (self._in_hand and is_new):
            return False
        self._asked_at = time.monotonic()
        return True

    def give(self, sendings: Iterable[Sending]) -> None:
        """Send messages: those of each channel in order, all channels at once."""
        lanes: dict[int | None, list[Sending]] = {}
        for sending in sendings:
            lanes.setdefault(sending.message.channel_id, []).append(sending)
        for channel_id, lane in lanes.items():
            self._in_hand[channel_id] = self._in_hand.get(channel_id, 0) + len(lane)
            start(self._drive(lane))

    def finished(self, message: Message) -> None:
        """Note that the result of a message has been received."""
        left = self._in_hand[message.channel_id] - 1
        if left:
            self._in_hand[message.channel_id] = left
        else:
            del self._in_hand[message.channel_id]
            self._asked_at = None

    async def _drive(self, lane: Sequence[Sending]) -> None:
        is_over = False
        for sending in lane:
            if is_over or self.is_stopped:
                self._done.put((sending.message, WithdrawnError()))
                continue
            try:
                outcome = await _send(sending, now=self._utcnow())
            except Exception as error:  # noqa: BLE001 - any error concerns one message only
                self._done.put((sending.message, error))
            else:
                self._done.put((sending.message, outcome))
                is_over = outcome.kind not in GOES_ON


async def _send(sending: Sending, *, now: datetime) -> SendResult:
    sender = SENDERS[sending.target.kind]
    requests = sender.requests(sending.alert, sending.target, sending.ref, now=now, is_plain=sending.message.is_plain)
    return await ask(requests, sender)


async def ask(requests: Sequence[Request], sender: Sender) -> SendResult:
    """Send the requests of a message, in the loop of this module; never raises but for cancelling."""
    from incidents.notifications import exchange

    return await exchange.send(requests, classify=sender.classify, session=await _session())


# --- the loop of this process


def start(work: Coroutine[Any, Any, T]) -> "Future[T]":
    """Start something in the loop of this process. Returns at once."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


_lock = threading.Lock()
_running: list[tuple[threading.Thread, asyncio.AbstractEventLoop]] = []
_sessions: "dict[tuple[object, ...], aiohttp.ClientSession]" = {}
"""By loop, proxy, and the networks that may be reached."""


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        # A thread does not survive a fork.
        if not _running or not _running[0][0].is_alive():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="lanes", daemon=True)
            thread.start()
            _running[:] = [(thread, loop)]
            atexit.register(_close_sessions, loop)
        return _running[0][1]


async def _session() -> "aiohttp.ClientSession":
    from incidents.notifications import exchange

    key = asyncio.get_running_loop(), settings.NOTIFY_PROXY, *settings.NOTIFY_ALLOWED_NETWORKS
    if key not in _sessions:
        _sessions[key] = exchange.open_session(settings.NOTIFY_ALLOWED_NETWORKS)
    return _sessions[key]


def _close_sessions(loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections of this process as it ends, or each would be reported as forgotten."""
    own = [_sessions.pop(key) for key in list(_sessions) if key[0] is loop]
    for session in own:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(CLOSING_SECONDS)
