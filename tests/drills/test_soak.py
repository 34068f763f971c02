"""P2, P3: the soak in its short form, and its arithmetic."""

import json
import random
import subprocess
import sys

import pytest

from drills.soak_plan import Habit, Incident, Job, expected_incidents, make_jobs, slots
from project.local.children import BASE_DIR

CHANCE = random.Random(1)  # noqa: S311 - repeatable, and no secret


def test_slots_are_the_minutes_of_the_hour_that_the_period_divides():
    job = Job(every=5, second=10, run_seconds=2)
    assert list(slots(job, 5 * 1000 + 3, 15)) == [2, 7, 12]
    assert list(slots(job, 5 * 1000, 11)) == [0, 5, 10]


def bad(**given):
    return Job(every=1, second=10, run_seconds=2, habit=Habit.SILENT, **given)


@pytest.mark.parametrize(
    ("job", "incidents"),
    [
        pytest.param(bad(bad_from=2, bad_until=4), [Incident(2, 4, 2)], id="recovers"),
        pytest.param(bad(bad_from=2, bad_until=99), [Incident(2, None, 4)], id="stays bad"),
        pytest.param(bad(bad_from=2, bad_until=3, failure_threshold=2), [], id="below its threshold"),
        pytest.param(bad(bad_from=4, bad_until=99, failure_threshold=2), [Incident(4, None, 2)], id="just at it"),
        pytest.param(bad(bad_from=0, bad_until=0), [], id="always good"),
    ],
)
def test_an_incident_is_a_run_of_failures_up_to_the_next_ok(job, incidents):
    assert expected_incidents(job, 0, 6) == incidents


def hanging(**given):
    return Job(every=1, second=10, run_seconds=2, habit=Habit.HANGING, **given)


@pytest.mark.parametrize(
    ("job", "incidents"),
    [
        pytest.param(hanging(bad_from=1, bad_until=2), [Incident(1, 3, 1)], id="it is found after the next ok"),
        pytest.param(
            hanging(bad_from=1, bad_until=3), [Incident(1, 3, 1), Incident(2, 4, 1)], id="with an ok in between"
        ),
        pytest.param(hanging(bad_from=1, bad_until=3, failure_threshold=2), [], id="which ends the streak"),
        pytest.param(hanging(bad_from=3, bad_until=99), [Incident(3, None, 2)], id="up to the last tick"),
    ],
)
def test_d24_a_run_that_hangs_counts_at_the_tick_after_its_deadline(job, incidents):
    assert expected_incidents(job, 0, 6) == incidents


def test_jobs_send_what_they_are_asked_for_and_one_in_a_hundred_is_bad_in_each_way():
    jobs = make_jobs(20_000, rate=400, minutes=10, chance=CHANCE)
    messages = 2 * sum(len(list(slots(job, 0, 60))) for job in jobs)
    assert messages / 3600 == pytest.approx(400, rel=0.03)
    for habit in (Habit.SILENT, Habit.FAILING, Habit.HANGING):
        assert sum(job.habit is habit for job in jobs) == 200


def test_jobs_cannot_be_more_frequent_than_every_minute():
    with pytest.raises(ValueError, match="send 11 to 33 check-ins a second, not 100"):
        make_jobs(1000, rate=100, minutes=10, chance=CHANCE)


@pytest.mark.long
@pytest.mark.xdist_group("supervisor")
def test_every_expected_miss_timeout_error_and_incident_of_2000_jobs_is_found_and_no_other():
    arguments = ["--environments", "2000", "--rate", "25", "--duration", "120", "--speed", "10"]
    outcome = subprocess.run(
        [sys.executable, "-m", "drills.soak", *arguments],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert outcome.returncode == 0, f"drills.soak {' '.join(arguments)}\n{outcome.stderr[-5000:]}"
    figures = json.loads(outcome.stdout.splitlines()[-1])
    assert (figures["lost"], figures["false"], figures["refused"]) == (0, 0, 0)
    assert all(figures[kind] > 0 for kind in ("missed", "timeout", "error", "incidents"))
    assert figures["late"] < 1000, "most jobs were heard in time, also on a busy machine"
