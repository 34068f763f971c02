"""P1, P2, P3: an old version is replaced by this one while check-ins come, and each does what the other one sends."""

import json
import subprocess
import sys

import pytest

from drills.upgrade import LAST_OLD
from project.local.children import BASE_DIR


def has_history():
    command = ["git", "cat-file", "-e", f"{LAST_OLD}^{{commit}}"]
    return subprocess.run(command, cwd=BASE_DIR, capture_output=True, check=False).returncode == 0


@pytest.mark.long
@pytest.mark.xdist_group("drills")
def test_p1_p2_p3_a_rolling_upgrade_loses_nothing_and_each_version_understands_the_other():
    if not has_history():
        pytest.skip(f"there is no commit {LAST_OLD} here: a shallow clone, or no clone at all")
    outcome = subprocess.run(
        [sys.executable, "-m", "drills.upgrade", "--duration", "15", "--patient"],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert outcome.returncode == 0, f"python -m drills.upgrade --duration 15 --patient\n{outcome.stderr[-5000:]}"
    figures = json.loads(outcome.stdout.splitlines()[-1])
    assert figures["acknowledged"] == figures["stored"] > 500
    assert figures["jobs_expected"] == figures["jobs_found"] > 50
    assert figures["tasks_by_new"] == figures["tasks_by_old"] >= 8
    assert figures["spooled"] > 0
    nothing = dict.fromkeys(("lost", "duplicated", "misplaced", "false_misses", "refused", "not_understood"), 0)
    assert figures | nothing == figures
