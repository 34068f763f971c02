"""docs/contributing/map.md holds the tree as it is: what it names exists, and no folder of the product is missing."""

import ast
import re
from functools import cache

import pytest

from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, code, section, tables, text
from tests.test_floors import FLOORS

PAGE = DOCS / "contributing" / "map.md"
TRIPS = ("## A ping, from the socket to the row", "## A tick, from beat to incident")
NOT_SHOWN = {"__pycache__", "migrations"}


@cache
def names_in(path):
    """What a module defines or assigns at its top."""
    names = set()
    for node in ast.parse((BASE_DIR / path).read_text()).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def stops():
    """Every row of the page that names a file and something in it: its floor (if said), the file, the name."""
    for heading in TRIPS:
        for table in tables(section(PAGE, heading)):
            for _, floor, file, name, what in table:
                yield floor, code(file), code(name)
                for other in re.findall(r"`(mark_\w+)`", what):
                    yield floor, code(file), other
    for table in tables(section(PAGE, "## Five questions")):
        for _, file, name in table:
            yield "", code(file), code(name)


def test_there_are_stops_and_five_answers():
    assert len(list(stops())) > 60
    [answers] = tables(section(PAGE, "## Five questions"))
    assert len(answers) == 5


@pytest.mark.parametrize(("floor", "file", "name"), list(stops()))
def test_every_stop_exists(floor, file, name):
    assert name in names_in(file)
    if floor:
        assert FLOORS[-int(floor)] == file.partition("/")[0]


def test_every_file_and_folder_that_the_page_names_exists():
    named = set(re.findall(r"`([\w./]+(?:/|\.py))`", text(PAGE)))
    assert {path for path in named if not (BASE_DIR / path).exists()} == set()


def test_every_folder_of_the_product_is_on_the_page():
    [floors] = tables(section(PAGE, "## Floors"))
    shown = {code(row[1]).rstrip("/") for row in floors}
    folders = {
        path.relative_to(BASE_DIR)
        for app in FLOORS
        for path in ((BASE_DIR / app), *(BASE_DIR / app).rglob("*"))
        if path.is_dir() and NOT_SHOWN.isdisjoint(path.parts)
    }
    # Below these a folder follows from Django's rules, not from a choice.
    by_rule = {"management", "templates", "static"}
    wanted = {str(path) for path in folders if by_rule.isdisjoint(path.parent.parts)}
    assert wanted == shown


def test_the_answers_in_the_second_place_exist_too():
    pairs = re.findall(r"`(\w+)` in `([\w/]+\.py)`", section(PAGE, "## Five questions"))
    assert pairs
    for name, file in pairs:
        assert name in names_in(file)


@pytest.mark.parametrize(
    "page", [BASE_DIR / "CONTRIBUTING.md", DOCS / "contributing" / "testing.md"], ids=lambda p: p.name
)
def test_every_path_that_helpers_are_sent_to_exists(page):
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text(page)))
    assert len(named) > 5
    made_by_fuzzing = {"tests/fuzz/crashes/"}
    assert {path for path in named - made_by_fuzzing if not (BASE_DIR / path).exists()} == set()
