"""A slow machine has a slow clock: else a web that is about to start would be taken for one that is gone."""

import pytest

from drills.pace import IMPORT_SECONDS_USUAL, slowed

SILENT_SECONDS = 120
"""After so long the clock takes a node for dead (INGEST_NODE_SILENT_SECONDS)."""


@pytest.mark.parametrize("import_seconds", [0.4, IMPORT_SECONDS_USUAL])
def test_a_usual_machine_has_the_speed_that_was_asked_for(import_seconds):
    assert slowed(10, import_seconds) == 10


@pytest.mark.parametrize(("times_slower", "speed"), [(2, 5.0), (2.5, 4.0), (10, 1.0)])
def test_a_machine_that_is_slower_has_a_clock_that_is_slower_by_as_much(times_slower, speed):
    assert slowed(10, times_slower * IMPORT_SECONDS_USUAL) == speed


@pytest.mark.parametrize("fastest", [10, 15])
@pytest.mark.parametrize("import_seconds", [0.5, 2.0, 5.0, 17.0, 40.0])
def test_a_start_takes_less_than_a_third_of_the_clocks_time_in_which_a_node_may_be_silent(fastest, import_seconds):
    assert 3 * import_seconds * slowed(fastest, import_seconds) < SILENT_SECONDS
