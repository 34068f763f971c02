"""What the simulation and the drill of delivery say of what receivers have seen."""

import pytest

from drills.delivery.ledger import Received, unequal_repeats


def received(body, *, part="POST /", key="k", was_refused=False):
    return Received(1, "chat", key, body, is_applied=not was_refused, part=part, was_refused=was_refused)


def test_a_repetition_with_other_bytes_is_found():
    assert unequal_repeats([received(b"one"), received(b"one")]) == []
    assert len(unequal_repeats([received(b"one"), received(b"two")])) == 1
    assert unequal_repeats([received(b"one"), received(b"two", key="another")]) == []


@pytest.mark.parametrize("part", ["POST /", "PATCH /7"])
def test_after_a_refusal_of_any_of_its_requests_a_message_may_be_another(part):
    repetition = [received(b"one"), received(b"markup", part=part, was_refused=True), received(b"plain")]
    assert unequal_repeats(repetition) == []
