"""P1-P6 in small worlds, in which a seed decides who goes on between any two statements, and what breaks.

A seed that fails names itself; `make sim SEEDS=17,` tells its whole story.
"""

import doctest

import pytest

import drills.simulation.__main__ as command
from checkins.messages import Outcome
from checkins.processing import batch, counting, measuring
from checkins.processing.waiting import store_failed
from drills.simulation.neighbour import has_neighbour
from drills.simulation.run import simulate, stage
from drills.simulation.world import World
from monitors import expectation, spans

pytestmark = pytest.mark.django_db(transaction=True)

SEEDS = 60
"""From 1 on. `make sim` runs more and others."""
SHORT = 10
"""So many of them are for each change; `make ci` runs all."""
CHUNK = 10


def findings(seeds):
    with stage() as own:
        results = [simulate(seed, own) for seed in seeds]
    return [f"make sim SEEDS={result.seed},: {finding}" for result in results for finding in result.findings]


@pytest.mark.parametrize(
    "first",
    [pytest.param(first, marks=[pytest.mark.long] if first > SHORT else []) for first in range(1, SEEDS + 1, CHUNK)],
)
def test_every_world_ends_as_the_account_says(first):
    assert findings(range(first, first + CHUNK)) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", [664, 848, 3482, 3884])
def test_worlds_that_found_something_once_find_nothing(seed):
    assert findings([seed]) == []


def test_the_same_seed_takes_the_same_way():
    with stage() as own:
        first, second = (simulate(5, own).trace for _ in range(2))
    assert first == second
    assert len(first) > 100


@pytest.mark.long
def test_a_world_without_a_fault_is_not_what_is_simulated():
    with stage() as own:
        totals = [simulate(seed, own).counts for seed in range(1, 21)]
    for fault in ("kills", "lost_connections", "blocked", "outages", "edits", "foreign"):
        assert sum(counts[fault] for counts in totals) > 0, fault


IN_TURN = (4, 15, 49, *range(1, 101))
"""Those that found one of the following when this was written come first, to save time."""


@pytest.mark.long
def test_d32_worlds_find_out_if_slots_of_before_an_edit_are_judged_by_the_rules_of_now(monkeypatch):
    split = spans._split
    monkeypatch.setattr(
        spans,
        "_split",
        lambda state, rules, former: (part._replace(rules=rules) for part in split(state, rules, former)),
    )
    with stage() as own:
        assert any(simulate(seed, own).findings for seed in IN_TURN)


def notices_in_a_world_with_a_neighbour():
    with stage() as own:
        return any(simulate(seed, own).findings for seed in range(1, 51) if has_neighbour(seed))


def test_d36_worlds_find_out_if_one_message_fails_all_of_its_batch(monkeypatch):
    def fail_all(messages, **_):
        for message in messages:
            store_failed(message, ValueError("one of them"))
        return [Outcome(accepted=True) for _ in messages]

    monkeypatch.setattr(batch, "_apply_in_parts", fail_all)
    assert notices_in_a_world_with_a_neighbour()


def test_d37_worlds_find_out_if_a_row_that_cannot_be_read_stops_the_clock(monkeypatch):
    monkeypatch.setattr(expectation, "why_unreadable", lambda _: "")
    assert notices_in_a_world_with_a_neighbour()


def notices_a_wrong_limit(name):
    """Whether any of the first worlds with such a limit ends otherwise than the account of limits says."""
    with stage() as own:
        limits = ((seed, World(seed, own).limits.values()) for seed in IN_TURN)
        seeds = (seed for seed, chosen in limits if any(getattr(one, name) is not None for one in chosen))
        found = (finding for seed in seeds for finding in simulate(seed, own).findings)
        return any(finding.startswith("D44: limits that runs") for finding in found)


@pytest.mark.long
def test_d44_worlds_find_out_if_a_run_overlaps_what_has_ended(monkeypatch):
    monkeypatch.setattr(measuring, "_load_overlapping", lambda endings: {one.id for one in endings})
    assert notices_a_wrong_limit("overlap_counts")


@pytest.mark.long
def test_d44_worlds_find_out_if_a_median_is_that_of_other_runs(monkeypatch):
    monkeypatch.setattr(measuring, "remember", lambda _: None)
    monkeypatch.setattr(counting, "remember", lambda _: None)
    assert notices_a_wrong_limit("slow_times")


def test_seeds_are_given_as_a_number_a_list_or_a_range():
    assert doctest.testmod(command).failed == 0
