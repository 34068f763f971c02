"""What the jobs report in two weeks, as a story (pure)."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

from clocktasks.playback.scenario import CheckInEvent, Event, MonitorSetup, Scenario, TicksUntilEvent
from dashboard.demo.jobs import JOBS, Job
from monitors.schedule import Schedule, next_slot

DAYS = 14
LATE_SECONDS = 3.0
SPREAD = 0.15
"""Durations vary by so much of their usual length, as a standard deviation."""
SLOW_FACTOR = 2.4


def write_story(now: datetime, *, seed: int = 7) -> Scenario:
    """Return two weeks of the jobs up to `now`, a whole minute. The same seed gives the same story."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    begin = now - timedelta(days=DAYS)
    names = count()
    events = [event for job in JOBS for event in _events(job, begin, now, chance, names)]
    events.sort(key=lambda event: event.at)
    return Scenario(
        name="two weeks of a small shop",
        monitors=[_setup(job) for job in JOBS],
        events=[TicksUntilEvent(at=begin), *events, TicksUntilEvent(at=now)],
        expect=[],
    )


def _setup(job: Job) -> MonitorSetup:
    return MonitorSetup(
        slug=job.slug,
        schedule=job.schedule,
        timezone=job.timezone,
        checkin_margin=job.margin,
        max_runtime=job.runtime,
        failure_issue_threshold=job.threshold,
        tags=list(job.tags),
    )


def _events(job: Job, begin: datetime, now: datetime, chance: random.Random, names: "count[int]") -> Iterator[Event]:
    schedule = Schedule.from_crontab(job.schedule, job.timezone)
    slot = next_slot(schedule, begin, None)
    while slot is not None and slot < now:
        yield from _run(job, slot, now, chance, f"run {next(names)}")
        slot = next_slot(schedule, slot, None)


def _run(job: Job, slot: datetime, now: datetime, chance: random.Random, name: str) -> Iterator[Event]:
    trouble = job.trouble_at(slot, now)
    start = slot + timedelta(seconds=chance.expovariate(1 / LATE_SECONDS))
    seconds = max(1.0, job.seconds * chance.gauss(1, SPREAD)) * (SLOW_FACTOR if trouble == "slow" else 1)
    end = start + timedelta(seconds=seconds)
    if trouble == "missed" or start >= now:
        return
    yield _checkin(job, start, "in_progress", name)
    if trouble != "timeout" and end < now:
        yield _checkin(job, end, "error" if trouble == "error" else "ok", name)


def _checkin(job: Job, at: datetime, status: str, name: str) -> CheckInEvent:
    return CheckInEvent(at=at, monitor=job.slug, status=status, check_in_id=name, environment=job.environment)
