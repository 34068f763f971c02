"""What code says about its sources is in the repository, and the section that it names exists."""

import re

import pytest

from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, text
from tests.test_floors import FLOORS

BEHAVIOUR = DOCS / "reference" / "behaviour.md"
CITED = re.compile(r"docs/reference/behaviour\.md,\s+sections? (\d+(?:\.\d+)?(?:(?:, | and )\d+(?:\.\d+)?)*)")
FILES = [
    path
    for folder in (*FLOORS, "drills", "benchmarks", "tests")
    for path in sorted((BASE_DIR / folder).rglob("*.py"))
    if path.name != "test_citations.py"
]
SECTIONS = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", text(BEHAVIOUR), re.MULTILINE)


def citations():
    for path in FILES:
        for numbers in CITED.findall(path.read_text()):
            for number in re.findall(r"\d+(?:\.\d+)?", numbers):
                yield str(path.relative_to(BASE_DIR)), number


def test_sections_have_numbers_in_order():
    numbers = [tuple(map(int, number.split("."))) for number in SECTIONS]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(("path", "number"), sorted(set(citations())))
def test_every_section_that_is_cited_exists(path, number):
    assert number in SECTIONS


def test_every_citation_is_read_by_this_test():
    mentions = sum(path.read_text().count("docs/reference/behaviour.md, section") for path in FILES)
    assert mentions == sum(len(CITED.findall(path.read_text())) for path in FILES)
    assert mentions > 20


def test_nothing_cites_a_text_that_is_not_here():
    assert [str(path) for path in FILES if re.search(r"reference sections? \d", path.read_text())] == []
