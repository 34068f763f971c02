"""Beat's schedule, for a clock that may be set back.

Celery remembers when each entry was last sent, and waits until so much time has passed since then. If the clock was
ahead and is right again, that moment is still to come, and nothing is sent until it does: for years, after a clock that
said 2040.
"""

import logging
from datetime import timedelta
from typing import Any

from celery.beat import Scheduler
from celery.utils.time import maybe_make_aware

logger = logging.getLogger(__name__)

AHEAD_MAX = timedelta(seconds=2)
"""Clocks are put right by fractions of a second all the time, which changes nothing."""


class SteadyScheduler(Scheduler):
    """Celery's schedule in memory, which begins again where the clock is if that has been set back."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; returns the seconds until something is."""
        entries = list(self.schedule.values())
        if entries:
            now = maybe_make_aware(entries[0].default_now())
            ahead = [entry for entry in entries if maybe_make_aware(entry.last_run_at or now) - now > AHEAD_MAX]
            if ahead:
                logger.warning("the clock of this machine was set back: beat goes on at %s", now.isoformat())
                for entry in ahead:
                    entry.last_run_at = now
                self._heap = None
        delay: float = super().tick(*args, **kwargs)
        return delay
