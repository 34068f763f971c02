"""Sentences become plain where values are encoded, and everything of ours is encoded there."""

import doctest
import re

import pytest

from lib import encoding
from lib.sql import array_literal
from lib.texts import Text
from tests.structure import ROOT, sources
from tests.test_floors import FLOORS

SENTENCE = Text("%(count)s keys", count=2)
CODES_ITSELF = {
    "lib/encoding.py",
    "lib/sql.py",  # lines of arrays, with the same hook
    "checkins/protocols/fields.py",  # what clients sent, as are the next three
    "checkins/protocols/rest.py",
    "checkins/protocols/sentry.py",
    "checkins/ingest/spool_entries.py",
    "checkins/ingest/wire.py",  # requests and answers, as bytes
    "incidents/notifications/apprise_child.py",  # a process of its own, which imports as little as it can
}


def test_the_examples():
    assert doctest.testmod(encoding).failed == 0


@pytest.mark.parametrize("pg_type", ["text", "jsonb", "text[]"])
def test_arrays_of_postgresql_have_them_too(pg_type):
    value = [SENTENCE] if pg_type == "text[]" else SENTENCE
    assert "2 keys" in array_literal(pg_type, [value, value])


def test_what_is_no_text_is_refused():
    with pytest.raises(NotImplementedError, match="a object cannot be encoded"):
        encoding.to_json(object())


def test_nothing_else_encodes():
    encoders = re.compile(r"msgspec\.(?:to_builtins|(?:json|msgpack)\.(?:encode|Encoder))\b")
    found = {
        str(path.relative_to(ROOT)) for app in FLOORS for path in sources(app) if encoders.search(path.read_text())
    }
    assert found == CODES_ITSELF
