"""What the audit log stores of a change: readable, bounded, and without secrets."""

import json
from datetime import UTC, datetime
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.entries import (
    CHANGED,
    FIELDS_MAX,
    LEFT_OUT,
    VALUE_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
    Entry,
    difference,
    stored_changes,
    text,
)


class Colour(StrEnum):
    RED = "red"


def stored(changes, **more):
    return stored_changes(Entry("monitor", 7, "backup", CHANGED, 1, changes, **more))


def test_only_fields_that_differ_are_a_difference():
    before = {"margin": 1, "owner": "", "tags": ["a"]}
    assert difference(before, {"margin": 5, "owner": "", "tags": ["a"]}) == {"margin": (1, 5)}
    assert difference(before, {"crontab": "@daily", "interval": None}) == {"crontab": (None, "@daily")}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (17, 17),
        (1 << 60, str(1 << 60)),
        (0.5, "0.5"),
        ("words", "words"),
        (Colour.RED, "red"),
        (["a", 2, None], ["a", 2, None]),
        (("a", "b"), ["a", "b"]),
        ({"b", "a"}, ["a", "b"]),
        (datetime(2026, 1, 5, 10, tzinfo=UTC), "2026-01-05T10:00:00+00:00"),
        ({"a": 1}, "{'a': 1}"),
        ("nul \x00 and a lone \ud800", "nul \ufffd and a lone \ufffd"),
    ],
)
def test_values_are_stored_as_people_read_them(value, shown):
    assert stored({"field": (value, value)}) == {"field": [shown, shown]}


def test_of_a_secret_field_no_value_is_stored():
    changes = {"label": ("jobs", "old jobs"), "public_key": ("c0ffee", "facade")}
    assert stored(changes, secret={"public_key"}) == {"label": ["jobs", "old jobs"], "public_key": "changed"}


def test_long_values_are_cut():
    [before, after] = stored({"name": ("x" * VALUE_CHARACTERS_MAX, "y" * (VALUE_CHARACTERS_MAX + 1))})["name"]
    assert before == "x" * VALUE_CHARACTERS_MAX
    assert (len(after), after[-1]) == (VALUE_CHARACTERS_MAX, "…")


def test_fields_beyond_the_most_are_counted():
    kept = stored({f"field {number}": (0, 1) for number in range(FIELDS_MAX + 3)})
    assert len(kept) == FIELDS_MAX + 1
    assert kept[LEFT_OUT] == 3


def test_a_name_is_cut_to_the_length_of_its_column():
    assert text("x" * 30, 30) == "x" * 30
    assert text("x" * 31, 30) == "x" * 29 + "…"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner) | st.sets(st.text()),
    max_leaves=15,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.tuples(VALUES, VALUES), max_size=FIELDS_MAX + 5))
def test_whatever_is_changed_the_entry_is_json_that_postgresql_can_store_and_has_a_bound(changes):
    kept = stored(changes)
    written = json.dumps(kept, allow_nan=False, ensure_ascii=False)
    assert "\x00" not in written
    assert "\\u0000" not in written.replace("\\\\", "")
    written.encode()
    # A control character is six characters when it is escaped.
    assert len(written) <= (FIELDS_MAX + 1) * (6 * WORD_CHARACTERS_MAX + 2 * 6 * VALUE_CHARACTERS_MAX + 40)
