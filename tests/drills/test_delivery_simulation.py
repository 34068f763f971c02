"""P5 in small worlds, in which a seed decides who goes on between any two statements, and how each receiver behaves.

A seed that fails names itself; `make sim-notify SEEDS=17,` tells its whole story.
"""

import pytest

from drills.delivery.faults import Faults, Manner
from drills.delivery.run import simulate, stage
from incidents.notifications import claims

pytestmark = pytest.mark.django_db(transaction=True)

SEEDS = 60
"""From 1 on. `make sim-notify SEEDS=1-1000` runs more, and others."""
SHORT = 10
"""So many of them are for each change; `make ci` runs all."""
CHUNK = 10


def findings(seeds):
    with stage() as own:
        results = [simulate(seed, own) for seed in seeds]
    return [f"make sim-notify SEEDS={result.seed},: {finding}" for result in results for finding in result.findings]


def first_findings(seeds, faults=None):
    """Return what the first of these seeds finds that finds anything."""
    with stage() as own:
        return next((found for seed in seeds if (found := simulate(seed, own, faults=faults).findings)), [])


@pytest.mark.parametrize(
    "first",
    [pytest.param(first, marks=[pytest.mark.long] if first > SHORT else []) for first in range(1, SEEDS + 1, CHUNK)],
)
def test_every_world_ends_with_everybody_told(first):
    assert findings(range(first, first + CHUNK)) == []


def test_the_same_seed_takes_the_same_way():
    with stage() as own:
        first, second = (simulate(5, own).trace for _ in range(2))
    assert first == second
    assert len(first) > 100


VARIED = (44, 128, 2, 22)
"""Seeds that had all of it between them when this was written. They save time only: others are tried after them."""
FAULTS = ("kills", "lost_connections", "blocked", "edits", "bad", "sent")


def seen_in(result):
    """Return which faults and manners a world has."""
    story = "\n".join(result.trace)
    manners = {manner for manner in Manner if f" {manner} from worker" in story}
    late = {"late results"} if " is late: has results" in story else set()
    return {fault for fault in FAULTS if result.counts[fault]} | manners | late


@pytest.mark.long
def test_a_world_without_a_fault_is_not_what_is_simulated():
    missing = {*FAULTS, *Manner, "late results"}
    with stage() as own:
        for seed in (*VARIED, *range(1, 301)):
            missing -= seen_in(simulate(seed, own))
            if not missing:
                break
    assert missing == set()


# --- what the simulation would find ---


def break_claims(monkeypatch, names, condition, instead):
    """Replace a condition in statements, which they must have."""
    for name in names:
        sql = getattr(claims, name)
        assert condition in sql, sql
        monkeypatch.setattr(claims, name, sql.replace(condition, instead))


def test_worlds_find_out_if_the_end_may_overtake_the_beginning(monkeypatch):
    break_claims(monkeypatch, ["_CLAIM_MAILS_SQL", "_CLAIM_LANES_SQL"], "earlier.id < m.id", "earlier.id < 0")
    seeds = (10, *range(1, 200))  # That one found it when this was written, which saves time.
    assert any(finding.startswith("out of order") for finding in first_findings(seeds))


def test_worlds_find_out_if_a_worker_may_record_without_its_claim(monkeypatch):
    break_claims(
        monkeypatch,
        ["_SENT_SQL"],
        "(id, attempt_count) IN (SELECT * FROM unnest(%s::bigint[], %s::integer[]))",
        "id IN (SELECT id FROM unnest(%s::bigint[], %s::integer[]) AS claim (id, attempt))",
    )
    # A worker sends an opening and records it late, while another one, which has the claim now, sends it again. The
    # claim is gone then, so the end of the incident is sent, and the other one's opening arrives after it.
    late = Faults(
        kill=0,
        lost_connection=0,
        unnoticed_death=0,
        stall=0,
        hang=0,
        late_results=0.5,
        lost_message=0,
        doubled_message=0,
        late_message=0,
        bad_receiver=0.25,
        manners=[Manner.APPLIES_LATE],
        bad_mail=0,
        edits=0,
        mutes=0,
    )
    assert any(finding.startswith("out of order") for finding in first_findings(range(1, 200), late))
