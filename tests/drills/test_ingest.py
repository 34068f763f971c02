"""P1, P2: a short fault drill. PostgreSQL stops, hangs, restarts and is read-only, Valkey stops, the web is killed."""

import json
import random
import subprocess
import sys

import pytest

from project.local.children import BASE_DIR

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("drills")]


def test_p1_p2_nothing_is_lost_doubled_or_wrongly_missed_while_everything_breaks():
    seed = random.SystemRandom().randrange(10**6)
    outcome = subprocess.run(
        [sys.executable, "-m", "drills.ingest", "--duration", "25", "--rate", "200", "--seed", str(seed)],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert outcome.returncode == 0, f"make drill-ingest DURATION=25 RATE=200 SEED={seed}\n{outcome.stderr[-5000:]}"
    figures = json.loads(outcome.stdout.splitlines()[-1])
    assert figures["acknowledged"] == figures["stored"] > 3000
    assert (figures["lost"], figures["duplicated"], figures["false_misses"], figures["refused"]) == (0, 0, 0, 0)
    assert figures["kills"] >= 3
    assert figures["answers_spooling"] > 100, "PostgreSQL was away, and check-ins were taken"
