"""Random monitors that depend on each other, fail and recover: no opening that is held is lost."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from incidents.notifications.holds import HOLD_MAX, RECOVERY, WAIT_MAX, WAITS, Opening, Upstream, hold

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STEP = 5 * MINUTE


class Job:
    """A monitor in the model: what happened to it, and what people were told."""

    def __init__(self, number, upstreams, is_quiet, is_delivered):
        self.number, self.upstreams, self.is_quiet, self.is_delivered = number, upstreams, is_quiet, is_delivered
        self.failing_since = self.told_at = self.over_at = None
        self.stories = []  # One for each incident: opened, told, over.

    def value(self):
        return Upstream(
            name=str(self.number),
            upstreams=self.upstreams,
            is_failing=self.failing_since is not None,
            is_notified=self.told_at is not None and self.is_delivered,
            is_quiet=self.is_quiet,
            over_at=None if self.failing_since is not None else self.over_at,
        )


@st.composite
def worlds(draw):
    """Monitors each of which depends on earlier ones only, and when each fails and recovers, by steps."""
    count = draw(st.integers(1, 6))
    jobs = [
        Job(
            number,
            draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else [],
            draw(st.booleans()) and draw(st.booleans()),
            draw(st.booleans()) or draw(st.booleans()),
        )
        for number in range(count)
    ]
    flips = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, count - 1)), max_size=14, unique=True))
    return jobs, sorted(flips)


def live(jobs, flips, until):
    """Let the world run, in steps; people are told by the decision under test."""
    for step in range(until):
        now = NOW + step * STEP
        for _, number in [flip for flip in flips if flip[0] == step]:
            flip(jobs[number], now)
        graph = {job.number: job.value() for job in jobs}
        for job in jobs:
            if job.failing_since is not None and job.told_at is None and not job.is_quiet:
                verdict = hold(Opening(created_at=job.failing_since, upstreams=job.upstreams), graph, now=now)
                check(job, verdict, jobs, now)
                if verdict is None:
                    job.told_at = job.stories[-1]["told"] = now


def flip(job, now):
    if job.failing_since is None:
        job.failing_since, job.told_at, job.over_at = now, None, None
        job.stories.append({"opened": now, "told": None, "over": None})
    else:
        job.stories[-1]["over"] = job.over_at = now
        job.failing_since = None
        if job.stories[-1]["told"] is None:
            job.told_at = job.over_at = None


def check(job, verdict, jobs, now):
    """Whoever is kept in the dark about a failure knows of one above it, or hears soon."""
    if verdict is None:
        return
    assert now < verdict.until <= job.failing_since + HOLD_MAX
    if verdict.by == WAITS:
        assert verdict.until <= job.failing_since + WAIT_MAX
        return
    known = [
        other
        for other in (jobs[number] for number in above(job, jobs))
        if other.is_delivered
        and not other.is_quiet
        and other.told_at is not None
        and (other.failing_since is not None or now < other.over_at + RECOVERY)
    ]
    assert known, f"{job.number} is held, and nobody knows of anything above it"


def above(job, jobs):
    found = set(job.upstreams)
    for number in job.upstreams:
        found |= above(jobs[number], jobs)
    return found


@settings(max_examples=300)
@given(worlds())
def test_every_failure_is_told_or_over_within_six_hours(world):
    jobs, flips = world
    live(jobs, flips, until=60 + HOLD_MAX // STEP + 2)
    for job in jobs:
        for story in job.stories if not job.is_quiet else ():
            if story["told"] is None:
                assert story["over"] is not None, f"{job.number} fails for good, and nobody was told"
                assert story["over"] - story["opened"] <= HOLD_MAX
            else:
                assert story["told"] - story["opened"] <= HOLD_MAX


@settings(max_examples=100)
@given(worlds())
def test_a_failure_with_nothing_failing_above_it_is_told_at_once(world):
    jobs, flips = world
    alone = [job for job in jobs if not job.upstreams and not job.is_quiet]
    live(jobs, flips, until=62)
    for job in alone:
        assert all(story["told"] == story["opened"] for story in job.stories)
