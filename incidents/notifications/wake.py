"""Waking delivery as soon as the outbox has a message, without delaying the writer (shell).

    write -> after commit: an event -> a thread of this process -> one message to the queue `delivery`

A thread sends the message, since a broker that does not answer must delay neither a check-in nor a tick. Requests that
come while one is being sent become one more. A lost request costs twenty seconds: the sweep finds due messages (P3).
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 20
"""How often beat wakes delivery, whether there is anything to do or not."""


def wake_after_commit() -> None:
    """Wake delivery when the transaction of this connection has committed; at once if there is none."""
    transaction.on_commit(wake, robust=True)


def wake() -> None:
    """Wake delivery. Returns at once."""
    _waker.wake()


def wake_at(at: datetime, *, now: datetime) -> None:
    """Wake delivery at an instant in the near future; what is later is left to the sweep."""
    seconds = max((at - now).total_seconds(), 0.0)
    if seconds >= SWEEP_SECONDS:
        return
    from incidents.tasks import deliver

    countdown = seconds / (settings.TEST_CLOCK.speed if settings.TEST_CLOCK else 1.0)
    try:
        deliver.apply_async(countdown=countdown, expires=countdown + SWEEP_SECONDS, retry=False)
    except Exception as error:  # noqa: BLE001 - depends on the broker's client; the sweep makes up for it
        logger.warning("delivery could not be woken (%s): it polls the outbox within 20 s", error)


def send_wish() -> None:
    """Send the message that wakes delivery. Raises the errors of the broker's client."""
    from incidents.tasks import deliver

    deliver.apply_async(expires=SWEEP_SECONDS, retry=False)


class _Waker:
    """A thread that starts with the first request of a process, and waits for the next one."""

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send
        self._wished = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        self._wished.set()
        with self._lock:
            # A thread does not survive a fork.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="wake-delivery", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while self._wished.wait():
            self._wished.clear()
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 - depends on the broker's client; the sweep makes up for it
                logger.warning("delivery could not be woken (%s): it polls the outbox within 20 s", error)


_waker = _Waker(lambda: send_wish())
