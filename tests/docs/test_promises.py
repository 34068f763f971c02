"""Every promise and decision has a test that carries its number and is not long: `make test` leaves none out."""

import ast
import re

import pytest

from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, prose

DECISIONS = sorted(
    {int(n) for n in re.findall(r"^## D(\d+): ", prose(DOCS / "explanation/differences-from-sentry.md"), re.MULTILINE)}
)


def is_long(*nodes):
    return any("mark.long" in ast.unparse(node) for node in nodes)


def names_of_short_tests():
    for path in (BASE_DIR / "tests").rglob("test_*.py"):
        module = ast.parse(path.read_text())
        marks = [node for node in module.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
        for node in module.body:
            within = node.body if isinstance(node, ast.ClassDef) else [node]
            of_class = node.decorator_list if isinstance(node, ast.ClassDef) else []
            for one in within:
                if isinstance(one, ast.FunctionDef) and not is_long(*marks, *of_class, *one.decorator_list):
                    yield one.name


@pytest.fixture(scope="module")
def numbers():
    return {number for name in names_of_short_tests() for number in re.findall(r"_([pd]\d+)(?=_)", name)}


def test_all_decisions_are_found():
    assert list(range(1, 45)) == DECISIONS


@pytest.mark.parametrize("number", [*(f"p{n}" for n in range(1, 11)), *(f"d{n}" for n in DECISIONS)])
def test_a_test_that_is_not_long_carries_its_number(numbers, number):
    assert number in numbers
