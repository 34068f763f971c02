"""The page of limits says what is true: every bound with its setting and default, and an end for every table (D42)."""

import re

import pytest
from django.apps import apps
from django.conf import settings

from checkins.messages import ProblemKind
from tests.docs.pages import CODE, DOCS, section, tables, text

PAGE = DOCS / "reference" / "limits.md"
UNITS = {
    "": 1,
    "days": 1,
    "s": 1,
    "kB": 1_000,
    "KiB": 1 << 10,
    "MB": 1_000_000,
    "MiB": 1 << 20,
    "GB": 1_000_000_000,
    "GiB": 1 << 30,
}


def rows():
    """Every row of the page that names settings: the settings and what it says is their default."""
    for table in tables(text(PAGE)):
        for row in table:
            for at, cell in enumerate(row[:-1]):  # the last column says what one gets, or is the default
                names = re.findall(r"`([A-Z][A-Z_]+)`", cell)
                if names and CODE.sub("", cell).strip(" ,") == "":
                    yield [*names], row[at + 1]


def default_of(name):
    """The value in force, or what the page of settings says of one that the web server reads by itself."""
    if hasattr(settings, name):
        return float(getattr(settings, name))
    found = re.search(rf"^\| `{name}` \| `(\d+)` \|", text(DOCS / "reference" / "settings.md"), re.MULTILINE)
    assert found, name
    return float(found[1])


def amount(cell):
    """A default as people read it, as a number: "20 MiB", "1,000", "0.5 s"."""
    number, _, unit = cell.partition(" ")
    return float(number.replace(",", "")) * UNITS[unit]


@pytest.mark.parametrize(
    ("names", "default"), list(rows()), ids=lambda value: value[0] if isinstance(value, list) else ""
)
def test_every_default_on_the_page_is_the_one_in_force(names, default):
    for name in names:
        assert default_of(name) == amount(default), name


def test_d42_every_table_has_a_stated_end():
    stated = {
        name
        for table in tables(section(PAGE, "## What is kept, and for how long"))
        for row in table
        if row[1]
        for name in re.findall(r"`(\w+)`", row[0])
    }
    models = {model._meta.db_table for model in apps.get_models()}
    assert models == stated


BOUND = re.compile(r"\w+_(MAX|DAYS|PER_(DAY|HOUR|MINUTE|PROJECT|MONITOR))|INGEST_\w+|PARKED_\w+")
NO_BOUNDS = {"SHARDS_MAX", "CELERY_DB_REUSE_MAX"}


def test_every_setting_that_bounds_something_is_on_the_page():
    bounds = {name for name in dir(settings) if name.isupper() and BOUND.fullmatch(name)} - NO_BOUNDS
    assert bounds - {name for names, _ in rows() for name in names} == set()


def test_every_kind_of_refusal_on_the_page_exists():
    named = set(re.findall(r"`((?:MONITOR|CHECKIN|KEY)_[A-Z_]+)`", text(PAGE)))
    kinds = {kind.value for kind in ProblemKind}
    settings_named = {name for names, _ in rows() for name in names}
    assert named - settings_named - kinds == set()
