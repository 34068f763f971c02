"""Waiting for what other threads and processes do: a condition and a deadline, never a guess at how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE_SECONDS = 180.0
"""How long a test waits for what takes seconds at most: beside others who use the machine it takes a minute."""


def wait_until(condition: Callable[[], Found], what: str, *, seconds: float = PATIENCE_SECONDS) -> Found:
    """Return the first true value of `condition`. Raises `AssertionError` if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}; last seen: {found!r}"
        time.sleep(0.02)
    return found
