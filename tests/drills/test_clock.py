"""P2, P3, P4, P5: short fault drills of the clock, and of worker hosts that are cut off."""

import json
import random
import subprocess
import sys

import pytest

from project.local.children import BASE_DIR

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("processes")]

SECONDS = 15
JOBS = 24
FOUND = {
    8: ["PostgreSQL stopped"],
}
"""Seeds that found something, with the faults that brought it about.

8: the late end of a run that came from the spool together with its beginning was forgotten.
"""
NOTHING_WRONG = {"lost": 0, "doubled": 0, "false": 0, "wrong": 0}


def drill(module, *arguments):
    outcome = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert outcome.returncode == 0, f"python -m {module} {' '.join(map(str, arguments))}\n{outcome.stderr[-5000:]}"
    return json.loads(outcome.stdout.splitlines()[-1])


def test_p3_p4_p5_every_miss_timeout_incident_and_issue_is_there_once_while_everything_breaks():
    seed = random.SystemRandom().randrange(10**6)
    figures = drill("drills.clock", "--duration", SECONDS, "--jobs", JOBS, "--seed", seed)
    assert figures["expected"] == figures["found"] > 10
    assert figures | NOTHING_WRONG == figures
    assert figures["faults"] >= 1, "a busy machine takes long for each"
    assert figures["misses"] + figures["timeouts"] + figures["unknown"] > 0


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_stays_mended(seed):
    kinds = [word for kind in FOUND[seed] for word in ("--only", kind)]
    figures = drill("drills.clock", "--duration", SECONDS, "--jobs", JOBS, "--seed", seed, *kinds)
    assert figures["expected"] == figures["found"] > 10
    assert figures | NOTHING_WRONG == figures


def test_p3_a_worker_host_that_is_cut_off_in_a_tick_holds_up_nobody_and_does_nothing_twice():
    figures = drill("drills.hosts", "--jobs", 100)
    assert figures["expected"] == figures["found"] > 100
    assert figures | NOTHING_WRONG == figures
