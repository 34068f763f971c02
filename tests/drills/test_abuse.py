"""P10: a short abuse drill. What one key sends, or a stranger, costs the others nothing."""

import json
import random
import subprocess
import sys
import uuid
from datetime import UTC, datetime

import pytest

from drills.abuse_inputs import STREAMS, Sender
from drills.abuse_watch import LateTick, Record, Sent, conclude
from project.local.children import BASE_DIR


@pytest.mark.long
@pytest.mark.xdist_group("drills")
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
    # The drill itself waits for a refusal by the full disk, which a restart beside it may explain as well.
    assert figures["skipped"] or sum(figures["refused_apart"].values()) > 0


# --- what it finds ----------------------------------------------------------------------------------------------------


def check_in(*, at, after=0.1, **columns):
    """A check-in that was sent at a moment, answered at once and seen so many seconds later."""
    return Sent(uuid.uuid4(), at, answered_at=at, seen_at=at + after, **columns)


def concluded(*sent, ticks=(), is_patient=False, **spans):
    record = Record(sent=list(sent), judged_until=1_000.0, **spans)
    return conclude(
        record,
        duration=300.0,
        is_patient=is_patient,
        grown=0.0,
        hidden=0,
        failures=0,
        unseen=(),
        late_ticks=ticks,
    )


def tick(seconds, because=None):
    return LateTick(datetime(2026, 1, 5, 10, 0, tzinfo=UTC), seconds, because)


@pytest.mark.parametrize(("after", "late"), [(0.9, 0), (1.2, 1)])
def test_a_check_in_that_is_stored_later_than_a_second_is_a_finding(after, late):
    figures, findings = concluded(check_in(at=100, after=after))
    assert (figures["late"], len(findings)) == (late, late)


@pytest.mark.parametrize(
    ("span", "apart"),
    [("restarts", {"restarts": 1}), ("full_disks", {"full disk": 1}), ("wrong_clocks", {}), ("stands", {})],
)
def test_only_restarts_and_full_disks_excuse_a_late_check_in(span, apart):
    figures, findings = concluded(check_in(at=100, after=5), **{span: [(99.0, 103.0)]})
    assert (figures["late_apart"], figures["late"]) == (apart, 1 - len(apart))
    assert len(findings) == 1 - len(apart)


def test_what_a_full_disk_refuses_is_counted_apart():
    refused = Sent(uuid.uuid4(), 100.0, status=503)
    figures, findings = concluded(refused, full_disks=[(99.0, 103.0)])
    assert (figures["refused_apart"], figures["refused"], findings) == ({"full disk": 1}, 0, [])
    assert concluded(refused)[0]["refused"] == 1


def test_a_wrong_clock_excuses_a_late_tick():
    figures, findings = concluded(ticks=[tick(60.0, "wrong clock"), tick(3.0)])
    assert (figures["late_ticks"], figures["late_ticks_apart"]) == (1, {"wrong clock": 1})
    assert findings == ["the tick of 10:00 was finished 3.00 s after it could be"]


@pytest.mark.parametrize(
    ("sent", "ticks", "is_found"),
    [
        ([check_in(at=100, after=29)] * 5, [tick(29)] * 2, False),
        ([check_in(at=100, after=29)] * 6, [], True),
        ([], [tick(29)] * 3, True),
        ([check_in(at=100, after=31)], [], True),
        ([], [tick(31)], True),
        ([Sent(uuid.uuid4(), 100.0, answered_at=100.1)], [], True),
    ],
    ids=["a few", "many check-ins", "many ticks", "a very late check-in", "a very late tick", "one never stored"],
)
def test_a_patient_drill_allows_a_few_delays_and_no_long_one(sent, ticks, is_found):
    assert bool(concluded(*sent, ticks=ticks, is_patient=True)[1]) is is_found


# --- what it sends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_seed_sends_the_same(name):
    sender = Sender(1, "0123456789abcdef0123456789abcdef")

    first, second = (STREAMS[name](random.Random(7), sender) for _ in range(2))  # noqa: S311

    assert first
    assert [request.partition(b"\r\n\r\n")[0] for request in first] == [
        request.partition(b"\r\n\r\n")[0] for request in second
    ]
