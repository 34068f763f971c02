"""The project's own documentation, as the tests of this folder read it."""

import re
from functools import cache
from pathlib import Path

from project.local.children import BASE_DIR

DOCS = BASE_DIR / "docs"
BESIDE_CODE = [BASE_DIR / room / "README.md" for room in ("benchmarks", "drills")]
PAGES = sorted([*BASE_DIR.glob("*.md"), *DOCS.rglob("*.md"), *BESIDE_CODE])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")


@cache
def text(page: Path) -> str:
    """Return the page as it stands."""
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    """Return the page's path below the checkout: the id of its test cases."""
    return str(page.relative_to(BASE_DIR))


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return FENCE.sub("", text(page))


def blocks(language: str) -> list[tuple[Path, str]]:
    """Return every fenced block of a language, with the page that holds it."""
    return [(page, body) for page in PAGES for kind, body in FENCE.findall(text(page)) if kind == language]


def section(page: Path, heading: str) -> str:
    """Return what stands below a heading, up to the next heading of the same or a higher level."""
    level = heading.partition(" ")[0]
    _, found, rest = prose(page).partition(f"\n{heading}\n")
    assert found, f"{name(page)} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def tables(markdown: str) -> list[list[list[str]]]:
    """Return the tables of a text: rows of cells, without the header and the line below it."""
    found = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]] for table in found
    ]


def code(cell: str) -> str:
    """Return what a cell holds as code: `like this`; empty if there is none."""
    match = CODE.search(cell)
    return "" if match is None else match.group(1)


def anchors(page: Path) -> set[str]:
    """Return the targets that the headings of a page make, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
