"""What the check-ins of a monitor suggest as its schedule, for pages (shell)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from checkins.messages import Source
from checkins.models import CheckIn
from dashboard.typed_schedules import typed_as
from monitors.describing import describe
from monitors.learning import (
    ARRIVALS_READ,
    Arrival,
    Kind,
    NotEnough,
    Placed,
    Proposal,
    propose,
)
from monitors.models import Monitor, MonitorEnvironment
from monitors.patterns import ARRIVALS_NEEDED
from monitors.schedule import anchor_for, next_slots, why_unreadable

ROWS_READ = 2 * ARRIVALS_READ
"""Slots that nothing served have rows as well."""
EVIDENCE_SHOWN = 20
NEXT_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Learned:
    """What a page shows: how many arrivals there are, how many are needed, or the proposal with its evidence.

    `count` of `needed` are too few if there is no proposal and `count` is less. `fields` are what a form has for it.
    """

    count: int
    needed: int
    proposal: Proposal | None = None
    text: str = ""
    slots: Sequence[datetime] = ()
    evidence: Sequence[Placed] = ()
    fields: dict[str, Any] | None = None
    again: int = 0
    beside: int = 0

    @property
    def served(self) -> int:
        """How many of its slots an arrival served."""
        return 0 if self.proposal is None else self.proposal.slot_count - len(self.proposal.missed)

    @property
    def query(self) -> str:
        """The address of the form with the proposal in its fields."""
        return urlencode(self.fields or {})

    @property
    def doubts(self) -> Sequence[str]:
        """The values of what is not known yet."""
        return () if self.proposal is None else [doubt.value for doubt in self.proposal.doubts]


def load_learned(monitor: Monitor, environment: MonitorEnvironment | None, *, now: datetime, language: str) -> Learned:
    """Return what the newest check-ins of an environment suggest. One statement. Index: checkin_history."""
    if environment is None:
        return Learned(0, ARRIVALS_NEEDED)
    present = monitor.schedule()
    rows = CheckIn.objects.filter(monitor_environment=environment).order_by("-date_added")
    arrivals = [
        Arrival(at, None if duration_ms is None else timedelta(milliseconds=duration_ms))
        for at, duration_ms, source in rows.values_list("date_added", "duration_ms", "source")[:ROWS_READ]
        if source != Source.CLOCK
    ]
    found = propose(arrivals, "UTC" if why_unreadable(present) else present.timezone)
    if not isinstance(found, Proposal):
        return Learned(found.count, found.needed if isinstance(found, NotEnough) else found.count)
    schedule = found.schedule
    anchor = anchor_for(schedule, found.arrivals[-1].arrival.at)
    numbers = {
        "checkin_margin": found.margin_minutes,
        "max_runtime": found.max_runtime_minutes or monitor.max_runtime,
    }
    return Learned(
        count=len(found.arrivals),
        needed=ARRIVALS_NEEDED,
        proposal=found,
        text=describe(schedule, language),
        slots=next_slots(schedule, now, anchor, NEXT_SHOWN),
        evidence=found.arrivals[: -EVIDENCE_SHOWN - 1 : -1],
        fields=typed_as(schedule) | numbers,
        again=found.of_kind(Kind.AGAIN),
        beside=found.of_kind(Kind.BESIDE),
    )
