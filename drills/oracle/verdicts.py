"""Failures and oks in a row, and the incidents that they make."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


class Story(NamedTuple):
    """An incident: its failures in order, what opened it, and what ended it (None: it is open)."""

    failures: tuple[Any, ...]
    opened_by: Any
    resolved_by: Any | None


@dataclass
class Verdicts:
    """Failures and oks in the order in which they count, and the incidents that they make."""

    stories: list[Story] = field(default_factory=list)
    failures: list[Any] = field(default_factory=list)
    """In a row, up to now."""
    oks: int = 0
    """In a row, up to now."""
    was_ok: bool = False
    is_failing: bool = False
    is_muted: bool = False
    occurrences: int = 0

    def failed(self, what: Any, failures_to_open: int) -> None:
        """Something failed: that opens an incident, belongs to one, or is not enough yet."""
        self.oks = 0
        self.failures.append(what)
        if self.is_failing:
            self.stories[-1] = self.stories[-1]._replace(failures=(*self.stories[-1].failures, what))
            self.occurrences += not self.is_muted
        elif len(self.failures) >= failures_to_open:
            # Only those that lead to the opening are its run: failures in a row are no more than these here.
            self.stories.append(Story(tuple(self.failures[-failures_to_open:]), what, None))
            self.is_failing = True
            self.occurrences += 0 if self.is_muted else failures_to_open

    def ok(self, what: Any, oks_to_recover: int) -> None:
        """Something was ok: that may be enough to end an incident."""
        self.failures = []
        self.oks += 1
        self.was_ok = True
        if self.is_failing and self.oks >= oks_to_recover:
            self.stories[-1] = self.stories[-1]._replace(resolved_by=what)
            self.is_failing = False

    @property
    def status(self) -> str:
        """The status of the environment's row."""
        if self.is_failing:
            return "error"
        return "ok" if self.was_ok else "active"


class Event(NamedTuple):
    """A failure that was counted or an ok, in the order of time. At a tick misses come before timeouts (`order`)."""

    at: datetime
    order: int
    kind: str
    checkin: int
    started_at: datetime


def incidents(events: Iterable[Event], failures_to_open: int = 1, oks_to_recover: int = 1) -> list[Story]:
    """Return the incidents that these failures and oks make."""
    verdicts = Verdicts()
    for event in sorted(events, key=lambda event: (event.at, event.order, event.started_at)):
        if event.kind == "ok":
            verdicts.ok(event, oks_to_recover)
        else:
            verdicts.failed(event, failures_to_open)
    return verdicts.stories
