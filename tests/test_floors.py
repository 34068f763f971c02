"""Who may know whom, where no import says so: `make lint` checks the imports themselves."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = (
    "project",
    "dashboard",
    "health",
    "clocktasks",
    "checkins",
    "incidents",
    "accounts",
    "monitors",
    "audit",
    "lib",
)
"""From the top to the ground."""


def sources(app):
    return [path for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]


@pytest.mark.parametrize("app", FLOORS)
def test_no_model_is_looked_up_by_name(app):
    found = [str(path) for path in sources(app) if re.search(r"\bget_model\(", path.read_text())]
    assert found == []


READ_BY_TABLE = {
    "incidents/notifications/texts.py": {"checkins"},
    "incidents/notifications/last_runs.py": {"checkins"},
}
"""The log of a run that stands in a mail, as it is stored when the mail is written; and the last runs of jobs that may
flap or have been failing for weeks."""


@pytest.mark.parametrize("app", FLOORS)
def test_no_table_of_a_higher_floor_stands_in_a_string(app):
    higher = "|".join(FLOORS[: FLOORS.index(app)])
    table = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE)\s+({higher or 'nobody'})_[a-z]")
    found = {}
    for path in sources(app):
        if named := set(table.findall(path.read_text())):
            found[str(path.relative_to(ROOT))] = named
    assert found == {path: names for path, names in READ_BY_TABLE.items() if path.startswith(f"{app}/")}


@pytest.mark.parametrize("app", FLOORS)
def test_no_program_of_a_higher_floor_is_started_by_name(app):
    higher = FLOORS[: FLOORS.index(app)]
    started = re.compile(rf"""["']-m["'], ["']({"|".join(higher) or "nobody"})\.""")
    assert [str(path) for path in sources(app) if started.search(path.read_text())] == []


def test_lib_has_no_word_of_the_domain():
    words = re.compile(r"\b(monitors?|check-?ins?|incidents?|environments?)\b", re.IGNORECASE)
    found = {path.name: words.findall(path.read_text()) for path in sources("lib")}
    assert {name: said for name, said in found.items() if said} == {}
