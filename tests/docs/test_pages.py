import ast
import json
import re
from pathlib import Path

import pytest

from project.local.children import BASE_DIR
from tests.docs.pages import DOCS, PAGES, anchors, blocks, name, prose, text

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INDEX = DOCS / "README.md"
APPS = ("audit", "monitors", "accounts", "incidents", "checkins", "clocktasks")


def links(page: Path) -> list[str]:
    return [target for target in LINK.findall(prose(page)) if not target.startswith(("http://", "https://", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_internal_link_leads_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(linked), f"{name(linked)} has no heading for #{anchor}"


def test_the_index_leads_to_every_page():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in links(INDEX)}

    assert set(DOCS.rglob("*.md")) - {INDEX} - linked == set()


def test_the_index_names_every_command():
    commands = {
        file.stem
        for app in APPS
        for file in (BASE_DIR / app).glob("management/commands/*.py")
        if file.stem != "__init__"
    }

    assert {"bootstrap", "replay_ticks", "simulate"} <= commands
    assert {command for command in commands if f"`{command}`" not in text(INDEX)} == set()


@pytest.mark.parametrize(("page", "source"), blocks("python"), ids=lambda value: getattr(value, "stem", "block"))
def test_python_examples_compile(page, source):
    ast.parse(source, filename=name(page))


@pytest.mark.parametrize(("page", "source"), blocks("json"), ids=lambda value: getattr(value, "stem", "block"))
def test_json_examples_are_json(page, source):
    json.loads(source)


def test_there_are_examples_of_both_languages():
    assert len(blocks("python")) >= 4
    assert len(blocks("json")) >= 1


def test_every_decision_is_explained():
    headings = re.findall(r"^## D(\d+): ", text(DOCS / "explanation" / "differences-from-sentry.md"), re.MULTILINE)

    numbers = [int(number) for number in headings]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= {*range(1, 21)}


def test_every_decision_names_its_tests():
    sections = re.split(r"^## ", text(DOCS / "explanation" / "differences-from-sentry.md"), flags=re.MULTILINE)[1:]

    for section in sections:
        assert f"`test_{section.partition(':')[0].lower()}_…`" in section


def test_the_tests_that_the_decisions_name_exist():
    named = set(re.findall(r"`(test_d\d+_)…`", text(DOCS / "explanation" / "differences-from-sentry.md")))
    written = {
        name
        for file in (BASE_DIR / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:    )?def (test_d\d+_)", file.read_text(), re.MULTILINE)
    }

    assert named
    assert named - written == set()
