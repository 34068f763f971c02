"""Times of reception: never before an earlier one, and since when the process receives without a break (shell)."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

logger = logging.getLogger(__name__)


class ReceptionClock:
    """Stamps requests by the machine's clock, which may be set back, or stand while the process is stopped.

    `frozen_after`: a process that asks every second and finds more than this gone was stopped, or its machine slept.
    `listening_since` is when the process began to receive without such a break.
    """

    def __init__(self, utcnow: Callable[[], datetime], *, frozen_after: timedelta) -> None:
        self.utcnow = utcnow
        self._frozen_after = frozen_after
        self._newest = self.listening_since = utcnow()

    def stamp(self) -> datetime:
        """Return the reception time of a request: now, but never before that of an earlier one.

        (Unless the machine's clock was wrong, and is set back by more than a moment.)
        """
        now = self.utcnow()
        if self._newest - now > self._frozen_after:
            logger.error(
                "the clock of this machine was set back from %s to %s: check-ins are stamped by it from here on",
                self._newest.isoformat(timespec="seconds"),
                now.isoformat(timespec="seconds"),
            )
            self._newest = self.listening_since = now
        elif now - self._newest > self._frozen_after:
            self.listening_since = now  # Nothing was received meanwhile.
        self._newest = max(self._newest, now)
        return self._newest
