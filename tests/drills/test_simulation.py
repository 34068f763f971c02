"""P1-P6 in five hundred small worlds, in which a seed decides who goes on between any two statements, and what breaks.

A seed that fails names itself; `make sim SEEDS=17,` tells its whole story.
"""

import doctest

import pytest

import drills.simulation.__main__ as command
from drills.simulation.run import simulate, stage

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SEEDS = 500
"""From 1 on. `make sim` runs more and others."""
CHUNK = 20


def findings(seeds):
    with stage() as own:
        results = [simulate(seed, own) for seed in seeds]
    return [f"make sim SEEDS={result.seed},: {finding}" for result in results for finding in result.findings]


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_every_world_ends_as_a_naive_account_says(first):
    assert findings(range(first, first + CHUNK)) == []


def test_the_same_seed_takes_the_same_way():
    with stage() as own:
        first, second = (simulate(5, own).trace for _ in range(2))
    assert first == second
    assert len(first) > 100


def test_a_world_without_a_fault_is_not_what_is_simulated():
    with stage() as own:
        totals = [simulate(seed, own).counts for seed in range(1, 21)]
    for fault in ("kills", "lost_connections", "blocked", "outages"):
        assert sum(counts[fault] for counts in totals) > 0, fault


def test_seeds_are_given_as_a_number_a_list_or_a_range():
    assert doctest.testmod(command).failed == 0
