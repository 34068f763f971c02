"""The jobs of a soak, and what must come of them, by plain arithmetic on minutes (pure).

A job has a slot every `every` minutes. At a slot it begins a run some seconds after the minute and ends it a few
seconds later, both in the same minute. Margin and longest runtime are one minute, so that a slot that nothing served is
known at the tick after it, and a run that hangs at the next one (a runtime is meant to the second, D24). A few
jobs do something else from one minute to another: they say nothing, end with an error, or never end. Minutes are
numbered from the first one of the soak.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from drills.oracle.rules import MINUTE
from drills.oracle.verdicts import Event, incidents

PERIODS = (1, 2, 3, 5)
"""Minutes between slots; all of them divide an hour."""
SECONDS = (3.0, 44.0)
"""At which seconds of a minute runs begin: when the last minute is judged, and early enough to end in theirs."""
SECONDS_FAST = (20.0, 35.0)
"""The same for a clock that runs fast, on which everything else takes longer."""
SHORTEST_RUN_SECONDS, LONGEST_RUN_SECONDS = 1.0, 5.0
BAD_SHARE = 0.01
"""Of all jobs, for each way to be bad."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GUID_MIDDLE = "0000-4000-8000"


class Habit(StrEnum):
    """What a job does while it is bad; a good one ends ok."""

    GOOD = "good"
    SILENT = "silent"
    FAILING = "failing"
    HANGING = "hanging"


COMES_TO = {Habit.GOOD: "ok", Habit.SILENT: "missed", Habit.FAILING: "error", Habit.HANGING: "timeout"}

COUNTS_AFTER = {Habit.GOOD: 0.5, Habit.FAILING: 0.5, Habit.SILENT: 1, Habit.HANGING: 2}
"""How many minutes after its slot something counts: within the minute, or at a tick."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job. It is bad from the minute `bad_from` up to before `bad_until`, and good before and after that."""

    every: int
    second: float
    run_seconds: float
    failure_threshold: int = 1
    habit: Habit = Habit.GOOD
    bad_from: int = 0
    bad_until: int = 0

    def does_at(self, minute: int) -> Habit:
        """Return what it does at a slot."""
        return self.habit if self.bad_from <= minute < self.bad_until else Habit.GOOD


class Incident(NamedTuple):
    """An incident by the minutes of its slots: which failed first, and which was ok at last (None: it is open)."""

    first: int
    resolved: int | None
    occurrences: int


def make_jobs(
    count: int, *, rate: float, minutes: int, chance: random.Random, seconds: tuple[float, float] = SECONDS
) -> list[Job]:
    """Make jobs that send `rate` messages a second together, two for each run.

    Raises ValueError if so many jobs cannot: each has a slot every one to five minutes.
    """
    slots_a_minute = rate * 60 / 2 / count
    others = [1 / period for period in PERIODS if period != 1]
    seldom = sum(others) / len(others)
    share = (slots_a_minute - seldom) / (1 - seldom)
    if not 0 <= share <= 1:
        least, most = (count * 2 / 60 * slots for slots in (seldom, 1.0))
        raise ValueError(f"{count} jobs send {least:.0f} to {most:.0f} check-ins a second, not {rate:g}")
    bad = [Habit.SILENT, Habit.FAILING, Habit.HANGING]
    each = round(count * BAD_SHARE)
    jobs = []
    for number in range(count):
        habit = bad[number // each] if number < each * len(bad) else Habit.GOOD
        bad_from = chance.randrange(max(1, minutes // 3))
        # Half of the bad ones recover; the others stay as they are, also beyond the end.
        recovers = chance.random() < 0.5
        jobs.append(
            Job(
                every=1 if chance.random() < share else chance.choice(PERIODS[1:]),
                second=chance.uniform(*seconds),
                run_seconds=chance.uniform(SHORTEST_RUN_SECONDS, LONGEST_RUN_SECONDS),
                failure_threshold=chance.choice([1, 1, 2]),
                habit=habit,
                bad_from=bad_from,
                bad_until=chance.randint(bad_from + 1, max(bad_from + 1, minutes - 1)) if recovers else 10**9,
            )
        )
    return jobs


def slots(job: Job, first_epoch_minute: int, minutes: int) -> Iterator[int]:
    """Yield the minutes of the soak at which a job has a slot."""
    return iter(range(-first_epoch_minute % job.every, minutes, job.every))


def expected_incidents(job: Job, first_epoch_minute: int, minutes: int) -> list[Incident]:
    """Return the incidents that what happened in these minutes leads to, oldest first.

    Failures and oks count in the order of time: a run that hangs is found after the next minute's ok.
    """
    events = []
    for minute in slots(job, first_epoch_minute, minutes):
        does = job.does_at(minute)
        after = minute + COUNTS_AFTER[does]
        if after <= minutes:
            events.append(Event(EPOCH + after * MINUTE, 0, COMES_TO[does], minute, EPOCH + minute * MINUTE))
    return [
        Incident(failures[0].checkin, None if ok is None else ok.checkin, len(failures))
        for failures, _, ok in incidents(events, job.failure_threshold)
    ]


def guid(epoch_minute: int, number: int) -> str:
    """Return the id of the run of a job, by its number, at a slot."""
    return f"{epoch_minute:08x}-{GUID_MIDDLE}-{number:012x}"
