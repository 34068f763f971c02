"""P5: a short fault drill of delivery, with real workers, receivers and engines."""

import json
import random
import subprocess
import sys

import pytest

from project.local.children import BASE_DIR

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("drills")]

NOTHING_WRONG = dict.fromkeys(
    ("lost", "held_and_lost", "recorded_twice", "out_of_order", "unequal_repeats", "unknown", "left_open"), 0
)


def test_p5_everybody_is_told_once_and_in_order_while_workers_engines_and_receivers_break():
    seed = random.SystemRandom().randrange(10**6)
    arguments = ["--duration", "15", "--incidents", "150", "--seed", str(seed)]
    outcome = subprocess.run(
        [sys.executable, "-m", "drills.notify", *arguments],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert outcome.returncode == 0, f"python -m drills.notify {' '.join(arguments)}\n{outcome.stderr[-5000:]}"
    figures = json.loads(outcome.stdout.splitlines()[-1])
    assert figures | NOTHING_WRONG == figures
    assert figures["incidents"] == 150
    assert figures["bad_answers"] > 0
    assert figures["held_told"] + figures["held_over"] > 0
