"""The page of limits says what is true: every bound with its setting and default, and an end for every table (D42)."""

import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.conf import settings

from checkins.ingest.lanes import HEAVY_MAX
from checkins.ingest.room import SMALL_BYTES_MAX, SMALL_SHARE, TINY_BYTES_MAX
from checkins.ingest.spool_entries import GIVEN_UP_AFTER_DEATHS, GIVEN_UP_AFTER_FAILURES
from checkins.messages import ProblemKind
from checkins.processing.batch import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, NEW_MONITOR_MESSAGES
from checkins.processing.reading import LIGHT_BYTES_MAX, LIGHT_OBJECTS_MAX
from checkins.protocols.decoding import JSON_VALUES_MAX
from checkins.protocols.pings import LOG_UNPACKED_BYTES_MAX
from checkins.protocols.sentry_envelope import ITEM_HEADER_BYTES_MAX
from dashboard.login.adapter import FAILURES_MAX, WINDOW_SECONDS
from health.problems import SPOOL_FREE_BYTES_MIN
from incidents.notifications.attempts import ATTEMPTS_MAX, GIVE_UP_AFTER, REFUSALS_MAX
from incidents.notifications.channels.email import SECONDS_MAX
from incidents.notifications.delivery import RUN_SECONDS_MAX
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


BOUND = re.compile(
    r"\w+_(MAX|DAYS|PER_(DAY|HOUR|MINUTE|PROJECT|MONITOR))|INGEST_\w+|PARKED_\w+|EMAIL_(TIMEOUT_\w+|CONNECTIONS)"
)
READ_BY_THE_WEB = re.compile(r'"(INGEST_\w+_(?:MAX|SECONDS))"')
NO_BOUNDS = {"SHARDS_MAX", "CELERY_DB_REUSE_MAX"}


def test_every_setting_that_bounds_something_is_on_the_page():
    bounds = {name for name in dir(settings) if name.isupper() and BOUND.fullmatch(name)} - NO_BOUNDS
    bounds |= set(READ_BY_THE_WEB.findall((settings.BASE_DIR / "project" / "settings.py").read_text()))
    assert bounds - {name for names, _ in rows() for name in names} == set()


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("JSON values in a request", [JSON_VALUES_MAX]),
        ("an envelope's item header", [ITEM_HEADER_BYTES_MAX]),
        ("a body of which nobody knows the sender", [SMALL_BYTES_MAX]),
        ("a compressed log, unpacked", [LOG_UNPACKED_BYTES_MAX]),
        ("a request that is read at once", [LIGHT_BYTES_MAX, LIGHT_OBJECTS_MAX]),
        ("messages, unpacked bytes in a batch", [BATCH_MESSAGES_MAX, BATCH_BYTES_MAX, NEW_MONITOR_MESSAGES]),
        ("a body that finds room", [TINY_BYTES_MAX]),
        ("heavy requests that are considered for one batch", [HEAVY_MAX]),
        ("times that a process may end", [GIVEN_UP_AFTER_DEATHS - 1]),
        ("times that a batch may break off", [GIVEN_UP_AFTER_FAILURES - 1]),
        ("room on the spool's disk", [SPOOL_FREE_BYTES_MIN]),
        ("wrong passwords", [FAILURES_MAX, WINDOW_SECONDS // 60]),
        ("time in which a message is tried", [GIVE_UP_AFTER // timedelta(hours=1), ATTEMPTS_MAX]),
        ("attempts while the server says", [REFUSALS_MAX]),
        ("time for one mail", [SECONDS_MAX]),
        ("mails that one run", [RUN_SECONDS_MAX]),
    ],
)
def test_what_stands_without_a_setting_is_the_constant_of_the_code(what, values):
    [row] = [row for table in tables(text(PAGE)) for row in table if row[0].startswith(what)]
    cell = row[1] or row[2]
    shown = re.findall(r"(\d[\d,]*(?:\.\d+)?)(?: ([kKMG]i?B)\b)?", cell)
    assert [amount(f"{number} {unit}".strip()) for number, unit in shown][: len(values)] == values


def test_small_bodies_have_the_share_of_the_room_that_the_page_says():
    assert SMALL_SHARE == 4
    assert "a quarter of `INGEST_QUEUE_BYTES_MAX`" in section(PAGE, "## What one request may cost")


def test_every_kind_of_refusal_on_the_page_exists():
    named = set(re.findall(r"`((?:MONITOR|CHECKIN|KEY)_[A-Z_]+)`", text(PAGE)))
    kinds = {kind.value for kind in ProblemKind}
    settings_named = {name for names, _ in rows() for name in names}
    assert named - settings_named - kinds == set()
