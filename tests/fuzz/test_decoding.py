"""What the search by coverage begins with, and what it ever found, is decoded without an error of ours."""

import pytest

from tests.fuzz.decoding import CRASHES, decode, seeds

INPUTS = {f"seed-{number}": seed for number, seed in enumerate(seeds())}
FOUND = {path.name: path.read_bytes() for path in sorted(CRASHES.glob("*-*"))}


@pytest.mark.parametrize("name", sorted(INPUTS | FOUND))
def test_what_the_search_begins_with_and_what_it_found_is_decoded(name):
    decode((INPUTS | FOUND)[name])
