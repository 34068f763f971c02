"""Waiting for what other processes do: a condition and a deadline, never a guess at how long something takes."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(condition: Callable[[], Found], seconds: float, what: str) -> Found:
    """Return the first true value of `condition`. Raises `AssertionError` if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}; last seen: {found!r}"
        time.sleep(0.05)
    return found
