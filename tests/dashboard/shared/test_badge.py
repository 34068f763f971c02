"""Badges: what they say, and that no text of a person becomes markup."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.shared.badge import Standing, message, shields, svg


@pytest.mark.parametrize(
    ("standing", "text"),
    [
        (Standing(0), "no data"),
        (Standing(3, silent=3), "no data"),
        (Standing(3, silent=2), "ok"),
        (Standing(3, failing=1, maintained=2), "1 of 3 failing"),
        (Standing(1, failing=1), "failing"),
        (Standing(3, maintained=1), "1 of 3 in maintenance"),
        (Standing(1, maintained=1), "maintenance"),
    ],
)
def test_a_badge_says_the_worst(standing, text):
    assert message(standing)[0] == text


@given(st.text(max_size=200))
def test_any_label_gives_a_picture_whose_only_text_it_is(label):
    root = ElementTree.fromstring(svg(label, Standing(2)))  # noqa: S314 - our own
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {
        "svg",
        "title",
        "clipPath",
        "rect",
        "g",
        "text",
    }
    assert root.attrib.keys() == {"width", "height", "role", "aria-label"}
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")][1] == "ok"


def test_a_label_of_markup_is_shown_as_it_is():
    label = '</title><script>alert("x")</script>'
    drawn = svg(label, Standing(1))
    assert "<script" not in drawn
    assert ElementTree.fromstring(drawn).attrib["aria-label"] == f"{label}: ok"  # noqa: S314 - our own


def test_shields_io_gets_its_schema():
    assert shields("Nightly", Standing(4, failing=2)) == {
        "schemaVersion": 1,
        "label": "Nightly",
        "message": "2 of 4 failing",
        "color": "c01a1a",
        "isError": True,
        "cacheSeconds": 60,
    }
