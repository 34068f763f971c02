"""P10: a short abuse drill. What one key sends, or a stranger, costs the others nothing."""

import json
import random
import subprocess
import sys

import pytest

from drills.abuse_inputs import STREAMS, Sender
from project.local.children import BASE_DIR


@pytest.mark.long
@pytest.mark.xdist_group("processes")
def test_p10_what_one_sender_sends_costs_the_others_nothing():
    seed = random.SystemRandom().randrange(10**6)
    outcome = subprocess.run(
        [sys.executable, "-m", "drills.abuse", "--duration", "40", "--seed", str(seed), "--patient"],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert outcome.returncode == 0, f"make drill-abuse DURATION=40 SEED={seed}\n{outcome.stderr[-5000:]}"
    figures = json.loads(outcome.stdout.splitlines()[-1])
    assert figures["stored"] >= figures["acknowledged"] > 20
    for count in ("lost", "refused", "false_failures", "hidden_failures", "dropped_nodes"):
        assert figures[count] == 0, count
    assert figures["damaged_pages"] > 0
    assert sum(figures["abuse_answers"].values()) > 50


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_seed_sends_the_same(name):
    sender = Sender(1, "0123456789abcdef0123456789abcdef")

    first, second = (STREAMS[name](random.Random(7), sender) for _ in range(2))  # noqa: S311

    assert first
    assert [request.partition(b"\r\n\r\n")[0] for request in first] == [
        request.partition(b"\r\n\r\n")[0] for request in second
    ]
