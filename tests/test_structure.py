"""How much a person has to hold in mind: rooms and floors of an app, lines of a file."""

import pytest

from tests.structure import ROOT, length, longest_chain, rooms, sources
from tests.test_floors import FLOORS

LINES_MAX = 450


def test_check_ins_have_few_rooms_on_few_floors():
    chain = longest_chain("checkins")
    assert len(rooms("checkins")) <= 17, sorted(rooms("checkins"))
    assert len(chain) <= 5, chain


@pytest.mark.parametrize("app", [*FLOORS, "drills", "benchmarks"])
def test_no_file_is_too_long_to_be_read_at_once(app):
    assert [str(path.relative_to(ROOT)) for path in sources(app) if length(path) > LINES_MAX] == []
